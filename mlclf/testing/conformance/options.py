"""Checks of a component's record and of its options."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

from pydantic import ValidationError

from mlclf.classifier import MultiLabelClassifier
from mlclf.exceptions import ConformanceError, OptionsError
from mlclf.interfaces.backbone import Family
from mlclf.plugins import Kind
from mlclf.plugins.spec import PART_KINDS
from mlclf.testing.conformance.results import NotApplicable
from mlclf.testing.conformance.schemas import entry_of, read_snapshot, schema_of, unreadable
from mlclf.testing.conformance.workbench import Workbench

_LONGEST_SUMMARY = 100

# Parameters of the estimator that hold options of a component; losses and augmentations stand in other options.
_PARAMETERS: dict[Kind, str] = {
    "backbone": "backbone",
    "strategy": "strategy",
    "head": "head",
    "calibrator": "calibration",
}


def check_declaration(bench: Workbench) -> None:
    """The component's record says what its class declares, with a summary of one line."""
    spec, component = bench.spec, bench.component
    if not spec.summary.strip() or "\n" in spec.summary or len(spec.summary) > _LONGEST_SUMMARY:
        raise ConformanceError(
            f"summary={spec.summary!r} of ComponentSpec {spec.name!r} must be one line of 1 to {_LONGEST_SUMMARY} "
            "characters: `mlclf plugins show` prints it."
        )
    families, exportable = _declared(bench)
    if not set(spec.families) <= families:
        raise ConformanceError(
            f"ComponentSpec {spec.name!r} says families={spec.families}, {component.__name__} declares "
            f"{sorted(families)}. Make them agree."
        )
    if exportable is not None and spec.exportable not in (None, exportable):
        raise ConformanceError(
            f"ComponentSpec {spec.name!r} says exportable={spec.exportable}, {component.__name__} declares "
            f"{exportable}. Make them agree."
        )


def _declared(bench: Workbench) -> tuple[set[Family], bool | None]:
    """Return the families that a class goes with, and whether it can be exported; None where it does not say so."""
    if bench.kind not in PART_KINDS:
        return set(), None
    if bench.kind == "backbone":
        return {bench.component.family}, bench.component.exportable
    return set(bench.capabilities.families), bench.capabilities.export


def check_options_have_defaults(bench: Workbench) -> None:
    """The options can be made without arguments, because a component's name stands for its default options."""
    try:
        bench.options_class()
    except OptionsError as error:
        raise ConformanceError(
            f"{bench.options_class.__name__}() fails: {error} Give every option a default."
        ) from None


def check_options_are_frozen(bench: Workbench) -> None:
    """Options cannot be changed once they are made: an estimator and its clones share them."""
    options = bench.options
    name = next(iter(type(options).model_fields), "anything")
    try:
        setattr(options, name, getattr(options, name, None))
    except ValidationError:
        return
    raise ConformanceError(
        f"{type(options).__name__}.{name} can be assigned to. Leave model_config as mlclf.options.Options has it."
    )


def check_options_refuse_unknown_names(bench: Workbench) -> None:
    """A misspelt option is an error that names the options there are."""
    try:
        bench.options_class(no_such_option=1)
    except OptionsError as error:
        if "no_such_option" in str(error):
            return
    except Exception as error:
        raise ConformanceError(
            f"{bench.options_class.__name__}(no_such_option=1) raises {type(error).__name__} instead of OptionsError. "
            "Do not override __init__."
        ) from error
    raise ConformanceError(
        f"{bench.options_class.__name__}(no_such_option=1) is accepted. Leave model_config as mlclf.options.Options "
        "has it."
    )


def check_options_as_json(bench: Workbench) -> None:
    """Options written as JSON and read again are equal, as a saved model needs it."""
    options = bench.options
    text = json.dumps(options.model_dump(mode="json"))
    try:
        again = type(options)(**json.loads(text))
    except OptionsError as error:
        raise ConformanceError(f"Options written as {text} cannot be read again: {error}") from error
    if again != options:
        raise ConformanceError(
            f"{options!r} became {again!r} on the way through JSON. Use types that pydantic reads from JSON as they "
            "were, such as tuples for sequences."
        )


def check_options_can_be_pickled(bench: Workbench) -> None:
    """Options can be copied and pickled, as scikit-learn's parallel searches do."""
    options = bench.options
    try:
        copies = [copy.deepcopy(options), pickle.loads(pickle.dumps(options))]  # noqa: S301  # bytes made right here
    except Exception as error:
        raise ConformanceError(
            f"{options!r} cannot be copied or pickled ({type(error).__name__}: {error}). "
            "Define the class at the top of a module, and keep no open things in it."
        ) from error
    if any(twin != options for twin in copies):
        raise ConformanceError(f"A copy of {options!r} is not equal to it.")


def check_options_work_in_scikit_learn(bench: Workbench) -> None:
    """Options follow scikit-learn's protocol: get_params, clone, and set_params on the estimator."""
    from sklearn.base import clone

    options = bench.options
    names = list(type(options).model_fields)
    if list(options.get_params()) != names:
        raise ConformanceError(
            f"get_params() gives {list(options.get_params())}, the options are {names}. Do not override it."
        )
    if clone(options) is not options:
        raise ConformanceError("sklearn.base.clone must give back the options themselves. Do not override it.")
    parameter = _PARAMETERS.get(bench.kind)
    if parameter is None:
        return
    components: dict[str, Any] = {parameter: options}
    clf = MultiLabelClassifier(**components)
    missing = [name for name in names if f"{parameter}__{name}" not in clf.get_params()]
    if missing:
        raise ConformanceError(f"The estimator's get_params() lacks {missing}.")
    for name in names:
        clf.set_params(**{f"{parameter}__{name}": getattr(options, name)})
    if (now := getattr(clf, parameter)) != options:
        raise ConformanceError(f"set_params with the values of {options!r} made {now!r} of them.")


def check_options_schema(bench: Workbench) -> str:
    """Options saved by the last release can be read, or the record's version has been raised."""
    path = bench.session.schemas
    if path is None:
        raise NotApplicable(
            "no snapshot of the last release's options was given: mlclf plugins check ID --write-schemas FILE writes "
            "one, schemas=FILE compares with it"
        )
    saved = read_snapshot(path).get(entry_of(bench.kind, bench.name))
    if saved is None:
        raise NotApplicable(f"{path.name} does not name it: it is new since that release")
    version, schema = saved["version"], saved["schema"]
    if bench.spec.version < version:
        raise ConformanceError(
            f"ComponentSpec {bench.name!r} has version={bench.spec.version}, {path.name} has {version}. "
            "A version is never lowered."
        )
    broken = unreadable(schema, schema_of(bench.options_class))
    if broken and bench.spec.version == version:
        raise ConformanceError(
            f"Options saved by the last release cannot be read any more: {'; '.join(broken)}. Keep the old name and "
            f"type, or set version={version + 1} in ComponentSpec {bench.name!r} and say so in the changelog."
        )
    return f"version {bench.spec.version}, snapshot of version {version}"


OPTIONS_CHECKS = (
    check_declaration,
    check_options_have_defaults,
    check_options_are_frozen,
    check_options_refuse_unknown_names,
    check_options_as_json,
    check_options_can_be_pickled,
    check_options_work_in_scikit_learn,
    check_options_schema,
)
