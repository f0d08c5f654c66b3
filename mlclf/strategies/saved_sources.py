"""Saved models as sources: what a strategy trained, read back to start another fit from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from mlclf.exceptions import BundleDamagedError, BundleError, IncompatibleComponentsError
from mlclf.files import sha256
from mlclf.interfaces import Backbone, BackboneSource

_TENSORS = "strategy.safetensors"


@dataclass(frozen=True)
class SavedSource:
    """The strategy of a saved model.

    Parameters
    ----------
    folder : Path
        Where it was saved.
    options : dict
        Options of the strategy, as JSON.
    weights : dict
        Where its pretrained weights came from, as the manifest says.
    """

    folder: Path
    options: dict[str, Any]
    weights: dict[str, Any]
    _checksum: str

    def tensors(self) -> dict[str, Tensor]:
        """Return what was trained, by name.

        Raises
        ------
        BundleDamagedError
            If the file is missing or altered.
        """
        path = self.folder / _TENSORS
        if not path.is_file() or sha256(path) != self._checksum:
            raise BundleDamagedError(
                f"{path} is missing or was altered: its SHA-256 differs from the manifest's. Copy the folder again."
            )
        return load_file(path)

    def check_backbone(self, backbone: Backbone) -> None:
        """Refuse a backbone with other pretrained weights than those that the source was trained on.

        Raises
        ------
        IncompatibleComponentsError
        """
        found, weights = backbone.source(), self.weights
        trained_on = BackboneSource("none", "", weights.get("revision"), weights.get("sha256") or {})
        # Updates of other weights would be added without any error: what is not known to be the same is refused.
        if not trained_on.same_weights(found):
            raise IncompatibleComponentsError(
                f"The model in {str(self.folder)!r} was trained on other pretrained weights "
                f"({self.weights.get('name')!r}) than those of this fit ({found.name!r}). Use sources and a backbone "
                "with the same weights."
            )


def read_source(folder: str | Path, strategy: str) -> SavedSource:
    """Read what the manifest of a saved model says about its strategy.

    Parameters
    ----------
    folder : path
        Written by ``MultiLabelClassifier.save``.
    strategy : str
        The strategy that it must have.

    Raises
    ------
    BundleError
        If the folder is no saved model, or its manifest is damaged.
    IncompatibleComponentsError
        If the model was trained with another strategy.
    """
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise BundleError(f"{str(folder)!r} is not a saved model: it has no manifest.json. Give a folder of save().")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entry, weights = content["components"]["strategy"], dict(content["source"])
        checksum = str(content["files"][_TENSORS]["sha256"])
        name, options = (entry["name"], entry["options"]) if isinstance(entry, dict) else ("a chain", {})
    except (ValueError, KeyError, TypeError) as error:
        raise BundleDamagedError(f"{path} is damaged ({error!r}). Copy the folder again.") from error
    if name != strategy or not isinstance(options, dict):
        raise IncompatibleComponentsError(
            f"The model in {str(folder)!r} was trained with strategy {name!r}; needed is {strategy!r}."
        )
    return SavedSource(Path(folder), options, weights, checksum)


def as_option(value: Any) -> Any:
    """Return a value that JSON holds as an option does: a list as a tuple."""
    return tuple(value) if isinstance(value, list) else value
