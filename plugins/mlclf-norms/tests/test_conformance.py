"""The plugin norms keeps the rules of the conformance kit."""

from __future__ import annotations

from pathlib import Path

from mlclf.testing import Check, parametrize_plugin_checks, project_manager


@parametrize_plugin_checks("norms", manager=project_manager(Path(__file__).parents[1]))
def test_plugin_follows_the_rules(check: Check) -> None:
    check()
