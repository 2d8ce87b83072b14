"""A record: what was built from what, when, by whom, the verdict, and where the evidence lies."""

from __future__ import annotations

import os
import platform
import pwd
from dataclasses import dataclass
from typing import Literal

from kiln.artifact.model import Artifact
from kiln_wire.canonical import canonical_json
from kiln_wire.codec import encode
from kiln_wire.digest import Digest

RecordVerdict = Literal["pass", "fail", "error"]


@dataclass(frozen=True, slots=True)
class FilePointer:
    """A file by its path below the run's directory, and its content."""

    path: str
    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the road, whether it ended with an image or not."""

    name: str
    """Of the image; empty where the run ended before it had one."""
    verdict: RecordVerdict
    """`pass` and `fail` are the tests' verdicts, `error` means that there is no tested image."""
    request_text: str
    recorded_by: str
    """user@host."""
    kiln_version: str
    invocation_id: str
    started: str
    finished: str
    """RFC 3339 in UTC."""
    base: str = ""
    architecture: str = ""
    artifacts: tuple[Artifact, ...] = ()
    directory: str = ""
    """Where the files lay when the record was made."""
    files: tuple[FilePointer, ...] = ()
    """Inputs, evidence and statements, sorted by path."""
    verification_id: str = ""
    signer: str = ""
    """Hint of the key that signed the statements."""
    error: object = None
    """The document of the KilnError that ended the run, or null."""


@dataclass(frozen=True, slots=True)
class Record:
    """A run with its place in the chain: each record holds the digest of the canonical bytes of the one before."""

    kind: Literal["kiln.record/v1"]
    sequence: int
    """From 1, without gaps."""
    previous: Digest | None
    """None for the first."""
    recorded_at: str
    """RFC 3339 in UTC."""
    run: Run

    @property
    def canonical(self) -> bytes:
        """The bytes that are stored, signed and chained."""
        return canonical_json(encode(self))

    @property
    def digest(self) -> Digest:
        """Of the canonical bytes; its hexadecimal digits are the record's id."""
        return Digest.of(self.canonical)

    @property
    def id(self) -> str:
        """64 hexadecimal digits."""
        return self.digest.hex


def who_records() -> str:
    """Return `user@host` of this process, as it stands in a record."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    return f"{user}@{platform.node()}"
