"""Frozen linear layers whose weights are kept in 4 or 8 bits, through bitsandbytes.

bitsandbytes and transformers quantise the weights while they are read; what they make is then put into the layers of
this module, whose weights are plain tensors. bitsandbytes' own layers are not kept, for three reasons:

- On processors with AVX512-BF16 its 4-bit layers rearrange their weights in the first forward pass without gradients.
  Whoever reads the weights afterwards (merging, saving, the next training step) gets other numbers, without an error.
- They round biases to the type of the arithmetic, for good.
- Its 8-bit layers round activations too, in a way that lets the answer for a text depend on the texts beside it.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlclf.exceptions import MissingExtraError
from mlclf.linear_layers import is_conv1d, plain_layer

# What transformers notes on a model that bitsandbytes quantised, and then refuses to move or to convert.
_NOTES = ("hf_quantizer", "is_quantized", "quantization_method", "is_loaded_in_4bit", "is_loaded_in_8bit")


def import_bitsandbytes() -> Any:
    """Return bitsandbytes, imported without the log line about an optional package of kernels.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import bitsandbytes
    except ImportError as error:
        raise MissingExtraError(
            "Weights in 4 or 8 bits need 'bitsandbytes', which is not installed. Install it: pip install "
            "'mlclf[train]', or use strategy='lora', which needs no quantisation."
        ) from error
    finally:
        logger.setLevel(level)
    return bitsandbytes


@lru_cache(maxsize=1)
def _functions() -> Any:
    """Return bitsandbytes' functions; kept, as each product with quantised weights asks for them."""
    return import_bitsandbytes().functional


class _FrozenProduct(torch.autograd.Function):
    """``x W' + b`` that keeps no dequantised weight for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, layer: QuantizedLinear) -> Tensor:
        ctx.layer, ctx.bias_dtype = layer, None if bias is None else bias.dtype
        return functional.linear(x, layer.dequantized(x.dtype), None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        of_x = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = gradient @ ctx.layer.dequantized(gradient.dtype)
        if ctx.needs_input_grad[1]:
            of_bias = gradient.reshape(-1, gradient.shape[-1]).sum(dim=0).to(ctx.bias_dtype)
        return of_x, of_bias, None


class QuantizedLinear(nn.Linear):
    """A frozen linear layer that keeps its weight in few bits and multiplies with it as floats.

    Parameters
    ----------
    bias : nn.Parameter or None
        Kept as it is.
    stored : dict of str to Tensor
        What the weight is computed from; each becomes a buffer.
    shape : tuple of int
        ``(out_features, in_features)``.
    dtype : torch.dtype
        Type of the weights before.
    conv1d : bool
        Whether the layer was a ``Conv1D`` of transformers (GPT-2), whose weight lies on its side.

    Attributes
    ----------
    weight : Tensor, shape (out_features, in_features)
        Computed each time it is asked for.
    """

    _like: Tensor

    def __init__(
        self,
        bias: nn.Parameter | None,
        stored: dict[str, Tensor],
        shape: tuple[int, int],
        dtype: torch.dtype,
        *,
        conv1d: bool,
    ) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = shape
        self.conv1d = conv1d
        self.bias = bias  # type: ignore[assignment]  # None is what nn.Linear itself stores without a bias
        for name, tensor in stored.items():
            self.register_buffer(name, tensor.detach())
        # Follows the conversions of the whole model, such as ``.float()``.
        self.register_buffer("_like", torch.empty(0, dtype=dtype, device=stored["packed"].device), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights when they are computed."""
        return self._like.dtype

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # read-only here: there is no such tensor to be set
        """The dequantised weight, shape (out_features, in_features)."""
        return self.dequantized(self.dtype)

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """Return the weight in a floating-point type, shape (out_features, in_features)."""
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:
        """Return the layer's output, in the type of the input or of autocast."""
        kind = input.device.type
        x = input.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else input
        return cast(Tensor, _FrozenProduct.apply(x, self.bias, self))  # type: ignore[no-untyped-call]  # torch's own

    @torch.no_grad()
    def plain(self) -> nn.Module:
        """Return an ordinary layer of the original kind with the dequantised weight."""
        return plain_layer(self.weight, self.bias, conv1d=self.conv1d).train(self.training)


