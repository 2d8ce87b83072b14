"""Each rule of a policy holds or is named, by what is signed and by nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from trust_sample import DAY, NOW, Machine, machine

from kiln.attestation.approve import add_statement, approval
from kiln.attestation.policy import read_policy
from kiln.attestation.signer import sign_statement
from kiln.errors import KilnError
from kiln_wire import layout
from kiln_wire.codec import decode
from kiln_wire.dsse import read_bundle
from kiln_wire.licence import LicenceError, satisfied
from kiln_wire.policy import Policy
from kiln_wire.scan import ScanError, read_harmless, read_scan
from kiln_wire.statement import APPROVAL_TYPE, OPENVEX_TYPE, VULNERABILITIES_TYPE, read_statement, statement_json


@pytest.fixture
def box(tmp_path: Path) -> Machine:
    return machine(tmp_path)


@pytest.fixture
def image(box: Machine, tmp_path: Path) -> Path:
    return box.image(tmp_path / "box")


def rules(**fields: Any) -> Policy:
    return decode(Policy, {"kind": "kiln.policy/v1", **fields})


def named(box: Machine, image: Path, policy: Policy, now: int = NOW) -> set[str]:
    result = box.verify(image, now, policy)
    found = {item.reason for item in result.findings if item.severity == "error"}
    assert {item.step for item in result.findings if item.severity == "error"} <= {"policy"}
    assert (result.verdict == "verified") == (not found)
    return found


def state(box: Machine, image: Path, name: str, kind: str, predicate: Any) -> None:
    """Put a signed statement into the image, as a build would have."""
    leading = read_statement(read_bundle((image / layout.PROVENANCE_BUNDLE).read_bytes()).unverified_payload)
    payload = statement_json(leading.subjects, kind, predicate)
    (image / name).write_bytes(sign_statement(box.ring.signer("image-vault"), payload))


def scan(*results: tuple[str, str], vex: str = "", covered: bool = True, finished: str = "2026-01-01T00:00:00Z") -> Any:
    def entry(name: str, score: str) -> dict[str, Any]:
        notes = [{"component": "x", **({"vex": {"status": vex}} if vex else {})}]
        return {"id": name, "severity": [{"method": "CVSSv3", "score": score}], "annotations": notes}

    coverage = [{"ecosystem": "deb", "components": 3, "covered": covered}]
    return {
        "scanner": {
            "uri": "urn:x",
            "db": {},
            "result": [entry(*item) for item in results],
            "annotations": [{"verdict": "findings", "coverage": coverage}],
        },
        "metadata": {"scanStartedOn": finished, "scanFinishedOn": finished},
    }


def test_an_empty_policy_allows_everything(box: Machine, image: Path) -> None:
    assert named(box, image, rules()) == set()


def test_required_statements(box: Machine, image: Path) -> None:
    assert (
        named(box, image, rules(require=["provenance", "cyclonedx", "spdx", "tests", "verification", "record"]))
        == set()
    )
    assert named(box, image, rules(require=["approval"])) == {"statement-required"}
    assert named(box, image, rules(require=["urn:other"])) == {"statement-required"}


def test_signers_with_roles_and_thresholds(box: Machine, image: Path) -> None:
    two = rules(signers=[{"statement": "approval", "role": "approver", "threshold": 2}])
    assert named(box, image, two) == {"too-few-signers"}
    for name in ("approver", "approver.2"):
        signer = box.ring.signer(name)
        box.store.enrol("approver", signer.public_key, NOW)
        add_statement(image, name.replace(".", "-"), APPROVAL_TYPE, approval("me", "good", "", ""), signer)
        expected = set() if name == "approver.2" else {"too-few-signers"}
        assert named(box, image, two) == expected
    hint = box.ring.signer("image-vault").public_key.hint
    assert named(box, image, rules(signers=[{"statement": "tests", "keys": [hint]}])) == set()
    assert named(box, image, rules(signers=[{"statement": "tests", "keys": ["x"]}])) == {"too-few-signers"}
    assert named(box, image, rules(signers=[{"statement": "tests", "role": "approver"}])) == {"too-few-signers"}


def test_the_same_key_twice_is_one_signer(box: Machine, image: Path) -> None:
    signer = box.ring.signer("approver")
    box.store.enrol("approver", signer.public_key, NOW)
    for name in ("one", "two"):
        add_statement(image, name, APPROVAL_TYPE, approval("me", "good", "", ""), signer)
    two = rules(signers=[{"statement": "approval", "role": "approver", "threshold": 2}])
    assert named(box, image, two) == {"too-few-signers"}


def _without(image: Path, *names: str) -> None:
    """Take away what lists the scan's absence: an image without record is verified, too."""
    for name in (layout.RECORD, layout.RECORD_BUNDLE, layout.LOG_PROOF, *names):
        (image / name).unlink(missing_ok=True)


