"""The checks as a pytest decorator; nothing here is active unless it is imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlclf.plugins import PluginManager
from mlclf.testing.conformance.running import Check, Expected, check_expected, plugin_checks
from mlclf.testing.conformance.session import ComponentOptions

if TYPE_CHECKING:
    import pytest


def parametrize_plugin_checks(
    plugin_id: str,
    expected_failed_checks: Expected | None = None,
    *,
    options: Mapping[str, ComponentOptions] | None = None,
    schemas: str | Path | None = None,
    manager: PluginManager | None = None,
) -> pytest.MarkDecorator:
    """Return a decorator that makes one test of each check; the test function takes ``check`` and calls it.

    Parameters
    ----------
    plugin_id : str
        Plugin id of an installed plugin; ``"mlclf"`` stands for the built-in components.
    expected_failed_checks : mapping of str to str, or None
        Reason by name or id of a check. It is an expected failure (``xfail``), strictly: the test fails once the check
        passes.
    options, schemas, manager
        As in :func:`plugin_checks`.

    Returns
    -------
    pytest.MarkDecorator

    Examples
    --------
    >>> @parametrize_plugin_checks("mlclf")
    ... def test_plugin_follows_the_rules(check):
    ...     check()
    """
    import pytest

    checks = plugin_checks(plugin_id, options=options, schemas=schemas, manager=manager)
    expected = expected_failed_checks or {}
    check_expected(expected, checks)
    return pytest.mark.parametrize("check", [pytest.param(c, id=c.id, marks=_marks(c, expected)) for c in checks])


def _marks(check: Check, expected: Expected) -> list[pytest.MarkDecorator]:
    import pytest

    reason = check.expected_failure(expected)
    return [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
