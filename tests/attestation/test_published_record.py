"""The record beside the image is signed, is the one in the chain, and a change of it is named."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from image_sample import SIGNER, make_inputs

from kiln.attestation.attest import attest
from kiln.attestation.verify import verify_image
from kiln.errors import KilnError
from kiln.records.publish import record_build
from kiln.records.store import Records
from kiln_wire.digest import Digest
from kiln_wire.trust import Trust

NOW = datetime(2026, 1, 2, 4, tzinfo=UTC)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    inputs = make_inputs(tmp_path / "box")
    attested = attest(inputs, SIGNER)
    with Records(tmp_path / "state") as records:
        record = record_build(records, inputs, attested, SIGNER, now=NOW)
        assert records.recent() == (record,)
    return tmp_path / "box"


def test_the_record_beside_the_image_is_that_of_the_chain(image: Path, tmp_path: Path) -> None:
    with Records(tmp_path / "state") as records:
        record = records.recent()[0]
    assert (image / "record.json").read_bytes() == record.canonical
    assert record.run.verdict == "pass"
    assert record.run.signer == SIGNER.public_key.hint
    for pointer in record.run.files:
        assert Digest.of_file(image / pointer.path) == pointer.digest
    listed = {pointer.path for pointer in record.run.files} | {item.name for item in record.run.artifacts}
    there = {str(path.relative_to(image)) for path in image.rglob("*") if path.is_file()}
    assert there - listed == {"record.json", "attestations/record.sigstore.json"}


def test_an_image_with_its_record_is_verified(image: Path) -> None:
    assert verify_image(image, trust=Trust((SIGNER.public_key,))).verdict == "verified"


@pytest.mark.parametrize("name", ["record.json", "attestations/record.sigstore.json"])
def test_one_flipped_bit_in_the_record_or_its_bundle_is_named(image: Path, name: str) -> None:
    original = (image / name).read_bytes()
    for position in (0, len(original) // 3, len(original) // 2, len(original) - 1):
        changed = bytearray(original)
        changed[position] ^= 1
        (image / name).write_bytes(changed)
        result = verify_image(image, trust=Trust((SIGNER.public_key,)))
        assert {finding.component for finding in result.findings} == {name}


def test_a_record_without_its_statement_is_unexpected(image: Path) -> None:
    (image / "attestations/record.sigstore.json").unlink()
    result = verify_image(image, trust=Trust((SIGNER.public_key,)))
    assert [(finding.component, finding.reason) for finding in result.findings] == [("record.json", "unexpected-file")]


def test_a_file_that_vanished_is_no_record(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path / "box")
    attested = attest(inputs, SIGNER)
    (tmp_path / "box/link").symlink_to("/etc/passwd")
    with Records(tmp_path / "state") as records:
        with pytest.raises(KilnError) as caught:
            record_build(records, inputs, attested, SIGNER, now=NOW)
        assert caught.value.reason == "missing-evidence"
        assert records.recent() == ()


def test_a_statement_that_only_the_record_lists_cannot_be_taken_away(image: Path) -> None:
    (image / "attestations/licences.sigstore.json").unlink()
    result = verify_image(image, trust=Trust((SIGNER.public_key,)))
    assert result.verdict == "refused"
    assert [(finding.component, finding.reason) for finding in result.findings] == [
        ("attestations/licences.sigstore.json", "missing-file")
    ]
