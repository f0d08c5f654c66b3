"""The plugin as its project file declares it, whether or not it is installed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from mlclf.plugins import use_manager
from mlclf.testing.plugin_env import plugin_env


@pytest.fixture(scope="session")
def project():
    return tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(autouse=True)
def plugins(project, tmp_path_factory):
    """Give a manager that sees this plugin alone and is that of the process."""
    with plugin_env(tmp_path_factory.mktemp("site")) as env:
        for plugin_id, module in project["entry-points"]["mlclf"].items():
            env.declare(
                plugin_id,
                module,
                package=project["name"],
                version=project["version"],
                requires=project["dependencies"],
            )
        with use_manager(env.manager()) as manager:
            yield manager
