"""Both SBOMs pass their official validators, are the same for the same lock, and are written in no time."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given
from hypothesis import strategies as st
from image_sample import IMAGE_PACKAGES, SIGNER, make_inputs, make_inventory, make_lock, package
from packageurl import PackageURL
from spdx_tools.spdx.parser.json.json_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from kiln.artifact.model import QCOW2, SQUASHFS, Artifact
from kiln.artifact.stock import Alteration, Inventory, StockedPackage, inventory_bytes
from kiln.attestation.agreement import require_agreement
from kiln.attestation.attest import attest
from kiln.attestation.components import Bill, components
from kiln.attestation.cyclonedx import cyclonedx
from kiln.attestation.signer import FileSigner
from kiln.attestation.spdx import spdx
from kiln.authoring.lock.model import Lock
from kiln.authoring.lock.purl import package_url
from kiln.errors import Domain, KilnError
from kiln_wire.canonical import canonical_json
from kiln_wire.digest import Digest
from kiln_wire.packages import cyclonedx_packages, lock_packages, read_purl, spdx_packages

ARTIFACTS = (
    Artifact("box.qcow2", QCOW2, Digest.of(b"disk"), 4, "disk"),
    Artifact("box.squashfs", SQUASHFS, Digest.of(b"root"), 4, "root"),
)


def _bill(lock: Lock, **licences: str) -> Bill:
    return Bill(
        name="box",
        lock=lock,
        lock_digest=Digest.of(b"lock"),
        artifacts=ARTIFACTS,
        components=components(lock, lock.tree("image")),
        inventory=make_inventory(lock, **licences),
        kiln_version="0.1.0",
    )


@pytest.fixture(scope="module")
def bill() -> Bill:
    return _bill(make_lock(), adduser="GPL-2.0-or-later OR LicenseRef-own")


def test_cyclonedx_is_valid_by_the_strict_validator(bill: Bill) -> None:
    text = canonical_json(cyclonedx(bill)).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_spdx_is_valid_by_spdx_tools(bill: Bill) -> None:
    document = JsonLikeDictParser().parse(json.load(io.BytesIO(canonical_json(spdx(bill)))))
    assert validate_full_spdx_document(document, "SPDX-2.3") == []


def test_both_name_exactly_the_packages_of_the_locked_image(bill: Bill) -> None:
    lock = {
        "trees": [
            {
                "name": "image",
                "packages": [
                    {
                        "name": item.name,
                        "version": item.version,
                        "architecture": item.architecture,
                        "digest": str(item.digest),
                    }
                    for item in IMAGE_PACKAGES
                ],
            }
        ]
    }
    expected = lock_packages(lock, "image")
    assert cyclonedx_packages(cyclonedx(bill)) == expected
    assert spdx_packages(spdx(bill)) == expected


def test_edges_are_those_of_the_lock_in_both(bill: Bill) -> None:
    purl = {item.name: package_url(item, "debian-12") for item in IMAGE_PACKAGES}
    edges = {entry["ref"]: entry["dependsOn"] for entry in cyclonedx(bill)["dependencies"]}
    assert edges[purl["openssh-server"]] == sorted([purl["adduser"], purl["libc6"]])
    assert edges[purl["libc6"]] == []
    assert edges["image"] == sorted(purl.values())
    document = spdx(bill)
    names = {item["SPDXID"]: item["name"] for item in document["packages"]}
    depends = {
        (names[item["spdxElementId"]], names[item["relatedSpdxElement"]])
        for item in document["relationships"]
        if item["relationshipType"] == "DEPENDS_ON"
    }
    assert depends == {(item.name, target) for item in IMAGE_PACKAGES for target in item.depends}


def test_an_edge_goes_to_the_same_architecture_where_there_are_several() -> None:
    lock = make_lock(
        (
            package("libc6", arch="amd64"),
            package("libc6", arch="i386"),
            package("wine", depends=("libc6",), arch="i386"),
        )
    )
    wine = components(lock, lock.tree("image"))[2]
    assert wine.depends == ("pkg:deb/debian/libc6@1.0-1?arch=i386&distro=debian-12",)


def test_a_known_licence_is_stated_and_an_unknown_one_is_not(bill: Bill) -> None:
    stated = {item["name"]: item.get("licenses") for item in cyclonedx(bill)["components"]}
    assert stated["adduser"] == [{"expression": "GPL-2.0-or-later OR LicenseRef-own", "acknowledgement": "declared"}]
    assert stated["libc6"] is None
    declared = {item["name"]: item["licenseDeclared"] for item in spdx(bill)["packages"]}
    assert (declared["adduser"], declared["libc6"]) == ("GPL-2.0-or-later OR LicenseRef-own", "NOASSERTION")


def test_purls_have_the_spelling_of_scanners_and_are_read_back() -> None:
    item = package("libstdc++6", "1:2.0~rc1+dfsg-1")
    purl = package_url(item, "debian-12")
    assert purl == "pkg:deb/debian/libstdc%2B%2B6@1:2.0~rc1%2Bdfsg-1?arch=amd64&distro=debian-12"
    assert PackageURL.from_string(purl).version == item.version
    read = read_purl(purl)
    assert (read.name, read.version, read.architecture) == (item.name, item.version, item.architecture)


_NAMES = st.from_regex(r"[a-z0-9][a-z0-9+.-]{1,20}", fullmatch=True)
_VERSIONS = st.from_regex(r"([0-9]:)?[0-9][A-Za-z0-9.+~-]{0,20}", fullmatch=True)


@given(_NAMES, _VERSIONS, st.sampled_from(["amd64", "all", "arm64"]), st.sampled_from(["debian-12", "ubuntu-24.04"]))
def test_purls_are_spelled_as_packageurl_spells_them(name: str, version: str, arch: str, base: str) -> None:
    qualifiers = {"arch": arch, "distro": base}
    expected = PackageURL("deb", base.partition("-")[0], name, version, qualifiers).to_string()
    assert package_url(package(name, version, arch=arch), base) == expected


def test_two_builds_of_the_same_lock_give_the_same_sboms_whatever_the_time_and_the_key(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from cryptography.hazmat.primitives.asymmetric import ec

    for name, day in (("one", 1), ("two", 2)):
        inputs = make_inputs(tmp_path / name)
        moment = datetime(2026, 5, day, tzinfo=UTC)
        key = FileSigner(ec.generate_private_key(ec.SECP256R1()))
        attest(replace(inputs, started=moment, finished=moment, invocation_id=name), key)
    for file in ("sbom.cdx.json", "sbom.spdx.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    provenance = "attestations/provenance.sigstore.json"
    assert (tmp_path / "one" / provenance).read_bytes() != (tmp_path / "two" / provenance).read_bytes()


def test_the_identity_of_an_sbom_changes_with_the_image(bill: Bill) -> None:

    other = replace(bill, artifacts=(replace(ARTIFACTS[0], digest=Digest.of(b"other")), ARTIFACTS[1]))
    assert cyclonedx(other)["serialNumber"] != cyclonedx(bill)["serialNumber"]
    assert spdx(other)["documentNamespace"] != spdx(bill)["documentNamespace"]


def test_every_file_stands_in_the_sbom_with_its_owner(bill: Bill) -> None:
    document = spdx(bill)
    files = {item["SPDXID"]: item for item in document["files"]}
    contained = {
        (item["name"], files[name]["fileName"]) for item in document["packages"] for name in item.get("hasFiles", ())
    }
    assert len(contained) == len(files)
    expected = {(item.name, f"./usr/share/{item.name}/{item.architecture}") for item in IMAGE_PACKAGES}
    assert contained == expected | {("box", "./etc/hostname")}
    components = cyclonedx(bill)
    located = {item["name"]: item["evidence"]["occurrences"][0]["location"] for item in components["components"]}
    assert located == {item.name: f"/usr/share/{item.name}/{item.architecture}" for item in IMAGE_PACKAGES}
    unowned = [item["name"] for item in components["metadata"]["component"]["components"] if item["name"][0] == "/"]
    assert unowned == ["/etc/hostname"]


def _refused(tmp_path: Path, inventory: Inventory) -> KilnError:
    inputs = make_inputs(tmp_path / "box")
    (tmp_path / "box/evidence/inventory.json").write_bytes(inventory_bytes(inventory))
    with pytest.raises(KilnError) as caught:
        attest(inputs, SIGNER)
    assert not (tmp_path / "box/attestations").exists()
    assert (caught.value.domain, caught.value.reason) == (Domain.ATTESTATION, "sbom-disagrees")
    return caught.value


def test_a_package_that_is_not_locked_is_refused_by_name(tmp_path: Path) -> None:
    inventory = make_inventory(make_lock())
    extra = StockedPackage("backdoor", "amd64", "1.0", "", "none")
    error = _refused(tmp_path, replace(inventory, packages=(*inventory.packages, extra)))
    assert "backdoor:amd64" in error.message


def test_a_package_in_another_version_is_refused_by_name(tmp_path: Path) -> None:
    inventory = make_inventory(make_lock())
    first = replace(inventory.packages[0], version="0.1")
    error = _refused(tmp_path, replace(inventory, packages=(first, *inventory.packages[1:])))
    assert "adduser:all" in error.message and "3.134" in error.message


def test_a_changed_file_of_a_package_is_refused_by_name(tmp_path: Path) -> None:
    inventory = make_inventory(make_lock())
    altered = Alteration("/usr/sbin/sshd", "openssh-server:amd64", "changed")
    error = _refused(tmp_path, replace(inventory, alterations=(altered,)))
    assert "/usr/sbin/sshd" in error.message


def test_a_file_that_the_resolution_writes_or_removes_may_differ_from_its_package() -> None:
    inventory = replace(
        make_inventory(make_lock()),
        alterations=(
            Alteration("/usr/lib/systemd/system/ssh.service", "openssh-server:amd64", "changed"),
            Alteration("/usr/share/doc/x/README", "libc6:amd64", "missing"),
        ),
    )
    resolution = {"files": [{"path": "/lib/systemd/system/ssh.service"}], "removals": [{"path": "/usr/share/doc"}]}
    require_agreement(make_lock().tree("image"), inventory, resolution)
