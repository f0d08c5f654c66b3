"""``mlclf plugins new``: what it writes works as it stands, and keeps the rules."""

from __future__ import annotations

import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from typer.testing import CliRunner

import mlclf
from mlclf.cli.app import app
from mlclf.exceptions import PluginError
from mlclf.plugins import KINDS, Kind, new_plugin, use_manager
from mlclf.testing import plugin_checks, plugin_env, project_manager, run_checks


def generated(kind: Kind, folder: Path, plugin_id: str = "acme") -> Path:
    return new_plugin(plugin_id, kind, folder / f"mlclf-{plugin_id}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_keeps_the_rules(kind: Kind, tmp_path: Path) -> None:
    with plugin_env(generated(kind, tmp_path)) as env:
        checks = plugin_checks("acme", manager=project_manager(env.folder))
        quick = [check for check in checks if check.name != "check_onnx_parity"]
        run_checks(quick, subject=f"new {kind}").raise_for_failures()


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_is_made_of_these_files(kind: Kind, tmp_path: Path) -> None:
    folder = generated(kind, tmp_path)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        ".github/workflows/test.yml",
        ".gitignore",
        "README.md",
        "mlclf_acme/__init__.py",
        f"mlclf_acme/{kind}.py",
        "mlclf_acme/plugin.py",
        "pyproject.toml",
        "tests/test_conformance.py",
        f"tests/test_{kind}.py",
    }
    steps = yaml.safe_load((folder / ".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"]["test"]["steps"]
    assert any(step.get("run") == "pytest" for step in steps)


@pytest.mark.parametrize("kind", KINDS)
def test_the_readme_shows_how_the_component_is_chosen(kind: Kind, tmp_path: Path) -> None:
    folder = generated(kind, tmp_path)
    block = (folder / "README.md").read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    assert f'"acme:{kind}"' in block
    with plugin_env(folder), use_manager(project_manager(folder)):
        exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize("plugin_id", ["acmetool", "my-plugin", "a_b2", "mlclf-acme"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_id_gives_modules_that_compile(plugin_id: str, kind: Kind, tmp_path: Path) -> None:
    folder = generated(kind, tmp_path, plugin_id)
    texts = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.is_file()}
    for path, text in texts.items():
        assert not any(word in text for word in ("KIND", "IMPORTS", "CHOICE"))
        if path.suffix == ".py":
            compile(text, str(path), "exec")
    manager = project_manager(folder)
    with plugin_env(folder):
        (component,) = manager.load(plugin_id).components[kind]
    assert component.name == f"{plugin_id}:{kind}"
    assert component.target.startswith(f"mlclf_{plugin_id.replace('-', '_')}.{kind}:")


def test_the_requirement_has_both_bounds_and_admits_this_version(tmp_path: Path) -> None:
    manager = project_manager(generated("head", tmp_path))
    (requirement,) = map(Requirement, manager.installed("acme").requires)
    assert {specifier.operator for specifier in requirement.specifier} == {">=", "<"}
    assert requirement.specifier.contains(mlclf.__version__, prereleases=True)


@pytest.mark.parametrize(
    ("plugin_id", "message"),
    [
        ("Acme", "is no plugin id"),
        ("", "is no plugin id"),
        ("acme-", "is no plugin id"),
        ("../evil", "is no plugin id"),
        ("mlclf", "is reserved"),
        ("local", "is reserved"),
        ("minilm", "is the plugin of the package mlclf-minilm"),
    ],
)
def test_a_bad_id_is_refused_and_nothing_is_written(plugin_id: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=message):
        new_plugin(plugin_id, "head", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    folder = generated("head", tmp_path)
    (folder / "README.md").write_text("mine", encoding="utf-8")
    with pytest.raises(PluginError, match=r"exists already.*--out"):
        generated("strategy", tmp_path)
    assert (folder / "README.md").read_text(encoding="utf-8") == "mine"


def test_the_command_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["plugins", "new", "acme", "--kind", "head"])
    assert done.exit_code == 0
    assert "pip install --editable mlclf-acme && pytest mlclf-acme" in done.stdout
    assert (tmp_path / "mlclf-acme" / "pyproject.toml").is_file()
    again = CliRunner().invoke(app, ["plugins", "new", "acme", "--kind", "head"])
    assert again.exit_code == 2
    assert "exists already" in again.stderr


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that sees what is installed in this one, so that nothing is downloaded."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", paths))
    # addsitedir, unlike a plain line, also follows the links of packages that are installed as editable.
    links = [f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})"]
    (site / "parent.pth").write_text("\n".join(links) + "\n", encoding="utf-8")
    return Path(sysconfig.get_path("scripts", "venv", paths)) / "python"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_can_be_installed_and_passes_its_own_tests(kind: Kind, tmp_path: Path, python: Path) -> None:
    folder = generated(kind, tmp_path)
    command = [
        python,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-build-isolation",
        "--force-reinstall",
        "--quiet",
        folder,
    ]
    subprocess.run(command, check=True, capture_output=True)
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder / "tests"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
