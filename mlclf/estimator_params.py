"""Nested parameters of the estimator: ``set_params(strategy__r=16)`` on names and on options objects."""

from __future__ import annotations

from typing import Any, Self, cast

from sklearn.base import BaseEstimator

from mlclf.chaining.options import chain_options
from mlclf.exceptions import OptionsError
from mlclf.options import Options, TrainingOptions
from mlclf.plugins import resolve_named
from mlclf.plugins.spec import Kind
from mlclf.replay import as_replay_options

_COMPONENTS = ("backbone", "strategy", "head", "calibration")


class NestedOptionsMixin(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Reads and sets options inside components, as scikit-learn's nested estimators do.

    A component given by name is turned into its default options when one of its options is set, and a list of
    strategies into :class:`mlclf.chaining.options.ChainOptions`. Options objects are replaced, never changed, so that
    a search leaks nothing into the caller's objects; values are checked in ``fit``, so that one bad candidate costs a
    search that candidate only.
    """

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``<component>__<option>`` reaches into a component.

        In a chain of strategies, ``strategy__<name>__<option>`` reaches into one of them.

        Parameters
        ----------
        **params
            Names of :meth:`get_params` and values.

        Returns
        -------
        self

        Raises
        ------
        OptionsError
            If a component has no option of that name.
        ValueError
            If the estimator has no parameter of that name.
        """
        nested = {name: value for name, value in params.items() if "__" in name}
        # Whole components first: a grid over {"strategy": [...], "strategy__r": [...]} sets both at once.
        super().set_params(**{name: value for name, value in params.items() if name not in nested})
        for name, value in sorted(nested.items(), key=lambda item: item[0].count("__")):
            part, _, option = name.partition("__")
            setattr(self, part, self._options_of(part).replace(**{option: value}))
        return self

    def _options_of(self, part: str) -> Options:
        """Return the options object of a component, or that of its name."""
        valid = (*_COMPONENTS, "training", "replay")
        if part not in valid:
            raise OptionsError(f"{part!r} has no options to set. Parameters with options: {', '.join(valid)}.")
        value: Any = getattr(self, part)
        if isinstance(value, Options):
            return value
        if part == "training":
            return TrainingOptions()
        if part == "strategy" and isinstance(value, list | tuple):
            return chain_options(value)
        if part == "replay":
            return as_replay_options(cast("float | None", value))
        if part == "calibration" and value is None:
            raise OptionsError("calibration is None and has no options to set. Set calibration='platt' or another one.")
        return resolve_named(cast(Kind, "calibrator" if part == "calibration" else part), value)
