"""Labels as branches: the tokens that are read behind a text, for each label by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor, nn

from mlclf.encoding import TextEncoder
from mlclf.exceptions import OptionsError


@dataclass(frozen=True)
class Part:
    """The branches of some labels, one behind the other.

    Parameters
    ----------
    ids : Tensor of int64, shape (n_tokens,)
    labels : Tensor of int64, shape (n_tokens,)
        Number, within this part, of the label that each token belongs to.
    offsets : Tensor of int64, shape (n_tokens,)
        Position of each token in its branch.
    lengths : Tensor of int64, shape (n_labels,)
        Tokens of each branch.
    longest : int
        Tokens of the longest branch.
    """

    ids: Tensor
    labels: Tensor
    offsets: Tensor
    lengths: Tensor
    longest: int

    @property
    def ends(self) -> Tensor:
        """Place of the last token of each branch, int64 ``(n_labels,)``."""
        return self.lengths.cumsum(0) - 1

    def sees(self, *, causal: bool) -> Tensor:
        """Return which tokens (first axis) see which, bool ``(n_tokens, n_tokens)``: those of their own branch.

        Parameters
        ----------
        causal : bool
            Whether only up to themselves.
        """
        return _sees(self.labels, self.offsets, causal=causal)


@dataclass(frozen=True)
class Stack:
    """The branches of all labels in parts of the same width, one below the other; what is left is padding.

    Parameters
    ----------
    ids : Tensor of int64, shape (n_parts, width)
    labels : Tensor of int64, shape (n_parts, width)
        Number, within its part, of the label that each token belongs to; -1 for padding.
    offsets : Tensor of int64, shape (n_parts, width)
        Position of each token in its branch.
    ends : Tensor of int64, shape (n_labels,)
        Place of each branch's last token among all ``n_parts * width``.
    slots : Tensor of int64, shape (n_labels,)
        Place of each label among all ``n_parts * most``.
    most : int
        Labels of the part that has most of them.
    """

    ids: Tensor
    labels: Tensor
    offsets: Tensor
    ends: Tensor
    slots: Tensor
    most: int

    def sees(self, *, causal: bool) -> Tensor:
        """Return which tokens see which, bool ``(n_parts, width, width)``, as :meth:`Part.sees` does."""
        return _sees(self.labels, self.offsets, causal=causal)

    def repeated(self, n_rows: int) -> Stack:
        """Return the stack once for each row, ``n_rows * n_parts`` parts."""
        ids, labels, offsets = (tensor.repeat(n_rows, 1) for tensor in (self.ids, self.labels, self.offsets))
        return replace(self, ids=ids, labels=labels, offsets=offsets)


def _sees(labels: Tensor, offsets: Tensor, *, causal: bool) -> Tensor:
    own = labels[..., :, None] == labels[..., None, :]
    return own & (offsets[..., None, :] <= offsets[..., :, None]) if causal else own


class LabelBranches(nn.Module):
    """The branches of all labels; the token ids are saved with the head.

    Parameters
    ----------
    rows : sequence of sequences of int
        Token ids of each label's branch, at least one.

    Attributes
    ----------
    ids : Tensor of int64, shape (n_tokens,)
        Of all branches, one behind the other.
    lengths : Tensor of int64, shape (n_labels,)
    """

    ids: Tensor
    lengths: Tensor
    labels: Tensor
    offsets: Tensor

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.rows = [list(row) for row in rows]
        lengths = torch.tensor([len(row) for row in self.rows])
        starts = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
        self.register_buffer("ids", torch.tensor([token for row in self.rows for token in row]))
        self.register_buffer("lengths", lengths)
        self.register_buffer("labels", torch.repeat_interleave(torch.arange(len(lengths)), lengths), persistent=False)
        self.register_buffer("offsets", torch.arange(len(starts)) - starts, persistent=False)

    @property
    def longest(self) -> int:
        """Tokens of the longest branch."""
        return max(map(len, self.rows))

    def parts(self, n_tokens: int) -> list[Part]:
        """Return the branches in parts of whole labels.

        Parameters
        ----------
        n_tokens : int
            Tokens in a part, at most; a longer branch is a part of its own.
        """
        return [self.part(first, last) for first, last in self._bounds(n_tokens)]

    def stack(self, n_tokens: int) -> Stack:
        """Return the branches in parts of whole labels, padded to the same width.

        Parameters
        ----------
        n_tokens : int
            As in :meth:`parts`.
        """
        bounds = self._bounds(n_tokens)
        ends = [0, *accumulate(map(len, self.rows))]
        width = max(ends[last] - ends[first] for first, last in bounds)
        most = max(last - first for first, last in bounds)
        places = torch.tensor([[*range(ends[a], ends[b]), *[-1] * (width - ends[b] + ends[a])] for a, b in bounds])
        places = places.to(self.ids.device)
        first_labels = torch.tensor([[first] for first, _ in bounds], device=self.ids.device)
        real, taken = places >= 0, places.clamp(min=0)
        part_of = [(part, first, label) for part, (first, last) in enumerate(bounds) for label in range(first, last)]
        return Stack(
            ids=self.ids[taken],
            labels=torch.where(real, self.labels[taken] - first_labels, -1),
            offsets=torch.where(real, self.offsets[taken], 0),
            ends=torch.tensor([part * width + ends[label + 1] - 1 - ends[first] for part, first, label in part_of]),
            slots=torch.tensor([part * most + label - first for part, first, label in part_of]),
            most=most,
        )

    def _bounds(self, n_tokens: int) -> list[tuple[int, int]]:
        """Return the first label of each part, and the first one behind it."""
        bounds, first, size = [], 0, 0
        for label, row in enumerate(self.rows):
            if size and size + len(row) > n_tokens:
                bounds.append((first, label))
                first, size = label, 0
            size += len(row)
        return [*bounds, (first, len(self.rows))]

    def part(self, first: int, last: int) -> Part:
        """Return the branches of the labels from ``first`` to before ``last``."""
        ends = [0, *accumulate(map(len, self.rows))]
        tokens = slice(ends[first], ends[last])
        return Part(
            ids=self.ids[tokens],
            labels=self.labels[tokens] - first,
            offsets=self.offsets[tokens],
            lengths=self.lengths[first:last],
            longest=max(map(len, self.rows[first:last])),
        )


def branch_ids(encoder: TextEncoder, names: Sequence[str], texts: Sequence[str], *, closed: bool) -> list[list[int]]:
    """Return the token ids of each label's branch.

    Special tokens typed in a name are plain characters: a name is data, as a text is.

    Parameters
    ----------
    encoder : TextEncoder
    names : sequence of str, length n_labels
        For messages.
    texts : sequence of str, length n_labels
        What each branch says.
    closed : bool
        Whether the special tokens that the tokenizer puts behind a text stand behind each branch too.

    Raises
    ------
    OptionsError
        If a branch has no token, is longer than the backbone reads at once, or two are the same.
    """
    tail = _closing(encoder) if closed else []
    encodings = encoder.tokenizer.encode_batch(list(texts), add_special_tokens=False)
    rows = []
    for name, text, encoding in zip(names, texts, encodings, strict=True):
        if not encoding.ids:
            raise OptionsError(f"Label {name!r} has no token: it is read as {text!r}. Give it a name with letters.")
        if encoding.overflowing:
            raise OptionsError(
                f"Label {name!r} has more tokens than the {encoder.max_length} that the backbone reads at once: it is "
                f"read as {text[:60]!r}... Shorten its description."
            )
        rows.append([*encoding.ids, *tail])
    _check_different(names, rows, encoder)
    return rows


def _closing(encoder: TextEncoder) -> list[int]:
    """Return the special tokens that the tokenizer puts behind a text."""
    encoding = encoder.tokenizer.encode("a")
    last = max((i for i, special in enumerate(encoding.special_tokens_mask) if not special), default=-1)
    return list(encoding.ids[last + 1 :])


def _check_different(names: Sequence[str], rows: Sequence[Sequence[int]], encoder: TextEncoder) -> None:
    seen: dict[tuple[int, ...], str] = {}
    for name, row in zip(names, rows, strict=True):
        other = seen.setdefault(tuple(row), name)
        if other is not name:
            tokens = [encoder.tokenizer.id_to_token(token) for token in row]
            raise OptionsError(
                f"Labels {other!r} and {name!r} are the same tokens to this backbone, {tokens}, so that they could "
                "never be told apart. Rename one, or give descriptions={...} that differ."
            )
