"""What adapters are composed of, if not of one bottleneck each: adapters of saved models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlclf.options import Options


class AdapterStart(Options):
    """Adapters of saved models that a fit builds upon; made by :func:`stack_adapters` and :func:`fuse_adapters`.

    The folders are read in a fit only. A model that was saved afterwards holds its own copies and needs none of them.

    Parameters
    ----------
    sources : tuple of str
        Folders of saved models with strategy ``adapter`` over the same pretrained weights.
    method : {"stack", "fusion"}
        A new adapter over those of the sources, or attention over what they put out.
    regularisation : float
        Weight of the squared distance of fusion's value matrices from the identity, added to the loss.
    """

    sources: tuple[str, ...] = Field(min_length=1)
    method: Literal["stack", "fusion"]
    regularisation: float = Field(default=0.01, ge=0)
