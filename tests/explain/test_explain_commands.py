"""The commands about an image as a person and a pipeline use them: text, JSON alone, HTML, exit statuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from explain_sample import INVENTORY, file, make_image

PROGRAM = str(Path(sys.executable).parent / "kiln")
ADVISORY = {
    "id": "DEBIAN-CVE-2026-1",
    "modified": "2026-01-02T03:04:05Z",
    "upstream": ["CVE-2026-0001"],
    "summary": "a hole",
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
    "affected": [
        {
            "package": {"ecosystem": "Debian:12", "name": "openssh-server"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.9-1"}]}],
        }
    ],
}
VEX = {
    "@context": "https://openvex.dev/ns/v0.2.0",
    "@id": "urn:test:vex",
    "author": "me",
    "timestamp": "2026-01-01T00:00:00Z",
    "version": 1,
    "statements": [
        {
            "vulnerability": {"name": "CVE-2026-0001"},
            "products": ["pkg:deb/debian/openssh-server"],
            "status": "not_affected",
            "justification": "vulnerable_code_not_in_execute_path",
        }
    ],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("explain")
    make_image(root / "old")
    setuid = replace(INVENTORY, files=(*INVENTORY.files, file("/usr/bin/zap", "bash", 0o4755)))
    make_image(root / "new", inventory=setuid)
    (root / "advisories").mkdir()
    (root / "advisories/one.json").write_text(json.dumps(ADVISORY))
    (root / "vex.json").write_text(json.dumps(VEX))
    (root / "kiln.toml").write_text('state = "state"\n[advisories]\nlocal = { folder = "advisories" }\n')
    return root


def kiln(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KILN_")}
    done = subprocess.run(
        [PROGRAM, *arguments], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def answer(place: Path, *arguments: str, status: int = 0) -> Any:
    done = kiln(place, *arguments, "--json")
    assert done.returncode == status, done.stderr + done.stdout
    return json.loads(done.stdout)


def test_a_difference_is_printed_and_a_gate_refuses_it(place: Path) -> None:
    done = kiln(place, "diff", "old", "new")
    assert (done.returncode, "new-setuid" in done.stdout, "1 new-file" in done.stdout) == (0, True, True)
    found = answer(place, "diff", "old", "new", "--fail-on", "new-setuid", status=4)
    assert [item["subject"] for item in found["refused"]] == ["/usr/bin/zap"]
    assert kiln(place, "diff", "old", "new", "--fail-on", "new-listener").returncode == 0
    assert answer(place, "diff", "old", "new", "--fail-on", "nonsense", status=2)["reason"] == "bad-option"
    assert kiln(place, "diff", "old", "new", "--html").stdout.startswith("<!doctype html>")
    assert answer(place, "diff", "old", "nowhere", status=3)["reason"] == "no-target"


def test_why_and_what_would_go(place: Path) -> None:
    done = kiln(place, "why", "/usr/sbin/sshd", "old")
    assert 'request "SSH" > feature ssh > package openssh-server' in done.stdout
    assert answer(place, "why", "22/tcp", "old")["origins"][0]["chain"][-1] == "feature ssh"
    assert answer(place, "why", "ssh", "old", "--remove")["packages"] == ["libwrap0", "openssh-server"]
    assert answer(place, "why", "nothing", "old", status=3)["reason"] == "not-in-image"


def test_licences_are_listed_and_gated(place: Path) -> None:
    assert dict(answer(place, "licences", "old")["identifiers"]) == {"MIT": 4}
    assert kiln(place, "licences", "old", "--allow", "MIT").returncode == 0
    done = kiln(place, "licences", "old", "--deny", "MIT")
    assert (done.returncode, done.stdout.count("REFUSED")) == (4, 4)


def test_a_scan_says_that_there_is_no_database_before_it_says_anything_else(tmp_path: Path, place: Path) -> None:
    (tmp_path / "kiln.toml").write_text('state = "state"\n')
    assert answer(tmp_path, "scan", str(place / "old"), status=3)["reason"] == "no-database"
    assert answer(tmp_path, "advisories", "update", status=2)["reason"] == "no-sources"


def test_advisories_are_read_and_images_scanned(place: Path) -> None:
    status = answer(place, "advisories", "update", "--progress", "quiet")
    assert (status["sound"], status["sources"][0]["advisories"], status["ecosystems"]) == (True, 1, ["Debian:12"])
    assert answer(place, "advisories", "status") == status
    imported = answer(place, "advisories", "import", "advisories/one.json", "--name", "again", "--progress", "quiet")
    assert [item["name"] for item in imported["sources"]] == ["again", "local"]
    for target in ("old", "old/kiln.lock"):
        found = answer(place, "scan", target)
        assert [(item["id"], item["rating"], item["fixed"]) for item in found["findings"]] == [
            ("CVE-2026-0001", "critical", ["9.9-1"])
        ]
    assert kiln(place, "scan", "old", "--fail-on", "critical").returncode == 4
    done = kiln(place, "scan", "old", "--fail-on", "critical", "--vex", "vex.json")
    assert done.returncode == 0
    assert "not_affected  CVE-2026-0001" in done.stdout
    assert "vulnerable_code_not_in_execute_path" in done.stdout
    assert answer(place, "scan", "old", "--fail-on", "awful", status=2)["reason"] == "bad-option"
    assert answer(place, "scan", "old/kiln.lock", "--sign", status=2)["reason"] == "not-an-image"


def test_vulnerabilities_of_both_sides_are_of_one_database(place: Path) -> None:
    kiln(place, "advisories", "update", "--progress", "quiet")
    found = answer(place, "diff", "old", "new")
    assert not any(item["section"] == "vulnerabilities" for item in found["changes"] + found["notCompared"])


def test_an_image_that_was_not_attested_has_no_provenance(place: Path) -> None:
    assert answer(place, "provenance", "old", status=4)["reason"] == "bad-document"
    assert answer(place, "provenance", "nowhere", status=3)["reason"] == "no-image"
    assert answer(place, "reproduce", "old", "--tally", status=3)["reason"] == "no-image"
