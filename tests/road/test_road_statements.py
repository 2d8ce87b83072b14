"""What a real image says of itself: its SBOMs by their official validators, its licences, its chains, its rebuild."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from road_kiln import BuiltImage

pytestmark = [pytest.mark.root, pytest.mark.network, pytest.mark.vm]


def test_the_cyclonedx_document_of_a_real_image_is_valid(small_image: BuiltImage) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (small_image.directory / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    located = [item for item in json.loads(text)["components"] if item.get("evidence")]
    assert len(located) > 100


@pytest.mark.full
def test_the_spdx_document_of_a_real_image_is_valid(small_image: BuiltImage) -> None:
    from spdx_tools.spdx.parser.json.json_parser import JsonLikeDictParser
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    document = json.loads((small_image.directory / "sbom.spdx.json").read_bytes())
    assert validate_full_spdx_document(JsonLikeDictParser().parse(document), "SPDX-2.3") == []


def test_every_regular_file_of_the_root_stands_in_the_spdx_document(small_image: BuiltImage) -> None:
    lines = (small_image.directory / "squashfs-hashes.sha256").read_text().splitlines()
    hashed = {tuple(line.split("  ", 1)[::-1]) for line in lines if not line.startswith("\\")}
    document = json.loads((small_image.directory / "sbom.spdx.json").read_bytes())
    listed = {
        (item["fileName"], checksum["checksumValue"])
        for item in document["files"]
        for checksum in item["checksums"]
        if checksum["algorithm"] == "SHA256"
    }
    assert hashed <= listed


def test_nearly_every_package_has_a_licence(small_image: BuiltImage) -> None:
    found = small_image.kiln.json("licences", "images/small", "--json")
    known = [item for item in found["packages"] if item["licence"] != "NOASSERTION"]
    assert len(known) / len(found["packages"]) > 0.95


def test_a_program_has_a_chain_to_the_recipe(small_image: BuiltImage) -> None:
    (origin,) = small_image.kiln.json("why", "/usr/sbin/sshd", "images/small", "--json")["origins"]
    assert origin["chain"] == ["recipe", "feature ssh", "package openssh-server"]


def test_a_scan_of_a_real_image_can_be_signed_and_the_image_still_verifies(
    small_image: BuiltImage, tmp_path: Path
) -> None:
    advisory = {
        "id": "DEBIAN-CVE-2026-1",
        "modified": "2026-01-02T03:04:05Z",
        "upstream": ["CVE-2026-0001"],
        "affected": [
            {
                "package": {"ecosystem": "Debian:12", "name": "glibc"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}],
            }
        ],
    }
    (tmp_path / "one.json").write_text(json.dumps(advisory))
    kiln = small_image.kiln
    kiln.json("advisories", "import", str(tmp_path / "one.json"), "--json", "--progress", "quiet")
    try:
        found = kiln.json("scan", "images/small", "--sign", "--json")
        assert {item["name"] for item in found["findings"]} >= {"libc6"}
        assert kiln.run("verify", "images/small").returncode == 0
    finally:
        # the other tests of this image know no database
        (kiln.state / "advisories.db").unlink()
        (small_image.directory / "attestations/vulnerabilities.sigstore.json").unlink()


@pytest.mark.full
def test_an_image_is_rebuilt_bit_by_bit_from_its_lock(small_image: BuiltImage) -> None:
    found = small_image.kiln.json("reproduce", "images/small", "--json", "--progress", "quiet")
    assert (found["reproduction"]["verdict"], found["reproduction"]["differences"]) == ("identical", [])
    assert [voice["problem"] for voice in found["rebuilders"]] == [""]
    shutil.rmtree(small_image.directory.with_name("small.rebuilds"))
