"""Labels that nobody knows: half of the cells are blanked out, and marked as such.

A blank that is called 0 teaches the model that the label does not apply. A blank marked -1 (or NaN, or None in a
dictionary) is left out of the loss, the metrics and the thresholds.
"""

from __future__ import annotations

import argparse

import numpy as np

from mlclf import MultiLabelClassifier, TrainingOptions, to_indicator
from mlclf.datasets import make_feedback

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--rows", type=int, default=400)
parser.add_argument("--epochs", type=int, default=15)
arguments = parser.parse_args()

train, test = make_feedback(arguments.rows), make_feedback(max(20, arguments.rows // 2), random_state=1)
known = np.asarray(to_indicator(train.labels, train.classes))
blank = np.random.default_rng(0).random(known.shape) < 0.5

for name, Y in {
    "all cells known": known,
    "blanks called 0": np.where(blank, 0, known),
    "blanks marked -1": np.where(blank, -1, known),
}.items():
    clf = MultiLabelClassifier(
        backbone="minilm:l6",
        strategy="features",
        training=TrainingOptions(epochs=arguments.epochs),
        classes=train.classes,
        thresholds=0.5,
        validation=None,
        random_state=0,
        verbose=0,
    )
    report = clf.fit(train.texts, Y).evaluate(test.texts, test.labels)
    print(f"{name:18} micro-F1 {report.micro_f1:.3f}   mean average precision {report.mean_average_precision:.3f}")
