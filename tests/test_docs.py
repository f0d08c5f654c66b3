"""The documentation is true: its code runs, its options and hooks are those of the code."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import pytest
import typer
import yaml

from mlclf.cli.app import app
from mlclf.cli.build import make_classifier
from mlclf.cli.config import make_config
from mlclf.datasets import Dataset, make_feedback
from mlclf.interfaces import (
    Augmentation,
    Backbone,
    Calibrator,
    Corpus,
    Head,
    HeadCapabilities,
    LabelStatistics,
    LogitsHead,
    Strategy,
    StrategyCapabilities,
)
from mlclf.losses import CellLoss, MultiLabelLoss
from mlclf.options import NamedOptions, Options, TrainingOptions
from mlclf.plugins import ComponentSpec
from mlclf.plugins.hookspecs import API_VERSION, HOOKS, Hooks
from mlclf.replay import ReplayOptions

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Pages whose Python blocks are run from top to bottom, as a reader would. A block below a line
# "<!-- not run: reason -->" is only compiled, as are all of docs/index.md, which the README repeats.
RUN = [
    "README.md",
    "docs/concepts.md",
    "docs/data.md",
    "docs/missing-labels.md",
    "docs/long-documents.md",
    "docs/thresholds.md",
    "docs/reports.md",
    pytest.param("docs/continual.md", marks=pytest.mark.slow),
    "docs/augmentation.md",
    "docs/prompts.md",
    "docs/strategies.md",
    "docs/choosing.md",
    "docs/multitask.md",
    "docs/plugins.md",
    "docs/plugins_testing.md",
    pytest.param("docs/quickstart.md", marks=pytest.mark.slow),
    pytest.param("docs/scikit-learn.md", marks=pytest.mark.slow),
    pytest.param("docs/onnx.md", marks=pytest.mark.slow),
]
FENCE = re.compile(
    r"(?P<note><!-- not run: [^>]+ -->\n)?^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^(?P=indent)```\n",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    page: str
    line: int
    language: str
    code: str
    run: bool


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        code = re.sub(rf"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        line = text.count("\n", 0, match.start("code")) + 1
        yield Block(str(page.relative_to(ROOT)), line, match["language"], code, match["note"] is None)


BLOCKS = [block for page in PAGES for block in blocks(page)]
# A command may go on behind a backslash.
SHELL = [block.code.replace("\\\n", " ") for block in BLOCKS if block.language == "bash"]
LINES = [line.partition(" #")[0].strip() for code in SHELL for line in code.splitlines()]
COMMANDS = sorted({line for line in LINES if re.match(r"(echo .*\| )?mlclf ", line)})


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}:{block.line}")
def test_code_block_is_well_formed(block: Block) -> None:
    if block.language in {"python", "py"}:
        compile(block.code, f"{block.page}:{block.line}", "exec")
    elif block.language == "toml":
        tomllib.loads(block.code)
    elif block.language == "json":
        json.loads(block.code)
    elif block.language == "yaml":
        yaml.safe_load(block.code)
    elif block.language in {"bash", "sh"}:
        subprocess.run(["bash", "-n"], input=block.code, text=True, check=True)
    else:
        assert block.language in {"text", "console", "mermaid", "make"}, f"unknown language {block.language!r}"


@pytest.mark.skipif(
    not [entry for entry in entry_points(group="mlclf") if entry.name == "minilm"],
    reason="the pages use the plugin mlclf-minilm, which is not installed",
)
@pytest.mark.parametrize("page", RUN)
def test_page_runs_from_top_to_bottom(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mlclf.datasets.make_feedback", small_corpus)
    namespace: dict[str, Any] = {"__name__": "page", **sample_data()}
    for block in blocks(ROOT / page):
        if block.run and block.language == "python":
            # The line numbers of a traceback are the page's own.
            code = "\n" * (block.line - 1) + block.code
            exec(compile(code, page, "exec"), namespace)


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)[^)]*\)", PAGES[0].read_text(encoding="utf-8")))
def test_link_of_the_readme_leads_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


def test_configuration_on_the_command_line_page_is_valid() -> None:
    (block,) = [block for block in blocks(ROOT / "docs" / "cli.md") if block.language == "yaml"]
    classifier = make_classifier(make_config(yaml.safe_load(block.code)), classes=None, verbose=0)
    assert classifier.get_params()["strategy"].r == 16


@pytest.mark.parametrize("line", COMMANDS)
def test_command_exists_with_its_options(line: str) -> None:
    words = shlex.split(line)
    words = words[words.index("mlclf") + 1 :]
    command = typer.main.get_command(app)
    while hasattr(command, "get_command"):
        command = command.get_command(command.make_context("mlclf", [], resilient_parsing=True), words.pop(0))
        assert command is not None, line
    known = {name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]}
    assert {word for word in words if word.startswith("--")} <= known


def small_corpus(n_samples: int = 64, *, random_state: int = 0, **given: Any) -> Dataset:
    """The made corpus, cut to a size that trains in seconds, without labels that training has not seen."""
    known = {label for row in make_feedback(64).labels or [] for label in row}
    data = make_feedback(min(n_samples, 64), random_state=random_state, **given)
    return data.take([i for i, row in enumerate(data.labels or []) if known.issuperset(row)])


def sample_data() -> dict[str, Any]:
    """The names that pages use without defining them: the reader's own texts and labels."""
    train, test = small_corpus(), small_corpus(random_state=1)
    return {
        "texts": train.texts,
        "labels": train.labels,
        "test_texts": test.texts,
        "test_labels": test.labels,
        "new_texts": test.texts[:8],
    }


