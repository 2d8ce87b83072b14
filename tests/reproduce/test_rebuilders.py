"""Several rebuilders speak about one image; a voice counts once, by a trusted key, about the same bytes."""

from __future__ import annotations

from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric import ec

from kiln.artifact.differences import FileDifference
from kiln.attestation.reproduction import Output, Reproduction, read_reproduction, reproduction_document, tally
from kiln.attestation.signer import FileSigner, sign_statement
from kiln_wire.digest import Digest
from kiln_wire.statement import REPRODUCTION_TYPE, VERIFICATION_TYPE, Subject, statement_json

ONE, TWO, STRANGER = (FileSigner(ec.derive_private_key(number, ec.SECP256R1())) for number in (11, 12, 13))
TRUSTED = (ONE.public_key, TWO.public_key)
DISK, LOCK = Digest.of(b"disk"), Digest.of(b"lock")
SUBJECTS = (Subject("box.qcow2", DISK),)
SAME = Reproduction(
    name="box",
    lock=LOCK,
    plan=Digest.of(b"plan"),
    same_plan=True,
    rebuilder="one@host",
    kiln_version="0.1.0",
    started="2026-01-02T03:04:05Z",
    finished="2026-01-02T03:05:05Z",
    outputs=(Output("box.qcow2", DISK, DISK),),
    differences=(),
)
OTHER = replace(
    SAME,
    outputs=(Output("box.qcow2", DISK, Digest.of(b"other")),),
    differences=(FileDifference("box.qcow2", "/etc/x", "changed", "time", "line 1"),),
)


def signed(signer: FileSigner, found: Reproduction = SAME, kind: str = REPRODUCTION_TYPE) -> bytes:
    return sign_statement(signer, statement_json(SUBJECTS, kind, reproduction_document(found)))


def problems(*statements: bytes) -> list[tuple[str | None, str]]:
    named = [(str(number), data) for number, data in enumerate(statements)]
    return [(voice.verdict, voice.problem) for voice in tally(named, SUBJECTS, LOCK, TRUSTED)]


def test_rebuilders_are_counted_with_what_they_found() -> None:
    assert problems(signed(ONE), signed(TWO, OTHER)) == [("identical", ""), ("different", "")]


def test_a_key_has_one_voice() -> None:
    assert [bool(problem) for _, problem in problems(signed(ONE), signed(ONE))] == [False, True]


def test_a_stranger_a_changed_byte_another_type_and_another_image_do_not_count() -> None:
    good = bytearray(signed(ONE))
    good[len(good) // 2] ^= 1
    elsewhere = replace(SAME, lock=Digest.of(b"another lock"))
    found = problems(signed(STRANGER), bytes(good), signed(TWO, kind=VERIFICATION_TYPE), signed(ONE, elsewhere))
    assert all(problem for _, problem in found)


def test_a_verdict_that_does_not_follow_does_not_count() -> None:
    forged = {**reproduction_document(OTHER), "verdict": "identical"}
    statement = sign_statement(ONE, statement_json(SUBJECTS, REPRODUCTION_TYPE, forged))
    assert all(problem for _, problem in problems(statement))


def test_verdicts() -> None:
    assert read_reproduction(reproduction_document(SAME)) == SAME
    metadata = replace(OTHER, differences=(replace(OTHER.differences[0], cause="metadata"),))
    assert (SAME.verdict, OTHER.verdict, metadata.verdict) == ("identical", "different", "equivalent")
    assert replace(OTHER, differences=()).verdict == "different"
