"""Environment variables that say which plugins may be used.

=========================  ==========================================================================
``MLCLF_PLUGINS``          Unset: all. Empty: none. ``a,b``: only these.
``MLCLF_DISABLE_PLUGINS``  ``a,b``: not these.
``MLCLF_PLUGINS_STRICT``   ``1``: where a broken plugin would give a warning, raise (for tests and CI).
=========================  ==========================================================================

The first two take plugin ids or names of distributions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.utils import canonicalize_name

ONLY = "MLCLF_PLUGINS"
DISABLE = "MLCLF_DISABLE_PLUGINS"
STRICT = "MLCLF_PLUGINS_STRICT"


@dataclass(frozen=True)
class PluginFilter:
    """Which plugins the environment allows.

    Parameters
    ----------
    only : frozenset of str or None
        Allowed plugin ids and normalised distribution names; None allows all.
    disabled : frozenset of str
        Refused ones.
    strict : bool
        Whether a broken plugin raises where it would give a warning.
    """

    only: frozenset[str] | None
    disabled: frozenset[str]
    strict: bool

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> PluginFilter:
        """Read the three variables.

        Examples
        --------
        >>> PluginFilter.read({"MLCLF_DISABLE_PLUGINS": "acme"}).refusal("acme", "mlclf-acme")
        'is switched off by MLCLF_DISABLE_PLUGINS.'
        """
        return cls(
            only=_names(environ[ONLY]) if ONLY in environ else None,
            disabled=_names(environ.get(DISABLE, "")),
            strict=environ.get(STRICT, "") not in ("", "0"),
        )

    def refusal(self, plugin_id: str, package: str) -> str | None:
        """Return why a plugin is switched off, None where it is allowed."""
        names = {canonicalize_name(plugin_id), canonicalize_name(package)}
        if names & self.disabled:
            return f"is switched off by {DISABLE}."
        if self.only is not None and not names & self.only:
            return f"is switched off: {ONLY} is set and does not name it."
        return None

    def unknown_disabled(self, plugins: Iterable[tuple[str, str]]) -> list[str]:
        """Return the refused names that stand for none of some (plugin id, distribution name) pairs, sorted."""
        known = {canonicalize_name(name) for pair in plugins for name in pair}
        return sorted(self.disabled - known)


def _names(text: str) -> frozenset[str]:
    return frozenset(canonicalize_name(name.strip()) for name in text.split(",") if name.strip())
