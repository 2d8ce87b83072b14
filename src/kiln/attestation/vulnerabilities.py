"""A scan's result in the forms that other tools read: the in-toto vulns predicate 0.2, and inside CycloneDX. Pure."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from kiln.vulnerabilities.result import Finding, ScanResult
from kiln.vulnerabilities.vex import JUSTIFICATIONS, STATES

SCANNER_URI = "urn:kiln:scanner:v1"


def vulnerabilities_predicate(result: ScanResult) -> dict[str, Any]:
    """Return the predicate `https://in-toto.io/attestation/vulns/v0.2`.

    Annotations say what the form has no field for: the component, versions that fix it, VEX, and what was not covered.
    """
    return {
        "scanner": {
            "uri": SCANNER_URI,
            "db": {
                "uri": "urn:kiln:advisories:v1",
                "version": str(result.database.version),
                **({"lastUpdate": result.database.modified} if result.database.modified else {}),
            },
            "result": [_entry(finding) for finding in result.findings],
            "annotations": [
                {
                    "verdict": result.verdict,
                    "components": result.components,
                    "coverage": [
                        {"ecosystem": item.ecosystem, "components": item.components, "covered": item.covered}
                        for item in result.coverage
                    ],
                    "notCompared": len(result.not_compared),
                }
            ],
        },
        "metadata": {"scanStartedOn": result.started, "scanFinishedOn": result.finished},
    }


def _entry(finding: Finding) -> dict[str, Any]:
    method, score = "kiln", str(finding.rating)
    if finding.score_tenths >= 0:
        method, score = _method(finding.vector), f"{finding.score_tenths / 10:.1f}"
    annotation: dict[str, Any] = {
        "component": finding.purl,
        "rating": finding.rating,
        "fixedIn": list(finding.fixed),
        "aliases": list(finding.aliases),
    }
    if finding.vex is not None:
        annotation["vex"] = {"status": finding.vex.status, "justification": finding.vex.justification}
    return {"id": finding.id, "severity": [{"method": method, "score": score}], "annotations": [annotation]}


def with_vulnerabilities(bom: dict[str, Any], result: ScanResult | None) -> dict[str, Any]:
    """Return a CycloneDX document with the findings of a scan, each with its analysis where VEX says something.

    Its serial number depends on the scan's database, too: other knowledge makes another document.
    """
    if result is None:
        return bom
    serial = UUID(bom["serialNumber"].removeprefix("urn:uuid:"))
    return {
        **bom,
        "serialNumber": f"urn:uuid:{uuid5(serial, str(result.database.version))}",
        "vulnerabilities": [_vulnerability(finding) for finding in result.findings],
    }


def _vulnerability(finding: Finding) -> dict[str, Any]:
    rating: dict[str, Any] = {"severity": finding.rating}
    if finding.vector:
        rating |= {"method": _METHODS.get(_method(finding.vector), "other"), "vector": finding.vector}
    entry: dict[str, Any] = {
        "bom-ref": f"{finding.id}@{finding.purl}",
        "id": finding.id,
        "ratings": [rating],
        "affects": [{"ref": finding.purl}],
    }
    if finding.summary:
        entry["description"] = finding.summary
    if finding.fixed:
        entry["recommendation"] = f"update to a version built from {finding.fixed[0]} or later"
    if finding.vex is not None:
        entry["analysis"] = {"state": STATES[finding.vex.status]}
        if finding.vex.status == "not_affected" and finding.vex.justification:
            entry["analysis"]["justification"] = JUSTIFICATIONS[finding.vex.justification]
        if finding.vex.statement:
            entry["analysis"]["detail"] = finding.vex.statement
    return entry


_METHODS = {"CVSS_V2": "CVSSv2", "CVSS_V3.0": "CVSSv3", "CVSS_V3.1": "CVSSv31", "CVSS_V4": "CVSSv4"}


def _method(vector: str) -> str:
    prefixes = {"CVSS:4": "CVSS_V4", "CVSS:3.1": "CVSS_V3.1", "CVSS:3": "CVSS_V3.0"}
    return next((name for prefix, name in prefixes.items() if vector.startswith(prefix)), "CVSS_V2")
