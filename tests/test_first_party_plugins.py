"""The plugins of this repository are what any plugin is: distributions of their own over public interfaces."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from mlclf.plugins.builtins import FIRST_PARTY_PACKAGES

ROOT = Path(__file__).parent.parent
FOLDERS = {path.name.removeprefix("mlclf-"): path for path in sorted((ROOT / "plugins").glob("mlclf-*"))}
each_plugin = pytest.mark.parametrize("plugin", FOLDERS)

# What a plugin may import: packages whose public names are their __all__, and modules that the tutorial names.
PUBLIC_PACKAGES = {"mlclf", "mlclf.heads", "mlclf.interfaces", "mlclf.losses", "mlclf.plugins", "mlclf.testing"}
PUBLIC_MODULES = {"mlclf.options", "mlclf.exceptions", "mlclf.backbones.bert"}


def package(plugin: str) -> Path:
    return FOLDERS[plugin] / f"mlclf_{plugin.replace('-', '_')}"


def project(plugin: str) -> dict[str, Any]:
    content: dict[str, Any] = tomllib.loads((FOLDERS[plugin] / "pyproject.toml").read_text(encoding="utf-8"))
    return content["project"]


def imports(path: Path) -> list[tuple[str, list[str]]]:
    """Modules of mlclf that a file imports anywhere, with the names that it takes from them."""
    found: list[tuple[str, list[str]]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, [alias.name for alias in node.names]))
    return [(module, names) for module, names in found if module.split(".")[0] == "mlclf"]


@each_plugin
def test_it_imports_public_interfaces_only(plugin: str) -> None:
    wrong = []
    for path in package(plugin).rglob("*.py"):
        for module, names in imports(path):
            public = set(names)
            if module in PUBLIC_PACKAGES:
                public = set(importlib.import_module(module).__all__)
            if module not in PUBLIC_PACKAGES | PUBLIC_MODULES or not public.issuperset(names):
                wrong.append(f"{path}: {module} {names}")
    assert not wrong


@each_plugin
def test_it_is_a_distribution_with_a_bounded_requirement(plugin: str) -> None:
    declared = project(plugin)
    assert declared["name"] == FIRST_PARTY_PACKAGES[plugin]
    assert declared["entry-points"]["mlclf"] == {plugin: f"{package(plugin).name}.plugin"}
    (host,) = [found for line in declared["dependencies"] if (found := Requirement(line)).name == "mlclf"]
    assert {clause.operator for clause in host.specifier} == {">=", "<"}


@each_plugin
def test_its_declaration_imports_nothing_heavy(plugin: str) -> None:
    heavy = "{'torch', 'transformers', 'peft', 'sklearn'}"
    program = f"import sys, {package(plugin).name}.plugin; print({heavy} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": f"{FOLDERS[plugin]}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout.strip(), done.stderr) == ("set()", "")


@each_plugin
def test_it_has_a_readme_tests_and_a_page(plugin: str) -> None:
    assert (FOLDERS[plugin] / "README.md").read_text(encoding="utf-8").startswith(f"# mlclf-{plugin}\n")
    assert list((FOLDERS[plugin] / "tests").glob("test_*.py"))
    assert (ROOT / "docs" / "plugins" / f"{plugin}.md").is_file()


@each_plugin
def test_its_tests_find_it_without_an_installation(plugin: str) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert f"plugins/mlclf-{plugin}" in settings["pythonpath"]


def test_all_of_them_are_known_by_name() -> None:
    assert sorted(FIRST_PARTY_PACKAGES) == sorted(FOLDERS)


def test_pages_stand_in_the_navigation() -> None:
    navigation = yaml.safe_dump(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert [plugin for plugin in FOLDERS if f"plugins/{plugin}.md" not in navigation] == []
