"""Heads over one causal language model: pooled BCE, label-query and prompt-generation; and two of them over MiniLM.

    python benchmarks/llm_heads.py --data REUTERS --seeds 3 --keep runs --out docs/benchmarks
    python benchmarks/llm_heads.py --data GOEMOTIONS --backbone minilm:l6 --heads bce label-query --out docs/benchmarks

Without ``--backbone``, each seed first pretrains a small Llama on the training texts alone (``pretrain_lm``), from
which all heads then start. Thresholds and the best epoch come from the dev split where there is one, else from a tenth
of the training split; of several strategies or rates, each head has the one that did best there. An interrupted command
goes on where it was if it is given ``--keep FOLDER`` again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown_table, peak_memory, read_split, run_kept, spread, write_report
from quality import figures, held_out

HEADS = ("bce", "label-query", "prompt-generation")
# About so many characters of English news are a token of a vocabulary of 4,000.
CHARACTERS = 4


def main() -> None:
    """Run all jobs, one process each, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--backbone", help="a component to load instead of pretraining a language model")
    parser.add_argument("--heads", nargs="*", default=list(HEADS))
    parser.add_argument("--strategies", nargs="*", default=["full"])
    parser.add_argument(
        "--rates", nargs="*", type=float, default=[1e-3], help="peak rates of the backbone to choose from"
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rows", type=int, help="labelled training rows; pretraining reads all texts")
    parser.add_argument("--scored", type=int, help="rows of dev and of test")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=128, help="tokens of a text that are read")
    parser.add_argument("--pretraining-epochs", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--vocabulary", type=int, default=4000)
    parser.add_argument("--set", nargs="*", default=[], help="parameters of one head, as label-query:head__chunk=256")
    parser.add_argument("--title", help="of the table and its files; for runs that are not the default ones")
    parser.add_argument(
        "--parallel", type=int, default=len(os.sched_getaffinity(0)), help="runs at once, a thread each"
    )
    parser.add_argument("--keep", type=Path, help="folder of finished runs; those found there are not repeated")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job is not None:
        print(json.dumps(run_job(options.job)))
        return
    with place(options.keep) as folder, ThreadPoolExecutor(options.parallel) as pool:
        models = [] if options.backbone else list(pool.map(lambda job: finished(job, options, folder), lms(options)))
        runs = list(pool.map(lambda job: finished(job, options, folder), fits(options)))
    report(options, models, chosen(runs))


@contextmanager
def place(keep: Path | None) -> Iterator[Path]:
    """Give the folder of finished runs and pretrained models; without one it is removed in the end."""
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def lms(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the pretraining job of each seed."""
    names = ("hidden", "layers", "vocabulary", "max_length", "pretraining_epochs")
    sizes = {name: getattr(options, name) for name in names}
    return [{"task": "lm", "data": str(options.data), "seed": seed, **sizes} for seed in range(options.seeds)]


def fits(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the fits, seed by seed."""
    models = lms(options)
    names = ("backbone", "rows", "scored", "epochs", "batch_size", "max_length")
    common = {"data": str(options.data), **{name: getattr(options, name) for name in names}}
    return [
        {
            **common, "task": "fit", "head": head, "strategy": strategy, "rate": rate, "seed": seed,
            "lm": None if options.backbone else lm_name(models[seed]),
            "set": [item.partition(":")[2] for item in options.set if item.startswith(f"{head}:")],
        }
        for seed in range(options.seeds)
        for head in options.heads
        for strategy in options.strategies
        for rate in options.rates
    ]  # fmt: skip


def lm_name(job: dict[str, Any]) -> str:
    """Return the name of a pretrained model's folder, which tells what it was made with."""
    sizes = "-".join(str(job[name]) for name in ("hidden", "layers", "vocabulary", "max_length", "pretraining_epochs"))
    return f"lm-{Path(job['data']).name}-{sizes}-seed{job['seed']}"


def finished(job: dict[str, Any], options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run a job in a process of its own, or take its result from the folder of kept runs."""
    what = "lm" if job["task"] == "lm" else f"{job['head']}-{job['strategy']}"
    result = run_kept(__file__, job, f"{options.data.name}-{what}-{job['seed']}", folder, threads=1)
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Pretrain a model, or fit one head and score it on the test split."""
    folder = Path(job.pop("keep")).parent
    start = time.process_time()
    result = pretrain(job, folder) if job["task"] == "lm" else fit(job, folder)
    return {
        **job,
        "data": Path(job["data"]).name,
        **result,
        "cpu": time.process_time() - start,
        "memory": peak_memory(),
    }


def pretrain(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Pretrain a language model on the training texts, cut to about what is read of them later."""
    import shutil

    from mlclf import pretrain_lm

    texts = [text[: CHARACTERS * job["max_length"]] for text in read_split(Path(job["data"]), "train")[0]]
    target = folder / lm_name(job)
    shutil.rmtree(target, ignore_errors=True)  # of a run that was interrupted between the model and its result
    made = pretrain_lm(
        texts, target, hidden=job["hidden"], layers=job["layers"], vocabulary=job["vocabulary"],
        # Prompts, label names and answers stand around a text.
        max_length=2 * job["max_length"], epochs=job["pretraining_epochs"], random_state=job["seed"], verbose=0,
    )  # fmt: skip
    return {"losses": made.losses, "weights": made.n_weights, "tokens": made.n_tokens}


def fit(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fit one head, and score it on dev and test."""
    train, dev, test = splits(job)
    clf = classifier(job, folder, train[1])
    clf.fit(*train, validation_data=dev)
    p_dev, p_test, labels = clf.predict_proba(dev[0]), clf.predict_proba(test[0]), clf.model_.labels
    on_dev = figures(p_dev, dev[1], p_dev, dev[1], labels)
    return {
        **figures(p_dev, dev[1], p_test, test[1], labels),
        "dev_micro_f1": on_dev["micro_f1_global"],
        "dev_mean_average_precision": on_dev["mean_average_precision"],
        "trainable": clf.history_.n_trainable,
        "best_evaluation": clf.history_.best,
        "precision": clf.history_.precision,
    }


def splits(job: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Return training, validation and test rows."""
    data = Path(job["data"])
    train, test = read_split(data, "train", job["rows"]), read_split(data, "test", job["scored"])
    if (data / "dev.jsonl.gz").is_file():
        return train, read_split(data, "dev", job["scored"]), test
    return (*held_out(train, job["seed"]), test)


def classifier(job: dict[str, Any], folder: Path, labels: list[list[str]]) -> Any:
    """Return the classifier of a job."""
    from mlclf import LlmOptions, MultiLabelClassifier, TrainingOptions

    training = TrainingOptions(epochs=job["epochs"], batch_size=job["batch_size"], learning_rate=job["rate"],
                               schedule="cosine", monitor="mean_average_precision")  # fmt: skip
    backbone = job["backbone"] or LlmOptions(model=str(folder / job["lm"]))
    clf = MultiLabelClassifier(
        backbone, job["strategy"], head_options(job), training=training, random_state=job["seed"], verbose=0,
        classes=sorted({label for row in labels for label in row}),
    )  # fmt: skip
    # What a head puts around a text counts for generation, and for no other head.
    clf.set_params(backbone__max_length=job["max_length"] * (2 if job["head"] == "prompt-generation" else 1))
    for item in job["set"]:
        name, _, value = item.partition("=")
        clf.set_params(**{name: json.loads(value)})
    return clf


def head_options(job: dict[str, Any]) -> Any:
    """Return the head of a job: its defaults, but for a prompt where a model was pretrained here."""
    if job["head"] != "prompt-generation" or job["lm"] is None:
        return job["head"]
    from mlclf import PromptGenerationOptions, PromptOptions

    # A model that has read a few thousand news understands no instruction, and would have to read it with each text.
    return PromptGenerationOptions(prompt=PromptOptions(template="{{ text }}\n\n", labels="none"))


def chosen(runs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the runs of each head under the strategy and rate that did best on the validation rows."""
    found: dict[str, list[dict[str, Any]]] = {}
    for head in dict.fromkeys(run["head"] for run in runs):
        settings: dict[tuple[str, float], list[dict[str, Any]]] = {}
        for run in runs:
            if run["head"] == head:
                settings.setdefault((run["strategy"], run["rate"]), []).append(run)
        found[head] = max(settings.values(), key=lambda of: np.mean([r["dev_mean_average_precision"] for r in of]))
    return found


def report(options: argparse.Namespace, models: list[dict[str, Any]], results: dict[str, list[dict[str, Any]]]) -> None:
    """Print the table, and what the heads differ by."""
    header = ["head", "seeds", "strategy", "rate", "mAP", "micro-F1", "macro-F1", "micro-F1, one threshold",
              "macro-F1, one threshold", "CPU seconds", "peak MiB"]  # fmt: skip
    names = ("mean_average_precision", "micro_f1", "macro_f1", "micro_f1_global", "macro_f1_global")
    rows = [
        [head, str(len(runs)), runs[0]["strategy"], f"{runs[0]['rate']:g}"]
        + [spread([run[name] for run in runs]) for name in names]
        + [f"{np.mean([run['cpu'] for run in runs]):.0f}", f"{np.mean([run['memory'] for run in runs]):.0f}"]
        for head, runs in results.items()
    ]
    lines = [markdown_table(header, rows), "", *differences(results)]
    if models:
        lines += ["", pretrained(models)]
    title = options.title or f"LLM heads {options.data.name}"
    write_report(options.out, title, "llm_heads.py", "\n".join(lines), {"models": models, "runs": results})


def differences(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return, for each head beside pooled BCE, what it gives more or less with the same seeds."""
    if "bce" not in results:
        return []
    lines = []
    for head, runs in results.items():
        for name, title in (("mean_average_precision", "mAP"), ("micro_f1", "micro-F1")):
            change = [100 * (run[name] - base[name]) for run, base in zip(runs, results["bce"], strict=True)]
            if head != "bce":
                lines.append(f"- `{head}` less `bce`, {title}: {np.mean(change):+.1f} points"
                             f" ({', '.join(f'{value:+.1f}' for value in change)} by seed).")  # fmt: skip
    return lines


def pretrained(models: list[dict[str, Any]]) -> str:
    """Return what was pretrained."""
    one = models[0]
    return (
        f"The backbone is a Llama of {one['weights'] / 1e6:.2f} million weights ({one['layers']} layers, hidden size "
        f"{one['hidden']}), pretrained for {one['pretraining_epochs']} epochs on {one['tokens']:,} tokens of the "
        f"training texts: loss {one['losses'][0]:.2f} in the first and {one['losses'][-1]:.2f} in the last, "
        f"{np.mean([model['cpu'] for model in models]):.0f} CPU seconds."
    )


if __name__ == "__main__":
    main()
