"""Workbench: one component with fitting partners, and the networks and fitted models that its checks share."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlclf.assembly import build_network
from mlclf.backbones.bert import BertBackbone, BertOptions
from mlclf.backbones.llm import LlmBackbone, LlmOptions
from mlclf.backbones.pretrained import PretrainedBackbone
from mlclf.batching import EncodedDataset
from mlclf.classifier import MultiLabelClassifier
from mlclf.exceptions import ConformanceError
from mlclf.interfaces import Backbone, Batch, LabelStatistics, Strategy
from mlclf.interfaces.backbone import Family
from mlclf.network import MultiLabelNetwork
from mlclf.options import AugmentationOptions, Options, TrainingOptions
from mlclf.parts import Parts
from mlclf.plugins import Kind, component_classes
from mlclf.testing.conformance.partners import REFUSALS, Case, candidates, given
from mlclf.testing.conformance.samples import TEXTS, label_names, targets_for
from mlclf.testing.conformance.session import ComponentOptions, Session
from mlclf.testing.fakes import tiny_labels, tiny_texts
from mlclf.training.device import seeded

_N_LABELS = 3
_NOISE = 0.1


@dataclass(frozen=True)
class Assembled:
    """A network that nobody trained, with rows to try it on.

    Parameters
    ----------
    title : str
        Which components it is made of.
    parts : Parts
    network : MultiLabelNetwork
        In evaluation mode; what learns has been changed at random, so that nothing is hidden by a start at zero.
    strategy : Strategy
    statistics : LabelStatistics
    data : EncodedDataset
    """

    title: str
    parts: Parts
    network: MultiLabelNetwork
    strategy: Strategy
    statistics: LabelStatistics
    data: EncodedDataset

    @property
    def backbone(self) -> Backbone:
        """The network's backbone."""
        return self.network.backbone

    def batch(self, *rows: int) -> Batch:
        """Return a batch of some rows, all of them where none is named."""
        return self.data.batch(np.asarray(rows or range(len(self.data)), dtype=np.int64))

    @torch.no_grad()
    def probabilities(self, *rows: int) -> Tensor:
        """Return probabilities of some rows in one batch, shape (n_rows, n_labels)."""
        return self.network.head.probabilities(self.backbone, self.batch(*rows))


