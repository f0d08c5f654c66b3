"""Texts with their labels, as the readers and generators return them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mlclf.exceptions import InvalidInputError
from mlclf.label_names import Label, sort_key

LabelRow: TypeAlias = tuple[Label, ...] | dict[Label, bool | None]
"""The label set of one text; or a dictionary of label and True, False or None (not known)."""


@dataclass(frozen=True)
class Dataset:
    """Texts and, where there are any, their labels.

    Parameters
    ----------
    texts : list of str, length n_samples
        The texts.
    labels : list, length n_samples, or None
        For each text a tuple of labels; or, in a source where some cells are not known, a dictionary of label and
        True (applies), False or None (not known). ``fit`` takes either. None where the source has no labels, as in
        a file to predict on.
    classes : tuple of str or int, length n_labels
        All labels in column order.

    Raises
    ------
    InvalidInputError
        If there are not as many label sets as texts.

    Examples
    --------
    >>> from mlclf.datasets import Dataset
    >>> data = Dataset(["nice", "nice but dear"], [("praise",), ("praise", "price")], classes=("praise", "price"))
    >>> len(data), data.take([1]).texts
    (2, ['nice but dear'])
    """

    texts: list[str]
    labels: list[LabelRow] | None
    classes: tuple[Label, ...]

    def __post_init__(self) -> None:
        if self.labels is not None and len(self.labels) != len(self.texts):
            raise InvalidInputError(
                f"A data set needs a label set for each text, got {len(self.texts)} texts and {len(self.labels)} "
                "label sets."
            )

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        return f"Dataset({len(self.texts)} texts, {len(self.classes)} classes)"

    def take(self, rows: Iterable[int]) -> Dataset:
        """Return some of the samples, with the same classes.

        Parameters
        ----------
        rows : iterable of int
            Sample numbers, in the order wanted.

        Returns
        -------
        Dataset
        """
        chosen = list(rows)
        labels = None if self.labels is None else [self.labels[row] for row in chosen]
        return Dataset([self.texts[row] for row in chosen], labels, self.classes)


def occurring(labels: Sequence[LabelRow]) -> tuple[Label, ...]:
    """Return the labels that occur, whole numbers before text, each sorted."""
    return tuple(sorted({label for row in labels for label in row}, key=sort_key))
