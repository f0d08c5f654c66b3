"""A packed weight gives the products of the weight that it was made of."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlclf.packed_weight import PackedWeight, can_pack

pytestmark = pytest.mark.skipif(not can_pack(), reason="this build of torch cannot pack weights")

SIZES = st.integers(1, 70)


@given(n_rows=st.integers(0, 40), n_in=SIZES, n_out=SIZES, bias=st.booleans(), seed=st.integers(0, 100))
def test_products_are_those_of_the_weight(n_rows: int, n_in: int, n_out: int, bias: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, rows, gradient, offset = (
        torch.randn(shape, generator=generator).bfloat16()
        for shape in ((n_out, n_in), (n_rows, n_in), (n_rows, n_out), (n_out,))
    )
    packed = PackedWeight(weight.clone())
    exact = rows.float() @ weight.float().t() + (offset.float() if bias else 0)
    for _ in range(2):
        out = packed.affine(rows, offset if bias else None)
        torch.testing.assert_close(out.float(), exact, rtol=1e-2, atol=1e-2 * n_in**0.5)
        back = packed.back(gradient).float()
        torch.testing.assert_close(back, gradient.float() @ weight.float(), rtol=1e-2, atol=1e-2 * n_out**0.5)


def test_part_of_a_larger_matrix_is_multiplied_as_a_matrix_of_its_own() -> None:
    packed, rows = PackedWeight(torch.randn(24, 16).bfloat16()), torch.randn(9, 40).bfloat16()
    assert torch.equal(packed.affine(rows[:, 8:24], None), packed.affine(rows[:, 8:24].contiguous(), None))
    assert torch.equal(packed.back(rows.t()[:24].t()), packed.back(rows[:, :24].contiguous()))
