"""Two label sets over one backbone: separate models, one MultiTaskClassifier, and fits that start from saved models.

    python benchmarks/multitask.py --data GOEMOTIONS --rows 2000 --seeds 2 --out docs/benchmarks

The labels of the data set are split in alphabetical order into two halves, A and B. All rows have both. mAP is that of
the test split. What is fitted on one half is fitted on it alone; the other models are fitted on all labels, and their
figures are taken half by half. Every run is a process of its own; ``--keep`` holds finished runs and the saved models.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown_table, peak_memory, read_split, run_kept, spread, write_report

BACKBONE, HALVES = "minilm:l6", ("a", "b")
# The first writes the models that the others start from or serve.
FITS = ("separate", "multitask", "joint", "merged linear", "merged svd", "adapters", "fusion")
SERVED = ("separate", "multitask")


def main() -> None:
    """Run all jobs, one process each, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=2000, help="training rows")
    parser.add_argument("--test-rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--fits", nargs="*", default=list(FITS), choices=FITS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder of finished runs and models; those there are not repeated")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job is not None:
        print(json.dumps(serve(options.job) if "serve" in options.job else fit(options.job)))
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(options, options.keep or Path(folder))


def measure(options: argparse.Namespace, keep: Path) -> None:
    """Run everything and write the report."""
    common = {"data": str(options.data), "rows": options.rows, "test_rows": options.test_rows, "epochs": options.epochs}
    jobs = [{"fit": name, "seed": seed, **common} for seed in range(options.seeds) for name in options.fits]
    jobs += [{"serve": name, "seed": 0, **common} for name in SERVED]
    runs = []
    for job in jobs:
        kind = "fit" if "fit" in job else "serve"
        models = keep.resolve() / f"models-{job['seed']}"
        label = f"{kind}-{job[kind].replace(' ', '-')}-{job['seed']}"
        runs.append(run_kept(__file__, {**job, "models": str(models)}, label, keep, options.threads))
        print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    text = f"{fit_table(options, runs)}\n\n{serving_table(options, runs)}"
    write_report(options.out, "Multitask", "multitask.py", text, {"runs": runs})


def fit_table(options: argparse.Namespace, runs: list[dict[str, Any]]) -> str:
    """Return the table of fits."""
    header = ["fit", "seeds", "mAP A", "mAP B", "learns", "processor seconds of fitting"]
    rows = []
    for name in options.fits:
        own = [run for run in runs if run.get("fit") == name]
        figures = [spread([run[f"map_{half}"] for run in own]) for half in HALVES]
        seconds = f"{np.mean([run['seconds'] for run in own]):.0f}"
        rows.append([name, str(len(own)), *figures, f"{own[0]['trainable']:,}", seconds])
    return markdown_table(header, rows)


def serving_table(options: argparse.Namespace, runs: list[dict[str, Any]]) -> str:
    """Return the table of what serving both halves takes."""
    header = ["serving A and B", "memory over the libraries, MiB", f"processor seconds for {options.test_rows:,} texts"]
    own = [run for run in runs if "serve" in run]
    rows = [[run["serve"], f"{run['memory']:.0f}", f"{run['seconds']:.1f}"] for run in own]
    return markdown_table(header, rows)


def split_labels(data: str) -> dict[str, list[str]]:
    """Return the labels of both halves."""
    names = sorted({label for row in read_split(Path(data), "train")[1] for label in row})
    return {"a": names[: len(names) // 2], "b": names[len(names) // 2 :]}


def only(rows: list[list[str]], names: list[str]) -> list[list[str]]:
    """Return the label sets without the other half."""
    return [[label for label in row if label in names] for row in rows]


def fit(job: dict[str, Any]) -> dict[str, Any]:
    """Fit as a job says, save what others need, and score both halves on the test split."""
    halves, models = split_labels(job["data"]), Path(job["models"])
    texts, labels = read_split(Path(job["data"]), "train", job["rows"])
    rows = {half: (texts, only(labels, names)) for half, names in halves.items()}
    start = time.process_time()
    if job["fit"] in ("separate", "adapters"):
        fitted = {half: classifier(job, halves[half], single(job)).fit(*rows[half]) for half in HALVES}
    elif job["fit"] == "multitask":
        fitted = multitask(job, halves, rows, models)
    else:
        both = classifier(job, halves["a"] + halves["b"], composed(job, models)).fit(texts, labels)
        fitted = dict.fromkeys(HALVES, both)
    seconds = time.process_time() - start
    if job["fit"] in ("separate", "adapters"):
        for half, model in fitted.items():
            model.save(models / job["fit"] / half)
    own = {id(model.history_): model.history_.n_trainable for model in fitted.values()}
    return {**job, "data": Path(job["data"]).name, **score(job, fitted, halves),
            "trainable": sum(own.values()), "seconds": seconds}  # fmt: skip


def settings(job: dict[str, Any]) -> dict[str, Any]:
    """Return what all fits have in common."""
    from mlclf import TrainingOptions

    training = TrainingOptions(epochs=job["epochs"], precision="fp32")
    return {"training": training, "device": "cpu", "random_state": job["seed"], "verbose": 0}


def classifier(job: dict[str, Any], names: list[str], strategy: Any) -> Any:
    """Return a classifier that is not fitted."""
    from mlclf import MultiLabelClassifier

    return MultiLabelClassifier(BACKBONE, strategy, classes=names, **settings(job))


def single(job: dict[str, Any]) -> Any:
    """Return the strategy of a model of one half."""
    return "lora" if job["fit"] == "separate" else "adapter"


def composed(job: dict[str, Any], models: Path) -> Any:
    """Return the strategy of a fit on all labels."""
    if job["fit"] == "joint":
        return "lora"
    if job["fit"] == "fusion":
        from mlclf import fuse_adapters

        return fuse_adapters([models / "adapters" / half for half in HALVES])
    from mlclf import merge_loras

    return merge_loras([models / "separate" / half for half in HALVES], [0.5, 0.5], job["fit"].split()[1])


def multitask(job: dict[str, Any], halves: dict[str, list[str]], rows: Any, models: Path) -> dict[str, Any]:
    """Fit both halves as tasks of one backbone."""
    from mlclf import MultiTaskClassifier

    mt = MultiTaskClassifier(BACKBONE, **settings(job))
    for half, names in halves.items():
        mt.add_task(half, *rows[half], classes=names)
    mt.save(models / "multitask")
    return {half: mt.task(half) for half in HALVES}


def score(job: dict[str, Any], fitted: dict[str, Any], halves: dict[str, list[str]]) -> dict[str, float]:
    """Return the mAP of each half on the test split."""
    from mlclf.labels import LabelSpace
    from mlclf.metrics import score as report
    from mlclf.thresholds import Thresholds

    texts, labels = read_split(Path(job["data"]), "test", job["test_rows"])
    figures = {}
    for half, names in halves.items():
        model, space = fitted[half], LabelSpace(tuple(names))
        columns = [list(model.classes_).index(name) for name in names]
        probabilities = model.predict_proba(texts)[:, columns]
        found = report(probabilities, space.encode(only(labels, names)), Thresholds.fixed(len(names)), names=names)
        figures[f"map_{half}"] = found.mean_average_precision
    return figures


def serve(job: dict[str, Any]) -> dict[str, Any]:
    """Load what serves both halves, and ask for the labels of the test texts under both."""
    # What libraries take is not what the models take.
    import mlclf_minilm.backbone  # noqa: F401

    import mlclf.strategies.lora_layers  # noqa: F401
    from mlclf import MultiLabelClassifier, MultiTaskClassifier

    models, before = Path(job["models"]), resident_memory()
    texts, _ = read_split(Path(job["data"]), "test", job["test_rows"])
    if job["serve"] == "multitask":
        loaded = MultiTaskClassifier.load(models / "multitask", device="cpu")
        held, start = resident_memory() - before, time.process_time()
        loaded.predict_all(texts)
    else:
        several = [MultiLabelClassifier.load(models / "separate" / half, device="cpu") for half in HALVES]
        held, start = resident_memory() - before, time.process_time()
        for model in several:
            model.predict_labels(texts)
    seconds = time.process_time() - start
    return {**job, "data": Path(job["data"]).name, "seconds": seconds, "memory": held, "peak": peak_memory()}


def resident_memory() -> float:
    """Return this process's resident memory in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024


if __name__ == "__main__":
    main()
