"""Training that fails leaves no trace: what learns is put back as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mlclf.network import MultiLabelNetwork


@contextmanager
def restored_on_failure(network: MultiLabelNetwork) -> Iterator[None]:
    """Put what a network learns back where the block fails or is interrupted.

    Training changes weights in place. What learns, and every buffer, is copied to main memory first: little for LoRA
    and its kin, a second set of weights for full fine-tuning.

    Parameters
    ----------
    network : MultiLabelNetwork
        In evaluation mode afterwards, whatever happened.
    """
    before = {name: tensor.detach().to("cpu", copy=True) for name, tensor in _changeable(network).items()}
    try:
        yield
    except BaseException:  # Ctrl-C too
        with torch.no_grad():
            for name, tensor in _changeable(network).items():
                tensor.copy_(before[name])
        raise
    finally:
        network.zero_grad(set_to_none=True)
        network.eval()


def digest(network: MultiLabelNetwork) -> str:
    """Return a checksum of what a network has learned."""
    found = hashlib.sha256()
    for name, parameter in sorted(network.trainable().items()):
        found.update(name.encode())
        found.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _changeable(network: MultiLabelNetwork) -> dict[str, Tensor]:
    """Return the tensors that a training step may change, by name."""
    return {**network.trainable(), **dict(network.named_buffers())}
