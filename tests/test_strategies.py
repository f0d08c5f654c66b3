"""What every strategy promises, on every architecture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from strategy_kit import (
    DECODERS,
    LAYERED,
    N_LAYERS,
    adapted,
    batch_of,
    disturb,
    load,
    same,
    states,
    strategy_of,
    weights,
)
from torch import nn

from mlclf.exceptions import BundleDamagedError, IncompatibleComponentsError, NotMergeableError, OptionsError
from mlclf.interfaces import Strategy
from mlclf.linear_layers import features, is_linear
from mlclf.options import Options
from mlclf.strategies.adapter import AdapterOptions
from mlclf.strategies.bitfit import BitfitOptions
from mlclf.strategies.features import FeaturesOptions
from mlclf.strategies.full import FullOptions
from mlclf.strategies.head_only import HeadOnlyOptions
from mlclf.strategies.ia3 import Ia3Options
from mlclf.strategies.lora import LoraOptions
from mlclf.strategies.lora_options import LowRankOptions
from mlclf.strategies.p_tuning import PTuningOptions
from mlclf.strategies.p_tuning_v2 import PTuningV2Options
from mlclf.strategies.partial import PartialOptions
from mlclf.strategies.prefix import PrefixOptions
from mlclf.strategies.prompt_tuning import PromptTuningOptions
from mlclf.strategies.qlora import QloraOptions

LORA = LoraOptions(r=4)
UPPER_LORA = LoraOptions(r=4, layers=1)
ADAPTER = AdapterOptions(reduction=4)
UPPER_ADAPTER = AdapterOptions(reduction=4, layers=1, kind="parallel")
IA3 = Ia3Options()
UPPER_IA3 = Ia3Options(layers=1)
QLORA = QloraOptions(r=4)
UPPER_QLORA = QloraOptions(r=4, layers=1, bits=8)
# Every text reads them from the first step on, so that they do not start at the pretrained model. More architectures
# stand in tests/test_strategies_prefix.py and tests/test_strategies_prompt.py.
VIRTUAL: list[Options] = [
    PrefixOptions(n_tokens=3, hidden=8),
    PTuningV2Options(n_tokens=3),
    PTuningOptions(n_tokens=3, hidden=8),
    PromptTuningOptions(n_tokens=3),
]
TRAINING: list[Options] = [
    FullOptions(),
    FullOptions(layer_decay=0.9),
    PartialOptions(last_layers=2),
    PartialOptions(last_layers=N_LAYERS),
    LORA,
    UPPER_LORA,
    QLORA,
    UPPER_QLORA,
    LoraOptions(r=4, init="pissa"),
    LoraOptions(r=4, init="olora", use_rslora=True),
    LoraOptions(r=4, init="orthogonal"),
    LoraOptions(r=4, use_dora=True, targets="attention"),
    ADAPTER,
    AdapterOptions(kind="houlsby", bottleneck=3, activation="gelu", scale=0.5),
    AdapterOptions(kind="parallel", bottleneck=3, dropout=0.2),
    UPPER_ADAPTER,
    BitfitOptions(),
    IA3,
    UPPER_IA3,
    *VIRTUAL,
]
FROZEN: list[Options] = [HeadOnlyOptions(), FeaturesOptions()]
ALL = [*TRAINING, *FROZEN]
# What stands in a place of its own in each architecture; finer choices are about linear layers, the same everywhere.
EVERYWHERE = [ADAPTER, UPPER_ADAPTER, BitfitOptions(), IA3, UPPER_IA3]
ENCODERS_ALL = [FullOptions(), TRAINING[2], LORA, UPPER_LORA, *EVERYWHERE]
WITHOUT_BIASES = ("modernbert", "llama", "qwen3", "gemma", "phi3")
UPPER = [UPPER_LORA, UPPER_QLORA, UPPER_ADAPTER, UPPER_IA3]


def architectures(options: Options) -> tuple[str, ...]:
    """Return where a strategy is tried."""
    if options in (QLORA, UPPER_QLORA):
        return ("bert", "gpt2", "llama")
    encoders = LAYERED if options in ENCODERS_ALL else ("bert",)
    decoders = DECODERS if options in EVERYWHERE else ("gpt2",) if options in VIRTUAL else ()
    tried = (*encoders, *decoders)
    return tuple(a for a in tried if not (isinstance(options, BitfitOptions) and a in WITHOUT_BIASES))


CASES = [(options, architecture) for options in ALL for architecture in architectures(options)]
DETACHABLE = [case for case in CASES if strategy_of(case[0]).capabilities.detachable]


def name_of(value: Any) -> str:
    if isinstance(value, Options):
        changed = {name: v for name, v in value.get_params().items() if v != type(value)().get_params()[name]}
        return "-".join([value.component, *(f"{name}={v}" for name, v in changed.items())])
    return str(value)


every_case = pytest.mark.parametrize(("options", "architecture"), CASES, ids=name_of)
training_case = pytest.mark.parametrize(
    ("options", "architecture"), [case for case in CASES if case[0] in TRAINING], ids=name_of
)


def declared(options: Options, architecture: str) -> int:
    """Return how many numbers should learn, counted on an untouched backbone."""
    backbone = load(architecture)
    unused = backbone.unused_parameters()
    used = {name: p for name, p in backbone.model.named_parameters() if name not in unused}
    if isinstance(options, FullOptions):
        return sum(p.numel() for p in used.values())
    if isinstance(options, PartialOptions):
        lower = {id(p) for p in backbone.lower_parameters(N_LAYERS - options.last_layers)}
        return sum(p.numel() for p in used.values() if id(p) not in lower)
    if isinstance(options, LowRankOptions):
        upper = backbone.layers() if options.layers == "all" else backbone.layers()[-1:]
        linear = [(n, m) for layer in upper for n, m in layer.named_modules() if is_linear(m)]
        if options.targets == "attention":
            linear = [(n, m) for n, m in linear if "att" in n]
        return sum(options.r * sum(features(m)) + options.use_dora * features(m)[1] for _, m in linear)
    if isinstance(options, BitfitOptions):
        return sum(p.numel() for name, p in used.items() if name.endswith("bias"))
    if isinstance(options, AdapterOptions):
        width = options.bottleneck or HIDDEN // options.reduction
        n = (1 if options.layers == 1 else N_LAYERS) * (2 if options.kind == "houlsby" else 1)
        return n * (2 * HIDDEN * width + HIDDEN + width)
    if isinstance(options, Ia3Options):
        n_keys_and_values, n_inner = FACTORS.get(architecture, (2 * HIDDEN, 2 * HIDDEN))
        return (1 if options.layers == 1 else N_LAYERS) * (n_keys_and_values + n_inner)
    return declared_virtual(options)


def declared_virtual(options: Options) -> int:
    """Return the same for virtual tokens and what computes them."""
    if isinstance(options, PrefixOptions):
        return (3 + options.hidden) * HIDDEN + options.hidden + N_LAYERS * 2 * HIDDEN * (options.hidden + 1)
    if isinstance(options, PTuningV2Options):
        return N_LAYERS * 2 * 3 * HIDDEN
    if isinstance(options, PTuningOptions):
        size = options.hidden
        both_ways = 2 * 4 * size * ((HIDDEN + size + 2) + (3 * size + 2))
        return 3 * HIDDEN + both_ways + size * (2 * size + 1) + HIDDEN * (size + 1)
    return 3 * HIDDEN if isinstance(options, PromptTuningOptions) else 0


HIDDEN = 32
# Width of keys and values (with those of the queries where one matrix makes them all) and of what is inside a
# feed-forward network; Llama and others have half as many heads for keys and values as for queries.
FACTORS = {
    "modernbert": (3 * HIDDEN, 2 * HIDDEN),
    "gpt2": (3 * HIDDEN, 4 * HIDDEN),
    "phi3": (2 * HIDDEN, 2 * HIDDEN),
    **dict.fromkeys(("llama", "qwen3", "gemma", "glm"), (HIDDEN, 2 * HIDDEN)),
}


@every_case
def test_as_many_weights_learn_as_declared(options: Options, architecture: str) -> None:
    backbone, _ = adapted(options, architecture)
    assert sum(p.numel() for p in backbone.model.parameters() if p.requires_grad) == declared(options, architecture)


@training_case
def test_every_weight_that_learns_gets_a_gradient(options: Options, architecture: str) -> None:
    backbone, strategy = adapted(options, architecture)
    disturb(backbone)  # LoRA's first matrix gets a gradient only once the second is not zero
    strategy.set_train_mode(backbone)
    torch.manual_seed(0)
    output = backbone(batch_of(backbone)).pooled
    (output * torch.randn_like(output)).sum().backward()
    learning = {name: p.grad for name, p in backbone.model.named_parameters() if p.requires_grad}
    without = [name for name, gradient in learning.items() if gradient is None or not gradient.any()]
    # The bias of keys adds the same to all of a query's scores, which the softmax takes out again.
    assert [name for name in without if not name.endswith(("key.bias", "k_lin.bias"))] == []


@training_case
def test_what_learns_takes_part_in_the_output(options: Options, architecture: str) -> None:
    backbone, _ = adapted(options, architecture)
    before = states(backbone)
    disturb(backbone)
    # Far above rounding; factors of a tenth do little to the small random weights of these models.
    assert (states(backbone) - before).abs().max() > 1e-4


@pytest.mark.parametrize(("options", "architecture"), [case for case in CASES if case[0] not in VIRTUAL], ids=name_of)
def test_a_strategy_starts_at_the_pretrained_model(options: Options, architecture: str) -> None:
    backbone, _ = adapted(options, architecture)
    torch.testing.assert_close(states(backbone), states(load(architecture, of=options)), rtol=1e-5, atol=1e-5)


@every_case
def test_saved_tensors_make_a_fresh_backbone_equal_bit_for_bit(options: Options, architecture: str) -> None:
    backbone, strategy = adapted(options, architecture)
    disturb(backbone)
    saved = {name: tensor.clone() for name, tensor in strategy.state(backbone).items()}
    fresh, again = adapted(options, architecture, seed=7)
    again.load_state(fresh, saved)
    assert torch.equal(states(fresh), states(backbone))
    strategy.finish(backbone)
    assert same(weights(fresh), weights(backbone))


@every_case
def test_merging_gives_plain_weights_and_the_same_output(options: Options, architecture: str) -> None:
    backbone, strategy = adapted(options, architecture)
    disturb(backbone)
    before = states(backbone)
    if strategy.capabilities.merge == "no":
        with pytest.raises(NotMergeableError, match=f"'{options.component}' cannot be merged into plain weights"):
            strategy.merge(backbone)
        assert torch.equal(states(backbone), before)
        return
    strategy.merge(backbone)
    pristine = load(architecture)
    torch.testing.assert_close(states(backbone), before, rtol=1e-5, atol=1e-5)
    assert list(weights(backbone)) == list(weights(pristine))
    assert [type(module) for module in backbone.model.modules()] == [type(m) for m in pristine.model.modules()]


@pytest.mark.parametrize(("options", "architecture"), DETACHABLE, ids=name_of)
def test_detaching_gives_back_the_loaded_model_bit_for_bit(options: Options, architecture: str) -> None:
    backbone, strategy = adapted(options, architecture)
    disturb(backbone)
    strategy.detach(backbone)
    pristine = load(architecture, of=options)
    assert same(weights(backbone), weights(pristine))
    assert torch.equal(states(backbone), states(pristine))
    assert [type(module) for module in backbone.model.modules()] == [type(m) for m in pristine.model.modules()]
    strategy.adapt(backbone)  # and it can be adapted again
    unchanged = torch.allclose(states(backbone), states(pristine), rtol=1e-5, atol=1e-5)
    assert unchanged is (options not in VIRTUAL)


@pytest.mark.parametrize("options", [FullOptions(), PartialOptions(), BitfitOptions()], ids=name_of)
def test_what_trains_the_loaded_weights_cannot_be_detached(options: Options) -> None:
    backbone, strategy = adapted(options)
    with pytest.raises(IncompatibleComponentsError, match="trains the loaded weights themselves"):
        strategy.detach(backbone)


@every_case
def test_constant_layers_do_not_change_in_training(options: Options, architecture: str) -> None:
    backbone, strategy = adapted(options, architecture)
    constant = strategy.constant_layers(backbone)
    expected = {"head-only": N_LAYERS, "features": N_LAYERS, "partial": N_LAYERS - getattr(options, "last_layers", 0)}
    assert constant == expected.get(options.component, N_LAYERS - 1 if options in UPPER else 0)
    batch, lower = batch_of(backbone), None
    for _ in range(2):
        # In training mode, so that dropout left on in a constant part shows too.
        strategy.set_train_mode(backbone)
        with torch.no_grad():
            now = backbone.lower_states(batch, constant) if constant else torch.zeros(1)
        assert lower is None or torch.equal(now, lower)
        lower = now
        disturb(backbone)


@pytest.mark.parametrize(
    ("options", "architecture"),
    [(PartialOptions(last_layers=2), "bert"), (LoraOptions(layers=1, init="olora"), "bert")]
    + [case for case in CASES if case[0] in UPPER],
    ids=name_of,
)
def test_a_run_from_cached_states_equals_a_whole_run(options: Options, architecture: str) -> None:
    from dataclasses import replace

    backbone, strategy = adapted(options, architecture)
    disturb(backbone)
    batch, constant = batch_of(backbone), strategy.constant_layers(backbone)
    cached = replace(batch, states=backbone.lower_states(batch, constant), first_layer=constant)
    torch.testing.assert_close(backbone(cached).pooled, backbone(batch).pooled)


def test_groups_hold_what_learns_once_with_the_rates_given() -> None:
    for options in TRAINING:
        backbone, strategy = adapted(options)
        groups = strategy.parameter_groups(backbone, 1e-3, 0.1)
        grouped = [id(p) for group in groups for p in group["params"]]
        assert sorted(grouped) == sorted(id(p) for p in backbone.model.parameters() if p.requires_grad)
        assert max(group["lr"] for group in groups) == pytest.approx(1e-3)
        vectors = {id(p) for p in backbone.model.parameters() if p.ndim < 2}
        assert all(g["weight_decay"] == 0 for g in groups if any(id(p) in vectors for p in g["params"]))


@pytest.mark.parametrize("options", FROZEN, ids=name_of)
def test_a_frozen_backbone_trains_nothing_saves_nothing_and_drops_nothing(options: Options) -> None:
    backbone, strategy = adapted(options)
    strategy.set_train_mode(backbone)
    assert not any(module.training for module in backbone.model.modules())
    assert strategy.state(backbone) == {}
    assert strategy.parameter_groups(backbone, 1.0, 0.0) == []


def test_dropout_is_on_only_where_something_learns() -> None:
    backbone, strategy = adapted(PartialOptions(last_layers=1))
    strategy.set_train_mode(backbone)
    modes = {name: m.training for name, m in backbone.model.named_modules() if isinstance(m, nn.Dropout)}
    assert {name for name, training in modes.items() if training} == {
        n for n in modes if n.startswith("encoder.layer.2.")
    }


RECOMPUTED: list[tuple[Options, str]] = [
    *((options, "bert") for options in (FullOptions(), PartialOptions(last_layers=1), LORA, TRAINING[9])),
    *(case for case in CASES if case[0] in EVERYWHERE),
]


@pytest.mark.parametrize(("options", "architecture"), RECOMPUTED, ids=name_of)
def test_recomputing_activations_gives_the_same_gradients(options: Options, architecture: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        backbone, strategy = adapted(options, architecture)
        disturb(backbone)
        if checkpointing:
            backbone.enable_gradient_checkpointing()
        strategy.set_train_mode(backbone)
        for module in backbone.model.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        backbone(batch_of(backbone)).pooled.square().sum().backward()
        gradients.append([p.grad for p in backbone.model.parameters() if p.grad is not None])
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right)


def test_lora_recomputes_activations_even_where_its_backbone_runs_without_dropout() -> None:
    backbone, strategy = adapted(LoraOptions(r=4, backbone_dropout=False))
    backbone.enable_gradient_checkpointing()
    strategy.set_train_mode(backbone)
    assert all(layer.training for layer in backbone.layers())
    assert not any(m.training for m in backbone.model.modules() if isinstance(m, nn.Dropout))


@pytest.mark.parametrize("options", [FullOptions(), LORA], ids=name_of)
def test_saved_tensors_of_another_model_are_refused(options: Options) -> None:
    backbone, strategy = adapted(options)
    state = dict(strategy.state(backbone))
    name = next(iter(state))
    with pytest.raises(BundleDamagedError, match="1 missing"):
        strategy.load_state(backbone, {n: t for n, t in state.items() if n != name})
    with pytest.raises(BundleDamagedError, match="shape"):
        strategy.load_state(backbone, {**state, name: torch.zeros(1, 1)})


@pytest.mark.parametrize(
    "options", [FullOptions, PartialOptions, LoraOptions, AdapterOptions, BitfitOptions, Ia3Options]
)
def test_rates_are_options(options: Any) -> None:
    assert options(learning_rate=1e-4, head_learning_rate=1e-3).learning_rate == 1e-4
    with pytest.raises(OptionsError, match=r"learning_rate=0.*greater than 0"):
        options(learning_rate=0)


@pytest.mark.parametrize("options", [HeadOnlyOptions, FeaturesOptions])
def test_a_rate_that_nothing_would_use_is_no_option(options: Any) -> None:
    with pytest.raises(OptionsError, match=r"has no option 'learning_rate'\. Did you mean 'head_learning_rate'\?"):
        options(learning_rate=1e-4)


def test_defaults_are_those_that_were_tuned() -> None:
    def rates(options: Options) -> tuple[float, float]:
        strategy: Strategy = strategy_of(options)
        return strategy.learning_rates.backbone, strategy.learning_rates.head

    assert rates(FullOptions()) == (5e-5, 5e-3)
    assert rates(PartialOptions()) == (2e-4, 5e-3)
    assert rates(LoraOptions()) == rates(AdapterOptions()) == (1e-3, 5e-3)
    assert rates(BitfitOptions()) == (2e-3, 5e-3)
    assert rates(Ia3Options()) == (1e-2, 5e-3)
    assert rates(HeadOnlyOptions())[1] == rates(FeaturesOptions())[1] == 1e-2
