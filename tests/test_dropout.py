"""Bulk dropout is torch's dropout, only faster."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mlclf.backbones.dropout import FastDropout, dropout, replace_dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.25, 0.5])
def test_share_of_zeros_and_expectation_are_right(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    n = 1_000_003  # odd, so that the last word of random bits is used in part
    values = dropout(torch.ones(n, dtype=dtype), rate).double()
    rounded = round(256 * rate) / 256
    deviation = (rounded * (1 - rounded) / n) ** 0.5
    assert abs((values == 0).double().mean().item() - rounded) < 5 * deviation
    kept = values[values != 0].unique()
    assert len(kept) == 1
    assert kept.item() == pytest.approx(1 / (1 - rounded), rel=4e-3 if dtype == torch.bfloat16 else 1e-6)


def test_every_byte_of_the_random_words_is_uniform() -> None:
    torch.manual_seed(0)
    share = (dropout(torch.ones(400_000), 0.5) == 0).view(-1, 8).double().mean(0)
    assert (share - 0.5).abs().max() < 5 * (0.25 / 50_000) ** 0.5


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    zero = (dropout(torch.ones(400_000), 0.25) == 0).double()
    for distance in (1, 2, 8, 384):
        both = (zero[:-distance] * zero[distance:]).mean().item()
        assert both == pytest.approx(0.0625, abs=0.003)


def test_the_gradient_goes_through_what_was_kept() -> None:
    values = torch.randn(40, 30, requires_grad=True)
    out = dropout(values, 0.1)
    out.sum().backward()
    torch.testing.assert_close(values.grad * values, out)


def test_the_seed_repeats_it() -> None:
    values = torch.randn(500)
    torch.manual_seed(3)
    first = dropout(values, 0.1)
    assert not torch.equal(first, dropout(values, 0.1))
    torch.manual_seed(3)
    torch.testing.assert_close(first, dropout(values, 0.1), rtol=0, atol=0)


@pytest.mark.parametrize("rate", [0.001, 0.01])
def test_a_rate_that_bytes_cannot_express_keeps_its_value(rate: float) -> None:
    torch.manual_seed(0)
    values = dropout(torch.ones(1_000_000), rate)
    assert values.max().item() == pytest.approx(1 / (1 - rate), rel=1e-6)


@pytest.mark.parametrize("shape", [(), (0, 4), (3,), (2, 3, 5)])
def test_every_shape_stays(shape: tuple[int, ...]) -> None:
    assert dropout(torch.ones(shape), 0.1).shape == shape


def test_a_transposed_input_stays_right() -> None:
    values = torch.randn(30, 20).t()
    out = dropout(values, 0.5)
    assert set((out / values).round(decimals=3).unique().tolist()) == {0.0, 2.0}


def test_the_layer_does_nothing_outside_training_or_at_rate_zero() -> None:
    values = torch.randn(10)
    assert FastDropout(0.5).eval()(values) is values
    assert FastDropout(0.0)(values) is values


def test_replacing_reaches_every_depth_and_keeps_rate_and_mode() -> None:
    model = nn.Sequential(nn.Sequential(nn.Dropout(0.2)), nn.Dropout(0.3).eval(), nn.Dropout(0.1, inplace=True))
    replace_dropout(model)
    assert isinstance(model[0][0], FastDropout)
    assert (model[0][0].p, model[1].p, model[1].training) == (0.2, 0.3, False)
    assert type(model[2]) is nn.Dropout, "in-place dropout changes its input, which others may rely on"
