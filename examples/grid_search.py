"""Choose options by cross-validation with scikit-learn's GridSearchCV.

``head__hidden`` reaches into the head, whether that was given by name or as options; ``strategy__r``,
``training__epochs`` and ``backbone__max_length`` work alike. scikit-learn misreads label lists, so ``to_indicator``
turns them into a 0/1 frame first.
"""

from __future__ import annotations

import argparse

from sklearn.model_selection import GridSearchCV

from mlclf import MultiLabelClassifier, TrainingOptions, to_indicator
from mlclf.datasets import make_feedback
from mlclf.model_selection import MultilabelStratifiedKFold

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--rows", type=int, default=200)
parser.add_argument("--epochs", type=int, default=16)
arguments = parser.parse_args()

data = make_feedback(arguments.rows)
clf = MultiLabelClassifier(
    backbone="minilm:l6",
    strategy="features",  # a frozen encoder: quick enough to try many options of the head
    training=TrainingOptions(epochs=arguments.epochs),
    validation=None,
    random_state=0,
    verbose=0,
)
search = GridSearchCV(
    clf,
    {"head__hidden": [(), (128,)]},
    scoring="f1_micro",
    cv=MultilabelStratifiedKFold(2, shuffle=True, random_state=0),
    error_score="raise",
)
search.fit(data.texts, to_indicator(data.labels, data.classes))

for parameters, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
    print(f"{score:.3f}  {parameters}")
print("best:", search.best_params_)
print(search.best_estimator_.predict_labels(["Where is my parcel?"]))
