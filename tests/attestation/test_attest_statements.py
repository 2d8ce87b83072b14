"""What the statements say, and what is refused before anything is signed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from image_sample import IMAGE_PACKAGES, SIGNER, make_image, make_inputs, make_report

from kiln.attestation.attest import attest
from kiln.attestation.verify import verify_image
from kiln.errors import Domain, KilnError
from kiln.vulnerabilities.result import Coverage, Finding, Knowledge, ScanResult, Target, scan_bytes
from kiln.vulnerabilities.vex import openvex_document
from kiln_wire.canonical import canonical_json, strict_loads
from kiln_wire.codec import encode
from kiln_wire.digest import Digest
from kiln_wire.dsse import read_bundle
from kiln_wire.statement import read_statement
from kiln_wire.trust import Trust
from kiln_wire.verification import Bindings, BoundFile, TestSummary, build_verification, check_verification


def _predicate(directory: Path, name: str) -> Any:
    data = (directory / f"attestations/{name}.sigstore.json").read_bytes()
    return read_statement(read_bundle(data).unverified_payload).predicate


def test_provenance_names_request_recipe_lock_and_every_source_by_digest(tmp_path: Path) -> None:
    make_image(tmp_path / "box")
    predicate = _predicate(tmp_path / "box", "provenance")
    definition, run = predicate["buildDefinition"], predicate["runDetails"]
    external = definition["externalParameters"]
    assert external.keys() == {"request", "recipe", "lock"}
    assert external["request"]["text"] == "a box with ssh"
    assert external["recipe"]["content"] == strict_loads((tmp_path / "box/recipe.json").read_bytes())
    for value in external.values():
        assert value["digest"] == {"sha256": Digest.of_file(tmp_path / "box" / value["name"]).hex}
    sources = {item["name"]: item for item in definition["resolvedDependencies"]}
    assert sources.keys() == {item.name for item in IMAGE_PACKAGES} | {"mke2fs", "debian bookworm"}
    assert sources["libc6"]["annotations"] == {"trees": ["build", "image"]}
    assert sources["libc6"]["digest"] == {"sha256": IMAGE_PACKAGES[1].digest.hex}
    assert sources["debian bookworm"]["uri"] == "urn:kiln:index:debian:bookworm"
    assert run["builder"] == {"id": "urn:kiln:builder:local:v1", "version": {"kiln": "0.1.0"}}
    assert run["metadata"] == {
        "invocationId": "run-1",
        "startedOn": "2026-01-02T03:04:05Z",
        "finishedOn": "2026-01-02T03:09:05Z",
    }
    assert {item["name"] for item in run["byproducts"]} == {
        "dpkg-manifest",
        "squashfs-hashes.sha256",
        "evidence/build.log",
        "evidence/stages.json",
        "evidence/inventory.json",
        "evidence/report.json",
        "evidence/report.xml",
        "evidence/serial.log",
    }


def test_the_test_statement_has_the_form_of_in_totos_predicate(tmp_path: Path) -> None:
    make_image(tmp_path / "box", verdicts=("pass", "fail", "error", "skip"))
    predicate = _predicate(tmp_path / "box", "test-report")
    assert predicate["result"] == "FAILED"
    assert predicate["passedTests"] == ["check-0"]
    assert predicate["failedTests"] == ["check-1", "check-2"]
    assert predicate["warnedTests"] == ["check-3"]
    assert [item["name"] for item in predicate["configuration"]] == ["recipe.json", "resolution.json"]


def test_all_that_was_written_is_returned_with_its_digest(tmp_path: Path) -> None:
    attested = make_image(tmp_path / "box")
    for file in attested.files:
        assert Digest.of_file(tmp_path / "box" / file.name) == file.digest
        assert (tmp_path / "box" / file.name).stat().st_size == file.size_bytes
    assert len(attested.files) == 3 + 7 + 1
    document = (tmp_path / "box/verification.json").read_bytes()
    assert document == canonical_json(encode(attested.verification))


NEEDED = [
    "request.json",
    "recipe.json",
    "resolution.json",
    "kiln.lock",
    "plan.json",
    "box.qcow2",
    "box.squashfs",
    "squashfs-hashes.sha256",
    "dpkg-manifest",
    "evidence/report.json",
]


@pytest.mark.parametrize("name", NEEDED)
def test_nothing_is_attested_without_its_evidence(tmp_path: Path, name: str) -> None:
    inputs = make_inputs(tmp_path / "box")
    (tmp_path / "box" / name).unlink()
    with pytest.raises(KilnError) as caught:
        attest(inputs, SIGNER)
    assert (caught.value.domain, caught.value.reason) == (Domain.ATTESTATION, "missing-evidence")
    assert name in caught.value.message
    assert not (tmp_path / "box/attestations").exists()


@pytest.mark.parametrize("name", ["recipe.json", "resolution.json"])
def test_a_recipe_or_resolution_that_the_lock_was_not_made_from_is_refused(tmp_path: Path, name: str) -> None:
    inputs = make_inputs(tmp_path / "box")
    (tmp_path / "box" / name).write_bytes(b"{}")
    with pytest.raises(KilnError) as caught:
        attest(inputs, SIGNER)
    assert caught.value.reason == "evidence-disagrees"


def test_a_report_on_another_image_is_refused(tmp_path: Path) -> None:
    inputs = replace(make_inputs(tmp_path / "box"), report=make_report(Digest.of(b"another")))
    with pytest.raises(KilnError) as caught:
        attest(inputs, SIGNER)
    assert caught.value.reason == "evidence-disagrees"


def test_a_time_without_a_zone_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    inputs = replace(make_inputs(tmp_path / "box"), started=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="time zone"):
        attest(inputs, SIGNER)


BINDINGS = Bindings(
    image=BoundFile("a.qcow2", Digest.of(b"1"), 1),
    squashfs=BoundFile("a.squashfs", Digest.of(b"2"), 2),
    recipe=Digest.of(b"3"),
    squashfs_hashes=Digest.of(b"4"),
    dpkg_manifest=Digest.of(b"5"),
    test_report=Digest.of(b"6"),
)


def _document(bindings: Bindings = BINDINGS, tests: TestSummary | None = None) -> Any:
    return build_verification(
        name="a",
        base="debian-12",
        architecture="amd64",
        epoch=1,
        bindings=bindings,
        tests=tests or TestSummary("pass", 1, 0, 0, 0),
    )


@pytest.mark.parametrize("field", ["image", "squashfs", "recipe", "squashfs_hashes", "dpkg_manifest", "test_report"])
def test_the_verification_id_changes_with_each_thing_that_it_binds(field: str) -> None:
    old = getattr(BINDINGS, field)
    new = replace(old, digest=Digest.of(b"0")) if isinstance(old, BoundFile) else Digest.of(b"0")
    changed = _document(replace(BINDINGS, **{field: new}))
    assert changed.verification_id != _document().verification_id
    assert check_verification(changed) == ()
    assert check_verification(replace(_document(), bindings=changed.bindings)) == ("wrong-verification-id",)


def test_the_verification_id_is_pinned() -> None:
    # A changed id is a decision: devices in the field compute it again.
    assert _document().verification_id == "sha256:402bb91e01dbb5af70fd95c3dacba5b15aa2ce946edea3cf6c7db374245f26f5"


@pytest.mark.parametrize(
    "tests",
    [TestSummary("pass", 1, 1, 0, 0), TestSummary("pass", 0, 0, 0, 3), TestSummary("fail", 1, 1, 1, 0)],
)
def test_a_verdict_that_the_counts_do_not_lead_to_is_found(tests: TestSummary) -> None:
    assert check_verification(_document(tests=tests)) == ("wrong-test-summary",)


def _scan(directory: Path) -> None:
    finding = Finding(
        id="CVE-2026-0001",
        aliases=("DSA-1-1",),
        advisories=("DSA-1-1",),
        purl="pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12",
        name="libc6",
        version="2.36-9+deb12u10",
        source="glibc 2.36-9+deb12u10",
        fixed=("2.36-9+deb12u11",),
        rating="critical",
        score_tenths=98,
        vector="CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
        urgency="",
        summary="a hole",
    )
    result = ScanResult(
        target=Target("image", "box.qcow2", Digest.of_file(directory / "box.qcow2")),
        database=Knowledge(Digest.of(b"database"), "2026-01-01T00:00:00Z", (("local", 1),)),
        started="2026-01-02T00:00:00Z",
        finished="2026-01-02T00:00:01Z",
        components=4,
        coverage=(Coverage("Debian:12", 4, True),),
        findings=(finding,),
        not_compared=(),
    )
    (directory / "evidence/scan.json").write_bytes(scan_bytes(result))
    document = openvex_document(result, author="test")
    (directory / "evidence/vex.json").write_bytes(canonical_json(document))


def test_a_scan_and_its_vex_document_are_attested_and_stand_in_the_sbom(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path / "box")
    _scan(tmp_path / "box")
    attest(inputs, SIGNER)
    predicate = _predicate(tmp_path / "box", "vulnerabilities")
    (found,) = predicate["scanner"]["result"]
    assert (found["id"], found["severity"]) == ("CVE-2026-0001", [{"method": "CVSS_V3.1", "score": "9.8"}])
    assert predicate["metadata"]["scanFinishedOn"] == "2026-01-02T00:00:01Z"
    (statement,) = _predicate(tmp_path / "box", "vex")["statements"]
    assert (statement["status"], "2.36-9+deb12u11" in statement["action_statement"]) == ("affected", True)
    bom = strict_loads((tmp_path / "box/sbom.cdx.json").read_bytes())
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(canonical_json(bom).decode()) is None
    assert bom["vulnerabilities"][0]["affects"][0]["ref"] in {item["bom-ref"] for item in bom["components"]}
    assert verify_image(tmp_path / "box", trust=Trust((SIGNER.public_key,))).verdict == "verified"


def test_the_build_log_and_the_licences_are_attested(tmp_path: Path) -> None:
    make_image(tmp_path / "box")
    log = _predicate(tmp_path / "box", "build-log")
    assert log["log"]["digest"] == {"sha256": Digest.of_file(tmp_path / "box/evidence/build.log").hex}
    assert log["stages"] == []
    licences = _predicate(tmp_path / "box", "licences")
    assert {item["name"] for item in licences["packages"]} == {item.name for item in IMAGE_PACKAGES}
