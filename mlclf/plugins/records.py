"""What is known of an installed plugin, and the errors that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mlclf.exceptions import (
    PluginConflictError,
    PluginDisabledError,
    PluginError,
    PluginIncompatibleError,
    PluginLoadError,
)
from mlclf.plugins.spec import ComponentSpec, Kind

Status = Literal["unloaded", "ok", "disabled", "conflict", "incompatible", "failed"]
Components = Mapping[Kind, tuple[ComponentSpec, ...]]

PROBLEMS: frozenset[Status] = frozenset({"conflict", "incompatible", "failed"})

_ERRORS: dict[Status, type[PluginError]] = {
    "disabled": PluginDisabledError,
    "conflict": PluginConflictError,
    "incompatible": PluginIncompatibleError,
    "failed": PluginLoadError,
}


class PluginLoadWarning(UserWarning):
    """A plugin cannot be used; the rest of mlclf goes on without it.

    Examples
    --------
    Broken plugins are errors for one program, as ``MLCLF_PLUGINS_STRICT=1`` makes them for a whole process:

    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", PluginLoadWarning)
    """


@dataclass(frozen=True, kw_only=True)
class PluginRecord:
    """One installed plugin and what became of it.

    Parameters
    ----------
    id : str
        Plugin id: entry-point name and namespace of its components.
    package : str
        Distribution that provides it; several, joined by ", ", where they are in conflict.
    version : str
        Version of that distribution; empty for a conflict.
    status : {"unloaded", "ok", "disabled", "conflict", "incompatible", "failed"}
        "unloaded" is installed and not needed so far.
    message : str
        Why the plugin cannot be used, as a sentence; empty for "unloaded" and "ok".
    traceback : str
        Traceback of the failure, or empty.
    api : tuple of int or None
        The plugin API it was written for; None before it is loaded.
    components : mapping of kind to tuple of ComponentSpec
        Its components; empty before it is loaded.
    cause : BaseException or None
        What was raised while it was loaded.

    Examples
    --------
    >>> PluginRecord(id="acme", package="mlclf-acme", version="1.0").title
    "plugin 'acme' (mlclf-acme 1.0)"
    """

    id: str
    package: str
    version: str
    status: Status = "unloaded"
    message: str = ""
    traceback: str = field(default="", repr=False)
    api: tuple[int, int] | None = None
    components: Components = field(default_factory=dict)
    cause: BaseException | None = field(default=None, repr=False, compare=False)

    @property
    def title(self) -> str:
        """Plugin and package, as errors name them."""
        package = f"{self.package} {self.version}".strip()
        return f"plugin {self.id!r} ({package})"

    def error(self, lead: str = "") -> PluginError:
        """Return the error of a plugin that cannot be used.

        Parameters
        ----------
        lead : str
            Start of the message, such as ``"head 'acme:attention' cannot be used: "``.
        """
        hint = f" Details: mlclf plugins doctor {self.id}" if self.status == "failed" else ""
        return _ERRORS[self.status](f"{lead}{self.title} {self.message}{hint}")

    def to_json(self) -> dict[str, str]:
        """Return what package metadata says of the plugin, as JSON values."""
        return {name: getattr(self, name) for name in ("id", "package", "version", "status", "message")}
