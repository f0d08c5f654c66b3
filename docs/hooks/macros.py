"""Macros of the documentation, each on a line of its own.

``{{ options dotted.Class }}`` writes the table of an options class and ``{{ rates name, name }}`` that of the learning
rates of strategies, both read from the source, so that names, defaults and rules cannot differ from the code.
``{{ compatibility strategies }}``, ``heads``, ``chains`` or ``refusals`` writes what :mod:`mlclf.compatibility` finds.
``{{ checks all }}`` writes the checks of the conformance kit with their rules.
``{{ interface dotted.Class }}``, ``{{ record dotted.Class }}`` and ``{{ hooks dotted.Class }}`` write what plugins
implement, and ``{{ commands mlclf }}`` the command line with all its options.
``{{ measured file.md | command }}`` includes a page of measurements where it exists, and otherwise says how to make it:
nothing is claimed that was not measured.
"""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(Path(__file__).parent))
import reference  # noqa: E402  # mkdocs loads this file by its path, so that its folder is on no path

SEARCH = [ROOT, *sorted(path for path in (ROOT / "plugins").glob("*") if path.is_dir())]
MACRO = re.compile(r"^\{\{ (?P<name>\w+) (?P<argument>[^}]+) \}\}$", re.MULTILINE)
RULES = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the macros of a page (called by mkdocs)."""
    macros = {
        "options": options_table,
        "rates": rates_table,
        "compatibility": compatibility_table,
        "checks": checks_table,
        "measured": measured,
        "interface": lambda name: reference.interface_table(loaded(name)),
        "record": lambda name: reference.record_table(loaded(name)),
        "hooks": hooks_table,
        "commands": commands_text,
    }
    return MACRO.sub(lambda match: macros[match["name"]](match["argument"].strip()), markdown)


def loaded(name: str) -> Any:
    """Return a class by its dotted name, without importing it."""
    package, _, path = name.partition(".")
    return load(package)[path]


def hooks_table(name: str) -> str:
    """Return the Markdown table of the hooks of a plugin."""
    from mlclf.plugins.hookspecs import SINCE

    return reference.hooks_table(loaded(name), SINCE)


def commands_text(name: str) -> str:
    """Return all commands with their options, from the program itself."""
    import typer

    from mlclf.cli.app import app

    return reference.commands_text(typer.main.get_command(app), name)


def options_table(name: str) -> str:
    """Return the Markdown table of an options class."""
    options = loaded(name)
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


def compatibility_table(part: str) -> str:
    """Return a table of built-in components that go together; here the components themselves are asked."""
    from mlclf.compatibility import chains, compatibility
    from mlclf.plugins.builtins import BUILTINS

    names = {kind: [spec.name for spec in specs] for kind, specs in BUILTINS.items()}
    if part == "chains":
        return chains_table(chains(names["strategy"]), names["strategy"])
    cells = compatibility(names["backbone"], names["strategy"], names["head"])
    if part == "refusals":
        return refusals_table(cells)
    return components_table(cells, {"strategies": "strategy", "heads": "head"}[part], names)


def components_table(cells: Any, kind: str, names: dict[str, list[str]]) -> str:
    """Return a row for each strategy or head: which backbones it works with, what it works with only in part."""
    other = "head" if kind == "strategy" else "strategy"
    columns = [kind.capitalize(), *(f"`{name}`" for name in names["backbone"]), "Exports"]
    columns += ["Merges", "Recomputes activations"] if kind == "strategy" else []
    rows = []
    for name in names[kind]:
        mine = [cell for cell in cells if getattr(cell, kind) == name]
        row = [f"`{name}`"]
        row += [_share([c for c in mine if c.backbone == b], other, lambda c: c.allowed) for b in names["backbone"]]
        row.append(_share([cell for cell in mine if cell.allowed], other, lambda c: c.exports))
        if kind == "strategy":
            merges = {str(cell.merge) for cell in mine if cell.allowed}
            recomputes = any(cell.gradient_checkpointing for cell in mine)
            row += [
                {"exact": "exactly", "lossy": "with loss"}.get("".join(merges), "no"),
                "yes" if recomputes else "no",
            ]
        rows.append(row)
    return _markdown(columns, rows)


def _share(cells: Any, other: str, holds: Any) -> str:
    """Say whether something holds for all cells, for none, or for which components of the other kind."""
    good, bad = ({getattr(c, other): 0 for c in cells if bool(holds(c)) is wanted} for wanted in (True, False))
    if not good or not bad:
        return "yes" if good else "no"
    return f"with {', '.join(f'`{name}`' for name in good if name not in bad)}" if set(good) - set(bad) else "in part"


def chains_table(pairs: dict[tuple[str, str], str | None], names: list[str]) -> str:
    """Return which strategies may follow each one in a list."""
    after = {first: [second for second in names if pairs.get((first, second), "") is None] for first in names}
    rows = [
        [f"`{first}`", ", ".join(f"`{second}`" for second in seconds)] for first, seconds in after.items() if seconds
    ]
    alone = [name for name in names if not any(name in pair for pair, refusal in pairs.items() if refusal is None)]
    table = _markdown(["First", "Then"], rows) if rows else "No two of the built-in strategies."
    return f"{table}\n\nOnly alone: {', '.join(f'`{name}`' for name in alone)}."


def refusals_table(cells: Any) -> str:
    """Return what is refused, and the message of the error."""
    refused = [cell for cell in cells if not cell.allowed]
    rows = [[f"`{c.backbone}`", f"`{c.strategy}`", f"`{c.head}`", c.refusal.replace("\n", " ")] for c in refused]
    if not rows:
        return "All built-in components go together; what is refused depends on options or on plugins."
    return _markdown(["Backbone", "Strategy", "Head", "Error"], rows)


def checks_table(_: str) -> str:
    """Return every check of the conformance kit, the kinds that it is for, and its rule."""
    from mlclf.testing.conformance.catalogue import COMPONENT_CHECKS, PACKAGE_CHECKS

    subjects: dict[Any, list[str]] = {run: ["package"] for run in PACKAGE_CHECKS}
    for kind, runs in COMPONENT_CHECKS.items():
        for run in runs:
            subjects.setdefault(run, []).append(kind)
    rows = [
        [
            f"`{run.__name__}`",
            "every component" if len(kinds) == len(COMPONENT_CHECKS) else ", ".join(kinds),
            (run.__doc__ or "").partition("\n")[0].replace("<", "&lt;"),
        ]
        for run, kinds in subjects.items()
    ]
    return _markdown(["Check", "Of", "Rule"], rows)


def _markdown(columns: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [columns, ["---"] * len(columns), *rows])


def measured(argument: str) -> str:
    """Return a page of measurements, or how to make it."""
    file, _, command = (part.strip() for part in argument.partition("|"))
    path = ROOT / "docs" / "benchmarks" / file
    if path.is_file():
        return re.sub(r"\A# .*\n", "", path.read_text(encoding="utf-8")).strip()
    return f'!!! note "Not measured yet"\n    `{command}` makes this table.'
