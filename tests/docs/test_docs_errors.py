"""docs/errors.md has a row for each reason that the code can give, and no other."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import pytest
from pages import ROOT, page, rows, sections, words
from reason_walk import Maker, Reason, Walk, parameter, text, walk

from kiln.errors import Domain, ExitStatus
from kiln_wire.codec import decode, encode
from kiln_wire.digest import Digest
from kiln_wire.finding import UNTRUSTED_KEY
from kiln_wire.verification import Bindings, BoundFile, TestSummary, Verification, check_verification

KILN_ERROR = Maker(
    ("domain", "reason", "message", "place", "detail", "hint", "exit_status", "retriable"),
    {"exit_status": text("failed"), "retriable": text("False")},
    {
        "domain": parameter("domain"),
        "reason": parameter("reason"),
        "status": parameter("exit_status"),
        "retriable": parameter("retriable"),
    },
)
# Problems.error turns a Problem into a KilnError: its reason travels in an attribute, where no walk can follow.
PROBLEM = Maker(
    ("reason", "message", "line", "column", "path", "hint", "domain"),
    {"domain": text("recipe")},
    {"domain": parameter("domain"), "reason": parameter("reason"), "status": text("usage"), "retriable": text("False")},
)
# unlocked.model.refuse turns such a finding into a KilnError.
MISTAKE = Maker(
    ("reason", "path", "expected", "got", "change", "advice"),
    {},
    {"domain": text("manifest"), "reason": parameter("reason"), "status": text("usage"), "retriable": text("False")},
)
CARRIERS = {
    ("kiln.errors", "KilnError"): KILN_ERROR,
    ("kiln.authoring.recipe.problems", "Problem"): PROBLEM,
    ("kiln.authoring.unlocked.model", "Finding"): MISTAKE,
}
PASSED_ON = {
    ("kiln.authoring.recipe.problems", "Problems.error"),
    ("kiln.authoring.unlocked.model", "refuse"),
    ("kiln.authoring.lock.indexes", "_named"),  # repeats the fetcher's reason
    ("kiln.artifact.oci.model", "unusable"),  # repeats the reason of an OciError
    ("kiln.attestation.targets", "_readable"),  # likewise
    ("kiln.attestation.trust_author", "bad_root"),  # repeats the reason of a MetadataError
    ("kiln.engine.execution.sources", "SourceFailedError.__init__"),  # repeats the reason of what it wraps
}
# catalog/data.py gives these problems the domain `catalog` after it has made them.
OTHER_DOMAIN = {("recipe", "bad-catalog")}


def carrier(*parameters: str) -> Maker:
    fields = {"domain": text(""), "reason": parameter("reason"), "status": parameter("severity")}
    return Maker(parameters, {"severity": text("error")}, fields)


FINDING = {("kiln_wire.finding", "Finding"): carrier("step", "component", "reason", "expected", "got", "severity")}
FINDINGS: Mapping[tuple[str, str], Maker] = {
    **FINDING,
    ("kiln_wire.files", "FileError"): carrier("name", "reason", "problem"),
    ("kiln_wire.dsse", "BundleError"): carrier("reason", "problem"),
    ("kiln_wire.note", "NoteError"): carrier("reason", "problem"),
    ("kiln_wire.oci", "OciError"): carrier("component", "reason", "problem"),
    ("kiln_wire.tuf", "MetadataError"): carrier("name", "reason", "problem"),
}
STATUS = {status.name.lower().replace("_", "-"): str(int(status)) for status in ExitStatus}


@functools.cache
def errors() -> Walk:
    return walk(ROOT / "src/kiln", "kiln", CARRIERS)


def documented(domain: Domain) -> dict[str, str]:
    table = rows(sections(page("errors.md"))[domain.value])
    result = {words(row[0])[0]: row[1] for row in table}
    assert len(result) == len(table), f"{domain.value}: a reason has two rows"
    assert all(row[2] and row[3] for row in table)
    return result


def exit_cell(found: list[Reason]) -> str:
    statuses = " or ".join(sorted({STATUS[reason.status] for reason in found}))
    return f"{statuses}, retry" if any(reason.retriable for reason in found) else statuses


@pytest.mark.parametrize("domain", Domain, ids=lambda domain: domain.value)
def test_every_reason_of_a_domain_has_its_row_with_its_exit_status(domain: Domain) -> None:
    found: dict[str, list[Reason]] = {}
    for reason in errors().reasons:
        if reason.domain == domain.value and (reason.domain, reason.reason) not in OTHER_DOMAIN:
            found.setdefault(reason.reason, []).append(reason)
    assert documented(domain) == {name: exit_cell(reasons) for name, reasons in found.items()}


def test_no_reason_escapes_the_walk() -> None:
    assert errors().dynamic == PASSED_ON
    assert {reason.domain for reason in errors().reasons} == {domain.value for domain in Domain}
    assert {(reason.domain, reason.reason) for reason in errors().reasons} >= OTHER_DOMAIN


def test_the_walk_follows_helpers_classes_and_formatted_reasons() -> None:
    found = {(reason.domain, reason.reason) for reason in errors().reasons}
    assert ("trial", "no-space") in found  # kiln.errors.disk_full takes the domain
    assert ("engine", "stage-timeout") in found  # StageFailedError's constructor takes the reason
    assert ("lock", "unknown-component") in found  # f"unknown-{what}"
    assert ("catalog", "sysctl-clash") in found  # stored by Wishes, raised by its method
    assert ("recipe", "missing-key") in found  # Value.problem makes a Problem


def test_every_finding_of_a_verification_has_its_row_with_its_severity() -> None:
    found = {(reason.reason, reason.status) for reason in walk(ROOT / "src/kiln_wire", "kiln_wire", FINDINGS).reasons}
    found |= {(UNTRUSTED_KEY, "note")} | {(reason, "error") for reason in own_contradictions()}
    table = rows(sections(page("errors.md"))["kiln verify"])
    assert sorted((words(row[0])[0], row[1]) for row in table) == sorted(found)


def own_contradictions() -> tuple[str, ...]:
    """What check_verification can say: it returns words, which verify makes findings of."""
    digest = Digest.of(b"")
    file = BoundFile("box.qcow2", digest, 1)
    document = Verification(
        kind="kiln.verification/v1",
        verification_id="sha256:0",
        name="box",
        base="debian-12",
        architecture="amd64",
        epoch=0,
        bindings=Bindings(file, file, digest, digest, digest, digest),
        tests=TestSummary("pass", 0, 1, 0, 0),
    )
    return check_verification(decode(Verification, encode(document)))


def test_every_finding_of_the_chain_of_records_has_its_row() -> None:
    found = {reason.reason for reason in walk(ROOT / "src/kiln/records", "kiln.records", FINDING).reasons}
    tables = (rows(sections(page("errors.md"))[heading]) for heading in ("kiln records check", "kiln log monitor"))
    assert sorted(words(row[0])[0] for table in tables for row in table) == sorted(found)
