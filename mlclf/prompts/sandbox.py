"""Jinja in a sandbox: templates come from users and from model files, and can only turn text into text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from jinja2 import StrictUndefined, TemplateError, Undefined, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mlclf.exceptions import OptionsError

# A prompt of a million characters fits into no model.
_LONGEST = 1_000_000
_FAILURES = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class _Generation(Extension):
    """Takes ``{% generation %}``, by which chat templates mark what an assistant said, and leaves its content."""

    tags = {"generation"}  # noqa: RUF012  # the base class declares it as a plain attribute

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    """No attribute that begins with an underscore, no change of values, no text made long by a product."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or not all(isinstance(value, int | float) for value in (left, right)):
            raise TypeError(f"{operator!r} is for numbers, and powers are not computed")
        return super().call_binop(context, operator, left, right)


def render(template: str, values: Mapping[str, Any], *, strict: bool, name: str) -> str:
    """Return what a template makes of some values.

    A template cannot reach files, the network or Python's own functions. It can waste time: take templates from whom
    you would take a model.

    Parameters
    ----------
    template : str
        Jinja source.
    values : mapping of str to Any
        The variables.
    strict : bool
        Whether an unknown variable is an error; chat templates ask for variables that are not there.
    name : str
        What the template is called in errors.

    Raises
    ------
    OptionsError
        If it is no valid template, fails, or writes more than a million characters.

    Examples
    --------
    >>> render("Text: {{ text }}", {"text": "a cat"}, strict=True, name="The template")
    'Text: a cat'
    """
    environment = _Sandbox(
        undefined=StrictUndefined if strict else Undefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        extensions=["jinja2.ext.loopcontrols", _Generation],
    )
    environment.globals["raise_exception"] = _refuse
    parts, length = [], 0
    try:
        for part in environment.from_string(template).generate(**values):
            parts.append(part)
            length += len(part)
            if length > _LONGEST:
                raise ValueError(f"it writes more than {_LONGEST} characters")
    except _FAILURES as error:
        raise OptionsError(
            f"{name} cannot be rendered: {error}. Correct it, or use PromptOptions(template='plain')."
        ) from error
    return "".join(parts)


def _refuse(message: str) -> NoReturn:
    """Let a chat template say that it does not take these messages."""
    raise TemplateError(message)
