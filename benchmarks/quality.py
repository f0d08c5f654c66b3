"""Quality on a real data set: mlclf's strategies over several seeds, beside two baselines.

    python benchmarks/quality.py --data GOEMOTIONS --strategies lora full --seeds 3 --out docs/benchmarks

Nothing is tuned on the test split: thresholds and the best epoch come from the dev split where there is one, else from
a tenth of the training split. An interrupted command goes on where it was if it is given ``--keep FOLDER`` again; the
folder also holds the probabilities of each run.
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
from common import markdown_table, peak_memory, read_split, run_kept, spread, write_report

FIGURES = ("micro_f1", "macro_f1", "micro_f1_global", "macro_f1_global", "mean_average_precision")


def main() -> None:
    """Run all jobs, one process each, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=False)
    parser.add_argument("--strategies", nargs="*", default=["lora", "full"])
    parser.add_argument("--baselines", nargs="*", default=["tfidf", "features"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--max-length", type=int, default=None)
    parser.add_argument("--rows", type=int, default=None, help="use so many training rows only")
    parser.add_argument("--set", nargs="*", default=[], help="estimator parameters, as strategy__r=8")
    parser.add_argument("--title", help="of the table and its files; for runs that are not the default ones")
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
    results: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        results.setdefault(run["name"], []).append(run)
    report(options, results)


def jobs(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what is to be run, seed by seed; the TF-IDF baseline has no random part and runs once."""
    return [
        {
            "name": name, "seed": seed, "data": str(options.data), "epochs": options.epochs,
            "max_length": options.max_length, "rows": options.rows, "set": options.set,
        }
        for seed in range(options.seeds)
        for name in [*options.baselines, *options.strategies]
        if not (seed and name == "tfidf")
    ]  # fmt: skip


def finished(job: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Run a job in a process of its own, or take its result from the folder of kept runs."""
    label = f"{options.data.name}-{job['name']}-{job['seed']}"
    threads = max(1, len(os.sched_getaffinity(0)) // options.parallel)
    result = run_kept(__file__, job, label, options.keep, threads)
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def report(options: argparse.Namespace, results: dict[str, list[dict[str, Any]]]) -> None:
    """Print the table of all runs."""
    header = ["model", "seeds", "micro-F1", "macro-F1", "micro-F1, one threshold", "macro-F1, one threshold", "mAP",
              "micro-F1 at 0.5", "peak MiB"]  # fmt: skip
    rows = [
        [name, str(len(runs))]
        + [spread([run[figure] for run in runs]) for figure in (*FIGURES, "micro_f1_half")]
        + [f"{np.mean([run['memory'] for run in runs]):.0f}"]
        for name, runs in results.items()
    ]
    title = options.title or f"Quality {options.data.name}"
    write_report(options.out, title, "quality.py", markdown_table(header, rows), {"runs": results})


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Fit one model and score it on the test split."""
    folder = Path(job["data"])
    train = read_split(folder, "train", job["rows"])
    if (folder / "dev.jsonl.gz").is_file():
        dev = read_split(folder, "dev")
    else:
        train, dev = held_out(train, job["seed"])
    start = time.perf_counter()
    test = read_split(folder, "test")
    fit = tfidf_fit if job["name"] == "tfidf" else mlclf_fit
    labels, p_dev, p_test, facts = fit(job, train, dev, test[0])
    seconds = facts.pop("seconds", time.perf_counter() - start)
    kept = job.pop("keep", None)
    result = {
        **job,
        "data": folder.name,
        **figures(p_dev, dev[1], p_test, test[1], labels),
        **facts,
        "seconds": seconds,
        "memory": peak_memory(),
    }
    if kept is not None:
        np.savez_compressed(Path(kept).with_suffix(".npz"), dev=p_dev, test=p_test)
    return result


def held_out(rows: Any, seed: int) -> tuple[Any, Any]:
    """Take a tenth of the training rows for tuning, by iterative stratification."""
    from mlclf.model_selection import train_test_split

    train_x, dev_x, train_y, dev_y = train_test_split(*rows, test_size=0.1, random_state=seed)
    return (train_x, train_y), (dev_x, dev_y)


def mlclf_fit(job: dict[str, Any], train: Any, dev: Any, texts: list[str]) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Fit mlclf with its defaults."""
    from mlclf import MultiLabelClassifier, TrainingOptions

    training = TrainingOptions() if job["epochs"] is None else TrainingOptions(epochs=job["epochs"])
    clf = MultiLabelClassifier(
        backbone="minilm:l6", strategy=job["name"], training=training, random_state=job["seed"], verbose=0,
        classes=sorted({label for labels in train[1] for label in labels}),
    )  # fmt: skip
    if job["max_length"]:
        clf.set_params(backbone__max_length=job["max_length"])
    for item in job["set"]:
        name, _, value = item.partition("=")
        clf.set_params(**{name: _parsed(value)})
    start = time.perf_counter()
    clf.fit(*train, validation_data=dev)
    seconds = time.perf_counter() - start
    facts = {
        "seconds": seconds,
        "precision": clf.history_.precision,
        "best_evaluation": clf.history_.best,
        "trainable": clf.history_.n_trainable,
    }
    return clf.model_.labels, clf.predict_proba(dev[0]), clf.predict_proba(texts), facts


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def tfidf_fit(job: dict[str, Any], train: Any, dev: Any, texts: list[str]) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Fit TF-IDF and one logistic regression a label."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    from mlclf.labels import LabelSpace

    labels = LabelSpace.infer(train[1])
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    features = vectorizer.fit_transform(train[0])
    model = OneVsRestClassifier(LogisticRegression(C=10.0, max_iter=300))
    import warnings

    with warnings.catch_warnings():  # a label without a row in this part of the data is a constant, as it should be
        warnings.filterwarnings("ignore", message="Label not .* is present")
        model.fit(features, labels.encode(train[1]).indicator.toarray())
    p_dev, p_test = (model.predict_proba(vectorizer.transform(x)).astype(np.float32) for x in (dev[0], texts))
    return labels, p_dev, p_test, {}


def figures(p_dev: Any, y_dev: Any, p_test: Any, y_test: Any, labels: Any) -> dict[str, float]:
    """Tune thresholds on dev and score test with them."""
    from mlclf.metrics import score
    from mlclf.thresholds import Thresholds, tune

    dev, test = labels.encode(y_dev), labels.encode(y_test, unknown_labels="warn")
    per_label = score(p_test, test, tune("per-label", p_dev, dev))
    one = score(p_test, test, tune("global", p_dev, dev))
    half = score(p_test, test, Thresholds.fixed(labels.n_labels))
    return {
        "micro_f1": per_label.micro_f1, "macro_f1": per_label.macro_f1,
        "micro_f1_global": one.micro_f1, "macro_f1_global": one.macro_f1,
        "micro_f1_half": half.micro_f1, "mean_average_precision": per_label.mean_average_precision,
    }  # fmt: skip


if __name__ == "__main__":
    main()
