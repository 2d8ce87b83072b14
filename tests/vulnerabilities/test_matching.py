"""What a scan finds, merges, leaves out, and says that it does not know."""

from __future__ import annotations

from pathlib import Path

import pytest
from advisory_sample import (
    CRITICAL,
    CRITICAL_V4,
    HIGH,
    affected,
    components,
    database,
    deb,
    ids,
    osv,
    until,
)

from kiln.errors import KilnError
from kiln.vulnerabilities.model import Component
from kiln.vulnerabilities.result import ScanResult, Target, read_scan, scan_bytes
from kiln.vulnerabilities.scan import scan
from kiln_wire.digest import Digest

TARGET = Target("image", "box.qcow2", Digest.of(b"disk"))
OPENSSL = osv(
    "DEBIAN-CVE-2026-1", upstream=["CVE-2026-0001"], affected=[affected("Debian:12", "openssl", *until("3.0.5-1"))]
)


def look(path: Path, found: list[Component]) -> ScanResult:
    return scan(TARGET, found, path, started="2026-02-01T00:00:00Z", finished="2026-02-01T00:00:01Z")


def test_a_debian_binary_is_matched_by_its_source_package_and_that_ones_version(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", OPENSSL)
    result = look(path, [deb("libssl3", "3.0.4-1+b1", "openssl", "3.0.4-1"), deb("openssl-doc", "1", "other", "1")])
    (finding,) = result.findings
    assert (finding.id, finding.name, finding.source, finding.fixed) == (
        "CVE-2026-0001",
        "libssl3",
        "openssl 3.0.4-1",
        ("3.0.5-1",),
    )
    assert look(path, [deb("libssl3", "3.0.5-1", "openssl", "3.0.5-1")]).verdict == "clean"


def test_another_release_of_the_distribution_is_not_covered_and_that_is_not_clean(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", OPENSSL)
    with pytest.raises(KilnError) as caught:
        look(path, [deb("libssl3", "3.0.4-1", "openssl", "3.0.4-1", distro="debian-13")])
    assert caught.value.reason == "nothing-scanned"
    mixed = look(path, [deb("zlib1g", "1"), *components("pkg:npm/left-pad@1.0.0")])
    assert mixed.findings == ()
    assert (mixed.verdict, mixed.complete) == ("not-covered", False)
    assert [(item.ecosystem, item.covered) for item in mixed.coverage] == [("Debian:12", True), ("npm", False)]


def test_aliases_are_one_finding_with_the_worst_severity(tmp_path: Path) -> None:
    jinja = affected("PyPI", "Jinja2", *until("3.1.3"))
    path = database(
        tmp_path / "a.db",
        osv("PYSEC-2026-1", aliases=["GHSA-aaaa-bbbb-cccc"], affected=[jinja]),
        osv(
            "GHSA-aaaa-bbbb-cccc",
            aliases=["CVE-2026-7777"],
            severity=[{"type": "CVSS_V3", "score": HIGH}],
            affected=[jinja],
        ),
        osv("CVE-2026-7777", severity=[{"type": "CVSS_V4", "score": CRITICAL_V4}], summary="the text of the CVE"),
    )
    (finding,) = look(path, components("pkg:pypi/jinja2@3.1.2")).findings
    assert finding.id == "CVE-2026-7777"
    assert finding.aliases == ("GHSA-aaaa-bbbb-cccc", "PYSEC-2026-1")
    assert (finding.rating, finding.score_tenths, finding.vector) == ("critical", 93, CRITICAL_V4)
    assert finding.summary == "the text of the CVE"


def test_a_notice_about_several_cves_does_not_make_one_of_them(tmp_path: Path) -> None:
    several = osv(
        "DSA-1-1",
        upstream=["CVE-2026-0001", "CVE-2026-0002"],
        severity=[{"type": "CVSS_V3", "score": CRITICAL}],
        affected=[affected("Debian:12", "openssl", *until("3.0.5-1"))],
    )
    high = osv("CVE-2026-0001", severity=[{"type": "CVSS_V3", "score": HIGH}])
    found = look(database(tmp_path / "a.db", several, OPENSSL, high), [deb("openssl", "3.0.4-1")]).findings
    assert ids(found) == ["CVE-2026-0001", "CVE-2026-0002"]
    assert [item.rating for item in found] == ["high", "unknown"]
    assert found[0].aliases == ("DEBIAN-CVE-2026-1", "DSA-1-1")
    assert "CVE-2026-0002" not in found[0].aliases


def test_a_withdrawn_advisory_finds_nothing(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", {**OPENSSL, "withdrawn": "2026-01-03T00:00:00Z"})
    assert look(path, [deb("openssl", "1.0-1")]).verdict == "clean"


def test_what_the_distribution_calls_unimportant_is_rated_so(tmp_path: Path) -> None:
    path = database(
        tmp_path / "a.db",
        osv(
            "DEBIAN-CVE-2026-2",
            upstream=["CVE-2026-0002"],
            affected=[
                affected("Debian:12", "glibc", {"introduced": "0"}, ecosystem_specific={"urgency": "unimportant"})
            ],
        ),
        osv("CVE-2026-0002", severity=[{"type": "CVSS_V3", "score": CRITICAL}]),
    )
    (finding,) = look(path, [deb("libc6", "2.36-9", "glibc", "2.36-9")]).findings
    assert (finding.rating, finding.fixed, finding.urgency) == ("none", (), "unimportant")


def test_a_version_that_cannot_be_compared_closes_the_gate(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", osv("GHSA-x", affected=[affected("PyPI", "odd", *until("2.0"))]))
    result = look(path, components("pkg:pypi/odd@not-a-version"))
    assert (result.findings, result.verdict, result.complete) == ((), "not-covered", False)
    assert result.not_compared[0].advisory == "GHSA-x"


def test_a_language_package_inside_a_distributions_package_is_not_matched_twice(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", osv("GHSA-y", affected=[affected("PyPI", "requests", *until("9"))]), OPENSSL)
    file = "/usr/lib/python3/dist-packages/requests/__init__.py"
    owner = Component(
        "pkg:deb/debian/python3-requests@2?distro=debian-12",
        "python3-requests",
        "2",
        ("Debian:12",),
        "requests",
        "2",
        (file,),
    )
    inside = Component("pkg:pypi/requests@2", "requests", "2", ("PyPI",), "requests", "2", (file,))
    outside = Component("pkg:pypi/requests@3", "requests", "3", ("PyPI",), "requests", "3", ("/opt/app/requests",))
    assert [item.version for item in look(path, [owner, inside, outside]).findings] == ["3"]


@pytest.mark.parametrize(
    ("purl", "ecosystem", "package", "fixed"),
    [
        ("pkg:npm/%40scope/name@1.2.3", "npm", "@scope/name", "1.2.4"),
        ("pkg:maven/org.apache/log4j@2.14.0", "Maven", "org.apache:log4j", "2.15.0"),
        ("pkg:golang/example.org/mod/v2@v2.0.1", "Go", "example.org/mod/v2", "2.0.2"),
        ("pkg:cargo/serde@1.0.0", "crates.io", "serde", "1.0.1"),
        ("pkg:pypi/Foo_Bar@1.0", "PyPI", "foo.bar", "1.1"),
        ("pkg:rpm/almalinux/bash@5.1-2.el9?distro=almalinux-9.3", "AlmaLinux:9", "bash", "5.1-3.el9"),
        ("pkg:deb/ubuntu/bash@5.1-2?distro=ubuntu-24.04", "Ubuntu:24.04:LTS", "bash", "5.1-3"),
        ("pkg:apk/alpine/musl@1.2.4-r0?distro=alpine-3.18.2", "Alpine:v3.18", "musl", "1.2.4-r1"),
    ],
)
def test_every_ecosystem_finds_its_package(tmp_path: Path, purl: str, ecosystem: str, package: str, fixed: str) -> None:
    path = database(tmp_path / "a.db", osv("X-2026-1", affected=[affected(ecosystem, package, *until(fixed))]))
    result = look(path, components(purl))
    assert ids(result.findings) == ["X-2026-1"]
    assert result.coverage[0].covered


def test_a_result_is_read_back_and_a_forged_verdict_is_refused(tmp_path: Path) -> None:
    result = look(database(tmp_path / "a.db", OPENSSL), [deb("openssl", "1.0-1")])
    assert read_scan(scan_bytes(result), "scan.json") == result
    forged = scan_bytes(result).replace(b'"verdict":"findings"', b'"verdict":"clean"')
    with pytest.raises(KilnError) as caught:
        read_scan(forged, "scan.json")
    assert caught.value.reason == "bad-scan"


def test_without_a_database_nothing_is_said(tmp_path: Path) -> None:
    with pytest.raises(KilnError) as caught:
        look(tmp_path / "none.db", [deb("openssl", "1")])
    assert (caught.value.reason, int(caught.value.exit_status)) == ("no-database", 3)
