"""Notes, checkpoints and proofs are those of C2SP: other people's are read, ours are read by nobody differently."""

from __future__ import annotations

import base64
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from kiln_wire.checkpoint import Checkpoint, InclusionProof, open_checkpoint
from kiln_wire.ed25519 import Ed25519Key
from kiln_wire.merkle import leaf_hash, node_hash
from kiln_wire.note import COSIGNATURE, Note, NoteError, NoteKey, NoteSignature, cosignature, cosigned

# the example of Go's package golang.org/x/mod/sumdb/note
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()

LOG = Ed25519PrivateKey.from_private_bytes(b"l" * 32)
WITNESS = Ed25519PrivateKey.from_private_bytes(b"w" * 32)
LOG_KEY = NoteKey("log.example/records", Ed25519Key(LOG.public_key().public_bytes_raw()))
WITNESS_KEY = NoteKey("witness.example", Ed25519Key(WITNESS.public_key().public_bytes_raw()), COSIGNATURE)
ENTRIES = [b"one", b"two"]
ROOT = node_hash(leaf_hash(b"one"), leaf_hash(b"two"))


def signed(text: str) -> bytes:
    lines = (
        NoteSignature(LOG_KEY.name, LOG_KEY.id, LOG.sign(text.encode())),
        cosignature(WITNESS_KEY, 1_700_000_000, WITNESS.sign(cosigned(text, 1_700_000_000))),
    )
    return Note(text, lines).data


CHECKPOINT = signed(Checkpoint("log.example/records", 2, ROOT).text)


def reason(data: bytes, *keys: NoteKey) -> str:
    with pytest.raises(NoteError) as caught:
        open_checkpoint(data, *(keys or (LOG_KEY,)))
    return caught.value.reason


def test_the_note_of_gos_documentation_is_read() -> None:
    key = NoteKey.parse(GO_KEY)
    assert key.vkey == GO_KEY
    note = Note.parse(GO_NOTE)
    assert note.data == GO_NOTE
    assert [item.key for item in note.signers([key])] == [key]
    with pytest.raises(NoteError, match="not signed"):
        Note.parse(GO_NOTE.replace(b"problem is", b"problem was")).signers([key])


def test_a_checkpoint_names_its_log_and_its_witnesses() -> None:
    checkpoint, cosigners = open_checkpoint(CHECKPOINT, LOG_KEY, [WITNESS_KEY])
    assert checkpoint == Checkpoint("log.example/records", 2, ROOT)
    assert [(item.key, item.time) for item in cosigners] == [(WITNESS_KEY, 1_700_000_000)]
    assert open_checkpoint(CHECKPOINT, LOG_KEY)[1] == ()


def test_every_flipped_bit_of_a_checkpoint_is_refused_or_changes_nothing_that_is_believed() -> None:
    for position in range(len(CHECKPOINT)):
        changed = bytearray(CHECKPOINT)
        changed[position] ^= 1
        try:
            believed = open_checkpoint(bytes(changed), LOG_KEY, [WITNESS_KEY])
        except NoteError:
            continue
        assert believed[0] == Checkpoint("log.example/records", 2, ROOT)
        assert believed[1] == ()  # the witness's line names another key now


def test_a_checkpoint_of_another_log_or_with_other_lines_is_refused() -> None:
    text = Checkpoint("log.example/records", 2, ROOT).text
    assert reason(signed(text.replace("records", "others"))) == "unknown-log"
    assert reason(signed(text + "extension\n")) == "malformed-checkpoint"
    assert reason(signed(text.replace("\n2\n", "\n02\n"))) == "malformed-checkpoint"
    assert reason(signed(text.replace("\n2\n", "\n-2\n"))) == "malformed-checkpoint"
    assert reason(CHECKPOINT, NoteKey("log.example/records", WITNESS_KEY.key)) == "unknown-log"


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"text\n", b"text\n\n", "text\n\n— a\n".encode(), b"\xff\n\n", b"a\rb\n\n"]
)
def test_what_is_no_note_is_refused(data: bytes) -> None:
    assert reason(data) == "malformed-note"


@pytest.mark.parametrize("text", ["", "a+b", "a b+00000000+AQ==", GO_KEY.replace("c7", "c8"), GO_KEY[:-4], "a+0+Ag=="])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        NoteKey.parse(text)


def test_a_proof_holds_for_its_entry_alone() -> None:
    proof = InclusionProof(0, (leaf_hash(b"two"),), CHECKPOINT)
    assert InclusionProof.parse(proof.data) == proof
    assert proof.data.startswith(b"c2sp.org/tlog-proof@v1\nindex 0\n" + base64.b64encode(leaf_hash(b"two")) + b"\n\n")
    assert proof.verify(b"one", LOG_KEY)[0].size == 2
    with pytest.raises(NoteError) as caught:
        proof.verify(b"three", LOG_KEY)
    assert caught.value.reason == "not-included"


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_refused_with_one_kind_of_error(data: bytes) -> None:
    for read in (Note.parse, InclusionProof.parse):
        with suppress(NoteError):
            read(data)
