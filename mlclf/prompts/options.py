"""PromptOptions: what a prompt says."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from mlclf.options import Options

Language = Literal["en", "zh"]
LabelList = Literal["auto", "descriptions", "names", "none"]

_BUILT_IN = ("auto", "plain", "chat")


class PromptOptions(Options):
    """What a prompt says around a text.

    Parameters
    ----------
    template : str
        ``"plain"``: headings and blank lines. ``"chat"``: a message of the user, in the form of the tokenizer's chat
        template. ``"auto"``: the second where the tokenizer has one, else the first. Anything with ``{{`` in it is a
        Jinja template of your own, which writes ``{{ text }}`` once and may use ``system``, ``instruction`` and
        ``labels`` (a list with ``name`` and ``description`` of each).
    language : {"en", "zh"}
        Language of the words that mlclf brings.
    system : str or None
        Who answers; None takes mlclf's words, an empty text leaves it out.
    instruction : str or None
        What is to be done; None takes mlclf's words.
    labels : {"auto", "descriptions", "names", "none"}
        What the prompt says of the labels. ``"auto"`` takes the most of these that fits into ``label_share``.
    descriptions : dict of str to str, or None
        What labels mean, by their name.
    label_share : float
        Share of the tokens read at once that the list of labels may take with ``labels="auto"``.

    Examples
    --------
    >>> PromptOptions(language="zh", descriptions={"joy": "happiness of the writer"}).labels
    'auto'
    """

    template: str = "auto"
    language: Language = "en"
    system: str | None = None
    instruction: str | None = Field(default=None, min_length=1)
    labels: LabelList = "auto"
    descriptions: dict[str, str] | None = None
    label_share: float = Field(default=0.25, gt=0, lt=1)

    @field_validator("template")
    @classmethod
    def _known_template(cls, value: str) -> str:
        """Refuse a name that no template has."""
        if value not in _BUILT_IN and "{{" not in value:
            raise ValueError(
                "must be 'auto', 'plain', 'chat', or a Jinja template with {{ text }} in it; "
                "a template in a file is given as Path(file).read_text()"
            )
        return value
