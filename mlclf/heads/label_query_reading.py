"""Reading a text once and every label's branch behind it, as if each stood there alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from mlclf.exceptions import IncompatibleComponentsError
from mlclf.heads.label_branches import LabelBranches, Part, Stack
from mlclf.interfaces.backbone import Backbone
from mlclf.interfaces.batch import Batch
from mlclf.interfaces.memory import Memory

Readout = Literal["last", "mean"]
# From the branches of some labels to the states of their tokens, (n_rows, n_tokens, hidden).
States = Callable[[Part | Stack], Tensor]

# Labels that the self-test reads together and alone.
_TESTED = 3
# A wrong mask changes a state by as much as another text does, more or less; rounding by some units of the last place.
_SHARE_OF_EFFECT, _ROUNDING = 0.05, 16
_FAILURES = (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)


def read_packed(backbone: Backbone, batch: Batch, branches: LabelBranches, chunk: int, readout: Readout) -> Tensor:
    """Return the states of all labels, with as many branches in one pass as fit into a chunk.

    No branch sees another, the text sees none, and the positions of every branch begin where the text ends. A backbone
    that remembers reads the text once for all chunks; others read it with each chunk. In a graph that is traced, one
    pass reads all chunks, each in a row: else the graph would hold the backbone once for every chunk.

    Parameters
    ----------
    backbone : Backbone
        Honours masks and positions.
    batch : Batch
        The texts.
    branches : LabelBranches
    chunk : int
        Tokens of branches that are read at once.
    readout : {"last", "mean"}
        How the states of a branch become one.

    Returns
    -------
    Tensor, shape (n_rows, n_labels, hidden)
    """
    parts = branches.parts(chunk)
    if len(parts) > 1 and torch.compiler.is_exporting():
        return _read_stacked(backbone, batch, branches.stack(chunk), readout)
    states = _behind(backbone, backbone.read(batch)[1]) if backbone.remembers else _beside_text(backbone, batch)
    return torch.cat([_read_out(states(part), part, readout) for part in parts], dim=1)


def read_batched(backbone: Backbone, batch: Batch, branches: LabelBranches, chunk: int, readout: Readout) -> Tensor:
    """Return the states of all labels, each read behind the text in a row of its own, by the model's own rules.

    Parameters
    ----------
    backbone : Backbone
    batch : Batch
        The texts.
    branches : LabelBranches
    chunk : int
        Tokens of the rows that are read at once for one text of full length.
    readout : {"last", "mean"}

    Returns
    -------
    Tensor, shape (n_rows, n_labels, hidden)
    """
    n_labels = len(branches.rows)
    step = max(1, chunk // (backbone.encoder.max_length + branches.longest))
    if torch.compiler.is_exporting():  # one pass, as for packed labels
        step = n_labels
    parts = [branches.part(first, min(first + step, n_labels)) for first in range(0, n_labels, step)]
    return torch.cat([_in_rows(backbone, batch, part, readout) for part in parts], dim=1)


@torch.no_grad()
def packing_fails(backbone: Backbone, branches: LabelBranches, readout: Readout) -> str | None:
    """Read three labels packed and alone, and return why they may not be packed, None where they may.

    Parameters
    ----------
    backbone : Backbone
        Loaded and adapted.
    branches : LabelBranches
    readout : {"last", "mean"}

    Returns
    -------
    str or None
    """
    device = next(backbone.model.parameters()).device
    few = LabelBranches(branches.rows[:_TESTED]).to(device)
    batch = backbone.example_batch().to(device)
    with _evaluating(backbone):
        try:
            found = [_packed(states, few, readout) for states in _ways(backbone, batch)]
            expected = _one_at_a_time(backbone, batch, few, readout)
            # Another text of the same length, one token of a label over and over.
            other = replace(batch, input_ids=few.ids[0].expand_as(batch.input_ids))
            effect = float((_one_at_a_time(backbone, other, few, readout) - expected).abs().max())
        except IncompatibleComponentsError as error:
            return str(error)
        except _FAILURES as error:
            return f"{type(error).__name__}: {error}"
    eps = max(torch.finfo(p.dtype).eps for p in backbone.model.parameters() if p.is_floating_point())
    worst = max(float((way - expected).abs().max()) for way in found)
    if worst <= _SHARE_OF_EFFECT * effect + _ROUNDING * eps * float(expected.abs().max()):
        return None
    return (
        f"labels that are read together have other states than alone, {worst:.2g} apart, where another text changes "
        f"them by {effect:.2g}"
    )


def _ways(backbone: Backbone, batch: Batch) -> list[States]:
    """Return all ways of reading branches that a backbone may come to use."""
    beside = _beside_text(backbone, batch)
    return [beside, _behind(backbone, backbone.read(batch)[1])] if backbone.remembers else [beside]


def _one_at_a_time(backbone: Backbone, batch: Batch, branches: LabelBranches, readout: Readout) -> Tensor:
    """Return what packed states must equal.

    A causal model answers for it by its own rules. The text of other models would see the label there, so that they
    are asked for one label at a time by masks.
    """
    if backbone.causal:
        return read_batched(backbone, batch, branches, 0, readout)
    alone = [LabelBranches([row]).to(branches.ids.device) for row in branches.rows]
    return torch.cat([_packed(_beside_text(backbone, batch), one, readout) for one in alone], dim=1)


def _packed(states: States, branches: LabelBranches, readout: Readout) -> Tensor:
    part = branches.part(0, len(branches.rows))
    return _read_out(states(part), part, readout)


def _read_stacked(backbone: Backbone, batch: Batch, stack: Stack, readout: Readout) -> Tensor:
    """Return the states of all labels, each part of them read behind the text in a row of its own."""
    n_texts, n_parts = batch.input_ids.shape[0], stack.ids.shape[0]
    text = torch.arange(n_texts, device=stack.ids.device).repeat_interleave(n_parts)
    if backbone.remembers:
        states = _behind(backbone, backbone.read(batch)[1].rows(text))
    else:
        ids, mask = batch.input_ids[text], batch.attention_mask[text]
        states = _beside_text(backbone, Batch(ids, mask, n_samples=ids.shape[0]))
    # Sizes are written out: the tracer takes long to infer one of a product of open ones.
    width, hidden = stack.ids.shape[1], backbone.hidden_size
    found = states(stack.repeated(n_texts)).reshape(n_texts, n_parts, width, hidden)
    if readout == "last":
        return found.reshape(n_texts, n_parts * width, hidden)[:, stack.ends]
    own = (stack.labels[:, None] == torch.arange(stack.most, device=stack.labels.device)[:, None]).to(found.dtype)
    share = own / own.sum(dim=2, keepdim=True).clamp(min=1)
    means = torch.einsum("plt,rpth->rplh", share, found)
    return means.reshape(n_texts, n_parts * stack.most, hidden)[:, stack.slots]


def _behind(backbone: Backbone, memory: Memory) -> States:
    """Return how branches are read behind texts that were read."""

    def states(part: Part | Stack) -> Tensor:
        n_rows, n_tokens = memory.mask.shape[0], part.ids.shape[-1]
        text = memory.mask[:, None].expand(-1, n_tokens, -1)
        own = part.sees(causal=True).expand(n_rows, -1, -1)
        return backbone.peek(
            memory,
            part.ids.expand(n_rows, -1),
            memory.next_positions[:, None] + part.offsets,
            torch.cat([text, own], dim=2),
        )

    return states


def _beside_text(backbone: Backbone, batch: Batch) -> States:
    """Return how branches are read together with the texts."""
    real = batch.attention_mask.bool()
    n_rows, length = real.shape
    text = torch.ones(length, length, dtype=torch.bool, device=real.device)
    text = text.tril() if backbone.causal else text
    positions = (batch.attention_mask.cumsum(dim=1) - 1).clamp(min=0)
    ends = batch.attention_mask.sum(dim=1, keepdim=True)

    def states(part: Part | Stack) -> Tensor:
        n_tokens = part.ids.shape[-1]
        blind = torch.zeros(length, n_tokens, dtype=torch.bool, device=real.device)
        see_text = torch.ones(n_tokens, length, dtype=torch.bool, device=real.device)
        own = part.sees(causal=backbone.causal)
        each = own.shape[:-2]  # nothing where all rows read the same branches
        above = torch.cat([text, blind], dim=1).expand(*each, -1, -1)
        below = torch.cat([see_text.expand(*each, -1, -1), own], dim=-1)
        ids = part.ids.expand(n_rows, -1)
        both = Batch(
            input_ids=torch.cat([batch.input_ids, ids], dim=1),
            attention_mask=torch.cat([batch.attention_mask, torch.ones_like(ids)], dim=1),
            n_samples=n_rows,
            position_ids=torch.cat([positions, ends + part.offsets], dim=1),
            visible=torch.cat([above, below], dim=-2).expand(n_rows, -1, -1),
        )
        return backbone.token_states(both)[:, length:]

    return states


def _read_out(states: Tensor, part: Part, readout: Readout) -> Tensor:
    """Return one state a label, ``(n_rows, n_labels, hidden)``."""
    if readout == "last":
        return states[:, part.ends]
    label = torch.arange(part.lengths.shape[0], device=part.labels.device)
    share = (part.labels[None] == label[:, None]).to(states.dtype) / part.lengths[:, None]
    return torch.einsum("lt,rth->rlh", share.to(states.dtype), states)


def _in_rows(backbone: Backbone, batch: Batch, part: Part, readout: Readout) -> Tensor:
    """Read every text with every label of a part, each pair in a row."""
    device, (n_texts, length), n_labels = part.ids.device, batch.input_ids.shape, part.lengths.shape[0]
    text = torch.arange(n_texts, device=device).repeat_interleave(n_labels)
    label = torch.arange(n_labels, device=device).repeat(n_texts)
    n_text, n_label = batch.attention_mask.sum(dim=1)[text, None], part.lengths[label, None]
    # Places counted from the first token of a row: those of the text, then those of the label, padding around them.
    place = torch.arange(length + part.longest, device=device)[None].expand(text.shape[0], -1)
    skipped = torch.zeros_like(n_text)
    if backbone.padding_side == "left":
        place, skipped = place - (length + part.longest - n_text - n_label), length - n_text
    is_text, is_label = (place >= 0) & (place < n_text), (place >= n_text) & (place < n_text + n_label)
    text_ids = batch.input_ids[text].gather(1, (skipped + place).clamp(0, length - 1))
    first = (part.ends - part.lengths + 1)[label, None]
    label_ids = part.ids[(first + place - n_text).clamp(0, part.ids.shape[0] - 1)]
    ids = torch.where(is_text, text_ids, torch.where(is_label, label_ids, backbone.pad_id))
    states = backbone.token_states(Batch(ids, (is_text | is_label).long(), n_samples=ids.shape[0]))
    scored = place == n_text + n_label - 1 if readout == "last" else is_label
    share = scored.to(states.dtype) / scored.sum(dim=1, keepdim=True)
    chosen = torch.einsum("rt,rth->rh", share.to(states.dtype), states)
    return chosen.reshape(n_texts, n_labels, chosen.shape[1])


@contextmanager
def _evaluating(backbone: Backbone) -> Iterator[None]:
    """Switch dropout off for a moment; each module is left in the mode that it was in."""
    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