def test_vulnerabilities_by_severity(box: Machine, image: Path) -> None:
    _without(image, layout.SCAN_BUNDLE, layout.VEX_BUNDLE, layout.VEX)
    strict = rules(vulnerabilities={"maxCritical": 0, "maxHigh": 1})
    assert named(box, image, strict) == {"not-scanned"}
    found = (("CVE-1", "9.8"), ("CVE-2", "7.0"), ("CVE-3", "5.0"), ("CVE-4", "none"))
    state(box, image, layout.SCAN_BUNDLE, VULNERABILITIES_TYPE, scan(*found))
    assert named(box, image, strict) == {"vulnerable"}
    assert named(box, image, rules(vulnerabilities={"maxCritical": 1, "maxHigh": 1, "maxUnknown": 0})) == set()
    assert named(box, image, rules(vulnerabilities={"maxCritical": 0, "accepted": ["CVE-1"]})) == set()
    assert named(box, image, rules(vulnerabilities={"maxScanAgeDays": 2})) == set()
    assert named(box, image, rules(vulnerabilities={"maxScanAgeDays": 1})) == {"scan-too-old"}
    state(box, image, layout.SCAN_BUNDLE, VULNERABILITIES_TYPE, scan(*found, vex="not_affected"))
    assert named(box, image, strict) == set()


def test_what_was_not_covered_is_not_clean(box: Machine, image: Path) -> None:
    _without(image, layout.SCAN_BUNDLE, layout.VEX_BUNDLE, layout.VEX)
    state(box, image, layout.SCAN_BUNDLE, VULNERABILITIES_TYPE, scan(covered=False))
    assert named(box, image, rules(vulnerabilities={"maxCritical": 0})) == {"not-scanned"}
    assert named(box, image, rules(vulnerabilities={"maxCritical": 0, "uncovered": "allow"})) == set()


def test_a_vex_statement_takes_a_vulnerability_out(box: Machine, image: Path) -> None:
    _without(image, layout.SCAN_BUNDLE, layout.VEX_BUNDLE, layout.VEX)
    state(box, image, layout.SCAN_BUNDLE, VULNERABILITIES_TYPE, scan(("CVE-1", "critical")))
    zero = rules(vulnerabilities={"maxCritical": 0})
    assert named(box, image, zero) == {"vulnerable"}
    statement = {"vulnerability": {"name": "GHSA-1", "aliases": ["CVE-1"]}, "status": "not_affected"}
    vex = {"@context": "x", "statements": [statement]}
    assert read_harmless([vex]) == {"GHSA-1", "CVE-1"}
    assert read_harmless([{"statements": [{**statement, "status": "affected"}]}]) == set()
    state(box, image, layout.VEX_BUNDLE, OPENVEX_TYPE, vex)
    assert named(box, image, zero) == set()


@pytest.mark.parametrize(
    "predicate", [{}, {"scanner": {"result": 5}}, {"scanner": {"result": [{"id": 1}]}}, scan(finished="x")]
)
def test_a_scan_of_another_shape_is_a_finding(predicate: Any) -> None:
    with pytest.raises(ScanError):
        read_scan(predicate)


def test_tests(box: Machine, image: Path) -> None:
    assert named(box, image, rules(tests={"minPassed": 2, "maxSkipped": 0, "required": ["check-1"]})) == set()
    for rule in ({"minPassed": 3}, {"required": ["check-9"]}):
        assert named(box, image, rules(tests=rule)) == {"tests-required"}


