"""Running checks: of an installed plugin, of one component, as a report or one by one."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlclf.exceptions import ConformanceError, MlclfError, OptionsError
from mlclf.hints import did_you_mean
from mlclf.plugins import KINDS, Kind, PluginManager, get_manager
from mlclf.plugins.builtins import BUILTINS
from mlclf.testing.conformance.catalogue import COMPONENT_CHECKS, PACKAGE_CHECKS
from mlclf.testing.conformance.packaging import Package
from mlclf.testing.conformance.results import CheckResult, ConformanceReport, NotApplicable
from mlclf.testing.conformance.session import ComponentOptions, Session
from mlclf.testing.conformance.workbench import Workbench

BUILT_IN = "mlclf"

Expected = Mapping[str, str]


@dataclass(frozen=True)
class Check:
    """One check of one component or package; call it to run it.

    Parameters
    ----------
    name : str
        ``"check_..."``.
    subject : str
        Name of the component, or plugin id.
    rule : str
        What is asked for, in one sentence.
    session : Session
        What it shares with other checks.
    run : callable
        Returns what was measured, or None.
    """

    name: str
    subject: str
    rule: str
    session: Session
    run: Callable[[], str | None]

    @property
    def id(self) -> str:
        """``"check_name[subject]"``."""
        return f"{self.name}[{self.subject}]"

    def __call__(self) -> str | None:
        """Run the check.

        Returns
        -------
        str or None
            What was measured.

        Raises
        ------
        ConformanceError
            If the rule is broken.
        NotApplicable
            If the rule does not concern the component.
        """
        with self.session.active():
            return self.run()

    def expected_failure(self, expected: Expected) -> str | None:
        """Return the reason for which this check is expected to fail, None where it is not."""
        return expected.get(self.id, expected.get(self.name))


def plugin_checks(
    plugin_id: str,
    *,
    options: Mapping[str, ComponentOptions] | None = None,
    schemas: str | Path | None = None,
    manager: PluginManager | None = None,
) -> list[Check]:
    """Return the checks of an installed plugin: of its package, and of each of its components.

    Imports the plugin's declaration; its components are imported when the checks run.

    Parameters
    ----------
    plugin_id : str
        Plugin id; ``"mlclf"`` stands for the built-in components.
    options : mapping of str to Options or callable, or None
        Options to check components with, by component name, where default ones are too large for a test or need a
        network. A callable is given the names of the labels.
    schemas : path or None
        Snapshot of the last release's options, which ``mlclf plugins check ID --write-schemas FILE`` wrote.
    manager : PluginManager or None
        Where the plugin is looked up; None takes that of the process.

    Returns
    -------
    list of Check

    Raises
    ------
    PluginError
        If the plugin is not installed or cannot be used.

    Examples
    --------
    >>> checks = plugin_checks("mlclf")
    >>> checks[0].id
    'check_declaration[bert]'
    """
    manager = manager or get_manager()
    session = Session(manager, options, None if schemas is None else Path(schemas))
    components = plugin_components(plugin_id, manager)
    _check_names("options", session.options, [name for _, name in components])
    found = [] if plugin_id == BUILT_IN else _package_checks(session, plugin_id)
    return found + [check for kind, name in components for check in _component_checks(session, kind, name)]


def component_checks(
    kind: Kind,
    name: str,
    *,
    options: ComponentOptions | None = None,
    schemas: str | Path | None = None,
    manager: PluginManager | None = None,
) -> list[Check]:
    """Return the checks of one component: built in, of a plugin, or registered in this process.

    Parameters
    ----------
    kind : {"backbone", "strategy", "head"}
        What it is.
    name : str
        Its registered name.
    options, schemas, manager
        As in :func:`plugin_checks`, the options for this component.

    Returns
    -------
    list of Check

    Examples
    --------
    >>> check = {check.name: check for check in component_checks("head", "bce")}["check_options_as_json"]
    >>> check()
    """
    given = {} if options is None else {name: options}
    return _component_checks(Session(manager, given, None if schemas is None else Path(schemas)), kind, name)


def run_checks(
    checks: Iterable[Check], *, expected_failed_checks: Expected | None = None, subject: str = "checks"
) -> ConformanceReport:
    """Run checks, all of them whatever fails, and return what came of each.

    Parameters
    ----------
    checks : iterable of Check
        From :func:`plugin_checks` or :func:`component_checks`.
    expected_failed_checks : mapping of str to str, or None
        Reason by name of a check (``"check_onnx_parity"``) or by its id (``"check_onnx_parity[acme:attention]"``). A
        check that is expected to fail and does not is a failure.
    subject : str
        What is checked, for the report.

    Returns
    -------
    ConformanceReport

    Raises
    ------
    OptionsError
        If an expected name is that of no check.
    """
    checks = list(checks)
    expected = expected_failed_checks or {}
    check_expected(expected, checks)
    return ConformanceReport(subject=subject, results=tuple(_result(check, expected) for check in checks))


def check_plugin(
    plugin_id: str,
    expected_failed_checks: Expected | None = None,
    *,
    options: Mapping[str, ComponentOptions] | None = None,
    schemas: str | Path | None = None,
    manager: PluginManager | None = None,
) -> ConformanceReport:
    """Check an installed plugin and raise where it breaks a rule.

    Parameters
    ----------
    plugin_id : str
        Plugin id; ``"mlclf"`` stands for the built-in components.
    expected_failed_checks : mapping of str to str, or None
        As in :func:`run_checks`.
    options, schemas, manager
        As in :func:`plugin_checks`.

    Returns
    -------
    ConformanceReport
        Without failures.

    Raises
    ------
    ConformanceError
        With every failed check, its rule, and what to change.
    PluginError
        If the plugin is not installed or cannot be used.

    Examples
    --------
    >>> from mlclf.exceptions import MissingPluginError
    >>> from mlclf.plugins import PluginManager
    >>> try:
    ...     check_plugin("acme", manager=PluginManager(entry_points=[]))
    ... except MissingPluginError as error:
    ...     print(error)
    plugin 'acme' is not installed. Installed plugins: none. A plugin's package is usually named mlclf-acme; see who...
    """
    checks = plugin_checks(plugin_id, options=options, schemas=schemas, manager=manager)
    report = run_checks(checks, expected_failed_checks=expected_failed_checks, subject=f"plugin {plugin_id!r}")
    report.raise_for_failures()
    return report


def plugin_components(plugin_id: str, manager: PluginManager) -> list[tuple[Kind, str]]:
    """Return kind and name of a plugin's components; ``"mlclf"`` stands for the built-in ones."""
    offered = BUILTINS if plugin_id == BUILT_IN else manager.load(plugin_id).components
    return [(kind, spec.name) for kind in KINDS for spec in offered.get(kind, ())]


