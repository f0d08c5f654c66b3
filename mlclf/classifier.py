"""MultiLabelClassifier: the scikit-learn estimator, which stores what it is given and delegates the rest."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import Tags

from mlclf.assembly import resolve_parts
from mlclf.bundle.card import CardFacts
from mlclf.bundle.store import AllowedPlugins, load_model, save_model
from mlclf.chaining.options import StrategyChoice
from mlclf.choosing import AutoChoice, settle
from mlclf.estimator_params import NestedOptionsMixin
from mlclf.exporting import ExportMixin
from mlclf.fitting import Plan, fit_model, split_validation
from mlclf.inputs import (
    calibration_options,
    check_validation,
    checked_rows,
    checked_validation,
    random_seed,
    shortest_choice,
)
from mlclf.label_names import names_array
from mlclf.labels import LabelSpace, YFormat, check_trainable, y_format
from mlclf.matching import check_training
from mlclf.model import Model
from mlclf.options import Options, TrainingOptions
from mlclf.predictions import PredictionMixin
from mlclf.replay import DEFAULT_SHARE, ReplayOptions, as_replay_options, shortest_replay
from mlclf.rows import Rows
from mlclf.thresholds import Thresholds, check_rule
from mlclf.training.device import resolve_device, resolve_precision
from mlclf.training.history import History
from mlclf.updating import UpdateMixin
from mlclf.zero_shot import ZeroShotMixin

logger = logging.getLogger(__name__)


class MultiLabelClassifier(
    ZeroShotMixin,
    UpdateMixin,
    ExportMixin,
    PredictionMixin,
    ClassifierMixin,  # type: ignore[misc]  # scikit-learn ships no types
    NestedOptionsMixin,
):
    """Fine-tunes a language model to give any number of labels to a text.

    Parameters
    ----------
    backbone : str or Options, default="bert"
        What reads the text: a component name (``"bert"``, ``"minilm:l6"``) or options (``BertOptions(model=...)``).
    strategy : str, Options or list of these, default="lora"
        Which weights learn; several strategies in a list are trained together on one backbone. ``"auto"`` is replaced
        by one that suits rows, backbone, memory and deployment.
    head : str or Options, default="bce"
        How labels come out.
    training : TrainingOptions or None
        How it is trained; None for the defaults.
    classes : sequence of str or int, or None
        Label set in column order; None takes it from Y.
    validation : float or None, default=0.1
        Share of the rows held out, by iterative stratification, to choose the best weights and tune thresholds;
        None or 0 uses all rows for training and leaves thresholds at 0.5.
    thresholds : str, float or Thresholds, default="per-label"
        From which probability on a label applies: ``"per-label"`` or ``"global"``, tuned on the validation rows; a
        number for all labels; or given ones.
    calibration : str, Options, dict or None
        What calibrates probabilities on the validation rows: ``"platt"``, or the name or options of a plugin's
        calibrator (``"acme:beta"``); None leaves them as they are.
    replay : float, ReplayOptions or None, default=0.5
        Share of the rows that is kept in memory, so that :meth:`partial_fit` does not forget; None keeps none.
    device : str or None
        ``"cpu"``, ``"cuda"``, ...; None takes a GPU where there is one.
    random_state : int, RandomState or None
        Seed of the split, the new weights, dropout and the order of rows.
    verbose : int, default=1
        0 for no progress bar.

    Attributes
    ----------
    classes_ : ndarray, shape (n_labels,)
        Label names in column order.
    n_labels_ : int
    label_counts_ : ndarray of int64, shape (n_labels,)
        Training rows to which each label applies.
    thresholds_ : Thresholds
    history_ : History
    validation_report_ : dict
        Report on the validation rows; empty where there were none.
    strategy_choice_ : AutoChoice or None
        What ``strategy="auto"`` stood for in this fit, and why.

    Examples
    --------
    >>> import tempfile
    >>> from mlclf import BertOptions, MultiLabelClassifier, TrainingOptions
    >>> from mlclf.testing import tiny_encoder
    >>> texts, labels = ["good food", "bad food", "good staff", "bad staff"] * 8, [["a"], ["b"], ["a", "c"], ["c"]] * 8
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     backbone = BertOptions(model=str(tiny_encoder("bert", folder)))
    ...     clf = MultiLabelClassifier(backbone, training=TrainingOptions(epochs=1), random_state=0, verbose=0)
    ...     probabilities = clf.fit(texts, labels).predict_proba(["good food"])
    >>> probabilities.shape
    (1, 3)
    """

    def __init__(
        self,
        backbone: str | Options = "bert",
        strategy: StrategyChoice = "lora",
        head: str | Options = "bce",
        *,
        training: TrainingOptions | None = None,
        classes: Sequence[str | int] | None = None,
        validation: float | None = 0.1,
        thresholds: str | float | Thresholds = "per-label",
        calibration: str | Options | None = None,
        replay: float | ReplayOptions | None = DEFAULT_SHARE,
        device: str | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 1,
    ) -> None:
        self.backbone = backbone
        self.strategy = strategy
        self.head = head
        self.training = training
        self.classes = classes
        self.validation = validation
        self.thresholds = thresholds
        self.calibration = calibration
        self.replay = replay
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, Y: Any, sample_weight: Any = None, validation_data: tuple[Any, Any] | None = None) -> Self:
        """Train on labelled texts.

        Everything that can be wrong with data, options and components is checked before anything is loaded. If
        training fails or is interrupted, an earlier fit of this object stays usable.

        Parameters
        ----------
        X : sequence of str, length n_samples
            List, tuple, array, Series or one-column frame.
        Y : label lists, indicator array, DataFrame or sparse matrix
            The label set of each text; an empty one is legal. In an array or frame, NaN or -1 marks a cell that is not
            known.
        sample_weight : array-like of float, shape (n_samples,), or None
            Weight of each text in the loss.
        validation_data : (X, Y) or None
            Rows to validate on instead of a share of the training rows.

        Returns
        -------
        self

        Raises
        ------
        InvalidInputError, OptionsError, PluginError, IncompatibleComponentsError
            Before training.
        TrainingError, TrainingInterrupted
            During training.
        """
        return self._fit(X, Y, sample_weight, validation_data, None)

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        include_backbone: bool = False,
        include_replay: bool = False,
        card: CardFacts | None = None,
    ) -> None:
        """Write the fitted model into a folder of safetensors and JSON, with a model card in ``README.md``.

        Parameters
        ----------
        folder : path
            New, or a saved model that is replaced once the new one is complete.
        include_backbone : bool, default=False
            Also write pretrained weights that the strategy left alone. Without them a LoRA model is a few megabytes
            and needs its backbone where it is loaded.
        include_replay : bool, default=False
            Also write the training texts that are kept for :meth:`partial_fit`, with their labels.
        card : CardFacts or None
            Language, licence and evaluation for the model card, which else holds what the model knows.
        """
        save_model(self._fitted(), folder, include_backbone=include_backbone, include_replay=include_replay, facts=card)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        device: str | None = None,
        allow_plugins: AllowedPlugins = None,
        allow_plugin_version_mismatch: bool = False,
    ) -> Self:
        """Read a saved model.

        Parameters
        ----------
        folder : path
            Written by :meth:`save`.
        device : str or None
            As in the constructor.
        allow_plugins : collection of str, "none" or None
            Plugin ids that may be imported; None allows every installed one.
        allow_plugin_version_mismatch : bool, default=False
            Accept another major version of a plugin than the model was saved with.

        Returns
        -------
        MultiLabelClassifier
            Fitted.

        Raises
        ------
        BundleError, PluginError, BackboneLoadError
        """
        model = load_model(
            folder,
            resolve_device(device),
            allow_plugins=allow_plugins,
            allow_plugin_version_mismatch=allow_plugin_version_mismatch,
        )
        return cls._of(model, device)

    @classmethod
    def _of(cls, model: Model, device: str | None) -> Self:
        """Return the estimator of a model that was fitted elsewhere."""
        estimator = cls(
            model.parts.backbone,
            model.parts.strategy,
            model.parts.head,
            training=model.training,
            classes=list(model.labels.names),
            thresholds=model.thresholds.request,
            calibration=None if model.calibrator is None else shortest_choice(model.calibrator.options),
            replay=DEFAULT_SHARE if model.replay_options is None else shortest_replay(model.replay_options),
            device=device,
        )
        estimator._adopt(model)
        return estimator

    def _fit(self, X: Any, Y: Any, sample_weight: Any, validation_data: Any, classes: Any) -> Self:
        plan, rows, validation = self._plan(X, Y, sample_weight, validation_data, classes)
        self._adopt(fit_model(plan, rows, validation), plan.choice)
        return self

    def _plan(
        self, X: Any, Y: Any, sample_weight: Any, validation_data: Any, classes: Any = None
    ) -> tuple[Plan, Rows, Rows | None]:
        """Check everything, and turn it into what ``fit_model`` takes."""
        plan = self._settings(LabelSpace.infer(Y, self.classes if classes is None else classes), y_format(Y))
        rows = checked_rows(X, Y, sample_weight, plan.labels)
        check_trainable(rows.targets)
        if validation_data is not None:
            held_out: Rows | None = checked_validation(validation_data, plan.labels)
        else:
            rows, held_out = split_validation(rows, self.validation, plan.seed)
        parts, choice = settle(plan.parts, len(rows), plan.device, self.verbose)
        check_training(parts, plan.training)
        return replace(plan, parts=parts, choice=choice), rows, held_out

    def _settings(self, labels: LabelSpace, form: YFormat) -> Plan:
        """Check the parameters; which strategy ``"auto"`` stands for is open as yet."""
        parts = resolve_parts(self.backbone, self.strategy, self.head)
        training = (TrainingOptions() if self.training is None else self.training).validated()
        check_rule(self.thresholds)
        check_validation(self.validation)
        device = resolve_device(self.device)
        resolve_precision(training.precision, device)
        return Plan(
            parts=parts,
            labels=labels,
            y_format=form,
            training=training,
            thresholds=self.thresholds,
            calibration=calibration_options(self.calibration),
            device=device,
            seed=random_seed(self.random_state),
            verbose=self.verbose,
            replay=as_replay_options(self.replay),
        )

    def _adopt(self, model: Model, choice: AutoChoice | None = None) -> None:
        """Take a fitted model; only here does a fit become visible."""
        self.model_ = model
        self.strategy_choice_ = choice
        self.classes_ = names_array(model.labels.names)
        self.n_labels_ = model.labels.n_labels
        self.label_counts_ = model.statistics.positives
        self.thresholds_ = model.thresholds
        self.history_: History = model.history
        self.validation_report_ = model.metrics

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array = True, True, False
        tags.target_tags.required, tags.target_tags.two_d_labels, tags.target_tags.single_output = True, True, False
        tags.classifier_tags.multi_label, tags.classifier_tags.multi_class = True, False
        return tags
