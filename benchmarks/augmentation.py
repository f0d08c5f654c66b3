"""What augmentation gains or loses with few training texts: each technique alone, over several seeds, at equal steps.

    python benchmarks/augmentation.py --data GOEMOTIONS --out docs/benchmarks

A seed draws its own training texts, so that the spread is that of small samples; all techniques of one seed see the
same ones. Every run makes the same number of steps and keeps its last weights. Thresholds are tuned on dev rows, and
figures are those of test rows. Of a technique, the table also gives its mean difference to training without
augmentation on the same texts, with the standard error of that mean.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown_table, read_split, run_kept, spread, write_report
from quality import figures

TECHNIQUES: dict[str, dict[str, Any] | None] = {
    "none": None,
    "replacement": {"replacement": 0.1},
    "swap": {"swap": 0.1},
    "deletion": {"deletion": 0.1},
    "masking": {"masking": 0.1},
    "mixing": {"mixing": 0.2},
}
FIGURES = {"micro_f1": "micro-F1", "macro_f1": "macro-F1", "mean_average_precision": "mAP"}


def main() -> None:
    """Run all jobs, one process each, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=False)
    parser.add_argument("--rows", type=int, default=600, help="training texts")
    parser.add_argument("--dev-rows", type=int, default=500, help="rows on which thresholds are tuned")
    parser.add_argument("--test-rows", type=int, default=2000, help="rows whose figures are reported")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--strategy", default="lora")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parallel", type=int, default=1, help="runs at once, each with its share of the cores")
    parser.add_argument("--keep", type=Path, help="folder of finished runs; those found there are not repeated")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--job", type=json.loads, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job is not None:
        print(json.dumps(run_job(options.job)))
        return
    with ThreadPoolExecutor(options.parallel) as pool:
        runs = list(pool.map(lambda job: finished(job, options), jobs(options)))
    report(options, runs)


def jobs(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what is to be run, seed by seed."""
    shared = {
        "data": str(options.data), "rows": options.rows, "dev_rows": options.dev_rows, "test_rows": options.test_rows,
        "epochs": options.epochs, "strategy": options.strategy, "precision": options.precision,
    }  # fmt: skip
    return [{**shared, "name": name, "seed": seed} for seed in range(options.seeds) for name in TECHNIQUES]


def finished(job: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Run a job in a process of its own, or take its result from the folder of kept runs."""
    label = f"augmentation-{job['name']}-{job['seed']}"
    threads = max(1, len(os.sched_getaffinity(0)) // options.parallel)
    result = run_kept(__file__, job, label, options.keep, threads)
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Fit one model on some training texts and score it on the test split."""
    from mlclf import AugmentationOptions, MultiLabelClassifier, TrainingOptions
    from mlclf.training.epochs import AugmentedRows

    folder = Path(job["data"])
    texts, labels = read_split(folder, "train")
    names = sorted({name for row in labels for name in row})
    drawn = np.random.default_rng(job["seed"]).choice(len(texts), job["rows"], replace=False)
    dev, test = read_split(folder, "dev", job["dev_rows"]), read_split(folder, "test", job["test_rows"])
    options = TECHNIQUES[job["name"]]
    training = TrainingOptions(
        epochs=job["epochs"],
        precision=job["precision"],
        augmentation=None if options is None else AugmentationOptions(**options),
    )
    clf = MultiLabelClassifier(
        "minilm:l6", job["strategy"], training=training, random_state=job["seed"], verbose=0, classes=names,
        validation=None,
    )  # fmt: skip
    clock = Clock(AugmentedRows, "epoch")
    start = time.process_time()
    clf.fit([texts[i] for i in drawn], [labels[i] for i in drawn])
    seconds = time.process_time() - start
    p_dev, p_test = clf.predict_proba(dev[0]), clf.predict_proba(test[0])
    return {
        **{name: value for name, value in job.items() if name not in ("data", "keep")},
        **figures(p_dev, dev[1], p_test, test[1], clf.model_.labels),
        "options": options,
        "seconds": seconds,
        "augmentation_seconds": clock.seconds,
        "steps": clf.history_.evaluations[-1].step,
    }


class Clock:
    """Adds up the processor time that a method takes."""

    def __init__(self, owner: type, name: str) -> None:
        self.seconds, method = 0.0, getattr(owner, name)

        def timed(*arguments: Any) -> Any:
            start = time.process_time()
            try:
                return method(*arguments)
            finally:
                self.seconds += time.process_time() - start

        setattr(owner, name, timed)


def report(options: argparse.Namespace, runs: list[dict[str, Any]]) -> None:
    """Print the table of all runs."""
    header = ["augmentation", "options", *FIGURES.values()]
    header += [f"{name} minus none" for name in FIGURES.values()] + ["share of training time"]
    by_name = {name: [run for run in runs if run["name"] == name] for name in TECHNIQUES}
    rows = []
    for name, found in by_name.items():
        given = ", ".join(f"{key}={value}" for key, value in (TECHNIQUES[name] or {}).items())
        cells = [spread([run[figure] for run in found]) for figure in FIGURES]
        gains = ["" if name == "none" else gain(found, by_name["none"], figure) for figure in FIGURES]
        share = np.mean([run["augmentation_seconds"] / run["seconds"] for run in found])
        rows.append([name, given and f"`{given}`", *cells, *gains, f"{100 * share:.1f} %"])
    table = markdown_table(header, rows)
    write_report(options.out, "Augmentation", "augmentation.py", table, {"runs": runs})


def gain(runs: list[dict[str, Any]], without: list[dict[str, Any]], figure: str) -> str:
    """Return the mean difference to the same texts without augmentation, and its standard error."""
    differences = [run[figure] - other[figure] for run, other in zip(runs, without, strict=True)]
    error = np.std(differences, ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else float("nan")
    return f"{np.mean(differences):+.3f} ± {error:.3f}"


if __name__ == "__main__":
    main()
