"""A loss, calibrator or augmentation of a test, registered and held to the rules of the conformance kit."""

from __future__ import annotations

from typing import Any

from mlclf.interfaces import Augmentation, Calibrator
from mlclf.losses import MultiLabelLoss
from mlclf.plugins import PluginManager, register_augmentation, register_calibrator, register_loss, use_manager
from mlclf.testing import ConformanceReport, component_checks, run_checks
from mlclf.testing.conformance.catalogue import COMPONENT_CHECKS

KINDS: dict[type[Any], tuple[Any, Any]] = {
    MultiLabelLoss: ("loss", register_loss),
    Calibrator: ("calibrator", register_calibrator),
    Augmentation: ("augmentation", register_augmentation),
}


def report_of(component: type[Any], *only: str) -> ConformanceReport:
    """Register a class under the name of its options, and check it."""
    kind, register = next(KINDS[base] for base in KINDS if issubclass(component, base))
    with use_manager(PluginManager(entry_points=[], environ={})):
        register(component, component.Options.component)
        checks = component_checks(kind, component.Options.component)
        return run_checks([check for check in checks if not only or check.name in only])


def failures(component: type[Any], *only: str) -> set[str]:
    """Names of the checks that fail."""
    return {result.id.partition("[")[0] for result in report_of(component, *only).of("failed")}


def not_applicable(component: type[Any], check: str) -> str:
    """Why a check does not apply."""
    (result,) = report_of(component, check).of("not applicable")
    return result.message


def checks_of_kind(kind: Any) -> set[str]:
    """Names of the checks that are particular to a kind."""
    return {run.__name__ for run in COMPONENT_CHECKS[kind] if run.__name__.startswith(f"check_{kind}_")}
