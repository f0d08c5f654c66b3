"""Zero-shot: a classifier that answers before it has seen a labelled row, by a head that asks the model in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mlclf.assembly import Component, build_network, resolve_parts
from mlclf.chaining.options import StrategyChoice
from mlclf.choosing import AutoChoice, settle
from mlclf.exceptions import IncompatibleComponentsError, InvalidInputError
from mlclf.fitting import Plan, decide, process_device
from mlclf.interfaces import LabelStatistics
from mlclf.labels import LabelSpace, YFormat
from mlclf.matching import check_training
from mlclf.model import Model
from mlclf.parts import Parts
from mlclf.replay import ReplayBuffer
from mlclf.thresholds import Thresholds
from mlclf.training.device import seeded
from mlclf.training.history import History


class ZeroShotMixin:
    """Answers without training, for an estimator that can fit."""

    backbone: Component
    strategy: StrategyChoice
    head: Component
    classes: Any
    verbose: int

    if TYPE_CHECKING:

        def _adopt(self, model: Model, choice: AutoChoice | None = None) -> None: ...
        def _settings(self, labels: LabelSpace, form: YFormat) -> Plan: ...

    def zero_shot(self, classes: Iterable[str | int], descriptions: Mapping[str, str] | None = None) -> Self:
        """Get ready to answer for some labels without any training.

        The backbone is loaded, and the head asks it about the labels in words. Everything but training works as after a
        fit: predictions, :meth:`evaluate`, :meth:`save`, thresholds. These are 0.5 unless the parameter ``thresholds``
        gives others; :meth:`set_thresholds` changes them. ``history_`` is empty.

        Labels and descriptions become the parameters ``classes`` and ``head`` of this estimator, so that :meth:`fit`
        and :meth:`partial_fit` learn the same labels, asked about in the same words, from the few rows that there are.

        Parameters
        ----------
        classes : iterable of str or int
            The labels in column order.
        descriptions : mapping of str to str, or None
            What labels mean, by label name, for heads that read it.

        Returns
        -------
        self

        Raises
        ------
        InvalidInputError, OptionsError, PluginError
            If labels or options are wrong.
        IncompatibleComponentsError
            If the head must be trained before it answers, or the strategy changes what the model answers before it is
            trained.
        BackboneLoadError
            If the backbone cannot be loaded.

        Examples
        --------
        >>> import tempfile
        >>> from mlclf import BertOptions, MultiLabelClassifier
        >>> from mlclf.testing import tiny_masked_lm
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     backbone = BertOptions(model=str(tiny_masked_lm("bert", folder)))
        ...     clf = MultiLabelClassifier(backbone, head="verbalizer", verbose=0).zero_shot(["food", "rain"])
        >>> clf.predict_proba(["the cat eats bread"]).shape
        (1, 2)
        """
        labels = LabelSpace(_names(classes))
        plan = self._settings(labels, YFormat())
        parts = plan.parts
        if descriptions is not None:
            options = parts.head_class.described(parts.head, dict(descriptions))
            parts = resolve_parts(self.backbone, self.strategy, options)
        _check_answers(parts)
        parts, choice = settle(parts, 0, plan.device, self.verbose)
        _check_untouched(parts)
        check_training(parts, plan.training)
        model = zero_shot_model(replace(plan, parts=parts, choice=choice))
        self.classes = list(labels.names)
        if descriptions is not None:
            self.head = parts.head
        self._adopt(model, choice)
        return self


def zero_shot_model(plan: Plan) -> Model:
    """Return a model of pretrained weights alone, whose head is bound to labels that no row has told about.

    Parameters
    ----------
    plan : Plan
        With a head that is usable before it is trained.

    Raises
    ------
    BackboneLoadError, IncompatibleComponentsError, OptionsError
    """
    none = np.zeros(plan.labels.n_labels, dtype=np.int64)
    statistics = LabelStatistics(tuple(str(name) for name in plan.labels.names), positives=none, known=none)
    device = process_device(plan.device)
    with seeded(plan.seed):
        network, strategy = build_network(plan.parts, statistics, backbone=plan.backbone, device=device)
    network.to(device).eval()
    strategy.finish(network.backbone)
    network.head.refresh(network.backbone)
    model = Model(
        parts=plan.parts,
        network=network,
        strategy=strategy,
        labels=plan.labels,
        y_format=plan.y_format,
        statistics=statistics,
        thresholds=Thresholds.untuned(plan.labels.n_labels),
        calibrator=None,
        training=plan.training,
        history=History(n_parameters=sum(parameter.numel() for parameter in network.parameters())),
        device=device,
        replay=ReplayBuffer.empty(plan.labels.n_labels) if plan.replay.share else None,
        replay_options=plan.replay,
    )
    decide(plan, model, None)
    return model


def _names(classes: Any) -> tuple[str | int, ...]:
    """Return the labels; a single name is a mistake."""
    if isinstance(classes, str | bytes) or not isinstance(classes, Iterable):
        raise InvalidInputError(f"zero_shot takes a list of labels, got {classes!r}. Wrap it: [{classes!r}].")
    return tuple(classes)


def _check_answers(parts: Parts) -> None:
    """Refuse a head that knows nothing before it is trained."""
    if parts.head_capabilities.zero_shot:
        return
    raise IncompatibleComponentsError(
        f"Head {parts.names['head']!r} answers only once it is trained: under its options, nothing in the pretrained "
        "model tells it what a label means. Call fit(X, Y), or use a head that asks the model in words: 'verbalizer' "
        "for masked language models, 'label-query' with scorer='verbalizer', or 'prompt-generation' for causal ones."
    )


def _check_untouched(parts: Parts) -> None:
    """Refuse a strategy that starts from random tokens, with which the model would not answer as it was pretrained."""
    if parts.strategy_capabilities.changes != "tokens":
        return
    raise IncompatibleComponentsError(
        f"Strategy {parts.names['strategy']!r} puts tokens that are random before training among those of the text, so "
        "that the pretrained model would answer something else. Use one that starts from the model as it is, such as "
        "'lora'."
    )
