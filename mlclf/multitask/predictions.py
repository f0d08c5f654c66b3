"""Prediction: what tasks answer, one for all texts, one for each text, or all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlclf.classifier import MultiLabelClassifier
from mlclf.exceptions import OptionsError
from mlclf.interfaces import Backbone
from mlclf.model import Model
from mlclf.multitask.mixed import MixedReader
from mlclf.multitask.names import task_columns
from mlclf.report import Report
from mlclf.texts import as_texts

Labels: TypeAlias = tuple[Any, ...]
RowAnswers: TypeAlias = Callable[[Model, NDArray[np.float32]], list[Any]]


class TaskPredictionMixin(ABC):
    """Prediction and evaluation with the models of tasks."""

    _reader: MixedReader | None

    @property
    @abstractmethod
    def _models(self) -> dict[str, Model]:
        """The tasks' models by name."""

    @property
    @abstractmethod
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""

    @abstractmethod
    def task(self, name: str) -> MultiLabelClassifier:
        """Return a task as a classifier."""

    @abstractmethod
    def _loaded(self) -> Backbone:
        """Return the shared backbone."""

    def predict(self, X: Any, task: str | Sequence[str]) -> Any:
        """Return which labels apply.

        Parameters
        ----------
        X : sequence of str, length n_samples
        task : str, or sequence of str of length n_samples
            One task for all texts, or the task of each.

        Returns
        -------
        ndarray or sparse matrix, shape (n_samples, n_labels), or list of ndarray of int8, each (n_labels of its task,)
            For one task as :meth:`MultiLabelClassifier.predict`; else an indicator for each text.
        """
        if isinstance(task, str):
            return self.task(task).predict(X)
        return self._rows(X, task, lambda model, found: list(model.thresholds.apply(found).astype(np.int8)))

    def predict_labels(self, X: Any, task: str | Sequence[str], top_k: int | None = None) -> list[Labels]:
        """Return the label set of each text.

        Parameters
        ----------
        X : sequence of str, length n_samples
        task : str, or sequence of str of length n_samples
            One task for all texts, or the task of each: those are read in common batches.
        top_k : int or None
            Keep at most this many labels of those that apply.

        Returns
        -------
        list of tuple, length n_samples
            Labels of the text's own task.
        """
        if isinstance(task, str):
            return self.task(task).predict_labels(X, top_k=top_k)
        return self._rows(X, task, lambda model, found: _decoded(model, found, top_k))

    def predict_proba(self, X: Any, task: str | Sequence[str]) -> Any:
        """Return marginal probabilities.

        Parameters
        ----------
        X : sequence of str, length n_samples
        task : str, or sequence of str of length n_samples

        Returns
        -------
        ndarray of float32, shape (n_samples, n_labels), or list of ndarray of float32, each (n_labels of its task,)
            For one task a matrix; else a row for each text, in the order of its task's ``classes_``.
        """
        if isinstance(task, str):
            return self.task(task).predict_proba(X)
        return self._rows(X, task, lambda model, found: list(found))

    def predict_all(self, X: Any, top_k: int | None = None) -> dict[str, list[Labels]]:
        """Return the label sets of each text under every task.

        Tasks that change nothing in the backbone share one reading of a text.

        Parameters
        ----------
        X : sequence of str, length n_samples
        top_k : int or None
            Keep at most this many labels a task.

        Returns
        -------
        dict of str to list of tuple
            For each task, as :meth:`predict_labels`.
        """
        texts, models, names = as_texts(X), self._some_models(), self.tasks
        answers: dict[str, list[Labels]] = {name: [()] * len(texts) for name in names}
        wanted = np.ones((len(texts), len(models)), dtype=bool)
        for number, items, found in self._mixed().stream(texts, wanted):
            for item, labels in zip(items.tolist(), _decoded(models[number], found, top_k), strict=True):
                answers[names[number]][item] = labels
        return answers

    def evaluate(self, X: Any, Y: Any, task: str, *, error_texts: int = 0) -> Report:
        """Compare a task's predictions with true labels: :meth:`MultiLabelClassifier.evaluate`.

        Parameters
        ----------
        X : sequence of str, length n_samples
        Y : label lists, indicator array, DataFrame or sparse matrix
        task : str
        error_texts : int, default=0
            As there.

        Returns
        -------
        Report
        """
        return self.task(task).evaluate(X, Y, error_texts=error_texts)

    def _some_models(self) -> list[Model]:
        models = list(self._models.values())
        if not models:
            raise OptionsError("There is no task yet. Call add_task(name, X, Y).")
        return models

    def _mixed(self) -> MixedReader:
        """Return the reader of all tasks, made anew where tasks have changed."""
        models = self._some_models()
        if self._reader is None or not self._reader.serves(models):
            self._reader = MixedReader(self._loaded(), models)
        return self._reader

    def _rows(self, X: Any, task: Sequence[str], answer: RowAnswers) -> list[Any]:
        """Return one answer a text, by the text's own task."""
        texts = as_texts(X)
        columns = task_columns(task, self.tasks, len(texts))
        wanted: NDArray[np.bool_] = columns[:, None] == np.arange(len(self.tasks))
        models, answers = self._some_models(), [None] * len(texts)
        for number, items, found in self._mixed().stream(texts, wanted):
            for item, row in zip(items.tolist(), answer(models[number], found), strict=True):
                answers[item] = row
        return answers


def _decoded(model: Model, probabilities: NDArray[np.float32], top_k: int | None) -> list[Labels]:
    """Return the labels that apply."""
    return model.labels.decode(model.thresholds.limited(top_k).apply(probabilities))
