"""Calibrator: from a model's probabilities to ones that mean what they say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mlclf.calibration import PlattScaling
from mlclf.exceptions import InvalidInputError
from mlclf.options import NamedOptions
from mlclf.probabilities import Probabilities, checked_probabilities, is_sparse
from mlclf.ranked_cells import cell_chunks
from mlclf.targets import Targets

_CHUNK_CELLS = 1 << 20


class Calibrator(ABC):
    """Base of all calibrators: fitted once, on the validation rows, and then applied to every probability.

    The life of a calibrator: ``fit`` -> ``apply``, which calls ``calibrate`` -> ``state`` where the model is saved, and
    ``load_state`` on a new object where it is loaded. A cell is calibrated by itself: its result depends on its
    probability and its label only. A probability of 0 stays 0.

    Parameters
    ----------
    options : NamedOptions
        An object of the class named in ``Options``.

    Attributes
    ----------
    Options : type
        Class of its options, whose ``component`` is the registered name; must be set.
    n_labels : int
        Labels that it was fitted for; set by whoever calls ``fit`` or ``load_state``. Labels that are added to the
        model later have no calibration until it is fitted again.
    monotone : bool
        Whether a higher probability of a label never becomes a lower one, so that rankings of texts stay as they are.
        Declared by the class; one that bins probabilities, say, sets it to False.

    Examples
    --------
    A whole calibrator, which raises all probabilities of a label to the same power, so that their mean is the label's
    frequency on the validation rows:

    >>> import numpy as np
    >>> from mlclf.interfaces import Calibrator, label_cells
    >>> from mlclf.labels import LabelSpace
    >>> from mlclf.options import NamedOptions
    >>> class PowerOptions(NamedOptions):
    ...     component = "local:power"
    >>> class Power(Calibrator):
    ...     Options = PowerOptions
    ...     def fit(self, probabilities, targets):
    ...         self.powers = np.ones(targets.n_labels, dtype=np.float32)
    ...         for column, p, truth in label_cells(probabilities, targets):
    ...             candidates = np.linspace(0.1, 10, 100)
    ...             means = (p[:, None] ** candidates).mean(axis=0)
    ...             self.powers[column] = candidates[np.abs(means - truth.mean()).argmin()]
    ...     def calibrate(self, probabilities, columns):
    ...         return probabilities ** self.powers[columns]
    ...     def state(self):
    ...         return {"powers": self.powers}
    ...     def load_state(self, state):
    ...         self.powers = state["powers"]
    >>> targets = LabelSpace(("a",)).encode(np.array([[1], [0], [0], [0]]))
    >>> fitted = Power.fitted(PowerOptions(), np.full((4, 1), 0.5), targets)
    >>> fitted.apply(np.array([[0.5]])).tolist()
    [[0.25]]
    """

    Options: ClassVar[type[NamedOptions]]
    monotone: ClassVar[bool] = True

    def __init__(self, options: NamedOptions) -> None:
        self.options = options
        self.n_labels = 0

    @abstractmethod
    def fit(self, probabilities: Probabilities, targets: Targets) -> None:
        """Learn from rows that the model was not trained on.

        Parameters
        ----------
        probabilities : ndarray or csr_array of float32, shape (n_samples, n_labels)
            Of the validation rows; sparse where there are very many labels.
        targets : Targets
            Of the same shape. :func:`label_cells` gives both a label at a time, without unknown cells.
        """

    @abstractmethod
    def calibrate(self, probabilities: NDArray[np.float32], columns: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
        """Return calibrated probabilities of cells.

        Parameters
        ----------
        probabilities : ndarray of float32, shape (n_rows, n_columns) or (n_cells,)
            Above 0, up to 1; where one is 0, the result is not used.
        columns : ndarray of int64, shape (n_columns,) or (n_cells,)
            Label of each, so that ``table[columns]`` broadcasts against the probabilities.

        Returns
        -------
        ndarray of float, of the shape of ``probabilities``
            From 0 to 1.
        """

    @abstractmethod
    def state(self) -> Mapping[str, NDArray[Any]]:
        """Return everything that ``fit`` learned, as arrays; a saved model holds nothing else of a calibrator."""

    @abstractmethod
    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take what :meth:`state` of a calibrator of the same options returned."""

    def table(self) -> PlattScaling | None:
        """Return the scale and offset of each label's log-odds that say the same, or None where there are none.

        A program that runs an exported model has neither torch nor plugins; a calibrator can be exported to ONNX only
        in this form.
        """
        return None

    def table_for(self, n_labels: int) -> PlattScaling | None:
        """Return :meth:`table` for all labels of a model: those that were added later are left as they are."""
        table = self.table()
        return None if table is None else table.extended(n_labels)

    @classmethod
    def fitted(cls, options: NamedOptions, probabilities: Any, targets: Targets) -> Self:
        """Return a calibrator that was fitted.

        Parameters
        ----------
        options : NamedOptions
        probabilities : array-like or sparse matrix, shape (n_samples, n_labels)
        targets : Targets

        Raises
        ------
        InvalidInputError
            If probabilities do not fit the targets, or what the calibrator makes of them are no probabilities.
        """
        checked = checked_probabilities(probabilities, targets.n_labels, len(targets))
        calibrator = cls(options)
        calibrator.fit(checked, targets)
        calibrator.n_labels = targets.n_labels
        return calibrator

    @classmethod
    def restored(cls, options: NamedOptions, state: Mapping[str, NDArray[Any]], n_labels: int) -> Self:
        """Return the calibrator that a state was taken from."""
        calibrator = cls(options)
        calibrator.load_state(state)
        calibrator.n_labels = n_labels
        return calibrator

    def apply(self, probabilities: Any) -> Any:
        """Return calibrated probabilities.

        Parameters
        ----------
        probabilities : array-like or sparse matrix, shape (n_samples, n_columns)
            Columns beyond the labels that it was fitted for are left as they are.

        Returns
        -------
        ndarray or csr_array of float32, shape (n_samples, n_columns)

        Raises
        ------
        InvalidInputError
            If what the calibrator makes of them are no probabilities.
        """
        given = probabilities if is_sparse(probabilities) else np.atleast_2d(probabilities)
        checked = checked_probabilities(given, max(self.n_labels, given.shape[1]))
        if not isinstance(checked, np.ndarray):
            out = checked.copy()
            known = checked.indices < self.n_labels
            out.data[known] = self._cells(checked.data[known], checked.indices[known].astype(np.int64))
            return out
        dense, columns = checked.copy(), np.arange(self.n_labels)
        height = max(1, _CHUNK_CELLS // max(1, self.n_labels))
        for first in range(0, len(checked), height):
            part = np.s_[first : first + height, : self.n_labels]
            dense[part] = self._cells(checked[part], columns)
        return dense

    def _cells(self, probabilities: NDArray[np.float32], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return calibrated cells, checked."""
        found = np.asarray(self.calibrate(probabilities, columns), dtype=np.float32)
        if found.shape != probabilities.shape:
            raise InvalidInputError(
                f"Calibrator {self.options.component!r} returned shape {found.shape} for probabilities of shape "
                f"{probabilities.shape}. Its method calibrate must return one for each."
            )
        found = np.where(probabilities > 0, found, np.float32(0))
        if found.size and not (found.min() >= 0 and found.max() <= 1):
            raise InvalidInputError(
                f"Calibrator {self.options.component!r} returned values that are no probabilities (from "
                f"{found.min():g} to {found.max():g}). Its method calibrate must keep them between 0 and 1."
            )
        return found


def label_cells(
    probabilities: Probabilities, targets: Targets
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.bool_]]]:
    """Yield the known cells of each label that has any, apart from those of probability 0.

    Parameters
    ----------
    probabilities : ndarray or csr_array of float32, shape (n_samples, n_labels)
        As :meth:`Calibrator.fit` gets them.
    targets : Targets
        Of the same shape.

    Yields
    ------
    column : int
    scores : ndarray of float32, shape (n_cells,)
        Probabilities, in no order that means anything.
    truth : ndarray of bool, shape (n_cells,)
        Whether the label applies.

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.labels import LabelSpace
    >>> targets = LabelSpace(("a", "b")).encode([["a"], []])
    >>> p = np.array([[0.75, 0.0], [0.25, 0.0]], dtype=np.float32)
    >>> [(column, scores.tolist(), truth.tolist()) for column, scores, truth in label_cells(p, targets)]
    [(0, [0.75, 0.25], [True, False])]
    """
    for cells in cell_chunks(probabilities, targets):
        scores, truth = cells.scores, cells.truth
        for column, (start, stop) in enumerate(zip(cells.starts[:-1].tolist(), cells.starts[1:].tolist(), strict=True)):
            if stop > start:
                yield cells.first + column, scores[start:stop], truth[start:stop]
