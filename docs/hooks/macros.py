"""Two macros of the documentation: ``{{ options dotted.Class }}`` and ``{{ measured file.md | command }}``.

The first writes the table of an options class, read from the source, so that names, defaults and rules cannot differ
from the code. The second includes a page of measurements where it exists, and otherwise says how to make it: nothing
is claimed that was not measured.
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
MACRO = re.compile(r"^\{\{ (?P<name>options|measured) (?P<argument>[^}]+) \}\}$", re.MULTILINE)
RULES = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the macros of a page (called by mkdocs)."""
    macros = {"options": options_table, "measured": measured}
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


def measured(argument: str) -> str:
    """Return a page of measurements, or how to make it."""
    file, _, command = (part.strip() for part in argument.partition("|"))
    path = ROOT / "docs" / "benchmarks" / file
    if path.is_file():
        return re.sub(r"\A# .*\n", "", path.read_text(encoding="utf-8")).strip()
    return f'!!! note "Not measured yet"\n    `{command}` makes this table.'
