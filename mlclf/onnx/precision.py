"""Precision: the same graph with smaller weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import torch

from mlclf.exceptions import ExportError, OptionsError
from mlclf.network import MultiLabelNetwork
from mlclf.onnx.entries import Precision
from mlclf.onnx.graph import HEAD, replace_graph

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

# Oldest version of onnxruntime that runs each opset, tried with the graphs that are written here.
_MIN_ONNXRUNTIME = {18: "1.20", 19: "1.20", 20: "1.20", 21: "1.20", 22: "1.21", 23: "1.23"}
OPSETS = tuple(_MIN_ONNXRUNTIME)

# 8 bits for a weight and a scale for every 32 of them. At level 4 the products are of whole numbers: the inputs are
# rounded too, 32 values of one token at a time. Rounding a whole batch by one scale, as dynamic quantisation does,
# would let a text's answer depend on its neighbours.
_BITS, _BLOCK, _LEVEL = 8, 32, 4
_MIN_ONNXRUNTIME_INT8 = "1.22"


def check_precision(precision: str) -> None:
    """Refuse a precision that there is not.

    Raises
    ------
    OptionsError
    """
    if precision not in PRECISIONS:
        raise OptionsError(f"precision must be {', '.join(map(repr, PRECISIONS))}, got {precision!r}.")


def check_opset(opset: Any) -> None:
    """Refuse an opset that is not tested.

    Raises
    ------
    OptionsError

    Examples
    --------
    >>> check_opset(17)
    Traceback (most recent call last):
    ...
    mlclf.exceptions.OptionsError: opset must be a whole number from 18 to 23, got 17. ...
    """
    if type(opset) is not int or opset not in OPSETS:
        raise OptionsError(
            f"opset must be a whole number from {OPSETS[0]} to {OPSETS[-1]}, got {opset!r}. "
            "20 runs on every version of onnxruntime that mlclf supports."
        )


def min_onnxruntime(precision: Precision, opset: int) -> str:
    """Return the oldest version of onnxruntime that runs a graph.

    Examples
    --------
    >>> min_onnxruntime("fp32", 20), min_onnxruntime("int8", 20)
    ('1.20', '1.22')
    """
    needed = _MIN_ONNXRUNTIME[opset]
    return max(needed, _MIN_ONNXRUNTIME_INT8) if precision == "int8" else needed


def to_half(network: MultiLabelNetwork) -> None:
    """Put the pretrained part of a network into float16; pooling and head stay in float32.

    Parameters
    ----------
    network : MultiLabelNetwork
        Changed in place.

    Raises
    ------
    ExportError
        If a weight is too large for float16.
    """
    largest = torch.finfo(torch.float16).max
    for name, tensor in network.backbone.model.named_parameters():
        if tensor.abs().max() > largest:
            raise ExportError(
                f"precision='fp16' cannot hold the weight {name!r}, which has values beyond {largest:,.0f}. "
                "Use precision='fp32' or 'int8'."
            )
    network.backbone.model.half()
    if network.backbone.vocabulary is not None:
        network.backbone.vocabulary.half()


def quantize_weights(path: Path) -> None:
    """Store the weights of matrix products as 8-bit numbers, each block of 32 with a scale of its own.

    What is no product of activations with weights (embeddings, norms) stays as it is, and so does the head, whose
    output the thresholds are compared with.

    Parameters
    ----------
    path : Path
        The graph; replaced, with its file of weights.

    Raises
    ------
    ExportError
        If there is no such product.
    """
    import onnx

    model = onnx.load(str(path))
    head = [node.name for node in model.graph.node if node.name.startswith(HEAD)]
    with _quiet_quantizer():
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        quantizer = MatMulNBitsQuantizer(
            model, bits=_BITS, block_size=_BLOCK, accuracy_level=_LEVEL, is_symmetric=False, nodes_to_exclude=head
        )
        quantizer.process()
    quantized = quantizer.model.model
    if not any(node.op_type == "MatMulNBits" for node in quantized.graph.node):
        raise ExportError(
            "precision='int8' stores the weights of matrix products in 8 bits, and this model has none. "
            "Use precision='fp32'."
        )
    replace_graph(quantized, path)


@contextmanager
def _quiet_quantizer() -> Iterator[None]:
    """Keep onnxruntime's tool from reporting every weight, and from configuring the root logger at its import."""
    root, own = logging.getLogger(), logging.getLogger("onnxruntime.quantization")
    placeholder, level = logging.NullHandler(), own.level
    root.addHandler(placeholder)
    own.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.removeHandler(placeholder)
        own.setLevel(level)
