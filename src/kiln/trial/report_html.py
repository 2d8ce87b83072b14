"""A test report as one HTML page that needs nothing but itself. Pure: bytes out, no file."""

from __future__ import annotations

from html import escape
from typing import Final

from kiln.trial.model import CheckResult, TestReport

_STYLE: Final = (
    "body{font:14px/1.4 sans-serif;margin:2em;color:#222}table{border-collapse:collapse;width:100%}"
    "th,td{border-bottom:1px solid #ddd;padding:.3em .6em;text-align:left;vertical-align:top}"
    ".pass{color:#17692b}.fail,.error{color:#a11;font-weight:bold}.skip{color:#666}td.n{text-align:right}"
)
_ORDER: Final = {"error": 0, "fail": 1, "skip": 2, "pass": 3}
"""What somebody must look at comes first."""


def report_html(report: TestReport) -> bytes:
    """Return *report* for people: the verdict, the machine, and a row for each check, what failed first."""
    machine = report.machine
    passed = sum(check.verdict == "pass" for check in report.checks)
    rows = "\n".join(_row(check) for check in sorted(report.checks, key=lambda check: _ORDER[check.verdict]))
    text = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Test report: {escape(report.verdict)}</title>
<style>{_STYLE}</style>
<h1>Test report: <span class="{report.verdict}">{escape(report.verdict)}</span></h1>
<p>{passed} of {len(report.checks)} checks passed; booted in {report.boot_seconds:.0f} s, {report.total_seconds:.0f} s
altogether, with {escape(machine.emulator)} ({machine.accelerator}, {machine.firmware}, {machine.memory_mib} MiB,
{machine.cpus} processors).</p>
<p>Image: <code>{escape(report.image_digest)}</code></p>
<table>
<tr><th>verdict<th>check<th>expected<th>found<th>asked for by<th>seconds
{rows}
</table>
</html>
"""
    return text.encode("utf-8", "replace")


def _row(check: CheckResult) -> str:
    found = escape(check.got)
    if check.evidence:
        found += f' (<a href="{escape(check.evidence)}">evidence</a>)'
    cells = "".join(f"<td>{cell}" for cell in (escape(check.name), escape(check.expected), found, escape(check.reason)))
    return f'<tr><td class="{check.verdict}">{check.verdict}{cells}<td class="n">{check.seconds:.2f}'
