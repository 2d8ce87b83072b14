"""Witnesses: who signs that a log has one history only. Reference: C2SP tlog-witness (add-checkpoint).

A witness remembers the last checkpoint that it signed of each log, and signs the next one only with a proof that it
continues it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kiln.attestation.signer import Signer
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.linux.files import write_atomic
from kiln.linux.locks import exclusive
from kiln.records.log import RecordLog
from kiln_wire.checkpoint import Checkpoint, decimal, one_hash, open_checkpoint
from kiln_wire.ed25519 import Ed25519Key
from kiln_wire.merkle import MAX_PROOF_HASHES, verify_consistency
from kiln_wire.note import COSIGNATURE, Note, NoteError, NoteKey, NoteSignature, cosignature, cosigned, read_signatures

ADD_CHECKPOINT: Final = "/add-checkpoint"
SIZE_TYPE: Final = "text/x.tlog.size"
TEXT_TYPE: Final = "text/plain; charset=utf-8"
MAX_REQUEST_BYTES: Final = 128 * 1024
OK, BAD_REQUEST, FORBIDDEN, NOT_FOUND, CONFLICT, UNPROCESSABLE = 200, 400, 403, 404, 409, 422
_ATTEMPTS: Final = 3

Post = Callable[[bytes], tuple[int, bytes]]
"""Sends a request to add-checkpoint; returns status and body."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a witness answers."""

    status: int
    body: bytes
    content_type: str = TEXT_TYPE


class Witness:
    """A witness of some logs, which keeps what it has signed below *directory*."""

    def __init__(self, name: str, signer: Signer, directory: Path, logs: Sequence[NoteKey]) -> None:
        """Raises KilnError(RECORD, "bad-log-key") for a key that is not Ed25519, NoteError for a bad name."""
        self.key = witness_key(name, signer)
        self._signer = signer
        self._directory = directory
        self._logs: Mapping[str, NoteKey] = {log.name: log for log in logs}

    def add_checkpoint(self, request: bytes, *, now: int) -> Answer:
        """Answer one request at *now* (seconds since 1970)."""
        try:
            old_size, proof, data = read_request(request)
            log = self._logs.get(data.partition(b"\n")[0].decode("utf-8", "replace"))
            if log is None:
                return Answer(NOT_FOUND, b"unknown log\n")
            checkpoint, _ = open_checkpoint(data, log)
        except NoteError as error:
            refused = error.reason in ("unknown-log", "bad-signature")
            return Answer(FORBIDDEN if refused else BAD_REQUEST, f"{error}\n".encode())
        if old_size > checkpoint.size:
            return Answer(BAD_REQUEST, b"the old size is larger than the new one\n")
        path = self._directory / hashlib.sha256(log.name.encode()).hexdigest()
        self._directory.mkdir(parents=True, exist_ok=True)
        with exclusive(self._directory / ".lock"):
            known = open_checkpoint(path.read_bytes(), log)[0] if path.exists() else Checkpoint(log.name, 0, b"")
            if old_size != known.size:
                return Answer(CONFLICT, f"{known.size}\n".encode(), SIZE_TYPE)
            if known.size == checkpoint.size and known.size and known.root != checkpoint.root:
                return Answer(CONFLICT, f"{known.size}\n".encode(), SIZE_TYPE)
            if old_size == 0 and proof:
                return Answer(UNPROCESSABLE, b"a proof from nothing must be empty\n")
            if old_size and not verify_consistency(old_size, checkpoint.size, known.root, checkpoint.root, proof):
                return Answer(UNPROCESSABLE, b"the proof does not lead from the old to the new checkpoint\n")
            write_atomic(path, data)
        signature = self._signer.sign(cosigned(checkpoint.text, now))
        return Answer(OK, cosignature(self.key, now, signature).line.encode())


def witness_key(name: str, signer: Signer) -> NoteKey:
    """Return the key of a witness. Raises KilnError(RECORD, "bad-log-key")."""
    key = signer.public_key
    if not isinstance(key, Ed25519Key):
        raise _failed("bad-log-key", f"a witness's key must be Ed25519, not {key.algorithm}", retriable=False)
    return NoteKey(name, key, COSIGNATURE)


def submit(log: RecordLog, witnesses: Sequence[NoteKey], post: Post) -> tuple[NoteSignature, ...]:
    """Have a witness sign the log's newest checkpoint; its good signatures are added to it and returned.

    Raises KilnError(RECORD, "witness-refused") with what the witness said.
    """
    data = log.read("checkpoint")
    checkpoint, _ = open_checkpoint(data, log.key)
    old_size, status, body = 0, 0, b""
    for _ in range(_ATTEMPTS):
        proof = log.prove_consistency(old_size, checkpoint.size)
        status, body = post(write_request(old_size, proof, data))
        if status != CONFLICT:
            break
        try:
            told = decimal(body.decode("ascii", "replace").removesuffix("\n"))
        except NoteError as error:
            raise _failed("witness-refused", f"the witness answers {body[:80]!r}: {error}") from error
        if told == old_size or told > checkpoint.size:
            raise _failed("witness-refused", f"the witness has seen another history: it knows {told} entries")
        old_size = told
    if status != OK:
        raise _failed("witness-refused", f"the witness answers {status}: {body[:200].decode('utf-8', 'replace')}")
    try:
        signatures = read_signatures(body.decode("utf-8"))
        known = Note(checkpoint.text, signatures).signers(witnesses)
    except (NoteError, UnicodeDecodeError) as error:
        raise _failed("witness-refused", f"the witness's signature can't be used: {error}") from error
    if not known:
        raise _failed("witness-refused", "the witness signs with a key that the trust root does not name")
    ids = {(item.key.name, item.key.id) for item in known}
    good = tuple(item for item in signatures if (item.name, item.id) in ids)
    log.cosign(checkpoint.size, good)
    return good


def http_post(url: str) -> Post:
    """Return how to reach the witness with the submission prefix *url*."""

    def post(body: bytes) -> tuple[int, bytes]:
        import httpx  # noqa: PLC0415

        try:
            answer = httpx.post(url.rstrip("/") + ADD_CHECKPOINT, content=body, timeout=30.0)
        except httpx.HTTPError as error:
            raise _failed("witness-refused", f"the witness {url} does not answer: {error}") from error
        return answer.status_code, answer.content[:MAX_REQUEST_BYTES]

    return post


def write_request(old_size: int, proof: Sequence[bytes], checkpoint: bytes) -> bytes:
    """Return the body of a request."""
    lines = [f"old {old_size}", *(base64.b64encode(item).decode("ascii") for item in proof)]
    return ("\n".join(lines) + "\n\n").encode("ascii") + checkpoint


def read_request(data: bytes) -> tuple[int, tuple[bytes, ...], bytes]:
    """Return old size, proof and checkpoint. Raises NoteError."""
    head, blank, checkpoint = data.partition(b"\n\n")
    lines = head.decode("ascii", "replace").split("\n")
    word, _, size = lines[0].partition(" ")
    if len(data) > MAX_REQUEST_BYTES or not blank or word != "old" or len(lines) > MAX_PROOF_HASHES + 1:
        raise NoteError("malformed-request", "not `old <size>`, at most 63 hashes, a blank line and a checkpoint")
    return decimal(size), tuple(one_hash(line) for line in lines[1:]), checkpoint


def _failed(reason: str, message: str, *, retriable: bool = True) -> KilnError:
    return KilnError(
        Domain.RECORD,
        reason,
        message,
        hint="the log itself is whole; `kiln log submit` tries again",
        exit_status=ExitStatus.INFRASTRUCTURE,
        retriable=retriable,
    )
