"""Checkpoints: everything needed to continue a run to the same weights, as safetensors and JSON.

accelerate's own ``save_state`` pickles optimizer and random state; a checkpoint may come from another machine, and
loading a pickle runs code. So the tensors are written here.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mlclf.exceptions import BundleDamagedError, OptionsError
from mlclf.files import replace_folder, sha256
from mlclf.network import MultiLabelNetwork
from mlclf.training.history import History
from mlclf.training.optim import Optimizers

_FORMAT = 1
_FOLDER = "last"


@dataclass
class Position:
    """How far a run has come.

    Parameters
    ----------
    epoch : int
        Epochs finished.
    batch : int
        Optimizer steps done in the current epoch.
    step : int
        Optimizer steps done in all.
    best_score : float or None
        Best validation figure so far.
    bad_evaluations : int
        Evaluations since then.
    loss_sum, loss_steps : float, int
        Training loss since the last evaluation.
    seconds : float
        Time spent so far.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_score: float | None = None
    bad_evaluations: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    seconds: float = 0.0


@dataclass
class RunState:
    """What changes during a run, beside weights and optimizer.

    Parameters
    ----------
    position : Position
    history : History
    best : dict of str to Tensor
        Best trainable tensors so far, on the processor; empty before the first evaluation.
    splits : int
        Parts that each batch is cut into to fit into memory.
    """

    position: Position = field(default_factory=Position)
    history: History = field(default_factory=History)
    best: dict[str, Tensor] = field(default_factory=dict)
    splits: int = 1


def save_checkpoint(
    folder: Path, fingerprint: dict[str, Any], network: MultiLabelNetwork, optimizers: Optimizers, state: RunState
) -> Path:
    """Write a checkpoint into ``folder/last``; an older one is replaced only once the new one is complete.

    Returns
    -------
    Path
        ``folder``, to be given as ``resume_from``.
    """
    with replace_folder(folder / _FOLDER) as target:
        _save(target / "weights.safetensors", {n: p.detach() for n, p in network.trainable().items()})
        _save(target / "best.safetensors", state.best)
        _save(target / "optimizer.safetensors", _optimizer_tensors(optimizers))
        _save(target / "random.safetensors", _random_state())
        meta = {
            "format": _FORMAT,
            "fingerprint": fingerprint,
            "position": asdict(state.position),
            "history": state.history.to_dict(),
            "splits": state.splits,
            "files": {path.name: sha256(path) for path in sorted(target.glob("*.safetensors"))},
        }
        (target / "checkpoint.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
    return folder


def load_checkpoint(
    folder: Path, fingerprint: dict[str, Any], network: MultiLabelNetwork, optimizers: Optimizers
) -> RunState:
    """Put a checkpoint into network, optimizers and torch's random state.

    Raises
    ------
    OptionsError
        If there is no checkpoint, or it belongs to other data or options.
    BundleDamagedError
        If its files were altered.
    """
    source, meta = _read_meta(folder, fingerprint)
    for name, parameter in network.trainable().items():
        parameter.data.copy_(_load(source, "weights", meta)[name])
    _restore_optimizers(optimizers, _load(source, "optimizer", meta))
    _restore_random_state(_load(source, "random", meta))
    return RunState(
        position=Position(**meta["position"]),
        history=History.from_dict(meta["history"]),
        best=_load(source, "best", meta),
        splits=meta["splits"],
    )


def checkpoint_precision(folder: Path) -> str:
    """Return the precision a checkpointed run was computed in.

    Raises
    ------
    OptionsError
        If there is no checkpoint.
    BundleDamagedError
        If it cannot be read.
    """
    return str(_meta(folder)[1]["history"]["precision"])


def _meta(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return where a checkpoint's files are and what it says about itself."""
    source = folder / _FOLDER if (folder / _FOLDER).is_dir() else folder
    try:
        return source, json.loads((source / "checkpoint.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionsError(
            f"resume_from={str(folder)!r} holds no checkpoint. Give the folder of checkpoint_dir."
        ) from error
    except ValueError as error:
        raise BundleDamagedError(
            f"{source / 'checkpoint.json'} is not valid JSON: the checkpoint is damaged."
        ) from error


def _read_meta(folder: Path, fingerprint: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Return the same for a checkpoint of the run that the fingerprint describes."""
    source, meta = _meta(folder)
    differing = sorted(
        k for k in {*fingerprint, *meta["fingerprint"]} if fingerprint.get(k) != meta["fingerprint"].get(k)
    )
    if meta["format"] != _FORMAT or differing:
        raise OptionsError(
            f"resume_from={str(folder)!r} belongs to another run: {', '.join(differing) or 'its format'} differ. "
            "Continue with the same data, options and random_state, or start anew without resume_from."
        )
    return source, meta


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def _load(source: Path, name: str, meta: dict[str, Any]) -> dict[str, Tensor]:
    path = source / f"{name}.safetensors"
    if not path.is_file() or sha256(path) != meta["files"].get(path.name):
        raise BundleDamagedError(f"{path} is missing or was altered (its checksum differs): it cannot be continued.")
    return load_file(path)


def _optimizer_tensors(optimizers: Optimizers) -> dict[str, Tensor]:
    """Return all state as tensors named ``optimizer.parameter.key``."""
    return {
        f"{number}.{index}.{key}": torch.as_tensor(value)
        for number, optimizer in enumerate(optimizers.all)
        for index, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }


def _restore_optimizers(optimizers: Optimizers, tensors: dict[str, Tensor]) -> None:
    for number, optimizer in enumerate(optimizers.all):
        state: dict[int, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            owner, index, key = name.split(".", 2)
            if int(owner) == number:
                # SparseAdam counts its steps in a plain number.
                plain = key == "step" and isinstance(_inner(optimizer), torch.optim.SparseAdam)
                state.setdefault(int(index), {})[key] = int(tensor) if plain else tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _inner(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the torch optimizer that accelerate may have wrapped."""
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner


def _random_state() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    states.update({f"cuda{i}": torch.cuda.get_rng_state(i) for i in range(torch.cuda.device_count())})
    return states


def _restore_random_state(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    for i in range(torch.cuda.device_count()):
        if f"cuda{i}" in states:
            torch.cuda.set_rng_state(states[f"cuda{i}"], i)
