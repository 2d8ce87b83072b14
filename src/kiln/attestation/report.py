"""The test report as an in-toto test-result predicate (version 0.1), and its summary. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiln.trial.model import TestReport, Verdict
from kiln_wire import layout
from kiln_wire.digest import Digest
from kiln_wire.statement import digest_set
from kiln_wire.verification import TestSummary, summary_verdict


def result_predicate(report: TestReport, files: Mapping[str, Digest]) -> dict[str, Any]:
    """Return the predicate: PASSED, FAILED, or WARNED where all is well but some checks were skipped.

    A check that could not be carried out is a failed one; a skipped one is a warning.
    """
    skipped = _names(report, "skip")
    result = "FAILED" if report.verdict != "pass" else "WARNED" if skipped else "PASSED"
    return {
        "result": result,
        "configuration": [
            {"name": name, "digest": digest_set(files[name])} for name in (layout.RECIPE, layout.RESOLUTION)
        ],
        "passedTests": _names(report, "pass"),
        "warnedTests": skipped,
        "failedTests": _names(report, "fail") + _names(report, "error"),
    }


def summarise(report: TestReport) -> TestSummary:
    """Return how many checks ended how."""
    passed, failed, errors, skipped = (len(_names(report, verdict)) for verdict in ("pass", "fail", "error", "skip"))
    counts = TestSummary("error", passed, failed, errors, skipped)
    return TestSummary(summary_verdict(counts), passed, failed, errors, skipped)


def _names(report: TestReport, verdict: Verdict) -> list[str]:
    return [check.name for check in report.checks if check.verdict == verdict]
