"""MultiLabelClassifier: the scikit-learn estimator, which stores what it is given and delegates the rest."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
import sklearn.exceptions
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import Tags

from mlclf.assembly import resolve_parts
from mlclf.bundle.store import load_model, save_model
from mlclf.estimator_params import NestedOptionsMixin
from mlclf.exceptions import NotFittedError
from mlclf.fitting import Plan, fit_model, split_validation
from mlclf.inputs import checked_rows, checked_weights, random_seed
from mlclf.labels import LabelSpace, check_trainable, y_format
from mlclf.metrics import score as score_probabilities
from mlclf.model import Model
from mlclf.options import Options, TrainingOptions
from mlclf.report import Report
from mlclf.texts import as_texts
from mlclf.thresholds import Thresholds, as_thresholds, check_rule
from mlclf.training.device import resolve_device, resolve_precision
from mlclf.training.history import History

logger = logging.getLogger(__name__)


class _NotFitted(NotFittedError, sklearn.exceptions.NotFittedError):
    """Not fitted, for users of mlclf and of scikit-learn alike."""


class MultiLabelClassifier(ClassifierMixin, NestedOptionsMixin):
    """Fine-tunes a language model to give any number of labels to a text.

    Parameters
    ----------
    backbone : str or Options, default="bert"
        What reads the text: a component name (``"bert"``, ``"minilm:l6"``) or options (``BertOptions(model=...)``).
    strategy : str or Options, default="lora"
        Which weights learn.
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
    calibration : {"platt"} or None
        Whether probabilities are calibrated a label on the validation rows.
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
        strategy: str | Options = "lora",
        head: str | Options = "bce",
        *,
        training: TrainingOptions | None = None,
        classes: Sequence[str] | Sequence[int] | None = None,
        validation: float | None = 0.1,
        thresholds: str | float | Thresholds = "per-label",
        calibration: str | None = None,
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
        plan, rows, validation = self._plan(X, Y, sample_weight, validation_data)
        self._adopt(fit_model(plan, rows, validation))
        return self

    def predict(self, X: Any, thresholds: Any = None) -> Any:
        """Return which labels apply.

        Parameters
        ----------
        X : sequence of str, length n_samples
        thresholds : float, dict, array, Thresholds or None
            Used for this call instead of the fitted ones: one number, ``{label: number}`` (others as fitted), one
            number a label, or an object.

        Returns
        -------
        ndarray or sparse matrix, shape (n_samples, n_labels)
            1 where the label applies, in the type that Y had in ``fit``; int8 where Y was label lists.
        """
        model = self._fitted()
        return model.y_format.restore(model.indicator(as_texts(X), self._thresholds(thresholds)))

    def predict_labels(self, X: Any, top_k: int | None = None, thresholds: Any = None) -> list[tuple[Any, ...]]:
        """Return the label set of each text.

        Parameters
        ----------
        X : sequence of str, length n_samples
        top_k : int or None
            Keep at most this many labels of those that apply, the most probable ones.
        thresholds : float, dict, array, Thresholds or None
            As in :meth:`predict`.

        Returns
        -------
        list of tuple, length n_samples
            Label names in column order; an empty tuple where no label applies.
        """
        model = self._fitted()
        chosen = self._thresholds(thresholds)
        if top_k is not None:
            chosen = chosen.limited(top_k)
        return model.labels.decode(model.indicator(as_texts(X), chosen))

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Return marginal probabilities.

        Parameters
        ----------
        X : sequence of str, length n_samples

        Returns
        -------
        ndarray of float32, shape (n_samples, n_labels)
            Cell ``[i, j]`` is the probability that label ``classes_[j]`` applies to text ``i``.
        """
        return self._fitted().probabilities(as_texts(X))

    def decision_function(self, X: Any) -> NDArray[np.float32]:
        """Return the log-odds of the probabilities, float32 ``(n_samples, n_labels)``."""
        edge = np.finfo(np.float32).tiny
        p = self.predict_proba(X).astype(np.float64)
        return (np.log(np.maximum(p, edge)) - np.log(np.maximum(1.0 - p, 2.0**-40))).astype(np.float32)

    def predict_topk(self, X: Any, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the ``k`` most probable labels of each text, without building the full matrix.

        Parameters
        ----------
        X : sequence of str, length n_samples
        k : int
            Between 1 and ``n_labels_``.

        Returns
        -------
        indices : ndarray of int64, shape (n_samples, k)
            Columns (positions in ``classes_``), most probable first.
        probabilities : ndarray of float32, shape (n_samples, k)

        Raises
        ------
        OptionsError
            If ``k`` is out of range.
        """
        model = self._fitted()
        if not 1 <= k <= model.labels.n_labels:
            from mlclf.exceptions import OptionsError

            raise OptionsError(f"k must be between 1 and the {model.labels.n_labels} labels, got {k!r}.")
        return model.top(as_texts(X), k)

    def evaluate(self, X: Any, Y: Any) -> Report:
        """Compare predictions with true labels.

        Parameters
        ----------
        X : sequence of str, length n_samples
        Y : label lists, indicator array, DataFrame or sparse matrix
            Labels unknown to the model are counted as missed, with a warning.

        Returns
        -------
        Report
            Figures at 0.5 and at the fitted thresholds, and a row for each label; ``print`` it.
        """
        model = self._fitted()
        texts = as_texts(X)
        targets = model.labels.encode(Y, unknown_labels="warn", n_samples=len(texts))
        probabilities = model.bounded_probabilities(texts, targets)
        return score_probabilities(probabilities, targets, model.thresholds, names=model.labels.names)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return subset accuracy: the share of texts whose whole label set is right (scikit-learn's definition).

        Parameters
        ----------
        X : sequence of str, length n_samples
        y : label lists, indicator array, DataFrame or sparse matrix
        sample_weight : array-like of float, shape (n_samples,), or None

        Returns
        -------
        float
            Between 0 and 1.
        """
        model = self._fitted()
        texts = as_texts(X)
        targets = model.labels.encode(y, unknown_labels="warn", n_samples=len(texts))
        wrong = np.diff((model.indicator(texts, model.thresholds) != targets.indicator).tocsr().indptr) > 0
        if targets.dropped_per_row is not None:
            wrong |= targets.dropped_per_row > 0
        return float(np.average(~wrong, weights=checked_weights(sample_weight, len(texts))))

    def set_thresholds(self, thresholds: Any) -> Self:
        """Change the fitted thresholds without fitting again.

        Parameters
        ----------
        thresholds : float, dict, array or Thresholds
            As in :meth:`predict`.

        Returns
        -------
        self
        """
        model = self._fitted()
        model.thresholds = self.thresholds_ = self._thresholds(thresholds)
        return self

    def save(self, folder: str | os.PathLike[str], *, include_backbone: bool = False) -> None:
        """Write the fitted model into a folder of safetensors and JSON.

        Parameters
        ----------
        folder : path
            New, or a saved model that is replaced once the new one is complete.
        include_backbone : bool, default=False
            Also write pretrained weights that the strategy left alone. Without them a LoRA model is a few megabytes
            and needs its backbone where it is loaded.
        """
        save_model(self._fitted(), folder, include_backbone=include_backbone)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        device: str | None = None,
        allow_plugins: Iterable[str] | None = None,
        allow_plugin_version_mismatch: bool = False,
    ) -> Self:
        """Read a saved model.

        Parameters
        ----------
        folder : path
            Written by :meth:`save`.
        device : str or None
            As in the constructor.
        allow_plugins : iterable of str or None
            Plugin ids that may be imported; None allows every installed one, an empty one none.
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
        loaded = cls(
            model.parts.backbone,
            model.parts.strategy,
            model.parts.head,
            training=model.training,
            classes=list(model.labels.names),
            device=device,
        )
        loaded._adopt(model)
        return loaded

    def _plan(self, X: Any, Y: Any, sample_weight: Any, validation_data: Any) -> tuple[Plan, Any, Any]:
        """Check everything, and turn it into what ``fit_model`` takes."""
        parts = resolve_parts(self.backbone, self.strategy, self.head)
        training = (TrainingOptions() if self.training is None else self.training).validated()
        check_rule(self.thresholds)
        device = resolve_device(self.device)
        resolve_precision(training.precision, device)
        seed = random_seed(self.random_state)
        labels = LabelSpace.infer(Y, self.classes)
        rows = checked_rows(X, Y, sample_weight, labels)
        check_trainable(rows.targets)
        plan = Plan(
            parts=parts,
            labels=labels,
            y_format=y_format(Y),
            training=training,
            thresholds=as_thresholds(self.thresholds, labels.names) if _is_given(self.thresholds) else self.thresholds,
            calibrate=self.calibration is not None,
            device=device,
            seed=seed,
            verbose=self.verbose,
        )
        if validation_data is not None:
            return plan, rows, checked_rows(*validation_data, None, labels)
        return plan, *split_validation(rows, self.validation, seed)

    def _adopt(self, model: Model) -> None:
        """Take a fitted model; only here does a fit become visible."""
        self.model_ = model
        self.classes_ = np.asarray(model.labels.names)
        self.n_labels_ = model.labels.n_labels
        self.label_counts_ = model.statistics.positives
        self.thresholds_ = model.thresholds
        self.history_: History = model.history
        self.validation_report_ = model.metrics

    def _fitted(self) -> Model:
        if not hasattr(self, "model_"):
            raise _NotFitted(
                "This MultiLabelClassifier is not fitted yet. Call fit(X, Y), or MultiLabelClassifier.load(folder)."
            )
        return self.model_

    def _thresholds(self, given: Any) -> Thresholds:
        model = self._fitted()
        return model.thresholds if given is None else as_thresholds(given, model.labels.names, model.thresholds)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array = True, True, False
        tags.target_tags.required, tags.target_tags.two_d_labels, tags.target_tags.single_output = True, True, False
        tags.classifier_tags.multi_label, tags.classifier_tags.multi_class = True, False
        return tags
