"""Weights kept in another type give what peft's layers give, follow the weights they were made of, and are let go."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mlclf.strategies.lora_kept import KeptWeights
from mlclf.strategies.lora_layers import inject
from mlclf.strategies.lora_linear import FastLoraLinear
from mlclf.strategies.lora_peft import LoraConfig, PeftLoraLinear
from mlclf.strategies.lora_update import Update, updated

WIDENING, NARROWING, GROUP = [(24, 40)], [(40, 24)], [(24, 24), (24, 8), (24, 16)]
SHAPES = pytest.mark.parametrize("sizes", [WIDENING, NARROWING, [(24, 24)], GROUP], ids=str)


def updates_of(sizes: list[tuple[int, int]], *, bias: bool = True, dtype: torch.dtype = torch.bfloat16) -> list[Update]:
    """Return frozen layers and their updates, each of a rank and a scaling of its own."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for at, (n_in, n_out) in enumerate(sizes):
        weight, down = torch.randn(n_out, n_in, generator=generator), torch.randn(4 + at, n_in, generator=generator)
        up = torch.randn(n_out, 4 + at, generator=generator)
        own = torch.randn(n_out, generator=generator) if bias and at != 1 else None
        found.append(Update(dtype, weight, own, down.requires_grad_(), up.requires_grad_(), 0.7 + at))
    return found


def results(compute: Callable[..., tuple[Tensor, ...]], x: Tensor, updates: list[Update]) -> list[Tensor]:
    """Return outputs and all gradients."""
    factors = [factor for update in updates for factor in (update.down, update.up)]
    learning = [*factors, x] if x.requires_grad else factors
    outputs = compute(x, updates)
    gradients = torch.autograd.grad([out.float().square().sum() for out in outputs], learning)
    return [*(out.detach() for out in outputs), *gradients]


