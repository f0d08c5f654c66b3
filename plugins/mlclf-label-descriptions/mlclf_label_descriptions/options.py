"""Options of the head ``label-descriptions:bi-encoder``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, StringConstraints, field_validator

from mlclf.losses import LossOptions, as_loss_options
from mlclf.options import Options

PLACE = "{}"

_Description = Annotated[str, StringConstraints(pattern=r"\S")]


class BiEncoderOptions(Options):
    """How the head ``label-descriptions:bi-encoder`` scores and learns.

    Parameters
    ----------
    descriptions : dict of str to str, or None
        What is read in place of a label's name, by label name; labels without a description are read by name. It may
        describe labels that are to be added later.
    template : str
        What is read of every name or description, which stands in place of ``{}``.
    label_vectors : {"encoded", "learned"}
        "encoded": the backbone reads the descriptions anew whenever it has learned, in every step of training too.
        "learned": it reads them once, and the vectors are parameters that learn from there; for many labels.
    similarity : {"cosine", "dot"}
        Cosine, or dot product as a share of the label vectors' mean squared length.
    scale : float
        First factor of the similarity in a logit; it is learned.
    offset : float
        First similarity at which a label has probability 0.5; one a label is learned. 0.1 is for sentence encoders such
        as MiniLM; models that were never trained to compare texts find any two of them very similar.
    loss : str or LossOptions
        Name of a loss, or the parameters of one, such as ``FocalOptions(gamma=1)``.
    label_weights : dict of str to float, or None
        How often a cell counts where the label applies, by label name; once where a label is not named.

    Examples
    --------
    >>> options = BiEncoderOptions(descriptions={"joy": "someone is happy"}, template="In this text, {}.")
    >>> options.text_of("joy"), options.text_of("fear")
    ('In this text, someone is happy.', 'In this text, fear.')
    """

    component = "label-descriptions:bi-encoder"
    descriptions: dict[str, _Description] | None = None
    template: str = "{}"
    label_vectors: Literal["encoded", "learned"] = "encoded"
    similarity: Literal["cosine", "dot"] = "cosine"
    scale: float = Field(default=20.0, gt=0)
    offset: float = 0.1
    loss: str | SerializeAsAny[LossOptions] = "bce"
    label_weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None

    @field_validator("loss", mode="before")
    @classmethod
    def _known_loss(cls, value: Any) -> Any:
        """Refuse names that no loss has, and turn a dictionary into parameters."""
        options = as_loss_options(value)
        return value if isinstance(value, str) else options

    @field_validator("template")
    @classmethod
    def _has_place(cls, value: str) -> str:
        """Refuse a template that reads the same for every label."""
        if value.count(PLACE) != 1:
            raise ValueError("must contain {} exactly once, where a label's name or description stands")
        return value

    def text_of(self, name: str) -> str:
        """Return what is read of a label."""
        return self.template.replace(PLACE, (self.descriptions or {}).get(name, name))