def options_classes() -> list[type[Options]]:
    """Options of training and of every built-in component."""
    from mlclf.plugins.builtins import BUILTINS, STAND_INS

    tables = (*BUILTINS.values(), *STAND_INS.values())
    components = [load(spec.options) for specs in tables for spec in specs]
    return [
        TrainingOptions,
        ReplayOptions,
        *components,
    ]


def load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def choices(options: type[Options]) -> list[str]:
    """Names of the options that have more than one possible value."""
    fields = options.model_fields.items()
    return [
        name
        for name, field in fields
        if get_origin(field.annotation) is not Literal or len(get_args(field.annotation)) > 1
    ]


@pytest.mark.parametrize("options", options_classes(), ids=lambda options: options.__name__)
def test_every_option_is_explained(options: type[Options]) -> None:
    lines = re.findall(r"^\s*([\w, ]+) : ", options.__doc__ or "", re.MULTILINE)
    explained = [name for line in lines for name in line.split(", ")]
    assert sorted(explained) == sorted(choices(options))


@pytest.mark.parametrize("options", [o for o in options_classes() if choices(o)], ids=lambda options: options.__name__)
def test_every_options_class_stands_in_the_reference(options: type[Options]) -> None:
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert f"{{{{ options {options.__module__}.{options.__qualname__} }}}}" in page


@pytest.mark.parametrize("hook", HOOKS.values())
def test_every_hook_is_documented_with_its_signature(hook: str) -> None:
    arguments = [name for name in inspect.signature(getattr(Hooks, hook)).parameters if name != "self"]
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    assert f"def {hook}({', '.join(arguments)}) -> Iterable[ComponentSpec]" in page
    assert f"`{hook}({', '.join(arguments)})`" in rendered("docs/api/plugin_api.md")


@cache
def rendered(page: str) -> str:
    """A page as mkdocs gets it, with its macros written out."""
    path = ROOT / "docs" / "hooks" / "macros.py"
    spec = importlib.util.spec_from_file_location("macros_of_the_docs", path)
    assert spec is not None
    assert spec.loader is not None
    macros = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(macros)
    return str(macros.on_page_markdown((ROOT / page).read_text(encoding="utf-8")))


INTERFACES = [Backbone, Strategy, Head, LogitsHead, MultiLabelLoss, CellLoss, Calibrator, Augmentation, NamedOptions]


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda interface: interface.__name__)
def test_plugin_api_page_names_every_method_of_an_interface(interface: type) -> None:
    own = [
        name for name, member in vars(interface).items() if not name.startswith("_") and callable_or_property(member)
    ]
    page = rendered("docs/api/plugin_api.md")
    pydantic = {"model_config", "model_fields", "model_computed_fields", "model_post_init"}
    assert [name for name in own if not re.search(rf"`{name}[(`]", page) and name not in {*pydantic, "Options"}] == []


def callable_or_property(member: Any) -> bool:
    return callable(getattr(member, "__func__", member)) or isinstance(member, property)


@pytest.mark.parametrize("record", [ComponentSpec, HeadCapabilities, StrategyCapabilities, LabelStatistics, Corpus])
def test_plugin_api_page_names_every_field_of_a_record(record: Any) -> None:
    page = rendered("docs/api/plugin_api.md")
    assert [field.name for field in dataclasses.fields(record) if f"| `{field.name}` |" not in page] == []


def test_plugin_api_page_says_what_each_name_means() -> None:
    page = rendered("docs/api/plugin_api.md")
    assert [line for line in page.splitlines() if re.search(r"\|\s*\|$", line)] == []


def test_plugin_api_page_names_the_version() -> None:
    assert "this mlclf offers: {}.{}.".format(*API_VERSION) in rendered("docs/api/plugin_api.md")
    assert f"MLCLF_PLUGIN_API = {API_VERSION}" in (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


def test_reference_of_the_command_line_has_every_command_and_option() -> None:
    page = rendered("docs/cli.md")
    for path, command in commands(typer.main.get_command(app), "mlclf"):
        _, _, section = page.partition(f"### `{path}`\n")
        section = section.partition("\n### ")[0]
        assert section, path
        missing = [name for p in command.params for name in p.opts if name.startswith("--") and name not in section]
        assert not missing, (path, missing)


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name, child in children.items():
        yield from commands(child, f"{path} {name}")


def test_architecture_names_every_module() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    names = {
        path.name for path in (ROOT / "mlclf").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert sorted(name for name in names - {"__init__.py"} if f"{name}" not in page) == []
