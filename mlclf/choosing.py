"""Choosing: which strategy ``"auto"`` stands for, by rules that are few, written down, and told with their reason."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch

from mlclf.assembly import resolve_parts
from mlclf.exceptions import IncompatibleComponentsError, MlclfError
from mlclf.interfaces import Backbone
from mlclf.matching import check_loaded
from mlclf.parts import Parts
from mlclf.skeleton import skeleton
from mlclf.strategies.auto import AutoOptions, Deployment
from mlclf.training.memory import GIB, total_memory

logger = logging.getLogger(__name__)

# What may be chosen. Others are a matter of taste or of measurement on one's own rows: mlclf compare.
CANDIDATES = ("head-only", "lora", "full", "qlora")
# Fewer training rows than this: see docs/choosing.md, which shows the measurement.
FEW_ROWS = 300
# Weights, gradients and the two moments of Adam in bytes a weight of the backbone. full: 4 * 4. lora: 4, and 16 for
# each weight of its updates, which are a few per cent. qlora: half a byte for a weight of a linear layer, 4 for one of
# the embeddings, which are up to a quarter of a small language model.
BYTES_PER_WEIGHT = {"head-only": 4.0, "lora": 5.0, "full": 16.0, "qlora": 1.5}
# The other half is for what a training step computes, and for everything else that runs.
MEMORY_SHARE = 0.5


@dataclass(frozen=True)
class Situation:
    """What a choice depends on.

    Parameters
    ----------
    n_rows : int
        Training rows, without those held out for validation.
    n_weights : int or None
        Weights of the backbone; None where it cannot tell before it is loaded.
    memory : int or None
        Bytes of the device's memory; None where nobody knows.
    deployment : {"any", "onnx", "many-models"}
        What the model is for.
    pretrained : bool
        Whether the backbone has learned anything before.
    """

    n_rows: int
    n_weights: int | None
    memory: int | None
    deployment: Deployment = "any"
    pretrained: bool = True

    def needs(self, strategy: str) -> float | None:
        """Return bytes of weights, gradients and optimizer state, None where the backbone's size is not known."""
        return None if self.n_weights is None else self.n_weights * BYTES_PER_WEIGHT[strategy]

    def fits(self, strategy: str) -> bool:
        """Tell whether training fits into memory; what is not known is taken to fit."""
        need = self.needs(strategy)
        return need is None or self.memory is None or need <= MEMORY_SHARE * self.memory


@dataclass(frozen=True)
class AutoChoice:
    """A chosen strategy and why.

    Parameters
    ----------
    strategy : str
        Its name.
    rule : {"untrained", "memory", "few-rows", "usual"}
        The rule that decided.
    reason : str
        In words, with the numbers.
    warning : str or None
        What is likely to go wrong.
    situation : Situation
        What the choice was made by.

    Examples
    --------
    >>> print(choose(Situation(n_rows=50, n_weights=None, memory=None), {}))
    strategy 'auto' is 'head-only' here: 50 training rows are fewer than 300...
    """

    strategy: str
    rule: str
    reason: str
    warning: str | None
    situation: Situation

    def __str__(self) -> str:
        return f"strategy 'auto' is {self.strategy!r} here: {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return asdict(self)


def choose(situation: Situation, refused: Mapping[str, str]) -> AutoChoice:
    """Choose a strategy.

    Parameters
    ----------
    situation : Situation
    refused : mapping of str to str
        Candidates that cannot be used here, with the reason.

    Returns
    -------
    AutoChoice

    Raises
    ------
    IncompatibleComponentsError
        If no candidate can be used.

    Examples
    --------
    >>> choose(Situation(n_rows=5000, n_weights=8_000_000_000, memory=24 << 30), {}).strategy
    'qlora'
    """
    strategy, rule, reason = _by_rules(situation, refused)
    return AutoChoice(strategy, rule, reason, _warning(strategy, situation, refused), situation)


def settle(parts: Parts, n_rows: int, device: torch.device, verbose: int = 0) -> tuple[Parts, AutoChoice | None]:
    """Replace strategy ``auto`` by the one that it stands for; any other strategy stays.

    No weights are loaded. The choice is logged, and what is likely to go wrong with it as a warning.

    Parameters
    ----------
    parts : Parts
    n_rows : int
        Training rows.
    device : torch.device
        Where training will run.
    verbose : int
        Above 0, the choice is told on a terminal too, where no log is shown.

    Returns
    -------
    parts : Parts
        With a strategy that can be trained.
    choice : AutoChoice or None
        None where there was nothing to choose.

    Raises
    ------
    IncompatibleComponentsError
        If no candidate can be used with this backbone and head.
    BackboneLoadError
        If the backbone's configuration is absent or unusable.
    """
    if not isinstance(parts.strategy, AutoOptions):
        return parts, None
    options = parts.strategy
    outline = skeleton(parts.backbone_class, parts.backbone)
    situation = Situation(
        n_rows=n_rows,
        n_weights=parts.backbone_class(parts.backbone).count_weights(),
        memory=total_memory(device) if options.memory is None else int(options.memory * GIB),
        deployment=options.deployment,
        pretrained=outline is None or outline.source().kind != "none",
    )
    usable, refused = _candidates(parts, options.deployment, outline)
    choice = choose(situation, refused)
    _tell(choice, verbose)
    return usable[choice.strategy], choice


