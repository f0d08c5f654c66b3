"""Options of the two heads."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SerializeAsAny, field_validator

from mlclf.losses import LossOptions, as_loss_options
from mlclf.options import Options


class LwanOptions(Options):
    """How the head ``label-attention:lwan`` is built and trained.

    Parameters
    ----------
    loss : str or LossOptions
        Name of a loss, or the parameters of one, such as ``FocalOptions(gamma=1)``.
    dropout : float
        Share of the token states' features that are zeroed in training.
    prior_bias : bool
        Start the output bias at the logits of the labels' frequencies instead of 0.
    label_weights : dict of str to float, or None
        How often a cell counts where the label applies, by label name; once where a label is not named.

    Examples
    --------
    >>> LwanOptions(loss="focal").component
    'label-attention:lwan'
    """

    component = "label-attention:lwan"
    loss: str | SerializeAsAny[LossOptions] = "bce"
    dropout: float = Field(default=0.1, ge=0, lt=1)
    prior_bias: bool = True
    label_weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None

    @field_validator("loss", mode="before")
    @classmethod
    def _known_loss(cls, value: Any) -> Any:
        """Refuse names that no loss has, and turn a dictionary into parameters."""
        options = as_loss_options(value)
        return value if isinstance(value, str) else options


class LaatOptions(LwanOptions):
    """How the head ``label-attention:laat`` is built and trained.

    Parameters
    ----------
    width : int
        Size of the hidden layer that the attention looks at; the paper takes 256 and 512.
    loss : str or LossOptions
        Name of a loss, or the parameters of one, such as ``FocalOptions(gamma=1)``.
    dropout : float
        Share of the token states' features that are zeroed in training.
    prior_bias : bool
        Start the output bias at the logits of the labels' frequencies instead of 0.
    label_weights : dict of str to float, or None
        How often a cell counts where the label applies, by label name; once where a label is not named.

    Examples
    --------
    >>> LaatOptions(width=512).width
    512
    """

    component = "label-attention:laat"
    width: int = Field(default=256, ge=1)
