"""Mixed prediction: probabilities of texts that belong to several tasks, read together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mlclf.batching import EncodedDataset, Rows
from mlclf.inference import by_length
from mlclf.interfaces import Backbone, Batch, LogitsHead
from mlclf.model import Model
from mlclf.multitask.routing import RoutedBackbone

# Number of the task, positions of texts, and their calibrated probabilities.
Answer: TypeAlias = tuple[int, Rows, NDArray[np.float32]]


@dataclass(frozen=True)
class Part:
    """The rows of a batch that one task reads.

    Parameters
    ----------
    task : int
        Number of the task.
    items : ndarray of int64, shape (n_samples,)
        Positions of the texts.
    batch : Batch
        As the task's own head made it.
    """

    task: int
    items: Rows
    batch: Batch


class MixedReader:
    """Reads texts of several tasks in common batches.

    Texts are encoded, pooled and scored by each task's own components. Only the forward pass of the backbone is
    common; a task whose head asks more of the backbone than token states is read by itself.

    Parameters
    ----------
    shared : Backbone
        Loaded, and not adapted.
    models : sequence of Model
        Over the same weights.
    """

    def __init__(self, shared: Backbone, models: Sequence[Model]) -> None:
        self.models = tuple(models)
        self.networks = [model.network for model in models]
        updates = [model.strategy.row_updates(model.network.backbone) for model in models]
        self.routed = RoutedBackbone(shared, updates)
        self.plain = {task for task, by_name in enumerate(updates) if not by_name}
        self.joined = {task for task, model in enumerate(models) if self.routed.joins and _reads_states(model)}

    def serves(self, models: Sequence[Model]) -> bool:
        """Tell whether these are the models that it was made for."""
        return [id(model.network) for model in models] == [id(network) for network in self.networks]

    def stream(self, texts: Sequence[str], wanted: NDArray[np.bool_]) -> Iterator[Answer]:
        """Yield probabilities, some texts at a time.

        Parameters
        ----------
        texts : sequence of str, length n_samples
        wanted : ndarray of bool, shape (n_samples, n_tasks)
            Whether a text is to be read by a task.

        Yields
        ------
        task : int
        items : ndarray of int64, shape (n,)
            Positions of texts.
        probabilities : ndarray of float32, shape (n, n_labels)
            Calibrated, of that task's labels.
        """
        datasets: list[EncodedDataset] = []
        lengths = np.zeros(len(texts), dtype=np.int64)
        for task, model in enumerate(self.models):
            model.network.eval()
            items = np.flatnonzero(wanted[:, task])
            datasets.append(model.dataset([texts[i] for i in items.tolist()]))
            lengths[items] += datasets[task].lengths
        # Position of each text among those of a task.
        local = np.cumsum(wanted, axis=0) - 1

        def compute(items: Rows) -> list[Answer]:
            parts = []
            for task in np.flatnonzero(wanted[items].any(axis=0)).tolist():
                mine = items[wanted[items, task]]
                batch = datasets[task].batch(local[mine, task]).to(self.models[task].device)
                parts.append(Part(task, mine, batch))
            return self._read(parts)

        if len(texts):
            for _, answers in by_length(lengths, self.models[0].device, compute):
                yield from answers

    def _read(self, parts: list[Part]) -> list[Answer]:
        """Return the answers of all parts, with one forward pass for those that can be joined."""
        joined = [part for part in parts if part.task in self.joined]
        given = dict(zip([part.task for part in joined], self._states(joined), strict=True)) if joined else {}
        answers = []
        for part in parts:
            model, batch = self.models[part.task], part.batch
            if part.task in given:
                batch = replace(batch, states=given[part.task], first_layer=self.routed.backbone.n_layers)
            probabilities = model.network.probabilities(batch).cpu().numpy()
            answers.append((part.task, part.items, model.calibrated(probabilities)))
        return answers

    def _states(self, parts: list[Part]) -> list[Tensor]:
        """Return the final token states of each part.

        Parts without updates that read the same tokens share their rows.
        """
        rows: list[Part] = []
        place: list[int] = []
        for part in parts:
            twin = next((i for i, other in enumerate(rows) if self._same_states(part, other)), None)
            place.append(len(rows) if twin is None else twin)
            if twin is None:
                rows.append(part)
        side = self.routed.backbone.padding_side
        states = self.routed.token_states(join(rows, self.routed.backbone.pad_id, side))
        ends = np.cumsum([len(part.batch.input_ids) for part in rows]).tolist()
        own = []
        for index, part in zip(place, parts, strict=True):
            length = part.batch.input_ids.shape[1]
            mine = states[ends[index] - len(part.batch.input_ids) : ends[index]]
            own.append(mine[:, :length] if side == "right" else mine[:, mine.shape[1] - length :])
        return own

    def _same_states(self, part: Part, other: Part) -> bool:
        both_plain = part.task in self.plain and other.task in self.plain
        return both_plain and torch.equal(part.batch.input_ids, other.batch.input_ids)


def join(parts: Sequence[Part], pad_id: int, padding_side: str) -> Batch:
    """Return the batch of the rows of all parts, padded to the longest.

    Parameters
    ----------
    parts : sequence of Part
    pad_id : int
        Token id of padding.
    padding_side : {"left", "right"}

    Returns
    -------
    Batch
        With ``row_tasks``, one sample a row.
    """
    length = max(part.batch.input_ids.shape[1] for part in parts)

    def padded(values: Tensor, fill: int) -> Tensor:
        missing = length - values.shape[1]
        return functional.pad(values, (0, missing) if padding_side == "right" else (missing, 0), value=fill)

    tasks = [torch.full((len(part.batch.input_ids),), part.task) for part in parts]
    ids = torch.cat([padded(part.batch.input_ids, pad_id) for part in parts])
    return Batch(
        input_ids=ids,
        attention_mask=torch.cat([padded(part.batch.attention_mask, 0) for part in parts]),
        n_samples=len(ids),
        row_tasks=torch.cat(tasks),
    )


def _reads_states(model: Model) -> bool:
    """Tell whether a head reads nothing but what the backbone makes of its rows."""
    head = model.network.head
    kind = type(head)
    if not issubclass(kind, LogitsHead):
        return False
    return kind.logits is LogitsHead.logits and kind.features is LogitsHead.features