def _tell(choice: AutoChoice, verbose: int) -> None:
    """Log a choice, and write it under what a terminal shows where it would be seen nowhere."""
    logger.info("%s", choice)
    if verbose and sys.stderr.isatty() and not logger.isEnabledFor(logging.INFO):
        sys.stderr.write(f"{choice}\n")
    if choice.warning:
        logger.warning("%s", choice.warning)


def _candidates(
    parts: Parts, deployment: Deployment, outline: Backbone | None
) -> tuple[dict[str, Parts], dict[str, str]]:
    """Return the candidates that go with backbone, head and deployment, and why the others do not."""
    usable: dict[str, Parts] = {}
    refused: dict[str, str] = {}
    for name in CANDIDATES:
        try:
            found = resolve_parts(parts.backbone, name, parts.head)
            if outline is not None:
                check_loaded(found, found.strategy_class(found.strategy), outline)
        except MlclfError as error:
            refused[name] = str(error)
            continue
        capabilities = found.strategy_class(found.strategy).capabilities
        if deployment == "onnx" and not capabilities.export:
            refused[name] = f"Models of strategy {name!r} cannot be exported to ONNX."
        elif deployment == "many-models" and not capabilities.detachable:
            refused[name] = f"Strategy {name!r} changes the backbone's own weights, so that models cannot share them."
        else:
            usable[name] = found
    return usable, refused


def _by_rules(situation: Situation, refused: Mapping[str, str]) -> tuple[str, str, str]:
    """Return strategy, rule and reason: the first rule that applies."""
    if not situation.pretrained and "full" not in refused:
        return "full", "untrained", "nothing of this backbone is pretrained, so that all of it has to learn."
    if not situation.fits("lora") and "qlora" not in refused:
        return "qlora", "memory", _too_large(situation, "lora")
    if situation.n_rows < FEW_ROWS and "head-only" not in refused:
        return (
            "head-only",
            "few-rows",
            f"{situation.n_rows} training rows are fewer than {FEW_ROWS}, too few for more than the head.",
        )
    if "lora" not in refused:
        return "lora", "usual", f"as good as full fine-tuning, with small saved models. {_size(situation)}"
    for name in ("full", "head-only", "qlora"):
        if name not in refused:
            return name, "usual", f"strategy 'lora' cannot be used: {refused['lora']}"
    raise IncompatibleComponentsError(
        "strategy 'auto' finds none that can be used here:\n" + "\n".join(f"{n}: {why}" for n, why in refused.items())
    )


def _warning(strategy: str, situation: Situation, refused: Mapping[str, str]) -> str | None:
    """Return what is likely to go wrong."""
    found = (_memory_warning(strategy, situation, refused), _untrained_warning(strategy, situation, refused))
    return " ".join(warning for warning in found if warning) or None


def _memory_warning(strategy: str, situation: Situation, refused: Mapping[str, str]) -> str | None:
    if situation.fits(strategy):
        return None
    way_out = "Take a smaller backbone, or a machine with more memory."
    if strategy != "qlora" and "qlora" in refused:
        way_out = f"Strategy 'qlora' would need less, and cannot be used: {refused['qlora']} {way_out}"
    return f"Training is likely to run out of memory: {_too_large(situation, strategy)} {way_out}"


def _untrained_warning(strategy: str, situation: Situation, refused: Mapping[str, str]) -> str | None:
    if situation.pretrained:
        return None
    if strategy != "full":
        return (
            f"Nothing of this backbone is pretrained, and strategy {strategy!r} leaves its weights at random. Strategy "
            f"'full' cannot be used: {refused['full']} Take a pretrained backbone, such as 'minilm:l6'."
        )
    if situation.n_rows < FEW_ROWS:
        return (
            f"{situation.n_rows} training rows are few for a backbone of which nothing is pretrained. Train it for "
            "more epochs, such as TrainingOptions(epochs=30), or take a pretrained one, such as 'minilm:l6'."
        )
    return None


def _too_large(situation: Situation, strategy: str) -> str:
    need, memory = cast(float, situation.needs(strategy)), cast(int, situation.memory)
    return (
        f"with {cast(int, situation.n_weights) / 1e6:,.0f} million weights, strategy {strategy!r} needs about "
        f"{_amount(need)} for weights, gradients and optimizer state, more than {MEMORY_SHARE:.0%} of the "
        f"{_amount(memory)} present."
    )


def _size(situation: Situation) -> str:
    need = situation.needs("lora")
    if need is None:
        return "The backbone does not tell its size before it is loaded, so memory was not looked at."
    if situation.memory is None:
        return "The device's memory is not known, so it was not looked at."
    return f"It needs about {_amount(need)} of {_amount(situation.memory)}, and what a training step computes."


def _amount(n_bytes: float) -> str:
    return f"{n_bytes / GIB:.1f} GiB" if n_bytes >= GIB else f"{n_bytes / 2**20:.0f} MiB"
