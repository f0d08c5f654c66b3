"""Every public name resolves, is documented, and shows how it is used."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import mlclf
import mlclf.heads
import mlclf.interfaces
import mlclf.plugins

API_PAGES = Path(__file__).parent.parent / "docs" / "api"
PUBLIC = [(module, name) for module in (mlclf, mlclf.heads, mlclf.interfaces, mlclf.plugins) for name in module.__all__]


def documented() -> set[str]:
    """Dotted names that the API pages render."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in API_PAGES.glob("*.md"))
    return set(re.findall(r"^::: ([\w.]+)", text, re.MULTILINE))


def public_objects(*modules: Any) -> list[Any]:
    """Public classes and functions of this package, with a readable test id."""
    found = {f"{module.__name__}.{name}": getattr(module, name) for module, name in PUBLIC if module in modules}
    return [
        pytest.param(value, id=name)
        for name, value in found.items()
        if callable(value) and str(getattr(value, "__module__", "")).startswith("mlclf")
    ]


EVERYTHING = public_objects(mlclf, mlclf.heads, mlclf.interfaces, mlclf.plugins)


def functions_of(value: Any) -> list[tuple[str, Any]]:
    """A function itself, or the public methods that a class defines."""
    if not inspect.isclass(value):
        return [(value.__name__, value)]
    return [
        (f"{value.__qualname__}.{name}", getattr(method, "__func__", method))
        for name, method in vars(value).items()
        if not name.startswith("_") and callable(getattr(method, "__func__", method)) and not inspect.isclass(method)
    ]


def test_public_names_are_sorted_and_unique() -> None:
    assert list(mlclf.__all__) == sorted(set(mlclf.__all__))


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=[f"{module.__name__}.{name}" for module, name in PUBLIC])
def test_public_name_resolves(module: Any, name: str) -> None:
    assert getattr(module, name) is not None


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        mlclf.Nonsense  # noqa: B018


def test_dir_shows_names_that_are_resolved_lazily() -> None:
    assert set(mlclf.__all__) <= set(dir(mlclf))


@pytest.mark.parametrize("value", EVERYTHING)
def test_public_name_stands_on_an_api_page(value: Any) -> None:
    module = value.__module__
    assert {f"{module}.{value.__qualname__}", module} & documented(), (
        f"docs/api has neither '::: {module}.{value.__qualname__}' nor '::: {module}'"
    )


@pytest.mark.parametrize("value", EVERYTHING)
def test_public_name_has_a_one_line_summary(value: Any) -> None:
    first = (inspect.getdoc(value) or "").partition("\n")[0]
    assert re.match(r"[A-Z`].*[.:]$", first), f"no one-line summary: {first!r}"


@pytest.mark.parametrize("value", public_objects(mlclf))
def test_name_of_the_front_door_has_a_runnable_example(value: Any) -> None:
    assert ">>> " in (inspect.getdoc(value) or "")


@pytest.mark.parametrize("value", EVERYTHING)
def test_parameters_are_documented(value: Any) -> None:
    undocumented = [
        f"{name}({parameter})"
        for name, function in functions_of(value)
        if "Parameters\n" in (function.__doc__ or "")
        for parameter in inspect.signature(function).parameters
        if parameter not in {"self", "cls"} and not re.search(rf"^\s*(\w+, )*{parameter}\b.* :", function.__doc__, re.M)
    ]
    assert not undocumented


@pytest.mark.parametrize("value", EVERYTHING)
def test_public_methods_have_a_summary(value: Any) -> None:
    assert [name for name, function in functions_of(value) if not inspect.getdoc(function)] == []
