"""Documents longer than the model reads at once: cut them, or read them in overlapping windows.

Each document is a pile of messages and has their labels together. A model that reads the first 64 tokens misses
most of them; windows of 64 tokens see every word, and the clearest window decides on each label.
"""

from __future__ import annotations

import argparse

from mlclf import MultiLabelClassifier, TrainingOptions
from mlclf.datasets import Dataset, make_feedback

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--rows", type=int, default=150)
parser.add_argument("--epochs", type=int, default=10)
arguments = parser.parse_args()


def pile(messages: Dataset, size: int) -> Dataset:
    """Put every ``size`` messages into one document."""
    starts = range(0, len(messages) - size + 1, size)
    texts = [" ".join(messages.texts[i : i + size]) for i in starts]
    labels = [tuple(sorted(set().union(*messages.labels[i : i + size]))) for i in starts]
    return Dataset(texts, labels, messages.classes)


train = pile(make_feedback(4 * arguments.rows), size=4)
test = pile(make_feedback(4 * max(20, arguments.rows // 4), random_state=1), size=4)
print(f"{len(train)} documents of {sum(len(t.split()) for t in train.texts) // len(train)} words on average")

for name, windows in {"cut": {}, "windows": {"backbone__window_stride": 16}}.items():
    clf = MultiLabelClassifier(
        backbone="minilm:l6",
        strategy="features",
        training=TrainingOptions(epochs=arguments.epochs),
        classes=train.classes,
        random_state=0,
        verbose=0,
    )
    clf.set_params(backbone__max_length=64, **windows)
    report = clf.fit(train.texts, train.labels).evaluate(test.texts, test.labels)
    print(f"{name:8} micro-F1 {report.micro_f1:.3f}   macro-F1 {report.macro_f1:.3f}")
