"""Pooling is blind to padding on either side and never divides by nothing."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from mlclf.backbones.pooling import AttentionPooling, PoolingName, make_pooling

NAMES = get_args(PoolingName)
HIDDEN = 6


def pooling(name: PoolingName) -> nn.Module:
    torch.manual_seed(0)
    made = make_pooling(name, HIDDEN)
    if isinstance(made, AttentionPooling):
        nn.init.normal_(made.query)
    return made


def padded(tokens: Tensor, left: int, right: int) -> tuple[Tensor, Tensor]:
    """Return one row of tokens between padding of large values, and its mask."""
    hidden = tokens.shape[-1]
    states = torch.cat([torch.full((left, hidden), 99.0), tokens, torch.full((right, hidden), -99.0)])
    mask = torch.tensor([False] * left + [True] * len(tokens) + [False] * right)
    return states[None], mask[None]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("left", "right"), [(0, 3), (3, 0), (2, 2)])
def test_padding_never_changes_the_vector(name: PoolingName, left: int, right: int) -> None:
    tokens = torch.randn(4, HIDDEN, generator=torch.Generator().manual_seed(1))
    module = pooling(name)
    bare = module(*padded(tokens, 0, 0))
    torch.testing.assert_close(module(*padded(tokens, left, right)), bare)


def test_each_pooling_computes_what_its_name_says() -> None:
    tokens = torch.randn(4, HIDDEN)
    states, mask = padded(tokens, 1, 2)
    torch.testing.assert_close(pooling("cls")(states, mask)[0], tokens[0])
    torch.testing.assert_close(pooling("mean")(states, mask)[0], tokens.mean(0))
    torch.testing.assert_close(pooling("max")(states, mask)[0], tokens.amax(0))


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_padding_gives_finite_vectors_and_gradients(name: PoolingName) -> None:
    states = torch.randn(2, 3, HIDDEN, requires_grad=True)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    pooled = pooling(name)(states, mask)
    pooled.sum().backward()
    assert pooled.isfinite().all()
    assert states.grad is not None
    assert states.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_states_give_float32_vectors(name: PoolingName, dtype: torch.dtype) -> None:
    states, mask = padded(torch.randn(3, HIDDEN), 0, 2)
    assert pooling(name)(states.to(dtype), mask).dtype == torch.float32


def test_attention_starts_as_the_mean_and_then_learns() -> None:
    module = make_pooling("attention", HIDDEN)
    states, mask = padded(torch.randn(3, HIDDEN), 0, 2)
    pooled = module(states, mask)
    torch.testing.assert_close(pooled[0], states[0, :3].mean(0))
    pooled.square().sum().backward()
    assert module.query.grad.abs().sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_every_length_goes_through_one_exported_graph(name: PoolingName) -> None:
    module = pooling(name)
    sizes = {0: torch.export.Dim("rows", min=1), 1: torch.export.Dim("length", min=1)}
    example = (torch.randn(2, 5, HIDDEN), torch.tensor([[True] * 5, [False] * 3 + [True] * 2]))
    graph = torch.export.export(module, example, dynamic_shapes={"tokens": sizes, "mask": sizes}).module()
    states, mask = padded(torch.randn(7, HIDDEN), 1, 3)
    torch.testing.assert_close(graph(states, mask), module(states, mask))
