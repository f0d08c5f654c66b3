"""A new plugin: a distribution that works, to be changed into what its author wants."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from packaging.version import Version

from mlclf._version import __version__
from mlclf.exceptions import PluginError
from mlclf.plugins.builtins import FIRST_PARTY_PACKAGES
from mlclf.plugins.spec import KINDS, RESERVED_IDS, Kind, is_plugin_id

# Files whose names would mean something to tools that meet them inside mlclf.
_RENAMED = {"github-test.yml": ".github/workflows/test.yml", "gitignore.txt": ".gitignore"}
_TEMPLATE_RANGE = ">=0.1,<1"

# How a component of a kind is chosen, where the classifier has no parameter of the kind's name.
_CHOICES: dict[Kind, tuple[str, str]] = {
    "loss": ("BceOptions, MultiLabelClassifier", 'head=BceOptions(loss="{}")'),
    "calibrator": ("MultiLabelClassifier", 'calibration="{}"'),
    "augmentation": ("MultiLabelClassifier, TrainingOptions", 'training=TrainingOptions(augmentation="{}")'),
}


def new_plugin(plugin_id: str, kind: Kind, folder: str | Path | None = None) -> Path:
    """Write a distribution with one working component, its tests and a CI file.

    Parameters
    ----------
    plugin_id : str
        Id of the new plugin.
    kind : {"backbone", "strategy", "head", "loss", "calibrator", "augmentation"}
        What it offers.
    folder : path or None
        Folder to make; None is ``mlclf-<plugin_id>`` in the working directory.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    PluginError
        If the id or the kind is none, or the folder exists; nothing is written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     folder = new_plugin("acme", "head", Path(root) / "mlclf-acme")
    ...     sorted(path.name for path in (folder / "mlclf_acme").iterdir())
    ['__init__.py', 'head.py', 'plugin.py']
    """
    _check_id(plugin_id)
    if kind not in KINDS:
        raise PluginError(f"--kind is one of {', '.join(KINDS)}, got {kind!r}.")
    target = Path(f"mlclf-{plugin_id}") if folder is None else Path(folder)
    if target.exists():
        raise PluginError(f"{str(target)!r} exists already. Name another folder: --out FOLDER.")
    words = _words(plugin_id, kind)
    for path, text in _templates(kind):
        file = target / _replaced(path, words)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_replaced(text, words), encoding="utf-8")
    return target


def _check_id(plugin_id: str) -> None:
    if not is_plugin_id(plugin_id) or not plugin_id[-1].isalnum():
        raise PluginError(
            f"{plugin_id!r} is no plugin id: lower case, a letter first, a letter or digit last, at most 40 of "
            "a-z 0-9 _ -."
        )
    if plugin_id in RESERVED_IDS:
        raise PluginError(f"{plugin_id!r} is reserved ({', '.join(sorted(RESERVED_IDS))} are). Choose another id.")
    if package := FIRST_PARTY_PACKAGES.get(plugin_id):
        raise PluginError(
            f"{plugin_id!r} is the plugin of the package {package}, and two packages with one id shut each other out. "
            "Choose another id."
        )


def _words(plugin_id: str, kind: Kind) -> dict[str, str]:
    """Return what stands in the templates and what takes its place; a word that holds another one comes first."""
    version = Version(__version__)
    parts = plugin_id.replace("-", "_").split("_")
    imports, choice = _CHOICES.get(kind, ("MultiLabelClassifier", f'{kind}="{{}}"'))
    return {
        _TEMPLATE_RANGE: f">={version.major}.{version.minor},<{version.major + 1}",
        "mlclf_acme": f"mlclf_{plugin_id.replace('-', '_')}",
        "Acme": "".join(part.capitalize() for part in parts),
        "acme": plugin_id,
        "A KIND": f"{'An' if kind[0] in 'aeiou' else 'A'} {kind}",
        "KIND": kind,
        "IMPORTS": imports,
        "CHOICE": choice.format(f"{plugin_id}:{kind}"),
    }


def _replaced(text: str, words: dict[str, str]) -> str:
    """Replace all words in one pass, so that an id that holds one of them is left as it is."""
    return re.sub("|".join(map(re.escape, words)), lambda match: words[match[0]], text)


def _templates(kind: Kind) -> Iterator[tuple[str, str]]:
    """Yield path and text of every file of a new plugin."""
    root = files("mlclf.plugins") / "templates"
    for part in ("common", kind):
        for path, file in _walk(root / part, ""):
            yield _RENAMED.get(path, path), file.read_text(encoding="utf-8")


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from _walk(entry, f"{prefix}{entry.name}/")
        elif not entry.name.endswith(".pyc"):
            yield f"{prefix}{entry.name}", entry
