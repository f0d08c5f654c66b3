"""Splits in which rare labels stand on both sides, and predictions of every row by a model that has not seen it."""

from mlclf.model_selection.cross_val import cross_val_predict
from mlclf.model_selection.splits import MultilabelStratifiedKFold, stratified_split, train_test_split

__all__ = ["MultilabelStratifiedKFold", "cross_val_predict", "stratified_split", "train_test_split"]
