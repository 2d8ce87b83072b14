"""A test report as JSON and as JUnit XML. Pure: bytes out, no file."""

from __future__ import annotations

import json
import re
from typing import Final
from xml.etree import ElementTree

from kiln.trial.model import CheckResult, TestReport
from kiln_wire.codec import encode

REPORT_KIND: Final = "kiln.test-report/v1"

# XML 1.0, section 2.2: no document can hold these, not even escaped.
_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def report_json(report: TestReport) -> bytes:
    """Return *report* for programs. Durations are fractions of seconds, so this is not a canonical document."""
    document = {"kind": REPORT_KIND, "verdict": report.verdict, **encode(report)}
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def report_junit(report: TestReport) -> bytes:
    """Return *report* in the JUnit form that CI systems read: one test case a check, classes are assertion types."""
    verdicts = [check.verdict for check in report.checks]
    suite = ElementTree.Element(
        "testsuite",
        name="kiln.trial",
        tests=str(len(verdicts)),
        failures=str(verdicts.count("fail")),
        errors=str(verdicts.count("error")),
        skipped=str(verdicts.count("skip")),
        time=f"{report.total_seconds:.3f}",
    )
    properties = ElementTree.SubElement(suite, "properties")
    machine = report.machine
    for name, value in (
        ("image", report.image_digest),
        ("emulator", machine.emulator),
        ("accelerator", machine.accelerator),
        ("firmware", machine.firmware),
        ("bootSeconds", f"{report.boot_seconds:.3f}"),
    ):
        ElementTree.SubElement(properties, "property", name=name, value=_xml_text(value))
    for check in report.checks:
        _add_case(suite, check)
    ElementTree.indent(suite)
    return bytes(ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)) + b"\n"


def _add_case(suite: ElementTree.Element, check: CheckResult) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", classname=f"kiln.{check.type}", name=_xml_text(check.name), time=f"{check.seconds:.3f}"
    )
    text = _xml_text(f"expected: {check.expected}\ngot: {check.got}\nasked for by: {check.reason}")
    match check.verdict:
        case "fail":
            ElementTree.SubElement(case, "failure", message=_xml_text(check.got)).text = text
        case "error":
            ElementTree.SubElement(case, "error", message=_xml_text(check.got)).text = text
        case "skip":
            ElementTree.SubElement(case, "skipped", message=_xml_text(check.got))
        case "pass":
            pass


def _xml_text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
