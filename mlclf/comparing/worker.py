"""The process of one run: ``python -m mlclf.comparing.worker TASK``, where TASK is a JSON file.

Its memory and its failures are its own. It ends when the process that started it is gone, whose end it sees at its
standard input.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlclf.comparing.memory import peak_memory

if TYPE_CHECKING:
    from mlclf.chaining.options import StrategyChoice
    from mlclf.classifier import MultiLabelClassifier
    from mlclf.options import Options
    from mlclf.report import Report


def main(task_file: str) -> int:
    """Do a task and write its result; return the exit status."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    task = json.loads(Path(task_file).read_text(encoding="utf-8"))
    try:
        result = {"status": "finished", **_TASKS[task["kind"]](task)}
    except Exception as error:
        from mlclf.strategy_table import reason

        result = {"status": "failed", "reason": reason(error), "error": type(error).__name__}
    _write(Path(task["result"]), result)
    return 0 if result["status"] == "finished" else 1


def fit(task: dict[str, Any]) -> dict[str, Any]:
    """Fit one model and score it on the test rows."""
    from mlclf.datasets import load

    job, files = task["job"], task["rows"]
    train, test = load(files["train"]), load(files["test"])
    validation = load(files["validation"]) if "validation" in files else None
    classifier = _classifier(job)
    started = time.perf_counter()
    classifier.fit(
        train.texts, train.labels, validation_data=None if validation is None else (validation.texts, validation.labels)
    )
    fitted = time.perf_counter()
    report = classifier.evaluate(test.texts, test.labels)
    scored = time.perf_counter()
    return {
        "job": job,
        "figures": _figures(report),
        "seconds": fitted - started,
        "rows_per_second": len(test) / (scored - fitted),
        **_facts(classifier),
        "peak_memory": peak_memory(),
        "peak_gpu_memory": _peak_gpu_memory(),
    }


def check(task: dict[str, Any]) -> dict[str, Any]:
    """Load a backbone and let strategies adapt it: say which cannot, and why."""
    from mlclf.comparing.matrix import restored
    from mlclf.strategy_table import refusals

    pairs = [(restored("strategy", strategy), restored("head", head)[0]) for strategy, head in task["pairs"]]
    return {"refusals": refusals(restored("backbone", task["backbone"])[0], pairs)}


def _classifier(job: dict[str, Any]) -> MultiLabelClassifier:
    from mlclf.classifier import MultiLabelClassifier
    from mlclf.comparing.matrix import restored
    from mlclf.options import TrainingOptions

    components = job["components"]
    return MultiLabelClassifier(
        restored("backbone", components["backbone"])[0],
        _alone_or_chained(restored("strategy", components["strategy"])),
        restored("head", components["head"])[0],
        training=TrainingOptions(**job["training"]),
        classes=job["classes"],
        random_state=job["seed"],
        verbose=0,
        **job["estimator"],
    )


def _alone_or_chained(strategies: list[Options]) -> StrategyChoice:
    return strategies[0] if len(strategies) == 1 else strategies


def _figures(report: Report) -> dict[str, float]:
    return {
        "micro_f1": report.micro_f1,
        "macro_f1": report.macro_f1,
        "samples_f1": report.samples_f1,
        "mean_average_precision": report.mean_average_precision,
        "micro_f1_at_half": report.at_half.micro.f1,
        "macro_f1_at_half": report.at_half.macro.f1,
    }


def _facts(classifier: MultiLabelClassifier) -> dict[str, Any]:
    """Return what the fitted model says about itself."""
    from mlclf.strategy_table import n_trainable

    backbone, choice = classifier.model_.network.backbone, classifier.strategy_choice_
    # Quantised weights are packed, several in one number: the configuration knows how many there are.
    counted = backbone.count_weights() or sum(parameter.numel() for parameter in backbone.model.parameters())
    learning = n_trainable(backbone)
    return {
        "precision": classifier.history_.precision,
        "best_epoch": None
        if classifier.history_.best is None
        else classifier.history_.evaluations[classifier.history_.best].epoch,
        "n_trainable": learning,
        "n_parameters": counted,
        "share": learning / counted,
        "choice": None if choice is None else choice.to_dict(),
    }


def _peak_gpu_memory() -> int | None:
    import torch

    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None


def _write(path: Path, result: dict[str, Any]) -> None:
    """Write a result whole or not at all."""
    work = path.with_suffix(".part")
    work.write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")
    os.replace(work, path)


def _end_with_parent() -> None:
    """End this process once its standard input, which the starting process holds open, is closed."""
    sys.stdin.buffer.read()
    os._exit(1)


_TASKS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"fit": fit, "check": check}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
