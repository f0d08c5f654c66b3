"""What came of checks: one result each, and the report of a run."""

from __future__ import annotations

import unittest
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mlclf.exceptions import ConformanceError

Status = Literal["passed", "failed", "expected", "unexpected", "not applicable"]

_FAILURES: frozenset[Status] = frozenset({"failed", "unexpected"})
_TITLES: dict[Status, str] = {
    "failed": "Failed",
    "unexpected": "Passed, although they are expected to fail",
    "expected": "Failed as expected",
    "not applicable": "Do not apply",
    "passed": "Passed",
}


class NotApplicable(unittest.SkipTest):
    """A check's rule does not concern this component; the message says why. pytest reports it as skipped."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What came of one check.

    Parameters
    ----------
    id : str
        ``"check_name[component]"``.
    rule : str
        What is asked for, in one sentence.
    status : {"passed", "failed", "expected", "unexpected", "not applicable"}
        "expected" is a failure that was announced, "unexpected" an announced failure that did not happen.
    message : str
        What is wrong and what to change; why the check does not apply; what was measured.
    details : str
        Traceback of an error that the component raised, or empty.
    seconds : float
        How long it took.
    """

    id: str
    rule: str
    status: Status
    message: str = ""
    details: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        message = f": {self.message}" if self.message else ""
        return f"{self.id}{message}"


@dataclass(frozen=True, kw_only=True)
class ConformanceReport:
    """What came of a run of checks.

    Parameters
    ----------
    subject : str
        What was checked.
    results : tuple of CheckResult
        In the order in which they ran.

    Examples
    --------
    >>> results = (CheckResult(id="check_shapes[acme:x]", rule="Shapes are right.", status="passed"),)
    >>> print(ConformanceReport(subject="plugin 'acme'", results=results))
    plugin 'acme': 1 check passed.
    """

    subject: str
    results: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed but what was expected to."""
        return not any(result.status in _FAILURES for result in self.results)

    def of(self, status: Status) -> tuple[CheckResult, ...]:
        """Return the results of one status."""
        return tuple(result for result in self.results if result.status == status)

    def raise_for_failures(self) -> None:
        """Raise where something failed.

        Raises
        ------
        ConformanceError
            With everything that failed, and the rules.
        """
        if not self.passed:
            raise ConformanceError(str(self))

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "subject": self.subject,
            "passed": self.passed,
            "results": [asdict(result) for result in self.results],
        }

    def __str__(self) -> str:
        lines = [f"{self.subject}: {_counts(self.results)}."]
        for status in ("failed", "unexpected", "expected", "not applicable"):
            if found := self.of(status):
                lines += ["", f"{_TITLES[status]}:", *(line for result in found for line in _lines(result))]
        return "\n".join(lines)


def _counts(results: Iterable[CheckResult]) -> str:
    """Return how many checks ended in each way, as a sentence without its full stop."""
    statuses = [result.status for result in results]
    words = {
        "passed": "passed",
        "failed": "failed",
        "unexpected": "passed although expected to fail",
        "expected": "failed as expected",
        "not applicable": "did not apply",
    }
    parts = [(statuses.count(status), word) for status, word in words.items() if status in statuses]
    first = [f"{parts[0][0]} check{'' if parts[0][0] == 1 else 's'} {parts[0][1]}"] if parts else ["no checks"]
    return ", ".join([*first, *(f"{count} {word}" for count, word in parts[1:])])


def _lines(result: CheckResult) -> list[str]:
    """Return a result for people: a failure with its rule and the traceback, others in one line."""
    if result.status not in _FAILURES:
        return [f"  {result}"]
    details = [f"    | {line}" for line in result.details.rstrip().splitlines()]
    return [f"  {result}", f"    Rule: {result.rule}", *details]
