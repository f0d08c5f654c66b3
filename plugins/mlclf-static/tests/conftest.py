"""The plugin as its project file declares it, whether or not it is installed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from mlclf.plugins import use_manager
from mlclf.testing import project_manager

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(autouse=True)
def plugins():
    """Give a manager that sees this plugin alone and is that of the process."""
    with use_manager(project_manager(ROOT)) as manager:
        yield manager
