"""Layers that take the same input are computed together, with the same result as each alone."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mlclf.strategies.lora_kept import KeptWeights
from mlclf.strategies.lora_layers import inject
from mlclf.strategies.lora_peft import LoraConfig, PeftLoraLinear
from mlclf.strategies.lora_update import Update

NAMES = ["query", "key", "value", "out"]


class Block(nn.Module):
    """Self-attention without the attention: three layers of one input, and a fourth of another."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(12, 8), nn.Linear(12, 8, bias=False), nn.Linear(12, 16)
        self.out = nn.Linear(12, 4)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        other = x if other is None else other
        mixed = torch.cat([self.query(x) * self.key(other), self.value(other)], dim=-1)
        return self.out(mixed[..., :12].tanh())


def block(**ranks: int) -> Block:
    """Return a block whose updates are not zero."""
    torch.manual_seed(0)
    model = Block()
    inject(model, NAMES, LoraConfig(r=4, lora_alpha=6, rank_pattern=ranks), takes_from_base=False)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    return model.train()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many layers each computation was of; that of the layer without company is the last of a pass."""
    seen: list[int] = []
    original = KeptWeights.outputs

    def watched(self: KeptWeights, x: Tensor, updates: list[Update]) -> tuple[Tensor, ...]:
        seen.append(len(updates))
        return original(self, x, updates)

    monkeypatch.setattr(KeptWeights, "outputs", watched)
    return seen


def results(model: Block, forward: Callable[[], Tensor], *inputs: Tensor) -> list[Tensor]:
    """Return output and all gradients."""
    model.zero_grad()
    for x in inputs:
        x.grad = None
    out = forward()
    out.square().sum().backward()
    learning = [p for p in model.parameters() if p.requires_grad]
    return [out.detach(), *(x.grad for x in inputs), *(p.grad.clone() for p in learning)]  # type: ignore[misc]


def alone(model: Block) -> Block:
    """Return a copy whose layers compute as peft does."""
    twin = copy.deepcopy(model)
    for name in NAMES:
        layer = getattr(twin, name)
        layer.forward = PeftLoraLinear.forward.__get__(layer)
    return twin


def test_layers_of_one_input_are_one_computation_from_the_first_pass_on(calls: list[int]) -> None:
    model = block()
    for _ in range(2):
        model(torch.randn(2, 5, 12))
    assert calls == [3, 1, 3, 1]


@pytest.mark.parametrize("ranks", [{}, {"key": 2, "value": 5}])
def test_output_and_gradients_are_those_of_peft(ranks: dict[str, int], calls: list[int]) -> None:
    model, x = block(**ranks), torch.randn(2, 5, 12, requires_grad=True)
    twin = alone(model)
    joined = results(model, lambda: model(x), x)
    assert calls == [3, 1]
    for ours, peft in zip(joined, results(twin, lambda: twin(x), x), strict=True):
        torch.testing.assert_close(ours, peft, rtol=1e-5, atol=1e-6)


def test_in_bfloat16_gradients_of_the_input_keep_its_type(calls: list[int]) -> None:
    model, x = block(), torch.randn(2, 5, 12, requires_grad=True)

    def forward() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model(x)

    twin = alone(model)
    exact = results(twin, lambda: twin(x), x)
    joined = results(model, forward, x)
    assert calls == [3, 1]
    assert x.grad is not None
    assert x.grad.dtype == torch.float32
    torch.testing.assert_close(joined[0].float(), exact[0], rtol=0.05, atol=0.05)


def test_an_input_that_needs_no_gradient_gets_none(calls: list[int]) -> None:
    model, x = block(), torch.randn(3, 12)
    model(x).sum().backward()
    assert calls == [3, 1]
    assert x.grad is None


def test_layers_that_take_different_inputs_later_stay_right(calls: list[int]) -> None:
    model, x, other = block(), torch.randn(3, 12, requires_grad=True), torch.randn(3, 12, requires_grad=True)
    twin = alone(model)
    model(x)
    for _ in range(3):
        crossed = results(model, lambda: model(x, other), x, other)
        for ours, peft in zip(crossed, results(twin, lambda: twin(x, other), x, other), strict=True):
            torch.testing.assert_close(ours, peft, rtol=1e-5, atol=1e-6)
    assert calls[:3] == [3, 1, 3]
    assert set(calls[3:]) == {1}


def test_a_tensor_that_was_written_to_between_two_layers_is_another_input() -> None:
    model, x = block(), torch.randn(3, 12)
    twin = alone(model)
    for _ in range(3):
        given = x.clone()
        query = model.query(given)
        given.mul_(2)
        torch.testing.assert_close(model.key(given), twin.key(2 * x))
        torch.testing.assert_close(query, twin.query(x))


def test_in_evaluation_and_without_gradients_each_layer_is_computed_alone(calls: list[int]) -> None:
    model, x = block(), torch.randn(3, 12)
    for _ in range(2):
        with torch.no_grad():
            model(x)
        model.eval()(x)
        model.train()
    assert calls == []


def test_nothing_is_held_after_training() -> None:
    model, x = block(), torch.randn(3, 12)
    model.query(x)  # computes for all three, and nobody asks for the others
    shared = model.query.shared_input
    assert len(shared._ready) == 2
    model.eval()
    assert shared._ready == {}
    assert shared._input is None


def test_gradient_checkpointing_computes_the_same_again(calls: list[int]) -> None:
    model, x = block(), torch.randn(3, 12, requires_grad=True)
    plain = results(model, lambda: model(x), x)
    again = results(model, lambda: checkpoint(model, x, use_reentrant=False), x)
    assert calls == [3, 1, 3, 1, 3, 1]
    assert all(map(torch.equal, plain, again))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_shares_among_its_own_layers(copied: Callable[[Block], Block], calls: list[int]) -> None:
    model, x = block(), torch.randn(3, 12)
    model(x)
    twin = copied(model)
    torch.testing.assert_close(twin(x), model(x))
    assert calls == [3, 1, 3, 1, 3, 1]
    assert twin.query.shared_input is twin.key.shared_input is not model.query.shared_input


def test_an_adapter_that_is_switched_off_is_computed_by_peft(calls: list[int]) -> None:
    model, x = block(), torch.randn(3, 12)
    model(x)
    model.key.enable_adapters(False)
    torch.testing.assert_close(model.key(x), model.key.base_layer(x))
    twin = alone(model)
    twin.key.enable_adapters(False)
    torch.testing.assert_close(model(x), twin(x))
