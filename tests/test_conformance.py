"""The built-in components keep the rules that plugins are held to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlclf.exceptions import ConformanceError, OptionsError
from mlclf.options import Options
from mlclf.plugins import KINDS, Kind, PluginManager, get_manager
from mlclf.plugins.builtins import BUILTINS
from mlclf.plugins.spec import PART_KINDS
from mlclf.testing import Check, component_checks, parametrize_plugin_checks, plugin_checks, run_checks
from mlclf.testing.conformance.catalogue import COMPONENT_CHECKS, PACKAGE_CHECKS
from mlclf.testing.conformance.schemas import unreadable

# Options of the built-in components as the last release had them.
SCHEMAS = Path(__file__).parent / "options_schemas.json"
COMPONENTS = [(kind, spec.name) for kind in KINDS for spec in BUILTINS[kind]]
# An export takes seconds; those of the others are marked slow.
EXPORTED_ALWAYS = {"bert", "lora"}
ONNX = "check_onnx_parity"


@pytest.mark.parametrize(("kind", "name"), COMPONENTS, ids=[name for _, name in COMPONENTS])
def test_built_in_component_keeps_the_rules(kind: Kind, name: str) -> None:
    checks = [check for check in component_checks(kind, name, schemas=SCHEMAS) if check.name != ONNX]
    run_checks(checks, subject=f"{kind} {name!r}").raise_for_failures()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(kind, name, id=name, marks=[] if name in EXPORTED_ALWAYS else [pytest.mark.slow])
        for kind, name in COMPONENTS
        if kind in PART_KINDS
    ],
)
def test_built_in_component_answers_the_same_in_onnxruntime(kind: Kind, name: str) -> None:
    checks = [check for check in component_checks(kind, name) if check.name == ONNX]
    run_checks(checks, subject=f"{kind} {name!r}").raise_for_failures()


def test_every_check_has_a_stable_name_and_says_its_rule() -> None:
    checks = {run for runs in COMPONENT_CHECKS.values() for run in runs} | set(PACKAGE_CHECKS)
    for run in checks:
        assert run.__name__.startswith("check_")
        rule = (run.__doc__ or "").partition("\n")[0]
        assert rule.endswith(".")
        assert len(rule) > 20


def passing() -> None: ...


def failing() -> None:
    raise ConformanceError("it is wrong; change this")


def crashing() -> None:
    raise ZeroDivisionError("no")


def checks_of(**runs: object) -> list[Check]:
    """Checks of made-up functions."""
    session = component_checks("head", "bce")[0].session
    return [Check(name, "acme:x", "A rule.", session, run) for name, run in runs.items()]  # type: ignore[arg-type]


def test_a_report_shows_what_failed_with_rule_and_cure_and_the_traceback_of_a_crash() -> None:
    report = run_checks(checks_of(check_a=passing, check_b=failing, check_c=crashing), subject="plugin 'acme'")
    text = str(report)
    assert text.startswith("plugin 'acme': 1 check passed, 2 failed.")
    assert "check_b[acme:x]: it is wrong; change this\n    Rule: A rule." in text
    assert "ZeroDivisionError: no" in text
    assert "in crashing" in text
    assert json.loads(json.dumps(report.to_json()))["passed"] is False
    with pytest.raises(ConformanceError, match="it is wrong"):
        report.raise_for_failures()


def test_an_expected_failure_passes_with_its_reason_by_name_or_by_id() -> None:
    checks = checks_of(check_a=passing, check_b=failing)
    for name in ("check_b", "check_b[acme:x]"):
        report = run_checks(checks, expected_failed_checks={name: "not done so far"})
        assert report.passed
        assert "check_b[acme:x]: not done so far (it is wrong; change this)" in str(report)


def test_an_expected_failure_that_does_not_happen_is_a_failure() -> None:
    report = run_checks(checks_of(check_a=passing), expected_failed_checks={"check_a": "not done so far"})
    assert not report.passed
    assert "Passed, although they are expected to fail" in str(report)


def test_an_expected_failure_of_no_check_or_without_a_reason_is_refused() -> None:
    checks = checks_of(check_a=passing)
    with pytest.raises(OptionsError, match=r"names 'check_aa'\. Did you mean 'check_a'"):
        run_checks(checks, expected_failed_checks={"check_aa": "x"})
    with pytest.raises(OptionsError, match="has no reason"):
        run_checks(checks, expected_failed_checks={"check_a": " "})


def test_checks_can_be_parametrized_as_strict_expected_failures() -> None:
    mark = parametrize_plugin_checks("mlclf", {"check_fit[bce]": "of interest"}).mark
    parameters = {parameter.id: parameter for parameter in mark.args[1]}
    (xfail,) = parameters["check_fit[bce]"].marks
    assert (xfail.name, xfail.kwargs) == ("xfail", {"reason": "of interest", "strict": True})
    assert not parameters["check_shapes[bce]"].marks


def test_checks_leave_the_plugins_of_the_process_as_they_were() -> None:
    manager, local = get_manager(), get_manager().local
    plugin_checks("mlclf")[0]()
    assert get_manager() is manager
    assert manager.local is local
    assert "local:tiny" not in {spec.name for spec in local.specs("backbone")}


def test_options_for_a_component_that_the_plugin_has_not_are_refused() -> None:
    with pytest.raises(OptionsError, match="options names 'acme:x'"):
        plugin_checks("mlclf", options={"acme:x": Options()}, manager=PluginManager(entry_points=[]))


@pytest.mark.parametrize(
    ("before", "now", "reasons"),
    [
        ({"a": {"type": "integer"}}, {"a": {"type": "integer"}, "b": {"type": "string", "default": ""}}, 0),
        ({"a": {"type": "integer"}}, {"a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}, 0),
        ({"a": {"enum": ["x", "y"], "type": "string"}}, {"a": {"type": "string"}}, 0),
        ({"a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}, {"a": {"type": "integer"}}, 1),
        ({"a": {"enum": ["x", "y"], "type": "string"}}, {"a": {"enum": ["x"], "type": "string"}}, 1),
        ({"a": {"type": "number", "exclusiveMinimum": 0}}, {"a": {"type": "number", "minimum": 0}}, 0),
        ({"a": {"type": "number", "minimum": 0}}, {"a": {"type": "number", "exclusiveMinimum": 0}}, 1),
        ({"a": {"type": "number", "maximum": 2}}, {"a": {"type": "number", "maximum": 1}}, 1),
        ({"a": {"type": "string"}}, {"a": {"type": "integer"}}, 1),
        ({"a": {"type": "string"}}, {}, 1),
    ],
)
def test_schemas_tell_whether_saved_options_can_be_read(before: dict, now: dict, reasons: int) -> None:
    assert len(unreadable({"properties": before}, {"properties": now})) == reasons
