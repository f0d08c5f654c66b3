"""Device, precision and random state of a training run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Literal

import torch
from torch import nn

from mlclf.direct_linear import direct_linears
from mlclf.exceptions import OptionsError
from mlclf.timing import speedup

Precision = Literal["fp32", "bf16", "fp16"]
AUTOCAST_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16}

# bf16 must win clearly: its rounding is not worth a few per cent of time.
_BF16_GAIN = 1.2


def resolve_device(device: str | torch.device | None) -> torch.device:
    """Return the device to use: the one asked for, else the first GPU, else the processor.

    Raises
    ------
    OptionsError
        If the device is not a torch device or not present.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:
        raise OptionsError(
            f"device={str(device)!r} cannot be used: {str(error).splitlines()[0]}. Use None to choose automatically, "
            "'cpu', or 'cuda' where a GPU is present."
        ) from error
    return found


def resolve_precision(precision: str, device: torch.device) -> Precision:
    """Return the precision to compute in; ``"auto"`` is settled by the hardware.

    Raises
    ------
    OptionsError
        If fp16 is asked for on a processor, which has no fast half-precision arithmetic.
    """
    if precision == "fp16" and device.type != "cuda":
        raise OptionsError("TrainingOptions(precision='fp16') needs a CUDA GPU. Use 'auto', 'bf16' or 'fp32'.")
    if precision == "auto":
        if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
        return "bf16" if device.type == "cpu" and _bf16_pays() else "fp32"
    return precision  # type: ignore[return-value]  # the option's Literal leaves these three


@lru_cache(maxsize=1)
def _bf16_pays() -> bool:
    """Measure once whether bf16 is faster than float32 for a layer of a small encoder."""
    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):  # emulation is far slower
        return False
    with seeded(0):
        layer, rows = nn.Linear(384, 1536), torch.randn(96, 384)
    return speedup(lambda: _pass(layer, rows, enabled=False), lambda: _pass(layer, rows, enabled=True)) > _BF16_GAIN


def _pass(layer: nn.Linear, rows: torch.Tensor, *, enabled: bool) -> None:
    """Go forward and backward once."""
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled), direct_linears():
        out = layer(rows)
    torch.autograd.grad(out.float().sum(), layer.weight)


@contextmanager
def autocast(device: torch.device, precision: Precision) -> Iterator[None]:
    """Compute in a precision inside the block."""
    with (
        torch.autocast(device.type, AUTOCAST_DTYPE.get(precision), enabled=precision in AUTOCAST_DTYPE),
        fast_products(device, precision),
    ):
        yield


def fast_products(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Return a context in which linear layers of float32 are computed by the faster library of a processor."""
    return direct_linears() if device.type == "cpu" and precision == "fp32" else nullcontext()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the block and give back the caller's random state afterwards."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