class Workbench:
    """One component under test.

    Parameters
    ----------
    session : Session
        What is shared with other components.
    kind : {"backbone", "strategy", "head", "loss", "calibrator", "augmentation"}
        What the component is.
    name : str
        Its registered name.
    """

    def __init__(self, session: Session, kind: Kind, name: str) -> None:
        self.session, self.kind, self.name = session, kind, name
        self._assembled: dict[tuple[Case, int], Assembled] = {}
        self._fitted: dict[Case, MultiLabelClassifier] = {}

    @cached_property
    def _classes(self) -> tuple[Any, Any, type[Options]]:
        return component_classes(self.kind, self.name)

    @property
    def spec(self) -> Any:
        """The component's record."""
        return self._classes[0]

    @property
    def component(self) -> Any:
        """Its class."""
        return self._classes[1]

    @property
    def options_class(self) -> type[Options]:
        """Class of its options."""
        return self._classes[2]

    @cached_property
    def choice(self) -> ComponentOptions:
        """The options that it is checked with: those given, those of a tiny model, or the default ones.

        The built-in augmentation, which does nothing by default, does a little of everything.
        """
        if self.name in self.session.options:
            return self.session.options[self.name]
        models = self.session.models
        if _reads_any(self.component, BertBackbone) and issubclass(self.options_class, BertOptions):
            return self.options_class(model=str(models.encoder))
        if _reads_any(self.component, LlmBackbone) and issubclass(self.options_class, LlmOptions):
            return self.options_class(model=str(models.decoder))
        if self.options_class is AugmentationOptions:
            return AugmentationOptions(replacement=0.2, swap=0.2, deletion=0.2, masking=0.15, mixing=0.2)
        return self.options_class()

    @property
    def options(self) -> Options:
        """The same, for three labels."""
        return given(self.choice, label_names(_N_LABELS))

    @property
    def capabilities(self) -> Any:
        """What a strategy or a head declares under its options."""
        return self.component(self.options).capabilities

    @cached_property
    def search(self) -> tuple[dict[Family, Case], list[str]]:
        """One case for each family of backbones that works, and why others do not."""
        found: dict[Family, Case] = {}
        refused: list[str] = []
        for case in candidates(self.session, self.kind, self.choice, label_names(_N_LABELS)):
            if case.family in found:
                continue
            try:
                self.assemble(case)
            except REFUSALS as error:
                refused.append(f"{case.title}: {error}")
            else:
                found[case.family] = case
        return found, refused

    @property
    def cases(self) -> tuple[Case, ...]:
        """The component with partners, one case for each family of backbones.

        Raises
        ------
        ConformanceError
            If it goes with nothing.
        """
        found, refused = self.search
        if not found:
            raise ConformanceError(
                f"{self.kind} {self.name!r} goes with none of the tiny models of the kit, so nothing more can be "
                f"checked. The first refusals: {' / '.join(refused[:3])}"
            )
        return tuple(found.values())

    def assemble(self, case: Case, n_labels: int = _N_LABELS) -> Assembled:
        """Return a network of some components, the same one each time; nobody may change it."""
        key = (case, n_labels)
        if key not in self._assembled:
            self._assembled[key] = self.assemble_anew(case, n_labels)
        return self._assembled[key]

    def assemble_anew(self, case: Case, n_labels: int = _N_LABELS, *, noise: int = 1) -> Assembled:
        """Return a network of one's own; ``noise`` is the seed of what is added to what learns."""
        names = label_names(n_labels)
        targets = targets_for(names)
        statistics = LabelStatistics(names, targets.positives, targets.known_counts, targets)
        parts = case.parts(names)
        with seeded(0):
            network, strategy = build_network(parts, statistics, backbone=self._backbone(parts))
            backbone, head = network.backbone, network.head
            data = EncodedDataset(backbone, head, head.encode(backbone, TEXTS), targets)
            strategy.initialise(backbone, _batches(data))
            disturb(network, noise)
        return Assembled(case.title, parts, network.eval(), strategy, statistics, data)

    def assembled(self, n_labels: int = _N_LABELS) -> Iterator[Assembled]:
        """Yield the network of every case."""
        for case in self.cases:
            yield self.assemble(case, n_labels)

    def fitted(self, case: Case | None = None) -> MultiLabelClassifier:
        """Return a classifier fitted on 32 short texts, the same one each time; nobody may change it."""
        case = case or self.cases[0]
        if case not in self._fitted:
            self._fitted[case] = self.fit(case)
        return self._fitted[case]

    def fit(self, case: Case, **changes: Any) -> MultiLabelClassifier:
        """Return a classifier of one's own, fitted on 32 short texts."""
        texts, validation = tiny_texts(32), tiny_texts(16, seed=1)
        clf = self.classifier(case, **changes)
        return clf.fit(texts, tiny_labels(texts), validation_data=(validation, tiny_labels(validation)))

    def classifier(self, case: Case, **changes: Any) -> MultiLabelClassifier:
        """Return a small, silent, seeded classifier that is not fitted."""
        names = ("animals", "food", "weather", "travel")
        training = changes.pop("training", TrainingOptions(epochs=4, batch_size=8, precision="fp32"))
        if self.kind == "augmentation":
            training = training.replace(augmentation=given(self.choice, names))
        settings: dict[str, Any] = {
            "training": training,
            "calibration": given(self.choice, names) if self.kind == "calibrator" else None,
            "classes": names,
            "device": "cpu",
            "random_state": 0,
            "replay": None,
            "verbose": 0,
        }
        backbone, strategy, head = (given(choice, names) for choice in (case.backbone, case.strategy, case.head))
        return MultiLabelClassifier(backbone, strategy, head, **settings | changes)

    def _backbone(self, parts: Parts) -> Backbone:
        strategy, head = parts.strategy_class(parts.strategy), parts.head_class(parts.head)
        request = replace(strategy.load_request(), vocabulary=head.capabilities.vocabulary)
        return self.session.loaded(parts.backbone_class, parts.backbone, request)


@torch.no_grad()
def disturb(network: MultiLabelNetwork, seed: int = 1) -> None:
    """Change everything that learns by random numbers, as training would."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.trainable().values():
        parameter.add_(_NOISE * torch.randn(parameter.shape, generator=generator))


def disturbed_copy(clf: MultiLabelClassifier) -> MultiLabelClassifier:
    """Return a copy of a fitted classifier whose answers spread widely."""
    twin = copy.deepcopy(clf)
    disturb(twin.model_.network)
    return twin


def _batches(data: EncodedDataset) -> Iterator[Batch]:
    for start in range(0, len(data), 4):
        yield data.batch(np.arange(start, min(start + 4, len(data)), dtype=np.int64))


def _reads_any(component: type[Backbone], kind: type[PretrainedBackbone]) -> bool:
    """Say whether a backbone reads whatever model it is told, instead of one that it brings."""
    return issubclass(component, kind) and component.locate is PretrainedBackbone.locate