def test_transparency(box: Machine, image: Path) -> None:
    assert named(box, image, rules(transparency={})) == set()
    assert named(box, image, rules(transparency={"minWitnesses": 1})) == {"not-in-log"}
    (image / layout.LOG_PROOF).unlink()
    assert named(box, image, rules(transparency={})) == {"not-in-log"}
    assert named(box, image, rules(transparency={"required": False})) == set()


def test_base_and_age(box: Machine, image: Path) -> None:
    assert named(box, image, rules(bases=["debian-12", "debian-13"])) == set()
    assert named(box, image, rules(bases=["debian-13"])) == {"forbidden-base"}
    assert named(box, image, rules(maxAgeDays=10)) == set()
    assert named(box, image, rules(maxAgeDays=10), NOW + 11 * DAY) == {"too-old"}


def test_packages_and_licences(box: Machine, image: Path) -> None:
    assert named(box, image, rules(forbiddenPackages=["telnetd"])) == set()
    assert named(box, image, rules(forbiddenPackages=["libc6"])) == {"forbidden-package"}
    assert named(box, image, rules(licences={"allow": ["Nothing-1.0"], "unknown": "deny"})) <= {
        "forbidden-licence",
        "unknown-licence",
    }
    assert named(box, image, rules(licences={"deny": ["Nothing-1.0"]})) == set()


@pytest.mark.parametrize(
    ("expression", "good"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("(GPL-3.0-only OR MIT) AND BSD-3-Clause", True),
        ("GPL-3.0-only OR MIT AND GPL-3.0-only", False),
        ("MIT WITH Some-exception", True),
    ],
)
def test_licence_expressions(expression: str, good: bool) -> None:
    assert satisfied(expression, lambda licence: licence in ("MIT", "BSD-3-Clause")) is good


@pytest.mark.parametrize(
    "text", ["", "MIT AND", "(MIT", "MIT)", "OR MIT", "MIT & BSD", "MIT MIT", "(" * 100 + "MIT" + ")" * 100]
)
def test_what_is_no_licence_expression(text: str) -> None:
    with pytest.raises(LicenceError):
        satisfied(text, lambda _: True)


def test_a_policy_file_is_yaml_or_json(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("kind: kiln.policy/v1\nrequire: [vex]\ntests: {minPassed: 3}\n")
    (tmp_path / "p.json").write_text(
        json.dumps({"kind": "kiln.policy/v1", "require": ["vex"], "tests": {"minPassed": 3}})
    )
    assert read_policy(tmp_path / "p.yaml") == read_policy(tmp_path / "p.json")


@pytest.mark.parametrize(
    ("text", "line", "path"),
    [
        ("kind: kiln.policy/v1\nrequires: [vex]\n", None, "$.requires"),
        ("kind: kiln.policy/v2\n", None, "$.kind"),
        ("kind: kiln.policy/v1\ntests: {minPassed: many}\n", None, "$.tests.minPassed"),
        ("kind: kiln.policy/v1\nkind: kiln.policy/v1\n", 2, ""),
        ("a: [", 2, ""),
    ],
)
def test_a_bad_policy_is_refused_with_its_place(tmp_path: Path, text: str, line: int | None, path: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(KilnError) as caught:
        read_policy(tmp_path / "p.yaml")
    assert (caught.value.reason, caught.value.exit_status) == ("bad-policy", 2)
    assert caught.value.place is not None
    assert (caught.value.place.line, caught.value.place.path) == (line, path)


def test_the_policy_of_the_page_can_be_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/verify.md").read_text(encoding="utf-8")
    block = page[page.index("    kind: kiln.policy/v1") :].partition("\n\n")[0]
    (tmp_path / "p.yaml").write_text("\n".join(line[4:] for line in block.splitlines()))
    policy = read_policy(tmp_path / "p.yaml")
    assert policy.signers[1].threshold == 2


def test_statements_of_a_build_cannot_be_added_afterwards(box: Machine, image: Path) -> None:
    with pytest.raises(KilnError) as caught:
        add_statement(image, "x", VULNERABILITIES_TYPE, {}, box.ring.signer("image-vault"))
    assert caught.value.reason == "statement-known"
