"""QLoRA beside LoRA on a real data set, and what each base gives once the updates are merged.

    python benchmarks/qlora.py --data GOEMOTIONS --out docs/benchmarks

Updates that were trained over rounded weights are merged into these same weights as floats ("fitted"), or into the
pretrained ones as they were before rounding ("original"). The latter is another function: its figures are
given with the thresholds of the fit, and with thresholds tuned again on the dev split, as the export does.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from common import markdown_table, read_split, run_kept, spread, write_report

MODELS = {"lora": {}, "qlora, 4 bits": {"bits": 4}, "qlora, 8 bits": {"bits": 8}}
FIGURES = ("micro_f1", "macro_f1", "mean_average_precision")


def main() -> None:
    """Run all fits, one process each, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=4000, help="training rows")
    parser.add_argument("--scored", type=int, default=2000, help="rows of dev and of test")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder of finished runs; those found there are not repeated")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job is not None:
        print(json.dumps(run_job(options.job)))
        return
    found: dict[str, list[dict[str, Any]]] = {}
    job = {key: str(getattr(options, key)) for key in ("data", "rows", "scored", "epochs")}
    for seed in range(options.seeds):
        for name in MODELS:
            label = f"qlora-{name.replace(', ', '-').replace(' ', '')}-{seed}"
            done = run_kept(__file__, {**job, "name": name, "seed": seed}, label, options.keep, options.threads)
            for line in done["rows"]:
                found.setdefault(line["name"], []).append(line)
    report(options, found)


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Fit one model and score it with each base."""
    from mlclf import LoraOptions, MultiLabelClassifier, QloraOptions, TrainingOptions

    folder, limit, changes = Path(job["data"]), int(job["scored"]), MODELS[job["name"]]
    train, dev, test = (
        read_split(folder, split, n) for split, n in (("train", int(job["rows"])), ("dev", limit), ("test", limit))
    )
    strategy = QloraOptions(**changes) if changes else LoraOptions()
    training = TrainingOptions(epochs=int(job["epochs"]))
    clf = MultiLabelClassifier("minilm:l6", strategy, training=training, random_state=job["seed"], verbose=0)
    clf.fit(*train, validation_data=dev)
    rows = [row(job["name"], clf.model_, clf.thresholds_, test)]
    if changes:
        rows += original(job["name"], clf.model_, dev, test)
    return {"rows": rows}


def original(name: str, model: Any, dev: Any, test: Any) -> list[dict[str, Any]]:
    """Score the updates over the original weights, with the thresholds of the fit and with new ones."""
    from mlclf.inputs import checked_validation
    from mlclf.onnx.original import with_original_weights
    from mlclf.thresholds import tune

    other, rows = with_original_weights(model), checked_validation(dev, model.labels)
    again = tune("per-label", other.probabilities(rows.texts), rows.targets)
    return [
        row(f"{name}, original base, same thresholds", other, model.thresholds, test),
        row(f"{name}, original base, tuned again", other, again, test),
    ]


def row(name: str, model: Any, thresholds: Any, test: Any) -> dict[str, Any]:
    """Return the figures of one model on the test rows."""
    from mlclf.inputs import checked_validation
    from mlclf.metrics import score

    rows = checked_validation(test, model.labels)
    found = score(model.probabilities(rows.texts), rows.targets, thresholds)
    weights = sum(tensor.nbytes for tensor in (*model.network.backbone.parameters(), *model.network.backbone.buffers()))
    return {"name": name, "mib": weights / 2**20, **{key: getattr(found, key) for key in FIGURES}}


def report(options: argparse.Namespace, found: dict[str, list[dict[str, Any]]]) -> None:
    """Print the table of all runs."""
    rows = [
        [name, *(spread([run[key] for run in runs]) for key in FIGURES), f"{runs[0]['mib']:.0f}"]
        for name, runs in found.items()
    ]
    table = markdown_table(["model", "micro-F1", "macro-F1", "mAP", "weights, MiB"], rows)
    write_report(options.out, f"QLoRA {options.data.name}", "qlora.py", table, {"runs": found})


if __name__ == "__main__":
    main()