def check_expected(expected: Expected, checks: Sequence[Check]) -> None:
    """Refuse expected failures of checks that do not exist, or without a reason.

    Raises
    ------
    OptionsError
    """
    _check_names("expected_failed_checks", expected, [*{check.name for check in checks}, *(c.id for c in checks)])
    if silent := [name for name, reason in expected.items() if not reason.strip()]:
        raise OptionsError(f"expected_failed_checks[{silent[0]!r}] has no reason. Say why it may fail.")


def _check_names(argument: str, given: Iterable[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            shown = sorted({entry for entry in known if "[" not in entry})
            raise OptionsError(f"{argument} names {name!r}.{did_you_mean(name, known)} It may name {', '.join(shown)}.")


def _package_checks(session: Session, plugin_id: str) -> list[Check]:
    package = Package(plugin_id, session.manager)
    return [Check(run.__name__, plugin_id, _rule(run), session, partial(run, package)) for run in PACKAGE_CHECKS]


def _component_checks(session: Session, kind: Kind, name: str) -> list[Check]:
    bench = Workbench(session, kind, name)
    return [Check(run.__name__, name, _rule(run), session, partial(run, bench)) for run in COMPONENT_CHECKS[kind]]


def _rule(run: Callable[..., object]) -> str:
    return (run.__doc__ or "").partition("\n")[0].strip()


def _result(check: Check, expected: Expected) -> CheckResult:
    """Run a check and say what came of it; only KeyboardInterrupt and its like pass."""
    started = time.perf_counter()
    reason, details = check.expected_failure(expected), ""
    try:
        message = check() or ""
        status = "passed" if reason is None else "unexpected"
    except NotApplicable as error:
        status, message = "not applicable", str(error)
    except ConformanceError as error:
        status, message = "failed" if reason is None else "expected", str(error)
    except Exception as error:
        status, message = "failed" if reason is None else "expected", f"{type(error).__name__}: {error}"
        details = "" if isinstance(error, MlclfError) and reason else traceback.format_exc()
    if status == "expected":
        message, details = f"{reason} ({message})", ""
    return CheckResult(
        id=check.id,
        rule=check.rule,
        status=status,  # type: ignore[arg-type]  # one of the five
        message=message,
        details=details,
        seconds=time.perf_counter() - started,
    )