def layer_of(n_in: int = 24, n_out: int = 16) -> FastLoraLinear:
    """Return an adapted layer in training mode whose update is not zero."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(n_in, n_out))
    inject(model, ["0"], LoraConfig(r=4, lora_alpha=8), takes_from_base=False)
    layer: FastLoraLinear = model[0].train()
    nn.init.normal_(layer.lora_B["default"].weight, std=0.1)
    return layer


def half(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        out: Tensor = layer(x)
    return out


@SHAPES
@pytest.mark.parametrize("shape", [(2, 5), (3,), (0,), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_kept_weights_are_as_exact_as_converted_ones(
    sizes: list[tuple[int, int]], shape: tuple[int, ...], given: torch.dtype, bias: bool
) -> None:
    updates = updates_of(sizes, bias=bias)
    x = torch.randn(*shape, sizes[0][0], generator=torch.Generator().manual_seed(1)).to(given).requires_grad_()
    exact = results(updated, x.detach().float().requires_grad_(), updates_of(sizes, bias=bias, dtype=torch.float32))
    ours, plain = results(KeptWeights().outputs, x, updates), results(updated, x, updates)
    for own, other, truth in zip(ours, plain, exact, strict=True):
        assert (own.dtype, own.shape) == (other.dtype, other.shape)
        assert (own - truth).norm() <= 1.3 * (other - truth).norm() + 3e-3 * truth.norm()


@SHAPES
def test_an_input_that_needs_no_gradient_gets_none(sizes: list[tuple[int, int]]) -> None:
    updates, x = updates_of(sizes), torch.randn(5, sizes[0][0])
    with_input = results(KeptWeights().outputs, x.clone().requires_grad_(), updates)[:-1]
    for own, other in zip(results(KeptWeights().outputs, x, updates), with_input, strict=True):
        torch.testing.assert_close(own, other, rtol=2e-2, atol=2e-2 * float(other.abs().max()))


@pytest.mark.parametrize("sizes", [WIDENING, NARROWING], ids=str)
def test_a_second_derivative_is_refused_and_not_wrong(sizes: list[tuple[int, int]]) -> None:
    (out,) = KeptWeights().outputs(torch.randn(3, sizes[0][0]), updates_of(sizes))
    with pytest.raises(RuntimeError, match="no second derivative"):
        out.sum().backward(create_graph=True)


@pytest.mark.parametrize("n_in", [24, 12])
def test_what_learns_is_taken_anew_in_every_pass(n_in: int) -> None:
    layer, x = layer_of(n_in), torch.randn(5, n_in)
    half(layer, x)
    for factor in (layer.lora_A["default"].weight, layer.lora_B["default"].weight):
        factor.data.mul_(1.5)  # as loading a checkpoint does, which counts no version
        assert torch.equal(half(layer, x), half(copy.deepcopy(layer), x))


@pytest.mark.parametrize("n_in", [24, 12])
def test_a_step_between_a_pass_and_its_gradients_changes_nothing(n_in: int) -> None:
    layer, x = layer_of(n_in), torch.randn(5, n_in, requires_grad=True)
    (expected,) = torch.autograd.grad(half(layer, x).sum(), x)
    out = half(layer, x)
    with torch.no_grad():
        layer.lora_B["default"].weight.mul_(2)
    half(layer, x)
    assert torch.equal(torch.autograd.grad(out.sum(), x)[0], expected)


@pytest.mark.parametrize("n_in", [24, 12])
def test_several_passes_before_the_gradients_are_each_right(n_in: int) -> None:
    layer, inputs = layer_of(n_in), [torch.randn(5, n_in) for _ in range(2)]
    factor = layer.lora_B["default"].weight
    alone = [torch.autograd.grad(half(layer, x).float().square().sum(), factor)[0] for x in inputs]
    outputs = [half(layer, x) for x in inputs]
    for out, expected in zip(outputs, alone, strict=True):
        assert torch.equal(torch.autograd.grad(out.float().square().sum(), factor)[0], expected)


@pytest.mark.parametrize("n_in", [24, 12])
def test_gradient_checkpointing_computes_the_same_again(n_in: int) -> None:
    layer, x = layer_of(n_in), torch.randn(5, n_in, requires_grad=True)
    factor = layer.lora_B["default"].weight
    outputs = half(layer, x), checkpoint(half, layer, x, use_reentrant=False)
    plain, again = (torch.autograd.grad(out.float().square().sum(), [x, factor]) for out in outputs)
    assert all(map(torch.equal, plain, again))


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_kept_weights_follow_the_weights_themselves(name: str) -> None:
    layer, x = layer_of(), torch.randn(5, 24)
    frozen = getattr(layer.base_layer, name)
    before = half(layer, x)
    with torch.no_grad():
        frozen.mul_(2)
    assert not torch.equal(half(layer, x), before)
    setattr(layer.base_layer, name, nn.Parameter(frozen.detach() / 2, requires_grad=False))
    assert torch.equal(half(layer, x), before)


def test_they_are_made_once() -> None:
    layer, x = layer_of(), torch.randn(5, 24)
    half(layer, x)
    made = layer.kept._made
    assert made is not None
    half(layer, x)
    assert layer.kept._made is made


def test_outside_training_nothing_is_kept_beside_the_weight() -> None:
    layer, x = layer_of(), torch.randn(5, 24)
    half(layer, x)
    assert layer.eval().kept._made is None
    half(layer, x)
    assert layer.kept._made is None
    with torch.no_grad():
        half(layer.train(), x)
    assert layer.kept._made is None


def test_where_nothing_is_converted_nothing_is_kept() -> None:
    layer, x = layer_of(), torch.randn(5, 24)
    torch.testing.assert_close(layer(x), PeftLoraLinear.forward(layer, x))
    assert layer.kept._made is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_keeps_weights_of_its_own(copied: Callable[[Any], Any]) -> None:
    layer, x = layer_of(), torch.randn(5, 24)
    expected = half(layer, x)
    twin = copied(layer)
    assert twin.kept._made is None
    assert torch.equal(half(twin, x), expected)
    assert twin.kept._made is not layer.kept._made
