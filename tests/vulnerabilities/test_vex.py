"""VEX hides exactly the findings that it is about, says why, and what we write passes its schema's rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from advisory_sample import affected, components, database, deb, osv, until

from kiln.errors import KilnError
from kiln.vulnerabilities.result import ScanResult, Target
from kiln.vulnerabilities.scan import scan
from kiln.vulnerabilities.vex import Statement, openvex_document, read_vex, same_package
from kiln_wire.digest import Digest

TARGET = Target("image", "box.qcow2", Digest.of(b"disk"))
PURL = "pkg:deb/debian/openssl@3.0.4-1?arch=amd64&distro=debian-12"


def openvex(*statements: dict[str, Any]) -> bytes:
    return json.dumps(
        {
            "@context": "https://openvex.dev/ns/v0.2.0",
            "@id": "urn:test:vex",
            "author": "me",
            "timestamp": "2026-01-01T00:00:00Z",
            "version": 1,
            "statements": list(statements),
        }
    ).encode()


def statement(product: Any, **fields: Any) -> dict[str, Any]:
    return {
        "vulnerability": {"name": "CVE-2026-0001"},
        "products": [product],
        "status": "not_affected",
        "justification": "vulnerable_code_not_in_execute_path",
        **fields,
    }


@pytest.fixture
def found(tmp_path: Path) -> Any:
    path = database(
        tmp_path / "a.db",
        osv(
            "DEBIAN-CVE-2026-1",
            upstream=["CVE-2026-0001"],
            affected=[affected("Debian:12", "openssl", *until("3.0.5-1"))],
        ),
        osv(
            "DEBIAN-CVE-2026-2",
            upstream=["CVE-2026-0002"],
            affected=[affected("Debian:12", "openssl", {"introduced": "0"})],
        ),
    )

    def look(*documents: bytes) -> ScanResult:
        vex: list[tuple[Statement, ...]] = [read_vex(data, "vex.json") for data in documents]
        return scan(
            TARGET,
            [deb("openssl", "3.0.4-1")],
            path,
            vex=vex,
            started="2026-02-01T00:00:00Z",
            finished="2026-02-01T00:00:00Z",
        )

    return look


@pytest.mark.parametrize(
    "product",
    [
        {"@id": PURL},
        PURL,
        {"@id": "pkg:deb/debian/openssl"},
        {"@id": "pkg:deb/debian/openssl@3.0.4-1?distro=debian-12"},
        {"@id": "pkg:deb/debian/openssl@3.0.4-1?os_name=debian"},
        {"@id": "urn:x", "identifiers": {"purl": PURL}},
        {"@id": "urn:x", "hashes": {"sha-256": Digest.of(b"disk").hex}, "subcomponents": [{"@id": PURL}]},
        {"@id": "box.qcow2", "subcomponents": [{"@id": "pkg:deb/debian/openssl"}]},
    ],
)
def test_a_statement_about_the_component_or_the_image_suppresses_its_finding_alone(found: Any, product: Any) -> None:
    result = found(openvex(statement(product)))
    assert [(item.id, item.counts) for item in result.findings] == [("CVE-2026-0001", False), ("CVE-2026-0002", True)]
    assert result.findings[0].vex.justification == "vulnerable_code_not_in_execute_path"
    assert result.findings[0].vex.document == "urn:test:vex"


@pytest.mark.parametrize(
    "product",
    [
        {"@id": "pkg:deb/debian/openssl@3.0.5-1"},
        {"@id": "pkg:deb/debian/openssl@3.0.4-1?distro=debian-13"},
        {"@id": "pkg:deb/debian/zlib1g"},
        {"@id": "urn:x", "hashes": {"sha-256": "0" * 64}, "subcomponents": [{"@id": PURL}]},
        {"@id": "other.qcow2", "subcomponents": [{"@id": PURL}]},
        {"@id": "box.qcow2", "subcomponents": [{"@id": "pkg:deb/debian/zlib1g"}]},
    ],
)
def test_a_statement_about_something_else_suppresses_nothing(found: Any, product: Any) -> None:
    assert all(item.counts for item in found(openvex(statement(product))).findings)


def test_the_latest_statement_counts(found: Any) -> None:
    older = statement(PURL)
    newer = statement(
        PURL, status="affected", action_statement="update", justification="", timestamp="2026-03-01T00:00:00Z"
    )
    for documents in ((openvex(older, newer),), (openvex(newer), openvex(older)), (openvex(newer, older),)):
        assert found(*documents).findings[0].vex.status == "affected"


@pytest.mark.parametrize(
    "change",
    [
        {"status": "fine"},
        {"justification": "because"},
        {"justification": ""},
        {"status": "affected", "justification": ""},
        {"products": []},
        {"vulnerability": None},
    ],
)
def test_a_statement_that_openvex_does_not_allow_is_refused_with_its_place(change: dict[str, Any]) -> None:
    with pytest.raises(KilnError) as caught:
        read_vex(openvex(statement(PURL, **change)), "vex.json")
    assert caught.value.reason == "bad-vex"
    assert caught.value.place is not None and caught.value.place.path.startswith("$.statements[0]")


def test_cyclonedx_analysis_is_read_as_vex(found: Any) -> None:
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": "urn:uuid:1",
        "components": [{"bom-ref": "ssl", "purl": PURL}],
        "vulnerabilities": [
            {
                "id": "CVE-2026-0001",
                "affects": [{"ref": "ssl"}],
                "analysis": {"state": "not_affected", "justification": "code_not_reachable", "detail": "never called"},
            }
        ],
    }
    finding = found(json.dumps(document).encode()).findings[0]
    assert (finding.counts, finding.vex.justification, finding.vex.statement) == (
        False,
        "vulnerable_code_not_in_execute_path",
        "never called",
    )


def test_what_is_written_is_openvex_and_suppresses_the_same_again(found: Any) -> None:
    result = found(openvex(statement(PURL)))
    document = openvex_document(result, author="Kiln")
    assert document["@context"] == "https://openvex.dev/ns/v0.2.0"
    assert {"@id", "author", "timestamp", "version", "statements"} <= document.keys()
    for item in document["statements"]:
        # OpenVEX 0.2.0, "Status justifications" and "affected"
        if item["status"] == "not_affected":
            assert item.get("justification") or item.get("impact_statement")
        if item["status"] == "affected":
            assert item["action_statement"]
    again = found(json.dumps(document).encode())
    assert [(item.id, item.counts) for item in again.findings] == [(item.id, item.counts) for item in result.findings]
    assert openvex_document(result, author="Kiln") == document


def test_the_cyclonedx_document_with_findings_is_valid(found: Any) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    from kiln.attestation.vulnerabilities import vulnerabilities_predicate, with_vulnerabilities
    from kiln_wire.canonical import canonical_json

    result = found(openvex(statement(PURL)))
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": "urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79",
        "version": 1,
        "components": [{"type": "library", "bom-ref": PURL, "name": "openssl", "purl": PURL}],
    }
    embedded = with_vulnerabilities(bom, result)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(canonical_json(embedded).decode()) is None
    assert embedded["vulnerabilities"][0]["analysis"] == {
        "state": "not_affected",
        "justification": "code_not_reachable",
    }
    assert read_vex(canonical_json(embedded), "sbom.json")[0].decision.suppresses
    predicate = vulnerabilities_predicate(result)
    assert predicate["metadata"].keys() == {"scanStartedOn", "scanFinishedOn"}
    assert predicate["scanner"]["db"]["version"].startswith("sha256:")
    assert [item["id"] for item in predicate["scanner"]["result"]] == ["CVE-2026-0001", "CVE-2026-0002"]


def test_purls_are_compared_by_what_they_say() -> None:
    assert same_package("pkg:npm/@scope/name@1", "pkg:npm/%40scope/name@1")
    assert not same_package("pkg:npm/name@1", "pkg:npm/name@2")
    assert components(PURL)[0].name == "openssl"
