"""Products are the same by either library, and the choice between them is made by measuring."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlclf import matrix_products
from mlclf.matrix_products import add_product, affine, product

SIZES = st.integers(0, 40)


@pytest.fixture(params=[True, False], ids=["direct", "torch"])
def direct(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Force either library, whichever is faster here."""
    if request.param and not matrix_products._has_direct():
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(matrix_products, "_direct_pays", lambda: request.param)
    return bool(request.param)


def matrices(*shapes: tuple[int, int], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("rows", "inner", "columns"), [(7, 24, 16), (1, 1, 1), (0, 24, 16), (33, 384, 50)])
def test_products_are_those_of_numpy(rows: int, inner: int, columns: int, dtype: torch.dtype) -> None:
    left, weight, bias = matrices((rows, inner), (columns, inner), (1, columns), dtype=dtype)
    exact = left.double() @ weight.double().t()
    tolerance = {"rtol": 2e-2, "atol": 0.3} if dtype is torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-4}
    for found, expected in (
        (product(left, weight.t()), exact),
        (product(left, weight.t().contiguous()), exact),
        (affine(left, weight, None), exact),
        (affine(left, weight, bias[0]), exact + bias.double()),
        (add_product(torch.ones(rows, columns, dtype=dtype), left, weight.t()), exact + 1),
    ):
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected, **tolerance)


@pytest.mark.skipif(not matrix_products._has_direct(), reason="this build of torch has no oneDNN")
@settings(max_examples=40, deadline=None)
@given(rows=SIZES, inner=st.integers(1, 40), columns=st.integers(1, 40), transposed=st.booleans())
def test_both_libraries_agree_on_every_shape(rows: int, inner: int, columns: int, transposed: bool) -> None:
    left, right = matrices((inner, rows), (inner, columns))
    rows_first = left.t() if transposed else left.t().contiguous()
    found = matrix_products._direct(rows_first, right.t(), None)
    torch.testing.assert_close(found, rows_first @ right, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("direct")
def test_parts_of_matrices_and_repeated_numbers_are_multiplied_too() -> None:
    left, right = matrices((9, 40), (40, 30))
    for rows, columns in (
        (left[:, 3:20], right[3:20, 5:18]),
        (left[2:7, 3:20], right[3:20].t()[5:18].t()),
        (left[:1].expand(9, 40), right),
        (torch.ones(1, 1).expand(9, 40), torch.ones(1, 1).expand(40, 30)),
    ):
        expected = (rows.double() @ columns.double()).float()
        torch.testing.assert_close(product(rows, columns), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(affine(rows, columns.t(), None), expected, rtol=1e-5, atol=1e-5)


def test_a_build_without_the_operation_multiplies_as_torch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*args: object) -> Tensor:
        raise RuntimeError("mkldnn::_linear_pointwise is not implemented")

    monkeypatch.setattr(matrix_products, "_direct", absent)
    matrix_products._has_direct.cache_clear()
    matrix_products._direct_pays.cache_clear()
    try:
        left, weight = matrices((3, 4), (5, 4))
        torch.testing.assert_close(affine(left, weight, torch.ones(5)), left @ weight.t() + 1)
        half = affine(left.bfloat16(), weight.bfloat16(), torch.ones(5, dtype=torch.bfloat16))
        assert half.dtype == torch.bfloat16
    finally:
        matrix_products._has_direct.cache_clear()
        matrix_products._direct_pays.cache_clear()


def test_the_choice_leaves_the_number_of_threads_as_it_was() -> None:
    before = torch.get_num_threads()
    matrix_products._direct_pays.cache_clear()
    assert matrix_products._direct_pays() in (True, False)
    assert torch.get_num_threads() == before
