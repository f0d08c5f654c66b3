"""Speed and quality without a transformer: the backbone static:hashed beside TF-IDF with logistic regression.

    python benchmarks/static.py --data GOEMOTIONS --out docs/benchmarks

Each fit runs on one thread, in a process of its own. Thresholds and the best epoch come from the dev split. Needs the
plugin mlclf-static.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from common import markdown_table, peak_memory, read_split, run_isolated, write_report
from quality import figures, tfidf_fit

MODELS = ("tfidf", "features", "full")
TITLES = {
    "tfidf": "TF-IDF, logistic regression",
    "features": "`static:hashed`, random vectors (`features`)",
    "full": "`static:hashed`, trained (`full`)",
}


def main() -> None:
    """Run all jobs, one process each, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=False)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--job", type=json.loads, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job is not None:
        print(json.dumps(run_job(options.job)))
        return
    jobs = [{"name": name, "data": str(options.data), "epochs": options.epochs} for name in MODELS]
    report(options, [run_isolated(__file__, job, threads=1) for job in jobs])


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Fit one model, score it on the test split, and time it."""
    folder = Path(job["data"])
    train, dev, test = (read_split(folder, split) for split in ("train", "dev", "test"))
    fit = tfidf if job["name"] == "tfidf" else hashed
    labels, p_dev, p_test, facts = fit(job, train, dev, test[0])
    found = figures(p_dev, dev[1], p_test, test[1], labels)
    return {**job, "data": folder.name, **found, **facts, "memory": peak_memory()}


def hashed(job: dict[str, Any], train: Any, dev: Any, texts: list[str]) -> tuple[Any, Any, Any, dict[str, float]]:
    """Fit the backbone with its defaults."""
    from mlclf import MultiLabelClassifier, TrainingOptions

    clf = MultiLabelClassifier(
        "static:hashed", job["name"], training=TrainingOptions(epochs=job["epochs"]), random_state=0, verbose=0
    )
    start = time.perf_counter()
    clf.fit(*train, validation_data=dev)
    seconds = time.perf_counter() - start
    p_dev = clf.predict_proba(dev[0])
    start = time.perf_counter()
    p_test = clf.predict_proba(texts)
    predicted = len(texts) / (time.perf_counter() - start)
    facts = {"fit_seconds": seconds, "epoch_rows": job["epochs"] * len(train[0]) / seconds, "predicted_rows": predicted}
    return clf.model_.labels, p_dev, p_test, facts


def tfidf(job: dict[str, Any], train: Any, dev: Any, texts: list[str]) -> tuple[Any, Any, Any, dict[str, float]]:
    """Fit the baseline; its time holds the predictions for both splits."""
    start = time.perf_counter()
    labels, p_dev, p_test, _ = tfidf_fit(job, train, dev, texts)
    return labels, p_dev, p_test, {"fit_seconds": time.perf_counter() - start}


def report(options: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    """Print and write the table."""
    header = [
        "model",
        "fit, s",
        "rows/s in fit, an epoch",
        "rows/s in prediction",
        "micro-F1",
        "macro-F1",
        "mAP",
        "peak MiB",
    ]
    rows = [
        [
            TITLES[run["name"]],
            f"{run['fit_seconds']:.1f}",
            f"{run['epoch_rows']:,.0f}" if "epoch_rows" in run else "",
            f"{run['predicted_rows']:,.0f}" if "predicted_rows" in run else "",
            f"{run['micro_f1']:.3f}",
            f"{run['macro_f1']:.3f}",
            f"{run['mean_average_precision']:.3f}",
            f"{run['memory']:.0f}",
        ]
        for run in results
    ]
    write_report(options.out, "Static", "static.py", markdown_table(header, rows), {"runs": results})


if __name__ == "__main__":
    main()
