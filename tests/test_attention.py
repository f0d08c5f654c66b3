"""The attention of the processor equals transformers' eager attention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers.models.bert.modeling_bert import eager_attention_forward

from mlclf.backbones import attention as module
from mlclf.backbones.attention import attention

ROWS, HEADS, SIZE = 3, 4, 8
# So small that nothing is dropped, and yet not zero, which chooses the plain products in float32 too.
NO_DROPOUT = 1e-12


def states(length: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Return query, key and value as the layers give them: transposed views."""
    generator = torch.Generator().manual_seed(length)
    made = torch.randn(3, ROWS, length, HEADS, SIZE, generator=generator, dtype=dtype).requires_grad_()
    return [made, *(part.transpose(1, 2) for part in made)]


def boolean_mask(length: int) -> Tensor:
    """Return a mask whose second row has padding and whose last is nothing else."""
    keys = torch.ones(ROWS, length, dtype=torch.bool)
    keys[1, length // 2 :] = False
    keys[2] = False
    return keys[:, None, None, :].expand(ROWS, 1, length, length)


def additive(mask: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)


@pytest.mark.parametrize("length", [5, 20, 33, 300])
@pytest.mark.parametrize("dropout", [0.0, NO_DROPOUT])
def test_output_and_gradient_equal_eager(length: int, dropout: float) -> None:
    results = []
    for function in (eager_attention_forward, attention):
        leaf, query, key, value = states(length)
        output, _ = function(
            nn.Module(), query, key, value, additive(boolean_mask(length)), dropout=dropout, scaling=SIZE**-0.5
        )
        # Torch's fused backward is arbitrary for a row that is all padding, and such a row has no loss.
        output[:2].square().sum().backward()
        results.append((output, leaf.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [7, 40])
def test_half_precision_is_as_close_to_the_truth_as_eager(length: int) -> None:
    mask = boolean_mask(length)
    truth, _ = eager_attention_forward(nn.Module(), *states(length)[1:], additive(mask), scaling=SIZE**-0.5)
    half = [part.to(torch.bfloat16) for part in states(length)[1:]]
    eager, _ = eager_attention_forward(nn.Module(), *half, additive(mask, torch.bfloat16), scaling=SIZE**-0.5)
    output, _ = attention(nn.Module(), *half, additive(mask, torch.bfloat16), scaling=SIZE**-0.5)
    assert (output.float() - truth).abs().max() <= 1.5 * (eager.float() - truth).abs().max()


@pytest.mark.parametrize("dropout", [0.0, NO_DROPOUT])
def test_a_boolean_mask_means_the_same(dropout: float) -> None:
    mask = boolean_mask(9)
    parts = states(9)[1:]
    expected, _ = attention(nn.Module(), *parts, additive(mask), dropout=dropout)
    output, _ = attention(nn.Module(), *parts, mask, dropout=dropout)
    torch.testing.assert_close(output[:2], expected[:2])
    assert output.isfinite().all()


@pytest.mark.parametrize("size", [1.0, 1e3])
def test_scores_too_large_or_too_small_for_bare_exponentials_are_right(size: float) -> None:
    results = []
    for function in (eager_attention_forward, attention):
        leaf, query, key, value = states(9)
        output, _ = function(nn.Module(), query * size, key * size, value, None, dropout=0.0, scaling=SIZE**-0.5)
        output.square().sum().backward()
        results.append((output, leaf.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5 * size**2)


def test_gradients_of_short_rows_are_those_of_finite_differences() -> None:
    query, key, value = (part.detach().double().requires_grad_() for part in states(4)[1:])
    mask = additive(boolean_mask(4), torch.float64).clamp(min=-1e30)[:2]
    inputs = (query[:2], key[:2], value[:2])

    def output(*parts: Tensor) -> Tensor:
        return attention(nn.Module(), *parts, mask, dropout=NO_DROPOUT, scaling=0.4)[0]

    assert torch.autograd.gradcheck(output, inputs)


def test_a_second_derivative_is_refused_and_not_wrong() -> None:
    output, _ = attention(nn.Module(), *states(6)[1:], None, dropout=NO_DROPOUT)
    with pytest.raises(RuntimeError, match="no second derivative"):
        output.sum().backward(create_graph=True)


def test_what_was_dropped_has_no_part_in_the_gradient() -> None:
    _, query, key, value = states(6)
    torch.manual_seed(1)
    output, _ = attention(nn.Module(), query * 0, key, value, None, dropout=0.5)
    # With equal scores the weights are 2/6 where kept, so that the output says which values were.
    of_value = torch.autograd.grad(output[0, 0, 0].sum(), value)[0][0, 0, :, 0]
    expected = (of_value[:, None] * value[0, 0]).sum(0)
    torch.testing.assert_close(output[0, 0, 0], expected)
    assert set(of_value.mul(6).round().tolist()) == {0.0, 2.0}


def test_dropout_keeps_the_expectation() -> None:
    torch.manual_seed(0)
    parts = [part.detach() for part in states(12)[1:]]
    plain, _ = attention(nn.Module(), *parts, None)
    dropped = torch.stack([attention(nn.Module(), *parts, None, dropout=0.25)[0] for _ in range(2000)])
    assert (dropped.std(0) > 0).all()
    assert (dropped.mean(0) - plain).abs().max() < 6 * (dropped.std(0).max() / 2000**0.5)


@pytest.mark.parametrize("asked", [{"is_causal": True}, {"position_bias": torch.randn(1, HEADS, 6, 6)}])
def test_what_plain_products_cannot_do_goes_to_torch(asked: dict[str, object]) -> None:
    parts = states(6)[1:]
    expected, _ = module.sdpa_attention_forward(nn.Module(), *parts, None, **{"is_causal": False, **asked})
    output, _ = attention(nn.Module(), *parts, None, dropout=0.0, **asked)
    torch.testing.assert_close(output, expected)


def test_fewer_key_heads_than_query_heads_are_repeated() -> None:
    _, query, key, value = states(6)
    layer = nn.Module()
    layer.num_key_value_groups = 2
    output, _ = attention(layer, query, key[:, ::2], value[:, ::2], None, dropout=NO_DROPOUT)
    repeated = [part[:, ::2].repeat_interleave(2, dim=1) for part in (key, value)]
    expected, _ = attention(nn.Module(), query, *repeated, None)
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("recording", [False, True])
def test_the_mask_is_made_for_the_scores_type(recording: bool) -> None:
    arguments = {
        "batch_size": ROWS,
        "q_length": 5,
        "kv_length": 5,
        "mask_function": lambda batch, head, query, key: key >= 0,
        "attention_mask": boolean_mask(5)[:, 0, 0],
        "allow_is_causal_skip": False,
        "allow_is_bidirectional_skip": True,
    }
    with torch.set_grad_enabled(recording), torch.autocast("cpu", torch.bfloat16):
        mask = module.attention_mask_for(dtype=torch.float32, device="cpu", **arguments)
        full = module.attention_mask_for(**{**arguments, "attention_mask": torch.ones(ROWS, 5, dtype=torch.bool)})
    assert mask.dtype == (torch.bfloat16 if recording else torch.bool)
    assert full is None
