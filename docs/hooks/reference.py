"""Macros that write reference pages from the source: interfaces, records, hooks and the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe


def interface_table(cls: Any) -> str:
    """Return the Markdown table of an interface: methods and declared values, in the source's order."""
    described = _described(cls)
    rows = []
    for name, member in cls.members.items():
        if name.startswith("_") or member.is_alias or member.is_class or _set_in_init(member):
            continue
        if member.is_function:
            rows.append([f"`{name}({_arguments(member)})`", _duty(member), _summary(member)])
        elif "property" in member.labels:
            rows.append([f"`{name}`", "property", _summary(member)])
        else:
            rows.append([f"`{name}`", _value(member), _summary(member) or described.get(name, "")])
    return _markdown(["Name", "To a subclass", "Meaning"], rows)


def record_table(cls: Any) -> str:
    """Return the Markdown table of a record's fields."""
    rows = [[f"`{field.name}`", f"`{field.annotation}`", field.description] for field in _parameters(cls)]
    return _markdown(["Field", "Type", "Meaning"], rows)


def hooks_table(cls: Any, since: dict[str, int]) -> str:
    """Return the Markdown table of the hook specifications, with the version of the plugin API each came with."""
    rows = [
        [f"`{name}({_arguments(member)})`", f"`{member.returns}`", f"1.{since.get(name, 0)}", _summary(member)]
        for name, member in cls.members.items()
        if member.is_function
    ]
    return _markdown(["Hook", "Returns", "Since", "Meaning"], rows)


def commands_text(command: Any, path: str) -> str:
    """Return headings, help and options of a command and of all below it."""
    return "\n\n".join(_commands(command, path))


def _commands(command: Any, path: str) -> Iterator[str]:
    children = getattr(command, "commands", {})
    if not children:
        yield f"### `{path}`\n\n{_plain(command.help)}\n\n{_options(command, path)}"
    for name, child in children.items():
        if not child.hidden:
            yield from _commands(child, f"{path} {name}")


def _options(command: Any, path: str) -> str:
    """Return usage and parameters of one command."""
    arguments = [_name(parameter) for parameter in command.params if parameter.param_type_name == "argument"]
    rows = [[f"`{_name(p)}`", _default(p), _plain(getattr(p, "help", ""))] for p in command.params]
    usage = f"```text\n{' '.join([path, *arguments])} [OPTIONS]\n```"
    return f"{usage}\n\n{_markdown(['Parameter', 'Default', 'Meaning'], rows)}"


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return parameter.metavar or str(parameter.name).upper()
    return ", ".join([*parameter.opts, *parameter.secondary_opts])


def _default(parameter: Any) -> str:
    default = parameter.default
    return "" if callable(default) or default in (None, False, ()) else f"`{getattr(default, 'value', default)}`"


def _plain(text: str | None) -> str:
    return re.sub(r"\s+", " ", (text or "").partition("\f")[0]).strip()


def _set_in_init(member: Any) -> bool:
    return member.is_attribute and "instance-attribute" in member.labels and "class-attribute" not in member.labels


def _described(cls: Any) -> dict[str, str]:
    """Return what the class's docstring says of its attributes."""
    sections = cls.docstring.parse("numpy", warn_unknown_params=False) if cls.docstring else []
    kinds = {griffe.DocstringSectionKind.attributes, griffe.DocstringSectionKind.parameters}
    return {entry.name: entry.description for section in sections if section.kind in kinds for entry in section.value}


def _parameters(cls: Any) -> list[Any]:
    for section in cls.docstring.parse("numpy", warn_unknown_params=False):
        if section.kind is griffe.DocstringSectionKind.parameters:
            return list(section.value)
    raise ValueError(f"{cls.path} documents no fields.")


def _arguments(function: Any) -> str:
    return ", ".join(p.name for p in function.parameters if p.name not in {"self", "cls"})


def _duty(function: Any) -> str:
    return "must be written" if any("abstract" in str(d.value) for d in function.decorators) else "may be overridden"


def _value(attribute: Any) -> str:
    return "must be set" if attribute.value is None else f"default `{attribute.value}`"


def _summary(member: Any) -> str:
    return member.docstring.value.partition("\n\n")[0] if member.docstring else ""


def _markdown(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Return text on one line, with the code marks of Markdown and the bars escaped that would end a cell."""
    plain = re.sub(r"\s+", " ", text).replace("``", "`").replace("|", "\\|")
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", plain)
