"""Memory: what a causal model keeps of tokens that it has read, so that it can read on from there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor

from mlclf.exceptions import IncompatibleComponentsError
from mlclf.interfaces.batch import Batch


class Memory(ABC):
    """Keys and values of the tokens that a batch of rows has been read up to; gradients flow through them.

    Only :meth:`MemoryReader.read_on` changes a memory: what it reads stands behind what was read before.

    Parameters
    ----------
    mask : Tensor of bool, shape (n_rows, n_remembered)
        False where a remembered token is padding, which nothing ever sees.
    positions : Tensor of int64, shape (n_rows, n_remembered)
        Position of each remembered token, by which sliding windows are measured.

    Attributes
    ----------
    mask, positions : Tensor
        The parameters.
    """

    def __init__(self, mask: Tensor, positions: Tensor) -> None:
        self.mask = mask
        self.positions = positions

    @property
    def next_positions(self) -> Tensor:
        """Position that follows the last one of each row, int64 ``(n_rows,)``."""
        return torch.where(self.mask, self.positions, -1).amax(dim=1) + 1

    @abstractmethod
    def rows(self, index: Tensor) -> Self:
        """Return a memory of some rows, which may repeat.

        Parameters
        ----------
        index : Tensor of int64, shape (n_rows_of_result,), or of bool, shape (n_rows,)
        """


class MemoryReader:
    """The part of a backbone that reads in several goes; a backbone that does so overrides all three methods.

    Attributes
    ----------
    takes_masks : bool
        Whether ``Batch.position_ids`` and ``Batch.visible`` are honoured. A backbone that declares so raises
        IncompatibleComponentsError where the loaded model cannot.
    causal : bool
        Whether a token sees nothing but itself and what stands before it.
    """

    takes_masks: bool = False
    causal: bool = False

    @property
    def remembers(self) -> bool:
        """Whether :meth:`read`, :meth:`peek` and :meth:`read_on` work, by the options and as the model stands now."""
        return False

    def read(self, batch: Batch) -> tuple[Tensor, Memory]:
        """Read a batch and remember it.

        Parameters
        ----------
        batch : Batch
            Without ``states``: all layers are run.

        Returns
        -------
        states : Tensor, shape (n_rows, length, hidden)
            After the last layer.
        memory : Memory

        Raises
        ------
        IncompatibleComponentsError
            If the model keeps nothing that could be read on from.
        """
        raise self._forgets()

    def peek(
        self,
        memory: Memory,
        ids: Tensor,
        position_ids: Tensor | None = None,
        visible: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the states of further tokens, without remembering them.

        Parameters
        ----------
        memory : Memory
            Of as many rows.
        ids : Tensor of int64, shape (n_rows, n_tokens)
        position_ids : Tensor of int64, shape (n_rows, n_tokens), or None
            None counts on from each row's last position.
        visible : Tensor of bool, shape (n_rows, n_tokens, n_remembered + n_tokens), or None
            True where a further token (middle axis) sees a token; padding is never seen, and a token always sees
            itself. None is causal: everything remembered, and the further tokens up to itself.
        mask : Tensor of bool, shape (n_rows, n_tokens), or None
            False where a further token is padding; None where none is.

        Returns
        -------
        Tensor, shape (n_rows, n_tokens, hidden)

        Raises
        ------
        IncompatibleComponentsError
            If the model keeps nothing that could be read on from.
        """
        raise self._forgets()

    def read_on(
        self,
        memory: Memory,
        ids: Tensor,
        position_ids: Tensor | None = None,
        visible: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the states of further tokens, and remember them in ``memory``; see :meth:`peek`."""
        raise self._forgets()

    def _forgets(self) -> IncompatibleComponentsError:
        return IncompatibleComponentsError(
            f"{type(self).__name__} reads a text in one go and remembers nothing that it could read on from. Use a "
            "causal language model: backbone='llm' with bidirectional=False."
        )
