"""MultiTaskClassifier: many label sets from one set of backbone weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from mlclf.assembly import Component, resolve_parts
from mlclf.bundle.store import AllowedPlugins
from mlclf.classifier import MultiLabelClassifier
from mlclf.exceptions import IncompatibleComponentsError, InvalidInputError
from mlclf.fitting import fit_model
from mlclf.interfaces import Backbone
from mlclf.model import Model
from mlclf.multitask.names import checked_name, known_task
from mlclf.multitask.predictions import TaskPredictionMixin
from mlclf.multitask.sharing import adopted, check_shares, load_shared, shares_tensors
from mlclf.multitask.store import load_tasks, save_tasks
from mlclf.options import Options, TrainingOptions
from mlclf.plugins import resolve
from mlclf.thresholds import Thresholds
from mlclf.training.device import resolve_device


class MultiTaskClassifier(TaskPredictionMixin):
    """Serves many label sets from one set of backbone weights.

    Each task has its own low-rank updates or adapters, its own pooling and head, its own labels and thresholds. The
    pretrained weights are there once, whatever the number of tasks, and a new task never changes what earlier ones
    answer. Texts of different tasks can be read in one batch.

    Parameters
    ----------
    backbone : str or Options, default="bert"
        What all tasks read with.
    training : TrainingOptions or None
        How tasks are trained, unless ``add_task`` says otherwise.
    validation : float or None, default=0.1
        As in :class:`~mlclf.classifier.MultiLabelClassifier`, for each task.
    thresholds : str, float or Thresholds, default="per-label"
        As in :class:`~mlclf.classifier.MultiLabelClassifier`, for each task.
    calibration : str, Options or None
        As in :class:`~mlclf.classifier.MultiLabelClassifier`, for each task.
    device : str or None
        ``"cpu"``, ``"cuda"``, ...; None takes a GPU where there is one.
    random_state : int, RandomState or None
        Seed of each fit.
    verbose : int, default=1
        0 for no progress bar.

    References
    ----------
    Pfeiffer et al. (2020), "AdapterHub: A Framework for Adapting Transformers", arXiv:2007.07779.
    Chen et al. (2023), "Punica: Multi-Tenant LoRA Serving", arXiv:2310.18547.

    Examples
    --------
    >>> import tempfile
    >>> from mlclf import BertOptions, MultiTaskClassifier, TrainingOptions
    >>> from mlclf.testing import tiny_encoder
    >>> texts = ["good food", "bad food", "good staff", "bad staff"] * 8
    >>> topic, mood = [["food"], ["food"], ["staff"], ["staff"]] * 8, [["good"], ["bad"]] * 16
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     backbone = BertOptions(model=str(tiny_encoder("bert", folder)))
    ...     mt = MultiTaskClassifier(backbone, training=TrainingOptions(epochs=1), random_state=0, verbose=0)
    ...     _ = mt.add_task("topic", texts, topic).add_task("mood", texts, mood, strategy="head-only")
    >>> mt.tasks
    ('topic', 'mood')
    >>> [len(row) for row in mt.predict_proba(["good food", "bad staff"], task=["mood", "topic"])]
    [2, 2]
    """

    def __init__(
        self,
        backbone: Component = "bert",
        *,
        training: TrainingOptions | None = None,
        validation: float | None = 0.1,
        thresholds: str | float | Thresholds = "per-label",
        calibration: str | Options | None = None,
        device: str | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 1,
    ) -> None:
        self.backbone = backbone
        self.training = training
        self.validation = validation
        self.thresholds = thresholds
        self.calibration = calibration
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self._tasks: dict[str, MultiLabelClassifier] = {}
        self._shared: Backbone | None = None
        self._reader = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in the order in which they were added."""
        return tuple(self._tasks)

    @property
    def _models(self) -> dict[str, Model]:
        """The tasks' models by name, all of them over the shared tensors."""
        return {name: self._shared_model(estimator) for name, estimator in self._tasks.items()}

    def add_task(
        self,
        name: str,
        X: Any,
        Y: Any = None,
        *,
        strategy: Component = "lora",
        head: Component = "bce",
        pooling: str | None = None,
        training: TrainingOptions | None = None,
        classes: Sequence[str | int] | None = None,
        sample_weight: Any = None,
        validation_data: tuple[Any, Any] | None = None,
    ) -> Self:
        """Fit a task on the shared backbone, or take in a fitted one.

        Parameters
        ----------
        name : str
            Of the new task.
        X : sequence of str, length n_samples, or MultiLabelClassifier
            Texts to fit on. A fitted or loaded classifier over the same pretrained weights becomes a task as it is;
            it keeps its own weights, and the task has copies of what was trained.
        Y : label lists, indicator array, DataFrame or sparse matrix
            The label set of each text; None with a classifier.
        strategy : str or Options, default="lora"
            ``"lora"``, ``"head-only"``, ``"features"`` or another that leaves the shared weights as they are.
        head : str or Options, default="bce"
            How labels come out.
        pooling : str or None
            Pooling of this task; None takes that of the shared backbone's options.
        training : TrainingOptions or None
            None takes that of the constructor.
        classes : sequence of str or int, or None
            Label set in column order; None takes it from Y.
        sample_weight : array-like of float, shape (n_samples,), or None
            Weight of each text in the loss.
        validation_data : (X, Y) or None
            Rows to validate on instead of a share of the training rows.

        Returns
        -------
        self

        Raises
        ------
        OptionsError
            If there is a task of that name, or the name is none.
        IncompatibleComponentsError
            If the strategy cannot share a backbone, or a classifier stands on other weights.
        InvalidInputError, PluginError, BackboneLoadError, TrainingError
            As in a fit.
        """
        checked_name(name, self._tasks)
        if isinstance(X, MultiLabelClassifier):
            if Y is not None:
                raise InvalidInputError(f"Task {name!r}: a fitted classifier is taken as it is; leave Y out.")
            self._tasks[name] = MultiLabelClassifier._of(self._adopted(X), self.device)
            return self
        backbone = self._options() if pooling is None else self._options().replace(pooling=pooling)
        estimator = MultiLabelClassifier(
            backbone,
            strategy,
            head,
            training=self.training if training is None else training,
            classes=classes,
            validation=self.validation,
            thresholds=self.thresholds,
            calibration=self.calibration,
            device=self.device,
            random_state=self.random_state,
            verbose=self.verbose,
        )
        self._fit(estimator, X, Y, sample_weight, validation_data)
        self._tasks[name] = estimator
        return self

    def remove_task(self, name: str) -> Self:
        """Forget a task; the others stay as they are.

        Parameters
        ----------
        name : str

        Returns
        -------
        self

        Raises
        ------
        InvalidInputError
            If there is no such task.
        """
        del self._tasks[known_task(name, self._tasks)]
        self._reader = None
        return self

    def task(self, name: str) -> MultiLabelClassifier:
        """Return a task as a classifier, which evaluates, saves and exports like any other.

        It is the task itself: thresholds that are set on it, and what it is taught by ``partial_fit``, are the task's.

        Parameters
        ----------
        name : str

        Returns
        -------
        MultiLabelClassifier
            Fitted, over the shared weights.

        Raises
        ------
        InvalidInputError
            If there is no such task.
        """
        estimator = self._tasks[known_task(name, self._tasks)]
        self._shared_model(estimator)
        return estimator

    def save(self, folder: str | os.PathLike[str], *, include_backbone: bool = False) -> None:
        """Write all tasks into a folder of safetensors and JSON.

        Each task is a saved model of its own in ``tasks/0``, ``tasks/1``, ...; what they share is written once.

        Parameters
        ----------
        folder : path
            New, or a saved one that is replaced once the new one is complete.
        include_backbone : bool, default=False
            Also write the shared pretrained weights, once. Without them they are loaded from where they came.

        Raises
        ------
        OptionsError
            If the folder is something else.
        """
        self._some_models()
        save_tasks(self._loaded(), self._models, Path(folder), include_backbone=include_backbone)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        device: str | None = None,
        allow_plugins: AllowedPlugins = None,
        allow_plugin_version_mismatch: bool = False,
    ) -> Self:
        """Read a saved folder.

        Parameters
        ----------
        folder : path
            Written by :meth:`save`.
        device : str or None
            As in the constructor.
        allow_plugins : collection of str, "none" or None
            Plugin ids that may be imported; None allows every installed one.
        allow_plugin_version_mismatch : bool, default=False
            Accept another major version of a plugin than the folder was saved with.

        Returns
        -------
        MultiTaskClassifier

        Raises
        ------
        BundleError, PluginError, BackboneLoadError
        """
        shared, models = load_tasks(
            Path(folder),
            resolve_device(device),
            allow_plugins=allow_plugins,
            allow_plugin_version_mismatch=allow_plugin_version_mismatch,
        )
        loaded = cls(shared.options, device=device)
        loaded._shared = shared
        loaded._tasks = {name: MultiLabelClassifier._of(model, device) for name, model in models.items()}
        return loaded

    def _options(self) -> Options:
        """Return the options of the shared backbone."""
        return self.backbone if isinstance(self.backbone, Options) else resolve("backbone", self.backbone)[2]

    def _loaded(self) -> Backbone:
        """Return the shared backbone, which is loaded when it is first needed."""
        if self._shared is None:
            parts = resolve_parts(self._options(), "head-only", "bce")
            self._shared = load_shared(parts, resolve_device(self.device))
        return self._shared

    def _adopted(self, estimator: MultiLabelClassifier) -> Model:
        model = estimator._fitted()
        check_shares(model.parts)
        names = model.parts.names["backbone"], self._options().component
        if names[0] != names[1]:
            raise IncompatibleComponentsError(
                f"The model reads with backbone {names[0]!r}, the tasks here with {names[1]!r}. "
                "Tasks of one MultiTaskClassifier share their weights; fit the task on this backbone."
            )
        return adopted(model, self._loaded(), resolve_device(self.device))

    def _fit(self, estimator: MultiLabelClassifier, X: Any, Y: Any, weight: Any, validation_data: Any) -> None:
        """Fit an estimator on the shared backbone."""
        plan, rows, validation = estimator._plan(X, Y, weight, validation_data)
        check_shares(plan.parts)
        plan = replace(plan, backbone=self._loaded().sibling(plan.parts.backbone))
        estimator._adopt(fit_model(plan, rows, validation), plan.choice)

    def _shared_model(self, estimator: MultiLabelClassifier) -> Model:
        """Return the model of a task, over the shared tensors also where its estimator was fitted anew."""
        if not shares_tensors(estimator.model_, self._loaded()):
            estimator._adopt(self._adopted(estimator), estimator.strategy_choice_)
        return estimator.model_
