"""Strategy ``qlora``: low-rank updates over a backbone whose frozen weights are kept in 4 or 8 bits."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import ValidationInfo, field_validator

from mlclf.interfaces import LoadRequest, StrategyCapabilities
from mlclf.options import Options
from mlclf.quantized import import_bitsandbytes
from mlclf.strategies.lora import LoraStrategy
from mlclf.strategies.lora_options import LowRankOptions, check_even_rank


class QloraOptions(LowRankOptions):
    """Options of the strategy ``qlora``.

    Parameters
    ----------
    bits : {4, 8}
        Of a weight of the frozen linear layers; embeddings, norms and biases stay as they are. 8 bits lose next to
        nothing and take twice the memory.
    quant_type : {"nf4", "fp4"}
        How 4 bits are spread: for weights that are normally distributed, or as floating-point numbers.
    double_quantisation : bool
        Keep the scales of the blocks of 4-bit weights in 8 bits too, which saves 0.4 bits a weight.
    r : int
        Rank of the updates.
    alpha : float or None
        Updates are scaled by ``alpha / r``; None takes ``2 * r``.
    dropout : float
        Dropout of what goes into the updates. Above 0 a step takes longer, as it does with ``use_dora``.
    targets : {"all-linear", "attention", "qv"} or tuple of str
        Which linear layers get an update: all in the stack, those of attention, those of queries and values (with a
        fused matrix, all of it), or those whose names end so. Layers without an update are quantised as well.
    layers : "all", int or tuple of int
        All layers, so many from the top, or those with these numbers, 0 being the lowest. What lies below the lowest
        one stays constant and is computed once.
    use_dora : bool
        Learn length and direction of the weights apart (DoRA).
    use_rslora : bool
        Scale by ``alpha / sqrt(r)`` (rsLoRA), for large ranks; take half of the learning rate or less.
    lora_plus_ratio : float or None
        The second matrix of an update, which starts at zero, learns so many times as fast as the first (LoRA+).
    init : {"default", "gaussian", "orthogonal", "eva"}
        How the updates start, at zero effect in any case; "eva" looks in the directions in which the training texts
        differ most. What takes its start out of the weights ("pissa", "olora") would have to round them again.
    backbone_dropout : bool
        Whether the frozen backbone keeps its own dropout in training.
    learning_rate : float or None
        Peak rate of the updates; None takes 1e-3. With ``lora_plus_ratio`` it is that of the first matrix, and None
        takes 1e-3 over the root of the ratio.
    head_learning_rate : float or None
        Peak rate of head and pooling; None takes 5e-3.

    Examples
    --------
    >>> QloraOptions(bits=8, layers=2).quant_type
    'nf4'
    """

    component: ClassVar[str] = "qlora"

    bits: Literal[4, 8] = 4
    quant_type: Literal["nf4", "fp4"] = "nf4"
    double_quantisation: bool = True
    init: Literal["default", "gaussian", "orthogonal", "eva"] = "default"

    @field_validator("init")
    @classmethod
    def _even_rank(cls, value: str, info: ValidationInfo) -> str:
        check_even_rank(value, info.data.get("r", 2))
        return value


class QloraStrategy(LoraStrategy):
    """QLoRA: LoRA over frozen weights of 4 or 8 bits, which are made floats again for each product, on any device.

    Saved is what ``lora`` saves; loading rounds the pretrained weights again. Merging makes the rounded weights floats
    and adds the updates, so that the merged model answers like the one that was trained.

    Parameters
    ----------
    options : QloraOptions

    References
    ----------
    Dettmers et al. (2023), "QLoRA: Efficient Finetuning of Quantized LLMs", arXiv:2305.14314.
    Dettmers et al. (2022), "LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale", arXiv:2208.07339.

    Examples
    --------
    >>> QloraStrategy(QloraOptions()).learning_rates.backbone
    0.001
    """

    Options: ClassVar[type[Options]] = QloraOptions
    capabilities = StrategyCapabilities(detachable=True, chains=True, quantised_base=True)
    typical_use = "a backbone whose weights would not fit into memory otherwise"
    latency = "none once merged"
    options: QloraOptions  # type: ignore[assignment]  # the same options but for ``init``, of which it has fewer

    def load_request(self) -> LoadRequest:
        """Ask for linear layers in 4 or 8 bits, and for everything else in float32.

        Raises
        ------
        MissingExtraError
            If bitsandbytes is not installed.
        """
        import_bitsandbytes()
        return LoadRequest(quantization=self._config())

    def _config(self) -> Any:
        from transformers import BitsAndBytesConfig

        # No layer is left out: transformers would leave out the last one, in the belief that it is an output layer.
        if self.options.bits == 8:
            return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=[])
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=self.options.quant_type,
            bnb_4bit_use_double_quant=self.options.double_quantisation,
            llm_int8_skip_modules=[],
        )
