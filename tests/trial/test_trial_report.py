"""Reports that other programs can read, whatever a guest printed."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiln.trial.evaluate import CheckOutcome
from kiln.trial.model import CheckResult, Machine, TestReport
from kiln.trial.report import report_json, report_junit
from kiln.trial.report_html import report_html
from kiln.trial.run import with_evidence

MACHINE = Machine("QEMU 7.2", "tcg", "bios", 2048, 2)


def report(*checks: CheckResult) -> TestReport:
    return TestReport("sha256:" + "0" * 64, MACHINE, 12.3456, 20.0, checks)


def result(verdict, text: str = "x") -> CheckResult:
    return CheckResult(f"command {text}", "command", (("run", text),), text, verdict, text, text, 0.25)


def test_junit_counts_and_marks_each_verdict() -> None:
    root = ElementTree.fromstring(report_junit(report(*map(result, ("pass", "fail", "error", "skip")))))
    assert root.attrib["tests"] == "4"
    assert (root.attrib["failures"], root.attrib["errors"], root.attrib["skipped"]) == ("1", "1", "1")
    children = [[child.tag for child in case] for case in root.iter("testcase")]
    assert children == [[], ["failure"], ["error"], ["skipped"]]


@given(st.text(max_size=100))
def test_junit_is_well_formed_whatever_the_guest_printed(text: str) -> None:
    root = ElementTree.fromstring(report_junit(report(result("fail", text))))
    assert root.find("testcase/failure") is not None


@given(st.text(max_size=100))
def test_json_is_read_back(text: str) -> None:
    document = json.loads(report_json(report(result("pass", text))))
    assert document["kind"] == "kiln.test-report/v1"
    assert document["verdict"] == "pass"
    assert document["machine"]["memoryMib"] == 2048
    assert document["checks"][0]["params"].keys() == {"run"}


def test_a_test_without_checks_is_no_pass() -> None:
    assert json.loads(report_json(report()))["verdict"] == "error"


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(max_size=100))
def test_the_page_holds_what_the_guest_printed_as_text_only(text: str) -> None:
    page = _Page()
    page.feed(report_html(report(result("pass", "plain"), result("fail", text))).decode())
    assert page.tags.count("tr") == 3
    assert "script" not in page.tags
    assert page.text.index("fail") < page.text.index("plain")


@pytest.mark.parametrize(
    ("verdict", "keep", "kept"), [("fail", False, True), ("pass", False, False), ("pass", True, True)]
)
def test_long_output_is_kept_of_what_failed_and_of_reports(tmp_path: Path, verdict, keep: bool, kept: bool) -> None:
    found = with_evidence(7, CheckOutcome(result(verdict), "every control", keep), tmp_path)
    assert found.evidence == ("check-007-command.txt" if kept else "")
    assert [path.read_text() for path in tmp_path.iterdir()] == (["every control"] if kept else [])
