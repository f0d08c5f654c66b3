"""The fast LoRA layer computes what peft's layer computes, and leaves to peft what it does not know."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mlclf.strategies.lora_layers import inject
from mlclf.strategies.lora_linear import FastLoraLinear
from mlclf.strategies.lora_peft import LoraConfig, PeftLoraLinear, inject_adapter_in_model
from mlclf.strategies.lora_update import LowRankUpdate, Update, updated


def layer_of(*, bias: bool = True, takes_from_base: bool = False, **config: Any) -> FastLoraLinear:
    """Return an adapted layer whose update is not zero."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 16, bias=bias))
    inject(model, ["0"], LoraConfig(**{"r": 4, "lora_alpha": 8, **config}), takes_from_base=takes_from_base)
    layer = model[0]
    assert isinstance(layer, FastLoraLinear)
    nn.init.normal_(layer.lora_B["default"].weight, std=0.1)
    return layer


def run(forward: Callable[[Any, Tensor], Tensor], layer: FastLoraLinear, x: Tensor) -> list[Tensor]:
    """Return output and all gradients."""
    layer.zero_grad()
    x = x.clone().requires_grad_(True)
    out = forward(layer, x)
    out.float().square().sum().backward()
    learning = [p for p in layer.parameters() if p.requires_grad]
    return [out.detach(), x.grad, *(p.grad for p in learning)]  # type: ignore[list-item]


