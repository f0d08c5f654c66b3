"""How many tokens of a text a transformers model reads at once."""

from __future__ import annotations

from transformers import PreTrainedConfig

from mlclf.backbones.building import position_limit
from mlclf.exceptions import BackboneLoadError

# Longer than this is asked for on purpose: memory of attention grows with the square of the length.
_LENGTH_CAP = 512
# Two special tokens and one of the text.
_SHORTEST_TEXT = 3


def text_length(config: PreTrainedConfig, model: str, wanted: int | None, reserved: int) -> int:
    """Return how many tokens of a text are read at once, special tokens included.

    Parameters
    ----------
    config : PreTrainedConfig
    model : str
        Its name, for messages.
    wanted : int or None
        None takes what the model allows, at most 512.
    reserved : int
        Positions that tokens beside those of the text take.

    Raises
    ------
    BackboneLoadError
        If the model cannot read so many.
    """
    positions = position_limit(config)
    limit = None if positions is None else positions - reserved
    beside = f" beside {reserved} others" if reserved else ""
    if reserved and limit is not None and limit < _SHORTEST_TEXT:
        raise BackboneLoadError(
            f"{model!r} can read {positions} tokens at once, and the {reserved} that strategy or head add leave no "
            "room for a text. Use fewer virtual tokens, or shorter descriptions of labels."
        )
    if wanted is None:
        return min(limit or _LENGTH_CAP, _LENGTH_CAP)
    if limit is not None and wanted > limit:
        raise BackboneLoadError(
            f"max_length={wanted} is more than the {limit} tokens that {model!r} can read at once{beside}. Use "
            f"max_length={limit} or less; window_stride splits longer texts into windows."
        )
    return wanted
