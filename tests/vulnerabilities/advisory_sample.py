"""Small advisories in the formats of their sources, for the tests of vulnerabilities."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kiln.vulnerabilities.database import replace_sources
from kiln.vulnerabilities.ecosystems import component_of
from kiln.vulnerabilities.model import Component
from kiln.vulnerabilities.osv import read_osv

HIGH = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"  # 7.5
CRITICAL = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"  # 9.8
CRITICAL_V4 = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"  # 9.3
MODIFIED = "2026-01-02T03:04:05Z"


def osv(name: str, **fields: Any) -> dict[str, Any]:
    return {"schema_version": "1.7.0", "id": name, "modified": MODIFIED, **fields}


def affected(ecosystem: str, package: str, *events: dict[str, str], **fields: Any) -> dict[str, Any]:
    kind = "SEMVER" if ecosystem in ("npm", "Go", "crates.io") else "ECOSYSTEM"
    ranges = [{"type": kind, "events": list(events)}] if events else []
    return {"package": {"ecosystem": ecosystem, "name": package}, "ranges": ranges, **fields}


def until(version: str) -> tuple[dict[str, str], dict[str, str]]:
    return {"introduced": "0"}, {"fixed": version}


def write(directory: Path, *documents: dict[str, Any]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for document in documents:
        (directory / f"{document['id']}.json").write_text(json.dumps(document))
    return directory


def database(path: Path, *documents: dict[str, Any], source: str = "local") -> Path:
    replace_sources(path, [(source, "test", "", [read_osv(document) for document in documents])])
    return path


def deb(name: str, version: str, source: str = "", source_version: str = "", distro: str = "debian-12") -> Component:
    purl = f"pkg:deb/debian/{name}@{version}?arch=amd64&distro={distro}"
    found = component_of(purl, source=source, source_version=source_version)
    assert found is not None
    return found


def components(*purls: str) -> list[Component]:
    found = [component_of(purl) for purl in purls]
    assert all(found)
    return [item for item in found if item is not None]


def ids(findings: Iterable[Any]) -> list[str]:
    return [finding.id for finding in findings]