@pytest.mark.parametrize("shape", [(7, 24), (3, 5, 24), (1, 1, 24), (0, 24)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("init", [True, "pissa"])
def test_output_and_gradients_are_those_of_peft(shape: tuple[int, ...], bias: bool, init: Any) -> None:
    layer = layer_of(bias=bias, init_lora_weights=init, takes_from_base=init == "pissa")
    x = torch.randn(shape)
    for fast, slow in zip(run(FastLoraLinear.forward, layer, x), run(PeftLoraLinear.forward, layer, x), strict=True):
        # Sums of numbers near 1 by another library: a few units in the last place.
        torch.testing.assert_close(fast, slow, rtol=1e-5, atol=5e-6)


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(5, 6), torch.randn(4, 6), torch.randn(4)
    down, up = torch.randn(2, 6), torch.randn(4, 2)
    x, weight, bias, down, up = (tensor.double() for tensor in (x, weight, bias, down, up))
    other, wider = (torch.randn(3, 6).double(), torch.randn(3, 1).double()), torch.randn(1, 6).double()
    learning = [tensor.requires_grad_(True) for tensor in (x, down, up, wider, other[1])]

    def outputs(x: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, ...]:
        first = Update(torch.float64, weight, bias, a, b, 0.7)
        return updated(x, [first, Update(torch.float64, other[0], None, c, d, 1.5)])

    assert torch.autograd.gradcheck(lambda x, a, b, c, d: outputs(x, a, b, c, d)[:1], learning)
    assert torch.autograd.gradcheck(outputs, learning)


def test_in_bfloat16_it_is_as_exact_as_peft() -> None:
    layer = layer_of()
    x = torch.randn(64, 24)
    exact = run(PeftLoraLinear.forward, layer, x)
    with torch.autocast("cpu", torch.bfloat16):
        fast, slow = run(FastLoraLinear.forward, layer, x), run(PeftLoraLinear.forward, layer, x)
    for ours, peft, truth in zip(fast, slow, exact, strict=True):
        assert ours.dtype == peft.dtype
        assert (ours - truth).norm() < 1.3 * (peft - truth).norm() + 1e-3 * truth.norm()


def test_nothing_is_computed_for_an_input_that_needs_no_gradient() -> None:
    layer = layer_of()
    out = layer(torch.randn(3, 24))
    with torch.no_grad():
        gradient, *_ = out.grad_fn.apply(torch.ones(3, 16))
    assert gradient is None


def test_a_second_derivative_is_refused_and_not_wrong() -> None:
    out = layer_of()(torch.randn(3, 24, requires_grad=True))
    with pytest.raises(RuntimeError, match="no second derivative"):
        out.sum().backward(create_graph=True)


def test_without_gradients_and_in_evaluation_it_is_the_same_function() -> None:
    layer, x = layer_of(), torch.randn(3, 24)
    with torch.no_grad():
        plain = layer.eval()(x)
    torch.testing.assert_close(plain, PeftLoraLinear.forward(layer, x))


def change_nothing(layer: FastLoraLinear) -> None: ...


def merge(layer: FastLoraLinear) -> None:
    layer.merge()


def switch_off(layer: FastLoraLinear) -> None:
    layer.enable_adapters(False)


def add_another(layer: FastLoraLinear) -> None:
    layer.update_layer("other", 2, lora_alpha=2, config=LoraConfig(r=2, init_lora_weights=False))
    layer.set_adapter(["default", "other"])


def hook_the_base(layer: FastLoraLinear) -> None:
    layer.base_layer.register_forward_hook(lambda module, inputs, output: output + 1)


def train_the_base(layer: FastLoraLinear) -> None:
    layer.base_layer.weight.requires_grad_(True)


def use_half_precision(layer: FastLoraLinear) -> None:
    layer.base_layer.to(torch.bfloat16)


@pytest.mark.parametrize(
    ("config", "change"),
    [
        ({"use_dora": True}, change_nothing),
        ({"lora_dropout": 0.5}, change_nothing),
        ({"lora_bias": True}, change_nothing),
        ({}, merge),
        ({}, switch_off),
        ({}, add_another),
        ({}, hook_the_base),
        ({}, train_the_base),
        ({}, use_half_precision),
    ],
)
def test_what_it_does_not_know_is_left_to_peft(
    config: dict[str, Any], change: Callable[[FastLoraLinear], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = layer_of(**config).train()
    change(layer)
    monkeypatch.setattr(LowRankUpdate, "apply", lambda *args: pytest.fail("the fast way was taken"))
    x = torch.randn(3, 24, dtype=layer.base_layer.weight.dtype)
    twin = copy.deepcopy(layer)
    torch.manual_seed(3)
    out = layer(x)
    torch.manual_seed(3)
    torch.testing.assert_close(out, PeftLoraLinear.forward(twin, x))


@pytest.mark.parametrize("config", [{"use_dora": True}, {"lora_dropout": 0.5}])
def test_under_autocast_peft_copies_no_activations_and_computes_the_same(config: dict[str, Any]) -> None:
    layer = layer_of(**config).train()
    plain = nn.Sequential(nn.Linear(24, 16))
    plain.load_state_dict({"0.weight": layer.base_layer.weight, "0.bias": layer.base_layer.bias})
    inject_adapter_in_model(LoraConfig(r=4, lora_alpha=8, target_modules=["0"], **config), plain)
    plain[0].load_state_dict(layer.state_dict())
    x, outputs = torch.randn(8, 24).bfloat16(), []
    for module in (layer, plain[0].train()):
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16):
            outputs.append(module(x))
    assert layer._cast_input_dtype(x, torch.float32).dtype == torch.float32
    torch.testing.assert_close(outputs[0], outputs[1], rtol=2e-2, atol=2e-2)


def test_a_compiled_layer_is_one_graph_of_peft_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = layer_of(), torch.randn(3, 24)
    expected = layer(x)
    monkeypatch.setattr(LowRankUpdate, "apply", lambda *args: pytest.fail("the fast way was taken"))
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), expected)


def test_quantised_and_other_linear_layers_keep_their_own_kind_of_update() -> None:
    class Special(nn.Linear):
        pass

    model = nn.Sequential(Special(8, 8), nn.Linear(8, 8))
    inject(model, ["0", "1"], LoraConfig(r=2), takes_from_base=False)
    assert not any(isinstance(module, FastLoraLinear) for module in model)
