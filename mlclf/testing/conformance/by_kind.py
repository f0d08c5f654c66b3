"""Checks of what is particular to a kind: strategies, heads, backbones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mlclf.exceptions import (
    BundleDamagedError,
    ConformanceError,
    IncompatibleComponentsError,
    NotMergeableError,
)
from mlclf.interfaces import Backbone, BackboneSource, Batch, LabelStatistics, LearningRates
from mlclf.testing.conformance.results import NotApplicable
from mlclf.testing.conformance.samples import TEXTS, label_names, targets_for
from mlclf.testing.conformance.workbench import Workbench

_MERGED = 1e-4
_GROWN = 1e-6


def check_learning_rates(bench: Workbench) -> str:
    """A strategy states its peak learning rates, and gives each parameter that learns to the optimizer once."""
    rates = bench.component(bench.options).learning_rates
    if not isinstance(rates, LearningRates) or not (rates.backbone > 0 and rates.head > 0):
        raise ConformanceError(f"learning_rates must be LearningRates of positive numbers, got {rates!r}.")
    for made in bench.assembled():
        groups = made.strategy.parameter_groups(made.backbone, learning_rate=1e-3, weight_decay=0.01)
        given = [id(parameter) for group in groups for parameter in group["params"]]
        learning = {id(p): name for name, p in made.backbone.model.named_parameters() if p.requires_grad}
        if len(given) != len(set(given)):
            raise ConformanceError(f"parameter_groups of {made.title} gives a parameter twice.")
        if forgotten := [name for key, name in learning.items() if key not in given]:
            raise ConformanceError(
                f"parameter_groups of {made.title} leaves out {', '.join(forgotten[:3])}, which have "
                "requires_grad=True and would never learn."
            )
        if set(given) - set(learning):
            raise ConformanceError(f"parameter_groups of {made.title} gives parameters that are frozen.")
    return f"backbone {rates.backbone:g}, head {rates.head:g}"


def check_state(bench: Workbench) -> None:
    """The tensors of state() put a freshly adapted backbone into the same state; others are refused."""
    for case in bench.cases:
        trained, fresh = bench.assemble_anew(case), bench.assemble_anew(case, noise=2)
        fresh.network.head.load_state_dict(trained.network.head.state_dict())
        fresh.backbone.pooling.load_state_dict(trained.backbone.pooling.state_dict())
        state = {name: tensor.clone() for name, tensor in trained.strategy.state(trained.backbone).items()}
        with torch.no_grad():
            for tensor in state.values():
                tensor.add_(0.05)
        for made in (trained, fresh):
            made.strategy.finish(made.backbone)
            with torch.no_grad():
                made.strategy.load_state(made.backbone, state)
        if not torch.equal(trained.probabilities(), fresh.probabilities()):
            raise ConformanceError(
                f"load_state of {case.title} does not restore what state() gave. state() must "
                "return every tensor of the backbone's model that learns."
            )
        if not state:
            continue
        try:
            fresh.strategy.load_state(fresh.backbone, {**state, "no.such.tensor": torch.zeros(1)})
        except BundleDamagedError:
            continue
        raise ConformanceError(
            f"load_state of {case.title} accepts a tensor that it does not know. Raise BundleDamagedError, as "
            "Strategy.load_state does."
        )


def check_merge(bench: Workbench) -> str:
    """A strategy merges into plain weights with the same answers, or refuses, as its capabilities say."""
    declared = bench.capabilities.merge
    for case in bench.cases:
        made = bench.assemble_anew(case)
        made.strategy.finish(made.backbone)
        before = made.probabilities()
        try:
            made.strategy.merge(made.backbone)
        except NotMergeableError:
            if declared == "no":
                continue
            raise ConformanceError(f'It declares merge="{declared}" and refuses. Declare merge="no".') from None
        if declared == "no":
            raise ConformanceError('It declares merge="no", and merge() raises no NotMergeableError.')
        change = float((made.probabilities() - before).abs().max())
        if declared == "exact" and not change <= _MERGED:
            raise ConformanceError(
                f'It declares merge="exact", and merging changes a probability of {case.title} by {change:.1e}.'
            )
    return f'declares merge="{declared}"'


def check_detach(bench: Workbench) -> None:
    """A strategy that declares it gives the loaded backbone back, bit for bit."""
    if not bench.capabilities.detachable:
        raise NotApplicable("it declares detachable=False")
    for case in bench.cases:
        made = bench.assemble_anew(case)
        made.strategy.detach(made.backbone)
        request = made.strategy.load_request()
        loaded = bench.session.loaded(made.parts.backbone_class, made.parts.backbone, request).model.state_dict()
        left = made.backbone.model.state_dict()
        if sorted(left) != sorted(loaded) or any(not torch.equal(left[name], loaded[name]) for name in left):
            raise ConformanceError(
                f"After detach() the model of {case.title} is not what was loaded. Take out every module that "
                "adapt() put in, and leave the loaded weights alone; or declare detachable=False."
            )


def check_growth(bench: Workbench) -> str:
    """Given further labels, a head answers for the earlier ones as before, or refuses to grow."""
    if bench.capabilities.relative:
        raise NotApplicable("it declares relative=True")
    refusals = []
    for case in bench.cases:
        made = bench.assemble(case)
        after = _statistics(5)
        try:
            grown = made.network.head.grow(made.backbone, made.statistics, after).eval()
        except IncompatibleComponentsError as error:
            refusals.append(str(error))
            continue
        with torch.no_grad():
            batch = grown.collate(made.backbone, grown.encode(made.backbone, TEXTS), np.arange(len(TEXTS)), None)
            change = (grown.probabilities(made.backbone, batch)[:, :3] - made.probabilities()).abs().max()
        if not change <= _GROWN:
            raise ConformanceError(
                f"With two more labels {case.title} changes its answers for the others by {change:.1e}. Override "
                "grow() and raise IncompatibleComponentsError where labels depend on each other."
            )
    return f"refuses: {refusals[0]}" if refusals else "grows"


def check_source(bench: Workbench) -> str:
    """A loaded backbone says where its weights come from."""
    case = bench.cases[0]
    source = bench.assemble(case).backbone.source()
    if not isinstance(source, BackboneSource) or not source.name:
        raise ConformanceError(f"source() must return a BackboneSource with a name, got {source!r}.")
    if source.kind in ("folder", "package") and not (source.sha256 or source.revision):
        raise ConformanceError(
            f"source() says kind={source.kind!r} without a revision or checksums, so that a model saved without its "
            "weights could be loaded over others. Give sha256={file: checksum}."
        )
    return f"{source.kind} {source.name}"


def check_layers(bench: Workbench) -> str:
    """A backbone with a stack of layers gives the same states from any layer on, where the rest was computed before."""
    made = bench.assemble(bench.cases[0])
    backbone, batch = made.backbone, made.batch()
    if backbone.n_layers == 0:
        raise NotApplicable("it has no stack of layers: n_layers is 0")
    if len(backbone.layers()) != backbone.n_layers:
        raise ConformanceError(f"layers() has {len(backbone.layers())} entries, n_layers is {backbone.n_layers}.")
    _compare_layers(backbone, batch)
    return f"{backbone.n_layers} layers"


def check_long_texts(bench: Workbench) -> str:
    """A text that is longer than the backbone reads at once is cut or split, and read."""
    made = bench.assemble(bench.cases[0])
    backbone, head = made.backbone, made.network.head
    encoded = head.encode(backbone, ["cat " * 5000, "a dog"])
    with torch.no_grad():
        answers = head.probabilities(backbone, head.collate(backbone, encoded, np.arange(2), None))
    if answers.shape[0] != 2 or not torch.isfinite(answers).all():
        raise ConformanceError(
            "A text of 5,000 words is not read. Call set_tokenizer with the max_length that the model has."
        )
    return f"at most {backbone.encoder.max_length} tokens at once"


def _statistics(n_labels: int) -> LabelStatistics:
    names = label_names(n_labels)
    targets = targets_for(names)
    return LabelStatistics(names, targets.positives, targets.known_counts, targets)


@torch.no_grad()
def _compare_layers(backbone: Backbone, batch: Batch) -> None:
    whole = backbone.token_states(batch)
    mask = batch.attention_mask.bool()
    for first in range(1, backbone.n_layers):
        lower = backbone.lower_states(batch, first)
        upper = backbone.token_states(replace(batch, states=lower, first_layer=first))
        if not torch.allclose(upper[mask], whole[mask], atol=1e-5):
            raise ConformanceError(f"token_states from layer {first} on differs from the whole pass.")
