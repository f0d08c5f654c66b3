"""What tuned thresholds are worth on new rows: 0.5, one threshold, each label's best F1, and mlclf's rule.

    python benchmarks/thresholds.py --data GOEMOTIONS --out docs/benchmarks
    python benchmarks/thresholds.py --probabilities model.npz

The model is TF-IDF with a logistic regression for each label, trained on the train split. Thresholds are tuned on the
dev split, or on a fifth of train where there is none. The columns "dev" say how they do on dev itself by 4-fold
cross-fitting; the columns "test" are the final word, and nothing is chosen by them. ``--probabilities`` takes the
probabilities of any other model instead: an npz file with the arrays dev_p, dev_y, test_p and test_y.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown_table, read_split, write_report
from scipy.sparse import csr_array

from mlclf.labels import LabelSpace, Targets
from mlclf.metrics import macro_f1, micro_f1
from mlclf.threshold_tuning import tune_per_label
from mlclf.thresholds import Thresholds, tune

N_FOLDS, REPEATS = 4, 3

Rule = Callable[[np.ndarray, Targets], Thresholds]


def main() -> None:
    """Tune by every rule and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder with train, test and perhaps dev as .jsonl.gz")
    source.add_argument("--probabilities", type=Path, help="npz file with dev_p, dev_y, test_p, test_y")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    dev, test = saved(options.probabilities) if options.data is None else tfidf(options.data)
    runs = [{"rule": name, **judge(rule, dev, test)} for name, rule in RULES.items()]
    for run in runs:
        print(run, file=sys.stderr)
    header = ["thresholds", "dev micro-F1", "dev macro-F1", "test micro-F1", "test macro-F1", "tuning seconds"]
    rows = [[str(run[key]) if key == "rule" else f"{run[key]:.4f}" for key in run] for run in runs]
    title = f"Thresholds {(options.data or options.probabilities).stem}"
    write_report(options.out, title, "thresholds.py", markdown_table(header, rows), {"runs": runs})


def plain(p: np.ndarray, targets: Targets) -> Thresholds:
    """Give each label the threshold of its largest F1 on the rows, without any protection."""
    from sklearn.metrics import precision_recall_curve

    values = tune("global", p, targets).values.copy()
    truth = targets.indicator.toarray()
    for label in np.flatnonzero(truth.any(axis=0)):
        precision, recall, cuts = precision_recall_curve(truth[:, label], p[:, label])
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
        best = int(np.argmax(f1[:-1]))
        # Halfway to the next lower probability, as everybody does it.
        values[label] = (cuts[best] + (cuts[best - 1] if best else 0)) / 2
    return Thresholds.per_label(values)


RULES: dict[str, Rule] = {
    "0.5": lambda p, targets: Thresholds.fixed(targets.n_labels),
    "one, best micro-F1": lambda p, targets: tune("global", p, targets),
    "per label, best F1 of each": plain,
    "mlclf, per label, not shrunk": lambda p, targets: Thresholds.per_label(tune_per_label(p, targets, (0.0,)).values),
    "mlclf, per label": lambda p, targets: tune("per-label", p, targets),
}


def judge(rule: Rule, dev: tuple[np.ndarray, Targets], test: tuple[np.ndarray, Targets]) -> dict[str, float]:
    """Return F1 on dev by cross-fitting, F1 on test, and the time that tuning takes."""
    rounds = np.array([figures(cross_fit(rule, dev, seed), dev[1]) for seed in range(REPEATS)]).mean(axis=0)
    start = time.perf_counter()
    thresholds = rule(*dev)
    seconds = time.perf_counter() - start
    final = figures(thresholds.apply(test[0]), test[1])
    names = ("dev_micro_f1", "dev_macro_f1", "test_micro_f1", "test_macro_f1")
    return {**dict(zip(names, (*rounds, *final), strict=True)), "seconds": seconds}


def cross_fit(rule: Rule, dev: tuple[np.ndarray, Targets], seed: int) -> np.ndarray:
    """Decide each fold with thresholds that were tuned on the others."""
    p, targets = dev
    fold = np.random.default_rng(seed).permutation(len(p)) % N_FOLDS
    predicted = np.zeros(p.shape, dtype=bool)
    for number in range(N_FOLDS):
        inside, outside = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        predicted[inside] = rule(p[outside], targets.take(outside)).apply(p[inside])
    return predicted


def figures(predicted: np.ndarray, targets: Targets) -> tuple[float, float]:
    """Return micro-F1, and macro-F1 over the labels that apply to some row."""
    used = np.flatnonzero(targets.positives)
    return micro_f1(predicted, targets), macro_f1(predicted[:, used], Targets(targets.indicator[:, used]))


def tfidf(folder: Path) -> tuple[Any, Any]:
    """Train on train; return probabilities and targets of dev and test."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    train, dev, test = splits(folder)
    labels = LabelSpace(tuple(sorted({label for part in (train, dev, test) for row in part[1] for label in row})))
    vectorizer = TfidfVectorizer(max_features=30_000, ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    features = vectorizer.fit_transform(train[0])
    truth = labels.encode(train[1]).indicator.toarray()
    out = [
        (np.zeros((len(part[0]), labels.n_labels), dtype=np.float32), labels.encode(part[1])) for part in (dev, test)
    ]
    others = [vectorizer.transform(part[0]) for part in (dev, test)]
    for label in np.flatnonzero(truth.any(axis=0)):
        model = LogisticRegression(C=4.0, solver="liblinear").fit(features, truth[:, label])
        for (p, _), x in zip(out, others, strict=True):
            p[:, label] = model.predict_proba(x)[:, 1]
    return out[0], out[1]


def splits(folder: Path) -> tuple[Any, Any, Any]:
    """Read train, dev and test; take a fifth of train for dev where there is none."""
    texts, rows = read_split(folder, "train")
    test = read_split(folder, "test")
    if (folder / "dev.jsonl.gz").is_file():
        return (texts, rows), read_split(folder, "dev"), test
    order = np.random.default_rng(0).permutation(len(texts))
    train, dev = (
        ([texts[i] for i in part], [rows[i] for i in part]) for part in np.split(order, [len(order) * 4 // 5])
    )
    return train, dev, test


def saved(path: Path) -> tuple[Any, Any]:
    """Read another model's probabilities."""
    with np.load(path, allow_pickle=False) as arrays:
        dev, test = (
            (arrays[f"{split}_p"].astype(np.float32), Targets(csr_array(arrays[f"{split}_y"].astype(np.int8))))
            for split in ("dev", "test")
        )
        return dev, test


if __name__ == "__main__":
    main()
