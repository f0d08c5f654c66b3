"""Options of the head ``prompt-generation``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlclf.options import Options
from mlclf.prompts import PromptOptions

Order = Literal["frequency", "random", "given"]
Estimator = Literal["max", "marginal", "set"]


class PromptGenerationOptions(Options):
    """How the head ``prompt-generation`` asks, is trained and answers.

    Parameters
    ----------
    prompt : PromptOptions
        What stands around the text.
    order : {"frequency", "random", "given"}
        Order of a text's labels in training: the most frequent first; another one in every epoch; that of the label
        space.
    probabilities : {"max", "marginal", "set"}
        ``"max"``: the largest probability that a label had at any step while the most probable labels were written.
        ``"marginal"``: how often it is written, estimated from ``samples`` answers. ``"set"``: 1 for the labels of the
        most probable answer, token by token, and 0 for the others; give ``thresholds=0.5`` and ``calibrate=False``
        beside it.
    samples : int
        Answers drawn for a text with ``probabilities="marginal"``.
    max_labels : int or None
        Most labels of an answer; None is as many as there are.
    beam : int or None
        How many beginnings of names are followed at once, for thousands of labels; labels that are not among them get
        probability 0. None scores every label.
    seed : int
        Of ``"marginal"``; a text has the same answer in every call.

    Examples
    --------
    >>> PromptGenerationOptions(order="random", probabilities="marginal").samples
    4
    """

    component = "prompt-generation"

    prompt: PromptOptions = PromptOptions()
    order: Order = "frequency"
    probabilities: Estimator = "max"
    samples: int = Field(default=4, ge=1)
    max_labels: int | None = Field(default=None, ge=1)
    beam: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)
