"""Macros of the documentation, each on a line of its own.

``{{ options dotted.Class }}`` writes the table of an options class and ``{{ rates name, name }}`` that of the learning
rates of strategies, both read from the source, so that names, defaults and rules cannot differ from the code.
``{{ measured file.md | command }}`` includes a page of measurements where it exists, and otherwise says how to make it:
nothing is claimed that was not measured.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).parent.parent.parent
SEARCH = [ROOT, *sorted(path for path in (ROOT / "plugins").glob("*") if path.is_dir())]
MACRO = re.compile(r"^\{\{ (?P<name>\w+) (?P<argument>[^}]+) \}\}$", re.MULTILINE)
RULES = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the macros of a page (called by mkdocs)."""
    macros = {"options": options_table, "rates": rates_table, "measured": measured}
    return MACRO.sub(lambda match: macros[match["name"]](match["argument"].strip()), markdown)


def options_table(name: str) -> str:
    """Return the Markdown table of an options class."""
    module, _, class_name = name.rpartition(".")
    options = load(module.partition(".")[0])[f"{module.partition('.')[2]}.{class_name}"]
    rows = [row(options, parameter) for parameter in parameters(options)]
    return "\n".join(["| Option | Values | Default | Meaning |", "|---|---|---|---|", *rows])


@cache
def load(package: str) -> Any:
    """Read a package without importing it."""
    return griffe.load(package, search_paths=SEARCH, resolve_aliases=True)


def parameters(options: Any) -> list[Any]:
    """Return the documented options of a class."""
    for section in options.docstring.parse("numpy", warn_unknown_params=False):
        if section.kind is griffe.DocstringSectionKind.parameters:
            return list(section.value)
    raise ValueError(f"{options.path} documents no options.")


def row(options: Any, parameter: Any) -> str:
    """Return the row of one option."""
    field = options.all_members[parameter.name]
    default, rules = default_and_rules(str(field.value))
    values = str(parameter.annotation or field.annotation).strip("{}()")
    cells = [f"`{parameter.name}`", ", ".join([f"`{values}`", *rules]), f"`{default}`", parameter.description]
    return "| " + " | ".join(re.sub(r"\s+", " ", cell).replace("|", "\\|") for cell in cells) + " |"


def default_and_rules(source: str) -> tuple[str, list[str]]:
    """Split ``Field(default=3, ge=1)`` into its default and its rules in words."""
    value = ast.parse(source, mode="eval").body
    if not isinstance(value, ast.Call):
        return source, []
    given = {word.arg: ast.unparse(word.value) for word in value.keywords if word.arg}
    default = ast.unparse(value.args[0]) if value.args else given.get("default", given.get("default_factory", ""))
    return default, [f"{sign} {given[name]}" for name, sign in RULES.items() if name in given]


def rates_table(names: str) -> str:
    """Return the Markdown table of the learning rates that strategies declare; a star marks those of the head only."""
    rows = []
    for name in names.replace(",", " ").split():
        backbone, head = declared_rates(name.rstrip("*"))
        rows.append(f"| `{name.rstrip('*')}` | {'does not learn' if name.endswith('*') else backbone} | {head} |")
    return "\n".join(["| Strategy | Backbone | Head |", "|---|---|---|", *rows])


def declared_rates(name: str) -> tuple[str, str]:
    """Return peak rates of backbone and head as the strategy's class states them."""
    module = load("mlclf")[f"strategies.{name.replace('-', '_')}"]
    (strategy,) = [
        member for path, member in module.members.items() if path.endswith("Strategy") and not member.is_alias
    ]
    declared = strategy.all_members["learning_rates"].value
    call = ast.parse(str(declared), mode="eval").body
    assert isinstance(call, ast.Call), f"{strategy.path}: learning_rates must be LearningRates(...)"
    given = {word.arg: ast.get_source_segment(str(declared), word.value) for word in call.keywords}
    return str(given["backbone"]), str(given["head"])


def measured(argument: str) -> str:
    """Return a page of measurements, or how to make it."""
    file, _, command = (part.strip() for part in argument.partition("|"))
    path = ROOT / "docs" / "benchmarks" / file
    if path.is_file():
        return re.sub(r"\A# .*\n", "", path.read_text(encoding="utf-8")).strip()
    return f'!!! note "Not measured yet"\n    `{command}` makes this table.'
