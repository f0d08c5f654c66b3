"""Where low-rank updates start, if not from nothing: from those of saved models, merged."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from mlclf.options import Options

MergeMethod = Literal[
    "linear", "cat", "svd", "ties", "ties_svd", "dare_linear", "dare_ties", "dare_linear_svd", "magnitude_prune"
]
# Methods that leave out a share of the numbers, and ask how many to keep.
THINNING = ("ties", "ties_svd", "dare_linear", "dare_ties", "dare_linear_svd", "magnitude_prune")


class LoraStart(Options):
    """Updates of saved models, merged into the start of a new fit; made by :func:`merge_loras`.

    The folders are read in a fit only. A model that was saved afterwards needs none of them.

    Parameters
    ----------
    sources : tuple of str
        Folders of saved models with strategy ``lora`` over the same pretrained weights.
    weights : tuple of float
        Weight of each source.
    method : str
        As in :func:`merge_loras`.
    density : float or None
        Share of the numbers that thinning methods keep.
    """

    sources: tuple[str, ...] = Field(min_length=1)
    weights: tuple[float, ...]
    method: MergeMethod = "linear"
    density: float | None = Field(default=None, gt=0, le=1, validate_default=True)

    @field_validator("weights")
    @classmethod
    def _one_a_source(cls, value: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        n_sources = len(info.data.get("sources", value))
        if len(value) != n_sources:
            raise ValueError(f"must hold one weight for each of the {n_sources} sources, got {len(value)}")
        return value

    @field_validator("density")
    @classmethod
    def _where_something_is_left_out(cls, value: float | None, info: ValidationInfo) -> float | None:
        method = info.data.get("method")
        if (value is None) == (method in THINNING):
            known = ", ".join(map(repr, THINNING))
            raise ValueError(f"must be given with the methods {known}, and with no other; method is {method!r}")
        return value
