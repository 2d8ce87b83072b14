"""Each step can fail alone, every changed byte is named, and a key beside the image proves no origin."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from image_sample import OTHER_SIGNER, SIGNER, make_image, resign, rewrite, with_digest

from kiln.attestation.verify import verify_image
from kiln.errors import ExitStatus, KilnError
from kiln.events.model import CollectingSink, Progress
from kiln_wire.canonical import canonical_json
from kiln_wire.codec import decode, encode
from kiln_wire.digest import Digest
from kiln_wire.finding import VerificationResult
from kiln_wire.p256 import PublicKey
from kiln_wire.trust import Trust
from kiln_wire.verification import Verification, build_verification
from kiln_wire.verify import STEPS

TRUSTED = (SIGNER.public_key,)
BUNDLE = "attestations/{}.sigstore.json".format


@pytest.fixture
def image(tmp_path: Path) -> Path:
    make_image(tmp_path / "box")
    return tmp_path / "box"


def _verify(path: Path, *keys: PublicKey) -> VerificationResult:
    return verify_image(path, trust=Trust(keys or TRUSTED))


def _failed(result: VerificationResult) -> list[str]:
    return [step.name for step in result.steps if step.outcome == "failed"]


def _reasons(result: VerificationResult) -> set[tuple[str, str]]:
    return {(finding.component, finding.reason) for finding in result.findings if finding.severity == "error"}


def test_a_whole_image_is_verified_with_all_steps_in_order(image: Path) -> None:
    result = _verify(image)
    assert (result.verdict, result.findings) == ("verified", ())
    assert [(step.number, step.name, step.outcome) for step in result.steps] == [
        (number, name, "passed") for number, (name, _) in enumerate(STEPS, start=1)
    ]
    assert result.signers == (SIGNER.public_key.hint,)
    assert result.verification_id.startswith("sha256:")
    assert result.files == sum(path.is_file() for path in image.rglob("*"))


def test_an_image_file_is_verified_with_its_directory(image: Path) -> None:
    assert _verify(image / "box.qcow2").verdict == "verified"
    assert _verify(image / "box.squashfs").verdict == "verified"
    result = _verify(image / "recipe.json")
    assert _reasons(result) == {("recipe.json", "not-attested")}
    assert _failed(result) == ["subjects"]


def test_progress_counts_every_byte(image: Path) -> None:
    sink = CollectingSink()
    verify_image(image, trust=Trust(TRUSTED), sink=sink)
    last = sink.events[-1]
    assert isinstance(last, Progress)
    assert (last.step, last.unit) == ("verify", "bytes")
    assert last.done == last.total == sum(path.stat().st_size for path in image.rglob("*") if path.is_file())


OPTIONAL = tuple(BUNDLE(name) for name in ("build-log", "licences"))
"""Statements that an image may lack: only its record, or a policy, says that they must be there."""


def _flips() -> list[str]:
    return [
        "request.json",
        "recipe.json",
        "resolution.json",
        "kiln.lock",
        "plan.json",
        "box.qcow2",
        "box.squashfs",
        "squashfs-hashes.sha256",
        "dpkg-manifest",
        "sbom.cdx.json",
        "sbom.spdx.json",
        "evidence/report.json",
        "evidence/report.xml",
        "evidence/serial.log",
        "evidence/build.log",
        "evidence/inventory.json",
        "evidence/stages.json",
        "verification.json",
        *(BUNDLE(name) for name in ("provenance", "sbom-cyclonedx", "sbom-spdx", "test-report", "verification")),
        *OPTIONAL,
        "kiln.pub",
    ]


def test_the_list_of_flips_is_complete(image: Path) -> None:
    assert sorted(str(path.relative_to(image)) for path in image.rglob("*") if path.is_file()) == sorted(_flips())


@pytest.mark.parametrize("name", _flips())
def test_one_flipped_bit_in_any_file_is_named(image: Path, name: str) -> None:
    path = image / name
    original = path.read_bytes()
    count = len(original)
    positions = {0, 1, count // 3, count // 2, 2 * count // 3, count - 2, count - 1}
    for position in sorted(positions):
        for bit in (0, 5):
            changed = bytearray(original)
            changed[position] ^= 1 << bit
            path.write_bytes(changed)
            result = _verify(image)
            assert result.verdict == "refused", (position, bit)
            assert {component for component, _ in _reasons(result)} == {name}, (position, bit)


@pytest.mark.parametrize("name", _flips())
@pytest.mark.parametrize("change", [lambda data: data + b"\n", lambda data: data[:-1], lambda data: b""])
def test_an_added_or_missing_byte_in_any_file_is_named(
    image: Path, name: str, change: Callable[[bytes], bytes]
) -> None:
    path = image / name
    path.write_bytes(change(path.read_bytes()))
    result = _verify(image)
    assert result.verdict == "refused"
    assert {component for component, _ in _reasons(result)} == {name}


@pytest.mark.parametrize("name", [name for name in _flips() if name not in ("kiln.pub", *OPTIONAL)])
def test_a_missing_file_is_named(image: Path, name: str) -> None:
    (image / name).unlink()
    result = _verify(image)
    assert result.verdict == "refused"
    assert {component for component, _ in _reasons(result)} == {name}


def test_the_public_key_may_be_missing_where_it_is_trusted(image: Path) -> None:
    (image / "kiln.pub").unlink()
    assert _verify(image).verdict == "verified"


# --- one test a step: it fails, and no other does


def test_step_trust_fails_alone_when_the_key_beside_the_image_is_no_key(image: Path) -> None:
    (image / "kiln.pub").write_bytes(b"-----BEGIN PUBLIC KEY-----\n")
    result = _verify(image)
    assert _failed(result) == ["trust"]
    assert _reasons(result) == {("kiln.pub", "malformed-key")}


def test_step_trust_fails_without_any_key(image: Path) -> None:
    (image / "kiln.pub").unlink()
    result = verify_image(image, trust=Trust())
    assert "trust" in _failed(result)
    assert ("kiln.pub", "no-key") in _reasons(result)


def test_step_bundles_fails_alone_on_a_truncated_bundle(image: Path) -> None:
    path = image / BUNDLE("sbom-spdx")
    path.write_bytes(path.read_bytes()[:-100])
    result = _verify(image)
    assert _failed(result) == ["bundles"]
    assert _reasons(result) == {(BUNDLE("sbom-spdx"), "malformed-bundle")}


def test_step_signatures_fails_alone_on_a_statement_by_another_key(image: Path, tmp_path: Path) -> None:
    make_image(tmp_path / "forged", OTHER_SIGNER)
    shutil.copy(tmp_path / "forged" / BUNDLE("test-report"), image / BUNDLE("test-report"))
    result = _verify(image)
    assert _failed(result) == ["signatures"]
    assert _reasons(result) == {(BUNDLE("test-report"), "unknown-key")}


def test_step_statements_fails_alone_on_a_signed_text_that_is_no_statement(image: Path) -> None:
    from kiln.attestation.signer import sign_statement

    (image / BUNDLE("test-report")).write_bytes(sign_statement(SIGNER, b'{"a": 1, "a": 2}'))
    result = _verify(image)
    assert _failed(result) == ["statements"]
    assert _reasons(result) == {(BUNDLE("test-report"), "malformed-statement")}


def test_step_subjects_fails_alone_on_a_statement_about_another_image(image: Path) -> None:
    resign(image, "test-report", subjects=lambda subject: with_digest(subject, b"another image"))
    result = _verify(image)
    assert _failed(result) == ["subjects"]
    assert _reasons(result) == {(BUNDLE("test-report"), "wrong-subject")}


def test_step_required_fails_alone_on_a_stripped_statement(image: Path) -> None:
    (image / BUNDLE("test-report")).unlink()
    result = _verify(image)
    assert _failed(result) == ["required"]
    assert _reasons(result) == {(BUNDLE("test-report"), "missing-statement")}


def test_step_required_names_swapped_statements(image: Path) -> None:
    one, other = image / BUNDLE("test-report"), image / BUNDLE("sbom-spdx")
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    result = _verify(image)
    assert _failed(result) == ["required"]
    assert _reasons(result) == {(BUNDLE(name), "swapped-statement") for name in ("test-report", "sbom-spdx")}


def test_step_required_names_a_second_statement_of_a_required_type(image: Path) -> None:
    resign(image, "test-report", name="test-report-2")
    assert _reasons(_verify(image)) == {(BUNDLE("test-report-2"), "duplicate-statement")}


def test_a_further_signed_statement_of_another_type_is_welcome(image: Path) -> None:
    resign(image, "test-report", name="vex", kind="https://openvex.dev/ns")
    assert _verify(image).verdict == "verified"


def _reverify(image: Path, change: Callable[[Verification], Verification]) -> None:
    def edit(predicate: dict[str, object]) -> None:
        document = encode(change(decode(Verification, predicate)))
        predicate.clear()
        predicate.update(document)

    predicate = resign(image, "verification", edit)
    (image / "verification.json").write_bytes(canonical_json(predicate))


def test_step_verification_fails_alone_on_an_id_that_does_not_follow(image: Path) -> None:
    _reverify(image, lambda document: replace(document, verification_id=str(Digest.of(b""))))
    result = _verify(image)
    assert _failed(result) == ["verification"]
    assert _reasons(result) == {(BUNDLE("verification"), "wrong-verification-id")}


def _rebind(document: Verification, **bindings: object) -> Verification:
    return build_verification(
        name=document.name,
        base=document.base,
        architecture=document.architecture,
        epoch=document.epoch,
        bindings=replace(document.bindings, **bindings),  # type: ignore[arg-type]
        tests=document.tests,
    )


@pytest.mark.parametrize(
    ("binding", "name"),
    [
        ("recipe", "recipe.json"),
        ("squashfs_hashes", "squashfs-hashes.sha256"),
        ("dpkg_manifest", "dpkg-manifest"),
        ("test_report", "evidence/report.json"),
    ],
)
def test_step_verification_fails_alone_when_it_binds_another_file(image: Path, binding: str, name: str) -> None:
    _reverify(image, lambda document: _rebind(document, **{binding: Digest.of(b"another")}))
    result = _verify(image)
    assert _failed(result) == ["verification"]
    assert _reasons(result) == {(name, "changed")}


def test_step_verification_fails_when_it_binds_another_squashfs(image: Path) -> None:
    _reverify(
        image,
        lambda document: _rebind(document, squashfs=replace(document.bindings.squashfs, digest=Digest.of(b"another"))),
    )
    result = _verify(image)
    assert _failed(result) == ["verification"]
    assert _reasons(result) == {(BUNDLE("verification"), "wrong-subject")}


def test_step_inputs_fails_alone_on_another_plan(image: Path) -> None:
    (image / "plan.json").write_bytes(b"{}")
    result = _verify(image)
    assert _failed(result) == ["inputs"]
    assert _reasons(result) == {("plan.json", "changed")}


def test_step_inputs_fails_alone_when_provenance_hides_a_package(image: Path) -> None:
    resign(image, "provenance", lambda predicate: predicate["buildDefinition"]["resolvedDependencies"].pop(0))
    result = _verify(image)
    assert _failed(result) == ["inputs"]
    assert _reasons(result) == {(BUNDLE("provenance"), "disagrees")}


def test_step_inputs_fails_alone_when_provenance_names_an_unlocked_source(image: Path) -> None:
    extra = {"name": "x", "uri": "pkg:deb/debian/x@1?arch=amd64&distro=debian-12", "digest": {"sha256": "0" * 64}}
    resign(image, "provenance", lambda predicate: predicate["buildDefinition"]["resolvedDependencies"].append(extra))
    assert _failed(_verify(image)) == ["inputs"]


def test_step_inputs_fails_alone_when_the_lock_is_of_another_recipe(image: Path) -> None:
    rewrite(image, "kiln.lock", lambda lock: lock.update(recipeDigest=str(Digest.of(b"another"))))
    digest = {"sha256": Digest.of((image / "kiln.lock").read_bytes()).hex}
    resign(
        image,
        "provenance",
        lambda predicate: predicate["buildDefinition"]["externalParameters"]["lock"].update(digest=digest),
    )
    result = _verify(image)
    assert _failed(result) == ["inputs"]
    assert _reasons(result) == {("kiln.lock", "wrong-input")}


def test_step_inputs_fails_alone_when_provenance_tells_of_another_request(image: Path) -> None:
    def retell(predicate: dict[str, dict[str, dict[str, dict[str, str]]]]) -> None:
        predicate["buildDefinition"]["externalParameters"]["request"]["text"] = "a box without ssh"

    resign(image, "provenance", retell)
    result = _verify(image)
    assert _failed(result) == ["inputs"]
    assert _reasons(result) == {(BUNDLE("provenance"), "wrong-request")}


@pytest.mark.parametrize(
    "change",
    [
        lambda predicate: predicate.clear(),
        lambda predicate: predicate["buildDefinition"].update(externalParameters=[]),
        lambda predicate: predicate["runDetails"]["byproducts"].append({"name": 1, "digest": 2}),
        lambda predicate: predicate["runDetails"]["byproducts"].append({"name": [], "digest": {"sha256": "0" * 64}}),
        lambda predicate: predicate["buildDefinition"]["externalParameters"].pop("lock"),
        lambda predicate: predicate["buildDefinition"]["externalParameters"].update(request="text"),
        lambda predicate: predicate["buildDefinition"].update(resolvedDependencies=[{"uri": 5}]),
        lambda predicate: predicate["buildDefinition"].update(resolvedDependencies=[{"uri": "https:", "digest": {}}]),
    ],
)
def test_a_signed_provenance_of_any_other_shape_is_a_finding_not_a_crash(
    image: Path, change: Callable[[object], None]
) -> None:
    resign(image, "provenance", change)
    result = _verify(image)
    assert "inputs" in _failed(result)
    assert (BUNDLE("provenance"), "malformed-provenance") in _reasons(result) or (
        BUNDLE("provenance"),
        "malformed-document",
    ) in _reasons(result)


@pytest.mark.parametrize("name", ["sbom-cyclonedx", "sbom-spdx", "test-report", "verification"])
def test_any_other_signed_statement_of_another_shape_is_a_finding_not_a_crash(image: Path, name: str) -> None:
    resign(image, name, lambda predicate: predicate.clear())
    assert _verify(image).verdict == "refused"
    resign(image, name, lambda predicate: predicate.update(packages=[None], components={"a": 1}, checks=3))
    assert _verify(image).verdict == "refused"


@pytest.mark.parametrize(
    "name", ["recipe.json", "resolution.json", "kiln.lock", "evidence/report.json", "request.json"]
)
@pytest.mark.parametrize("data", [b"[]", b"{", b'{"a":1.5}', b'{"trees":[{"name":5}],"checks":[5]}'])
def test_a_listed_document_of_another_shape_is_a_finding_not_a_crash(image: Path, name: str, data: bytes) -> None:
    digest = {"sha256": Digest.of(data).hex}

    def relist(predicate: dict[str, dict[str, dict[str, dict[str, object]]]]) -> None:
        definition, run = predicate["buildDefinition"], predicate["runDetails"]
        files = [*definition["externalParameters"].values(), definition["internalParameters"]["resolution"]]
        for item in (*files, *run["byproducts"]):
            if item["name"] == name:  # type: ignore[index]
                item["digest"] = digest  # type: ignore[index]

    (image / name).write_bytes(data)
    resign(image, "provenance", relist)
    if name == "recipe.json":
        _reverify(image, lambda document: _rebind(document, recipe=Digest.of(data)))
    if name == "evidence/report.json":
        _reverify(image, lambda document: _rebind(document, test_report=Digest.of(data)))
    result = _verify(image)
    assert result.verdict == "refused"
    assert {reason for _, reason in _reasons(result)} <= {
        "malformed-document",
        "wrong-input",
        "wrong-image",
        "wrong-request",
        "disagrees",
    }


def test_step_inputs_fails_alone_on_another_build_type(image: Path) -> None:
    resign(image, "provenance", lambda predicate: predicate["buildDefinition"].update(buildType="urn:other"))
    assert _reasons(_verify(image)) == {(BUNDLE("provenance"), "unknown-build-type")}


@pytest.mark.parametrize(
    ("bundle", "name", "key"),
    [("sbom-cyclonedx", "sbom.cdx.json", "components"), ("sbom-spdx", "sbom.spdx.json", "packages")],
)
def test_step_packages_fails_alone_when_an_sbom_hides_a_package(image: Path, bundle: str, name: str, key: str) -> None:
    predicate = resign(image, bundle, lambda document: document[key].pop())
    (image / name).write_bytes(canonical_json(predicate))
    result = _verify(image)
    assert _failed(result) == ["packages"]
    assert _reasons(result) == {(name, "disagrees")}


def test_step_packages_fails_alone_when_a_purl_and_the_fields_beside_it_differ(image: Path) -> None:
    predicate = resign(image, "sbom-cyclonedx", lambda document: document["components"][0].update(version="9"))
    (image / "sbom.cdx.json").write_bytes(canonical_json(predicate))
    assert _reasons(_verify(image)) == {("sbom.cdx.json", "malformed-document")}


def test_step_packages_fails_alone_when_dpkg_knows_another_package(image: Path) -> None:
    manifest = b"zzz:amd64\t1\n"
    path = image / "dpkg-manifest"
    path.write_bytes(path.read_bytes() + manifest)
    digest = Digest.of(path.read_bytes())
    _reverify(image, lambda document: _rebind(document, dpkg_manifest=digest))

    def relist(predicate: dict[str, dict[str, list[dict[str, object]]]]) -> None:
        for item in predicate["runDetails"]["byproducts"]:
            if item["name"] == "dpkg-manifest":
                item["digest"] = {"sha256": digest.hex}

    resign(image, "provenance", relist)
    result = _verify(image)
    assert _failed(result) == ["packages"]
    assert _reasons(result) == {("dpkg-manifest", "disagrees")}


@pytest.mark.parametrize("verdicts", [("pass", "fail"), ("pass", "error"), ("skip",)])
def test_step_tests_fails_alone_when_the_tests_did_not_pass(tmp_path: Path, verdicts: tuple[str, ...]) -> None:
    make_image(tmp_path / "box", verdicts=verdicts)  # type: ignore[arg-type]
    result = _verify(tmp_path / "box")
    assert _failed(result) == ["tests"]
    assert _reasons(result) == {(BUNDLE("test-report"), "tests-not-passed")}


def test_skipped_checks_are_a_warning(tmp_path: Path) -> None:
    make_image(tmp_path / "box", verdicts=("pass", "skip"))
    result = _verify(tmp_path / "box")
    assert result.verdict == "verified"
    assert [(finding.reason, finding.severity) for finding in result.findings] == [("tests-skipped", "warning")]


@pytest.mark.parametrize("name", ["extra.txt", "evidence/late.log", "attestations/readme", ".hidden"])
def test_step_accounting_fails_alone_on_a_file_that_nothing_lists(image: Path, name: str) -> None:
    (image / name).write_bytes(b"surprise")
    result = _verify(image)
    assert _failed(result) == ["accounting"]
    assert _reasons(result) == {(name, "unexpected-file")}


# --- attacks


def test_symlink_in_place_of_a_file_is_refused(image: Path, tmp_path: Path) -> None:
    shutil.move(image / "plan.json", tmp_path / "plan.json")
    (image / "plan.json").symlink_to(tmp_path / "plan.json")
    assert ("plan.json", "not-a-regular-file") in _reasons(_verify(image))


def test_symlinked_directory_is_refused(image: Path, tmp_path: Path) -> None:
    shutil.move(image / "evidence", tmp_path / "evidence")
    (image / "evidence").symlink_to(tmp_path / "evidence")
    assert ("evidence", "not-a-regular-file") in _reasons(_verify(image))


def test_fifo_does_not_hang_the_verification(image: Path) -> None:
    (image / "plan.json").unlink()
    os.mkfifo(image / "plan.json")
    assert ("plan.json", "not-a-regular-file") in _reasons(_verify(image))


def test_whole_directory_signed_by_a_stranger_is_refused(tmp_path: Path) -> None:
    make_image(tmp_path / "box", OTHER_SIGNER)
    result = _verify(tmp_path / "box")
    assert result.verdict == "refused"
    assert result.integrity
    assert [(finding.component, finding.reason, finding.severity) for finding in result.findings] == [
        ("kiln.pub", "untrusted-key", "note")
    ]
    assert _verify(tmp_path / "box", OTHER_SIGNER.public_key).verdict == "verified"


def test_another_valid_key_beside_the_image_is_named(image: Path) -> None:
    (image / "kiln.pub").write_bytes(OTHER_SIGNER.public_key.pem)
    result = _verify(image)
    assert result.verdict == "refused"
    assert _reasons(result) == {("kiln.pub", "wrong-key")}


def test_statements_of_another_image_by_the_same_key_are_refused(image: Path, tmp_path: Path) -> None:
    make_image(tmp_path / "other", verdicts=("pass",))
    shutil.copy(tmp_path / "other" / BUNDLE("verification"), image / BUNDLE("verification"))
    assert _verify(image).verdict == "refused"


def test_several_changes_are_all_found_at_once(image: Path) -> None:
    for name in ("box.qcow2", "plan.json", "sbom.cdx.json", "evidence/serial.log", "dpkg-manifest"):
        with (image / name).open("ab") as file:
            file.write(b"x")
    assert {component for component, _ in _reasons(_verify(image))} == {
        "box.qcow2",
        "plan.json",
        "sbom.cdx.json",
        "evidence/serial.log",
        "dpkg-manifest",
    }


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    assert _verify(tmp_path).verdict == "refused"


def test_no_such_image(tmp_path: Path) -> None:
    with pytest.raises(KilnError) as caught:
        _verify(tmp_path / "none")
    assert (caught.value.reason, caught.value.exit_status) == ("no-image", ExitStatus.NOT_FOUND)
