"""Fitted classifiers over tiny models whose answers spread widely, so that a wrong graph cannot look right."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from toy import toy_classifier, toy_rows

from mlclf import BertOptions, MultiLabelClassifier
from mlclf.backbones.pretrained import PretrainedOptions
from mlclf.interfaces import Backbone, LearningRates, Strategy, StrategyCapabilities
from mlclf.options import Options

EXAMPLES = ["the cat eats bread", "", "naïve café", "rain and snow " * 30, "a map", "two dogs, one train"]


def fitted(
    folder: Path, strategy: Any = "full", kind: type[PretrainedOptions] = BertOptions, **changes: Any
) -> MultiLabelClassifier:
    """Return a classifier after one epoch, disturbed, with thresholds that some texts reach for every label."""
    backbone = {"model": str(folder), "max_length": 32, **changes.pop("backbone", {})}
    clf = toy_classifier(folder, strategy, epochs=1, backbone=kind(**backbone), **changes)
    texts, labels = toy_rows(48)
    clf.fit(texts, labels)
    disturb(clf)
    return clf if "thresholds" in changes else clf.set_thresholds(np.quantile(clf.predict_proba(texts), 0.6, axis=0))


@torch.no_grad()
def disturb(clf: MultiLabelClassifier, seed: int = 0) -> None:
    """Change everything that learned by random numbers, and make the head steep."""
    generator = torch.Generator().manual_seed(seed)
    network = clf.model_.network
    for parameter in network.trainable().values():
        parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    output = network.head.output
    output.weight.copy_(torch.randn(output.weight.shape, generator=generator))
    pooled = network.backbone(clf.model_.dataset(EXAMPLES).batch(np.arange(len(EXAMPLES)))).pooled
    # Centred on these texts, with log-odds of a few units: labels on both sides of every threshold.
    output.weight *= 3 / network.head.output(network.head.hidden(pooled)).std()
    output.bias -= network.head.output(network.head.hidden(pooled)).mean(dim=0)


class BottleneckOptions(Options):
    """Options of :class:`Bottleneck`."""

    component = "local:bottleneck"


class _Bottleneck(nn.Module):
    """A layer followed by a small network whose output is added."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner
        self.down, self.up = nn.Linear(inner.out_features, 4), nn.Linear(4, inner.out_features)

    def forward(self, states: Tensor) -> Tensor:
        """Return the layer's output and what is added to it."""
        out: Tensor = self.inner(states)
        return out + self.up(torch.relu(self.down(out)))


class Bottleneck(Strategy):
    """A strategy that no plain weights express, so that its modules must become part of the graph."""

    Options = BottleneckOptions
    capabilities: ClassVar[StrategyCapabilities] = StrategyCapabilities(merge="no")
    learning_rates: ClassVar[LearningRates] = LearningRates(backbone=1e-3, head=5e-3)

    def adapt(self, backbone: Backbone) -> None:
        """Put a small network behind one linear layer of each layer of the stack."""
        self.freeze(backbone)
        for layer in backbone.layers():
            name = [name for name, module in layer.named_modules() if isinstance(module, nn.Linear)][-1]
            layer.set_submodule(name, _Bottleneck(layer.get_submodule(name)))
