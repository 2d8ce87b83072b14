"""Verify an image directory or one image file in it, with progress; the checks themselves are kiln_wire's."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from kiln.errors import Domain, ExitStatus, KilnError
from kiln.events.model import NullSink, Progress, Sink
from kiln_wire.files import DirectoryFiles
from kiln_wire.finding import VerificationResult
from kiln_wire.policy import Policy
from kiln_wire.trust import Trust
from kiln_wire.verify import verify

STEP: Final = "verify"
_BYTES_PER_EVENT: Final = 16 * 1024 * 1024


def verify_image(
    path: Path, *, trust: Trust, policy: Policy | None = None, sink: Sink | None = None
) -> VerificationResult:
    """Verify the image directory *path*, or the one that the file *path* lies in, offline.

    All findings are in the result; it is the caller who turns its verdict into an exit status. A file must be
    one that the statements are about. Emits Progress events in bytes. Raises KilnError(ATTESTATION, "no-image") if
    there is no such path, or "unreadable".
    """
    try:
        is_directory = path.is_dir()
        path = path.resolve(strict=True)
        directory = path if is_directory else path.parent
        with DirectoryFiles(directory, on_bytes=_Meter(sink or NullSink(), _size_bytes(directory)).count) as files:
            return verify(files, trust, image="" if is_directory else path.name, policy=policy)
    except FileNotFoundError as error:
        raise KilnError(
            Domain.ATTESTATION,
            "no-image",
            f"there is no {path}",
            hint="give an image directory that `kiln build` has made, or the image file in it",
            exit_status=ExitStatus.NOT_FOUND,
        ) from error
    except OSError as error:
        raise KilnError(
            Domain.ATTESTATION,
            "unreadable",
            f"{path} can't be read: {error.strerror}",
            hint="run as a user who may read it",
            exit_status=ExitStatus.INFRASTRUCTURE,
        ) from error


def _size_bytes(directory: Path) -> int:
    """Return the size of all files, for the progress only: what comes or goes meanwhile is the verifier's to judge."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                total += Path(folder, name).lstat().st_size
    return total


class _Meter:
    """Adds up what the hashing threads have read and tells the sink now and then."""

    def __init__(self, sink: Sink, total: int) -> None:
        self._sink = sink
        self._total = total
        self._done = 0
        self._told = 0
        self._lock = threading.Lock()

    def count(self, name: str, size_bytes: int) -> None:
        """Take note of bytes that were hashed."""
        with self._lock:
            self._done += size_bytes
            if self._done - self._told < _BYTES_PER_EVENT and self._done < self._total:
                return
            self._told = self._done
            self._sink.emit(Progress(STEP, min(self._done, self._total), self._total, "bytes", name))
