"""Updating: what a fitted estimator can be taught later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

from mlclf.choosing import AutoChoice
from mlclf.continual import NewRows, check_same_classes, continue_model, continued_plan, grow_model
from mlclf.exceptions import InvalidInputError, UnknownLabelError
from mlclf.fitting import Plan
from mlclf.inputs import checked_rows, checked_validation, random_seed
from mlclf.labels import LabelSpace, YFormat
from mlclf.model import Model
from mlclf.rows import Rows


class UpdateMixin:
    """Learning from more rows and taking further labels, for an estimator that can fit."""

    classes: Sequence[str | int] | None
    validation: float | None
    random_state: Any
    strategy_choice_: AutoChoice | None

    if TYPE_CHECKING:

        def _fitted(self) -> Model: ...
        def _adopt(self, model: Model, choice: AutoChoice | None = None) -> None: ...
        def _settings(self, labels: LabelSpace, form: YFormat) -> Plan: ...
        def _fit(self, X: Any, Y: Any, sample_weight: Any, validation_data: Any, classes: Any) -> Self: ...

    def partial_fit(
        self,
        X: Any,
        Y: Any,
        sample_weight: Any = None,
        validation_data: tuple[Any, Any] | None = None,
        classes: Iterable[str | int] | None = None,
    ) -> Self:
        """Learn from more rows, beside a sample of the earlier ones; on an unfitted estimator, fit.

        Training goes on from the present weights, with the same components and labels. Label counts are added up, and
        thresholds and calibration are tuned again on validation rows of the new and the earlier data. If training fails
        or is interrupted, the model stays what it was, weights included.

        Parameters
        ----------
        X : sequence of str, length n_samples
            New texts.
        Y : label lists, indicator array, DataFrame or sparse matrix
            Their labels, as in :meth:`fit`. Mark what nobody has looked at as not known: an old label that is missing
            from a new row counts as one that does not apply.
        sample_weight : array-like of float, shape (n_samples,), or None
            Weight of each text in the loss.
        validation_data : (X, Y) or None
            Rows to validate on, instead of a share of the new rows and of the validation rows kept from before.
        classes : iterable of str or int, or None
            In the first call the label set in column order, where the parameter ``classes`` does not give it;
            afterwards the same ones, or None.

        Returns
        -------
        self

        Raises
        ------
        UnknownLabelError
            If a label is not known; :meth:`add_labels` makes it so.
        InvalidInputError, OptionsError, PluginError, IncompatibleComponentsError
            Before training.
        TrainingError, TrainingInterrupted
            During training.
        """
        if not hasattr(self, "model_"):
            return self._fit(X, Y, sample_weight, validation_data, _first_classes(self.classes, classes))
        model = self._fitted()
        plan = continued_plan(self._settings(model.labels, model.y_format), model)
        check_same_classes(classes, model.labels)
        rows = _known_rows(X, Y, sample_weight, model.labels)
        validation = self.validation if validation_data is None else checked_validation(validation_data, model.labels)
        self._adopt(continue_model(plan, model, NewRows(rows, validation)), self.strategy_choice_)
        return self

    def add_labels(self, labels: Iterable[str | int]) -> Self:
        """Take further labels, without a change in what is known about the present ones.

        Their columns come last. Nothing is known about them until :meth:`partial_fit` sees rows of theirs: earlier rows
        that are kept for replay count as not looked at, not as rows to which they do not apply. Until then their
        probabilities mean nothing.

        Parameters
        ----------
        labels : iterable of str or int
            New names, of the type that the present ones have.

        Returns
        -------
        self

        Raises
        ------
        InvalidInputError
            If a name is known already, occurs twice, is empty, or has another type than the present ones.
        IncompatibleComponentsError
            If the head cannot take further labels.
        """
        self._adopt(grow_model(self._fitted(), labels, random_seed(self.random_state)), self.strategy_choice_)
        return self


def _first_classes(parameter: Any, argument: Any) -> Any:
    """Return the label set of a first call from the estimator's parameter and the method's argument."""
    if argument is None or parameter is None:
        return parameter if argument is None else list(argument)
    if LabelSpace(tuple(argument)) != LabelSpace(tuple(parameter)):
        raise InvalidInputError(
            "partial_fit(classes=...) and the estimator's parameter classes name different labels. Give one of them."
        )
    return parameter


def _known_rows(X: Any, Y: Any, sample_weight: Any, labels: LabelSpace) -> Rows:
    """Return new rows; where they have labels that the model lacks, say how it gets them."""
    hint = "A fitted model takes new labels with add_labels([...]), before partial_fit."
    try:
        return checked_rows(X, Y, sample_weight, labels)
    except UnknownLabelError as error:
        raise UnknownLabelError(f"{error} {hint}") from None
    except InvalidInputError as error:
        shape: tuple[int, ...] = getattr(Y, "shape", ())
        if len(shape) == 2 and shape[1] > labels.n_labels:
            raise InvalidInputError(f"{error} {hint}") from None
        raise
