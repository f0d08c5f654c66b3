"""What both backbones share: how long texts are read, and what no table of vectors can do."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from mlclf.exceptions import IncompatibleComponentsError
from mlclf.interfaces import Backbone, Batch, LoadRequest
from mlclf.options import Options

TOKENIZER = "tokenizer.json"


class TableOptions(Options):
    """Options of both backbones.

    Parameters
    ----------
    max_length : int
        Tokens read at once.
    window_stride : int or None
        None cuts long texts; a number splits them into windows that overlap by so many tokens.
    window_aggregation : {"max", "mean"}
        How the logits of a text's windows become one.
    """

    max_length: int = Field(default=512, ge=1)
    window_stride: int | None = Field(default=None, ge=0)
    window_aggregation: Literal["max", "mean"] = "max"


class TableBackbone(Backbone):
    """Base of backbones that look up a vector for each token; no token sees another one.

    Parameters
    ----------
    options : TableOptions
    """

    family = "other"
    options: TableOptions

    def __init__(self, options: TableOptions) -> None:
        super().__init__(options)
        self.window_aggregation = options.window_aggregation

    def check_request(self, request: LoadRequest) -> None:
        """Refuse what a strategy or head asks for and a table of vectors does not have.

        Raises
        ------
        IncompatibleComponentsError
        """
        wanted = {
            "weights of few bits": request.quantization is not None,
            "an output layer over a vocabulary": request.vocabulary,
            "virtual tokens": request.reserved_length > 0,
        }
        for what, asked in wanted.items():
            if asked:
                raise IncompatibleComponentsError(
                    f"Strategy or head asks for {what}, which backbone {self.options.component!r}, a table of vectors, "
                    "does not have. Use strategy='full' or 'head-only', and head='bce'."
                )

    def token_states(self, batch: Batch) -> Tensor:
        """Look the vectors up, ``(n_rows, length, hidden)``."""
        states: Tensor = self.model(batch.input_ids)
        return states
