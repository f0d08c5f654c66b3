"""ComponentSpec: what a plugin says about one of its components, without importing it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from mlclf.exceptions import PluginError

Kind = Literal["backbone", "strategy", "head", "loss", "calibrator", "augmentation"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# What every model has: one backbone, one strategy or a chain of them, one head. The other kinds stand in options.
PART_KINDS: tuple[Kind, ...] = ("backbone", "strategy", "head")

LOCAL_ID = "local"
RESERVED_IDS = frozenset({"mlclf", "builtin", LOCAL_ID})

_PLUGIN_ID = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_COMPONENT_NAME = re.compile(r"([a-z][a-z0-9_-]{0,39}:)?[a-z0-9][a-z0-9_.-]{0,59}")
_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_plugin_id(text: str) -> bool:
    """Say whether a text has the form of a plugin id; reserved ids have it too.

    Examples
    --------
    >>> is_plugin_id("acme"), is_plugin_id("Acme!")
    (True, False)
    """
    return _PLUGIN_ID.fullmatch(text) is not None


def is_component_name(text: str) -> bool:
    """Say whether a text has the form ``name`` or ``plugin:name``.

    Examples
    --------
    >>> is_component_name("lora"), is_component_name("acme:attention"), is_component_name("org/model")
    (True, True, False)
    """
    return _COMPONENT_NAME.fullmatch(text) is not None


def plugin_id_of(name: str) -> str | None:
    """Return the plugin id in a component name, None for a built-in one.

    Examples
    --------
    >>> plugin_id_of("acme:attention"), plugin_id_of("lora")
    ('acme', None)
    """
    prefix, colon, _ = name.partition(":")
    return prefix if colon else None


@dataclass(frozen=True, kw_only=True)
class ComponentSpec:
    """One component as its plugin declares it: light, so that listing imports nothing.

    Parameters
    ----------
    name : str
        ``"plugin:name"`` with the plugin's own id; built-in components have no prefix.
    target : str
        ``"module:Class"`` of the component, imported when it is first used.
    options : str
        ``"module:Class"`` of its options, a subclass of :class:`mlclf.options.Options`.
    summary : str
        One line for listings.
    version : int
        Version of the options. Raise it when saved options of the version before cannot be read any more.
    families : tuple of str
        Backbone families that it is, or works with; empty where nothing is declared.
    exportable : bool or None
        Whether it can be exported to ONNX; None where nothing is declared.

    Raises
    ------
    PluginError
        If a value breaks its rule.

    Examples
    --------
    >>> ComponentSpec(
    ...     name="acme:attention",
    ...     target="mlclf_acme.head:AttentionHead",
    ...     options="mlclf_acme.head:AttentionOptions",
    ...     summary="One attention query a label",
    ... ).name
    'acme:attention'
    """

    name: str
    target: str
    options: str
    summary: str
    version: int = 1
    families: tuple[str, ...] = ()
    exportable: bool | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not is_component_name(self.name):
            raise PluginError(f"ComponentSpec(name={self.name!r}): must be 'plugin:name' in lower case.")
        for field in ("target", "options"):
            value = getattr(self, field)
            if not isinstance(value, str) or not _TARGET.fullmatch(value):
                raise PluginError(f"ComponentSpec {self.name!r}: {field} must be 'module:Class', got {value!r}.")
        if not isinstance(self.version, int) or self.version < 1:
            raise PluginError(f"ComponentSpec {self.name!r}: version must be an int from 1 on, got {self.version!r}.")
