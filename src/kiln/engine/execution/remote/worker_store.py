"""What a worker has: layers by digest, source files by checksum, and results by the digest of the job.

Beside an ordinary object store, `<store>/remote/` says where layers are that were made here:

    layers/<digest of a layer>      the key of the object that has it
    results/<digest of a job>       the outcome, as it was sent; the job's digest is the key of the object

A layer that was received is an object of its own, whose key is its digest.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from kiln.engine.execution.remote.documents import JobRequest, Need, Outcome
from kiln.engine.execution.remote.errors import protocol_error
from kiln.engine.objects.layout import LAYER_DIGEST
from kiln.engine.objects.model import EMPTY, RECORD_VERSION, ObjectRecord, ObjectRef
from kiln.engine.objects.store import ObjectStore
from kiln.engine.objects.stream.entries import damaged
from kiln.engine.objects.stream.reading import read_layer
from kiln.engine.objects.stream.writing import write_layer
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.linux import files
from kiln_wire.codec import DocumentError, decode, encode
from kiln_wire.digest import Digest, DigestError

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
READ_BYTES: Final = 1024 * 1024


class WorkerStore:
    """The store of a worker; several workers may use one at the same time."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._layers = store.root / "remote/layers"
        self._results = store.root / "remote/results"
        for directory in (self._layers, self._results):
            directory.mkdir(parents=True, exist_ok=True)
        self._layers.parent.chmod(0o700)  # results have what stages printed

    def lacking(self, request: JobRequest) -> Need:
        """Return what must be sent before a job can run. Raises KilnError(ENGINE, "remote-protocol")."""
        layers = [check_digest(digest) for digest in request.layers()]
        names = [check_checksum(checksum) for checksum in request.files]
        return Need(
            tuple(digest for digest in layers if self._key(digest) is None),
            tuple(name for name in dict.fromkeys(names) if not (self.store.files / name).exists()),
        )

    def receive_layer(self, digest: str, read: Callable[[int], bytes]) -> None:
        """Take a layer from a stream; it is there when it is complete. Raises as `read_layer` does."""
        self._take(digest, digest, read)

    def receive_file(self, checksum: str, read: Callable[[int], bytes]) -> None:
        """Take a source file from a stream. Raises OSError, KilnError(STORE, "damaged-stream" or "no-space")."""
        digest = Digest.parse(checksum)
        state = hashlib.new(digest.algorithm)
        with files.atomic_file(self.store.files / checksum) as file:
            while piece := read(READ_BYTES):
                file.write(piece)
                state.update(piece)
            if state.hexdigest() != digest.hex:
                raise damaged(f"a source file has the digest {digest.algorithm}:{state.hexdigest()}, not {checksum}")

    def tree(self, layers: Sequence[str]) -> ObjectRef:
        """Return the tree of these layers, from the bottom to the top. Raises KilnError(STORE, "object-lost")."""
        if not layers:
            return EMPTY
        keys = tuple(self._occurrence(digest, layers[:number].count(digest)) for number, digest in enumerate(layers))
        return ObjectRef(hashlib.sha256(",".join(layers).encode("ascii")).hexdigest(), keys)

    def directory(self, digest: str) -> Path:
        """Return the directory of a layer. Raises KilnError(STORE, "object-lost")."""
        return self.store.layer(self._have(digest))

    def result(self, job: str) -> Outcome | None:
        """Return how a job ended that has succeeded here before, if its layer is still there."""
        if self.store.lookup(job) is None:
            return None
        layer = self.store.layer_digest(job)
        self.store.touch(job)
        try:
            outcome = decode(Outcome, json.loads((self._results / job).read_bytes()))
        except (OSError, ValueError, DocumentError):
            # Killed between the object and this file.
            outcome = Outcome(True, layer, 0.0, "", dict(self.store.metadata(job)) or None)
        return outcome

    def remember(self, job: str, outcome: Outcome) -> None:
        """Keep the outcome of a job whose object is there, to be found by `result`. Raises OSError."""
        assert outcome.layer is not None  # noqa: S101 - only a success is remembered
        files.write_atomic(self._layers / outcome.layer, job.encode("ascii"))
        files.write_atomic(self._results / job, json.dumps(encode(outcome)).encode("ascii"))

    def _occurrence(self, digest: str, number: int) -> str:
        """Return the key of a layer; stages that change the same have equal layers, and a directory stacks once."""
        original = self._have(digest)
        if number == 0:
            return original
        key = hashlib.sha256(f"{digest} again {number}".encode("ascii")).hexdigest()
        if self.store.lookup(key) is None:
            with tempfile.TemporaryFile(dir=self.store.root) as file:
                write_layer(self.store.layer(original), file.write)
                file.seek(0)
                self._take(key, digest, file.read)
        return key

    def _take(self, key: str, digest: str, read: Callable[[int], bytes]) -> None:
        place = self.store.directory("received-")
        try:
            made = place / "object"
            made.mkdir()
            read_layer(read, made / "layer", digest)
            record = ObjectRecord(RECORD_VERSION, key, None, (key,), "", "")
            (made / "object.json").write_text(json.dumps(encode(record)), encoding="utf-8")
            (made / LAYER_DIGEST).write_text(f"{digest}\n", encoding="ascii")
            self.store.adopt(key, made)
        finally:
            self.store.throw_away(place)

    def _have(self, digest: str) -> str:
        key = self._key(digest)
        if key is None:
            raise KilnError(
                Domain.STORE,
                "object-lost",
                f"the layer {digest} has gone from the worker's store while it was needed",
                hint="did somebody delete files of the store? run the build again",
                exit_status=ExitStatus.INFRASTRUCTURE,
                retriable=True,
            )
        self.store.touch(key)
        return key

    def _key(self, digest: str) -> str | None:
        """Return the key of the object with a layer of this digest, if there is one; it then stays for this worker."""
        if self.store.lookup(digest) is not None:
            return digest
        with suppress(OSError):
            key = (self._layers / digest).read_text(encoding="ascii")
            if _DIGEST.fullmatch(key) and self.store.lookup(key) is not None:
                return key
        return None


def check_digest(text: str) -> str:
    """Return *text*, which becomes part of a path, if it is a digest. Raises KilnError(ENGINE, "remote-protocol")."""
    if not _DIGEST.fullmatch(text):
        raise protocol_error(f"{text[:80]!r} is not a digest")
    return text


def check_checksum(text: str) -> str:
    """Return *text* if it is the name of a source file. Raises KilnError(ENGINE, "remote-protocol")."""
    try:
        return str(Digest.parse(text))
    except DigestError as error:
        raise protocol_error(str(error)) from None
