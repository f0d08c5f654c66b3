"""Linear layers of any model are computed by the faster library, and are the same layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mlclf import direct_linear, matrix_products
from mlclf.direct_linear import DirectLinear, direct_linears

needs_onednn = pytest.mark.skipif(not matrix_products._has_direct(), reason="this build of torch has no oneDNN")
pytestmark = needs_onednn


@pytest.fixture(autouse=True)
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let oneDNN count as faster, whichever is here."""
    monkeypatch.setattr(matrix_products, "_direct_pays", lambda: True)


def results(layer: nn.Module, x: Tensor) -> list[Tensor]:
    layer.zero_grad()
    x = x.clone().requires_grad_()
    out = layer(x)
    out.square().sum().backward()
    return [out.detach(), x.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]  # type: ignore[list-item]


@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24), (24,), (0, 24)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_output_and_gradients_are_those_of_torch(shape: tuple[int, ...], bias: bool, frozen: bool) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(24, 16, bias=bias).requires_grad_(not frozen), torch.randn(shape)
    plain = results(layer, x)
    with direct_linears():
        fast = results(layer, x)
    assert len(fast) == len(plain)
    for ours, torchs in zip(fast, plain, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-5, atol=1e-5)


def test_only_inside_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = direct_linear._linear
    monkeypatch.setattr(direct_linear, "_linear", lambda *args: (calls.append(1), original(*args))[1])
    layer, x = nn.Linear(24, 16), torch.randn(3, 24)
    layer(x)
    with direct_linears():
        layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        layer.double()(x.double())
    assert calls == [1]


def test_inference_works_in_it() -> None:
    layer, x = nn.Linear(24, 16), torch.randn(3, 24)
    with direct_linears(), torch.inference_mode():
        out = layer(x)
    torch.testing.assert_close(out.clone(), layer(x).detach())


def test_a_second_derivative_is_refused_and_not_wrong() -> None:
    layer, x = nn.Linear(24, 16), torch.randn(3, 24, requires_grad=True)
    with direct_linears(), pytest.raises(RuntimeError, match="no second derivative"):
        layer(x).sum().backward(create_graph=True)


def test_gradients_are_those_of_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias = (torch.randn(s).double().requires_grad_() for s in ((2, 3, 6), (4, 6), (4,)))
    assert torch.autograd.gradcheck(DirectLinear.apply, (x, weight, bias))


def test_where_torch_is_as_fast_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_products, "_direct_pays", lambda: False)
    monkeypatch.setattr(direct_linear, "_linear", lambda *args: pytest.fail("oneDNN was called"))
    layer, x = nn.Linear(24, 16), torch.randn(3, 24)
    with direct_linears():
        assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