class FourBitLinear(QuantizedLinear):
    """Weights in blocks of 64 values of 4 bits with a scale each; with double quantisation the scales have 8 bits.

    References
    ----------
    Dettmers et al. (2023), "QLoRA: Efficient Finetuning of Quantized LLMs", arXiv:2305.14314.
    """

    packed: Tensor
    absmax: Tensor
    code: Tensor
    offset: Tensor
    scales: Tensor
    scales_code: Tensor

    def __init__(self, bias: nn.Parameter | None, packed: Tensor, state: Any, *, conv1d: bool) -> None:
        stored = {"packed": packed, "absmax": state.absmax, "code": state.code}
        if state.nested:
            inner = state.state2
            stored |= {"offset": state.offset, "scales": inner.absmax, "scales_code": inner.code}
        n_out, n_in = state.shape
        super().__init__(bias, stored, (n_out, n_in), state.dtype, conv1d=conv1d)
        self.quant_type, self.blocksize = state.quant_type, state.blocksize
        self.scales_blocksize = state.state2.blocksize if state.nested else None

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """Return the weight in a floating-point type, shape (out_features, in_features)."""
        functions = _functions()
        nested = None
        if self.scales_blocksize is not None:
            nested = functions.QuantState(
                self.scales, code=self.scales_code, blocksize=self.scales_blocksize, dtype=torch.float32
            )
        state = functions.QuantState(
            self.absmax,
            shape=torch.Size((self.out_features, self.in_features)),
            code=self.code,
            blocksize=self.blocksize,
            quant_type=self.quant_type,
            dtype=dtype,
            offset=None if nested is None else self.offset,
            state2=nested,
        )
        return cast(Tensor, functions.dequantize_4bit(self.packed, state))


class EightBitLinear(QuantizedLinear):
    """Weights of 8 bits with one scale for each output.

    References
    ----------
    Dettmers et al. (2022), "LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale", arXiv:2208.07339,
    of which the rounding of weights is used, and that of activations is not.
    """

    packed: Tensor
    scales: Tensor

    def __init__(
        self, bias: nn.Parameter | None, packed: Tensor, scales: Tensor, dtype: torch.dtype, *, conv1d: bool
    ) -> None:
        super().__init__(
            bias, {"packed": packed, "scales": scales}, (packed.shape[0], packed.shape[1]), dtype, conv1d=conv1d
        )

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """Return the weight in a floating-point type, shape (out_features, in_features)."""
        return (self.packed * (self.scales.view(-1, 1) / 127.0)).to(dtype)


def take_over(model: nn.Module, dtype: torch.dtype) -> None:
    """Put layers of this module in the place of bitsandbytes' ones, whose weights they share.

    To be called right after loading, before any forward pass.

    Parameters
    ----------
    model : nn.Module
        A transformers model that was loaded with a ``BitsAndBytesConfig``.
    dtype : torch.dtype
        Type of the weights before they were quantised.
    """
    layers = import_bitsandbytes().nn
    for name, layer in list(model.named_modules()):
        if isinstance(layer, (layers.Linear4bit, layers.Linear8bitLt)):
            model.set_submodule(name, _from_bitsandbytes(layer, layers, dtype))
    for note in _NOTES:
        if note in vars(model):
            delattr(model, note)
    config: Any = model.config
    del config.quantization_config


def quantize(model: nn.Module, config: Any) -> None:
    """Quantise the linear layers of a model that has no pretrained weights, as loading would have done.

    Parameters
    ----------
    model : nn.Module
        A transformers model, changed in place.
    config : BitsAndBytesConfig
        Which kind of quantisation.
    """
    for name, layer in list(model.named_modules()):
        if type(layer) is nn.Linear or is_conv1d(layer):
            model.set_submodule(name, _from_floats(layer, config))


def count_weights(model: nn.Module) -> int:
    """Return how many weights a model has, those in few bits included, which are not among its parameters.

    Examples
    --------
    >>> count_weights(nn.Linear(2, 2))
    6
    """
    quantized = sum(m.out_features * m.in_features for m in model.modules() if isinstance(m, QuantizedLinear))
    return quantized + sum(parameter.numel() for parameter in model.parameters())


def dequantize(model: nn.Module) -> None:
    """Put ordinary layers with the dequantised weights back, wherever a model has quantised ones."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, QuantizedLinear):
            model.set_submodule(name, layer.plain())


def _from_bitsandbytes(layer: Any, layers: Any, dtype: torch.dtype) -> QuantizedLinear:
    conv1d = layer.source_cls is not nn.Linear
    if isinstance(layer, layers.Linear4bit):
        return FourBitLinear(layer.bias, layer.weight.data, layer.weight.quant_state, conv1d=conv1d)
    return EightBitLinear(layer.bias, layer.weight.CB, layer.weight.SCB, dtype, conv1d=conv1d)


@torch.no_grad()
def _from_floats(layer: nn.Module, config: Any) -> QuantizedLinear:
    functions = import_bitsandbytes().functional
    conv1d, bias = is_conv1d(layer), cast("nn.Parameter | None", layer.bias)
    weight = cast(Tensor, layer.weight)
    weight = weight.t().contiguous() if conv1d else weight
    if config.load_in_8bit:
        packed, scales, _ = functions.int8_vectorwise_quant(weight.to(torch.float16))
        return EightBitLinear(bias, packed, scales, weight.dtype, conv1d=conv1d)
    packed, state = functions.quantize_4bit(
        weight, quant_type=config.bnb_4bit_quant_type, compress_statistics=config.bnb_4bit_use_double_quant
    )
    return FourBitLinear(bias, packed, state, conv1d=conv1d)
