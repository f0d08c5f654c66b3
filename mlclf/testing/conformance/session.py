"""Session: what the checks of one run share, so that nothing is made or loaded twice."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from mlclf.backbones.bert import BertOptions
from mlclf.backbones.llm import LlmOptions
from mlclf.interfaces import Backbone, LoadRequest
from mlclf.options import Options
from mlclf.plugins import PluginManager, get_manager, use_manager
from mlclf.testing.decoders import tiny_decoder
from mlclf.testing.fakes import tiny_encoder, tiny_masked_lm
from mlclf.testing.tiny_backbone import TinyBackbone, TinyOptions
from mlclf.training.device import seeded

# Options to check a component with: given, or made for the names of some labels.
ComponentOptions: TypeAlias = Options | Callable[[tuple[str, ...]], Options]

# Room for a prompt in which a tokenizer of some hundred words spells most of the others.
_POSITIONS = 1024


@dataclass(frozen=True)
class TinyModels:
    """Folders of tiny models with random weights, written when they are first asked for.

    Parameters
    ----------
    root : Path
        Folder to write into.
    """

    root: Path

    @cached_property
    def encoder(self) -> Path:
        """Return an encoder."""
        return tiny_encoder("bert", self.root / "encoder")

    @cached_property
    def masked_lm(self) -> Path:
        """Return an encoder with its output layer over the vocabulary, and room for prompts."""
        return _with_positions(tiny_masked_lm("modernbert", self.root / "masked-lm"))

    @cached_property
    def decoder(self) -> Path:
        """Return a causal language model with biases, layers and an output layer, and room for prompts."""
        return _with_positions(tiny_decoder("qwen2", self.root / "decoder"))


class Session:
    """What the checks of one run share.

    Parameters
    ----------
    manager : PluginManager or None
        Where plugins are looked up; None takes that of the process.
    options : mapping of str to Options or callable
        Options to check components with, by component name, instead of default ones; a callable is given label names.
    schemas : Path or None
        Snapshot of the options' schemas.
    """

    def __init__(
        self,
        manager: PluginManager | None = None,
        options: Mapping[str, ComponentOptions] | None = None,
        schemas: Path | None = None,
    ) -> None:
        self.manager = manager or get_manager()
        self.options = dict(options or {})
        self.schemas = schemas
        self._folder = Path(tempfile.mkdtemp(prefix="mlclf-checks-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._loaded: dict[tuple[str, LoadRequest], Backbone] = {}

    @contextmanager
    def active(self) -> Iterator[None]:
        """Look plugins up in this session's manager, which knows the tiny backbone too, for the length of a block."""
        before = self.manager.local
        self.manager.local = copy.deepcopy(before)
        self.manager.local.register("backbone", TinyBackbone, TinyOptions.component)
        try:
            with use_manager(self.manager):
                yield
        finally:
            self.manager.local = before

    @cached_property
    def models(self) -> TinyModels:
        """Folders of tiny models."""
        return TinyModels(self._folder)

    def folder(self, name: str) -> Path:
        """Return a new folder that no check has used."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._folder))

    def backbones(self) -> Sequence[Options]:
        """Return backbones of every family there is, the first choice of a family first."""
        models = self.models
        return (
            BertOptions(model=str(models.encoder)),
            BertOptions(model=str(models.masked_lm)),
            LlmOptions(model=str(models.decoder)),
            LlmOptions(model=str(models.decoder), padding_side="left"),
            TinyOptions(),
        )

    def loaded(self, component: type[Backbone], options: Options, request: LoadRequest) -> Backbone:
        """Return a backbone of one's own, as it is right after loading."""
        if request.quantization is not None:
            return _load(component, options, request)
        key = (f"{component.__module__}.{component.__qualname__} {options!r}", request)
        if key not in self._loaded:
            self._loaded[key] = _load(component, options, request)
        return copy.deepcopy(self._loaded[key])


def _load(component: type[Backbone], options: Options, request: LoadRequest) -> Backbone:
    backbone = component(options)
    with seeded(0):
        backbone.load(request)
    return backbone


def _with_positions(folder: Path) -> Path:
    """Let a model whose positions are rotations, which need no table, read longer texts."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"max_position_embeddings": _POSITIONS}), encoding="utf-8")
    return folder
