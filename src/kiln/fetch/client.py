"""An HTTP client for files whose bytes are known beforehand.

Each file goes to a temporary name beside its destination, is hashed while it arrives, and gets its name only
when size and digest are right: a reader never sees half a file. A broken connection is resumed with a range
request; a mirror that fails is tried again with growing pauses, then the next mirror of the same name.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC
from io import BufferedRandom
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar
from urllib.parse import quote

import httpx

from kiln.errors import Domain, ExitStatus, KilnError, disk_full
from kiln.events.model import Progress, Sink
from kiln.fetch.mirrors import Mirrors
from kiln.fetch.model import Download
from kiln.linux import faults
from kiln_wire.digest import Digest

PARALLEL_DOWNLOADS: Final = 8
PAUSES_SECONDS: Final = (0.0, 0.25, 0.5, 1.0)
"""Before each attempt at one mirror."""
TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
PROGRESS_INTERVAL_SECONDS: Final = 0.1
USER_AGENT: Final = "kiln"
NOT_FOUND: Final = (403, 404, 410)
PATH_CHARACTERS: Final = "/~+:@!$&'()*,;="
"""Allowed as they are in a path (RFC 3986, section 3.3); a `%` in a file's name is not one of them."""

T = TypeVar("T")


class Fetcher:
    """Fetches from mirrors; use as a context manager. Safe to call from several threads."""

    def __init__(
        self,
        mirrors: Mirrors,
        sink: Sink,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._mirrors = mirrors
        self._sink = sink
        self._sleep = sleep
        self._client = httpx.Client(
            transport=transport,
            timeout=TIMEOUT,
            follow_redirects=True,
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            limits=httpx.Limits(max_connections=PARALLEL_DOWNLOADS, max_keepalive_connections=PARALLEL_DOWNLOADS),
        )

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get_bytes(self, mirror: str, path: str, *, max_bytes: int) -> bytes:
        """Return a small file whose digest is not known (a signed index).

        Raises KilnError(FETCH) with reason `mirror-down`, `not-found`, `too-large` or `unknown-mirror`.
        """

        def once(url: str) -> bytes:
            data = bytearray()
            with self._client.stream("GET", url) as response:
                response.raise_for_status()
                for piece in response.iter_raw():
                    data += piece
                    if len(data) > max_bytes:
                        raise _refuse("too-large", f"{_name(mirror, path)} has more than {max_bytes} bytes")
            return bytes(data)

        return self._try_all(mirror, path, once)

    def download_latest(self, step: str, mirror: str, path: str, destination: Path, *, max_bytes: int) -> None:
        """Fetch a large file whose digest is not known: whoever reads it must be able to refuse what it says.

        Raises KilnError(FETCH) with reason `mirror-down`, `not-found`, `too-large`, `no-space` or `unknown-mirror`.
        """

        def once(url: str) -> None:
            with destination.open("wb") as file, self._client.stream("GET", url) as response:
                response.raise_for_status()
                length = response.headers.get("Content-Length", "")
                total = int(length) if length.isascii() and length.isdigit() else None
                meter = _Meter(step, self._sink, total)
                received = 0
                for piece in response.iter_raw():
                    received += len(piece)
                    if received > max_bytes:
                        raise _refuse("too-large", f"{_name(mirror, path)} has more than {max_bytes} bytes")
                    file.write(piece)
                    meter.count(len(piece), path.rpartition("/")[2])
                if total is not None and received != total:
                    raise httpx.RemoteProtocolError(f"{received} bytes instead of {total}")

        try:
            self._try_all(mirror, path, once)
        except OSError as error:
            if error.errno in (ENOSPC, EDQUOT):
                raise disk_full(destination, Domain.FETCH) from error
            raise

    def download_all(self, step: str, downloads: Sequence[Download]) -> None:
        """Fetch every file that is not at its destination yet, several at once, reporting bytes to the sink.

        Raises KilnError(FETCH) with reason `mirror-down`, `not-found`, `wrong-digest`, `wrong-size`, `no-space` or
        `unknown-mirror`; files that had arrived before stay.
        """
        missing = [download for download in downloads if not download.destination.exists()]
        if not missing:
            return
        sizes = [download.size_bytes for download in missing]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        meter = _Meter(step, self._sink, total)
        stop = threading.Event()
        with ThreadPoolExecutor(PARALLEL_DOWNLOADS, thread_name_prefix="fetch") as pool:
            futures = [pool.submit(self._download, download, meter, stop) for download in missing]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
            failure = next((error for future in done if (error := future.exception()) is not None), None)
            if failure is not None:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise failure
        meter.finish()

    def _download(self, download: Download, meter: _Meter, stop: threading.Event) -> None:
        destination = download.destination
        temporary = destination.with_name(f".{destination.name}.{os.getpid()}.{threading.get_ident()}.part")
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w+b") as file:
                faults.point("download:opened")
                arrival = _Arrival(download, file, meter, stop)
                self._try_all(download.mirror, download.url_path, lambda url: arrival.fetch(self._client, url))
                file.flush()
                os.fsync(file.fileno())
            faults.point("download:complete")
            temporary.replace(destination)
            faults.point("download:renamed")
            meter.file_done(download)
        except OSError as error:
            if error.errno in (ENOSPC, EDQUOT):
                raise disk_full(destination, Domain.FETCH) from error
            raise
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()

    def _try_all(self, mirror: str, path: str, once: Callable[[str], T]) -> T:
        """Call *once* with each URL of the file until one succeeds."""
        bases = self._mirrors.resolve(mirror) if mirror else ("",)
        problems: list[str] = []
        last: KilnError | None = None
        for base in bases:
            url = f"{base}/{quote(path.lstrip('/'), safe=PATH_CHARACTERS)}" if mirror else path
            for pause in PAUSES_SECONDS:
                if pause:
                    self._sleep(pause)
                try:
                    return once(url)
                except httpx.HTTPStatusError as error:
                    status = error.response.status_code
                    problems.append(f"HTTP status {status}")
                    if status in NOT_FOUND:
                        last = _refuse(
                            "not-found", f"{_name(mirror, path)} is not on the mirror (HTTP status {status})"
                        )
                        break
                except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
                    problems.append(f"{type(error).__name__}: {error}")
                    break
                except httpx.HTTPError as error:
                    problems.append(f"{type(error).__name__}: {error}")
                except _WrongBytesError as error:
                    last = error.refusal
                    if not error.resumed:
                        # Asking the same mirror again gives the same bytes; another one may be right.
                        break
        if last is not None:
            raise last
        raise KilnError(
            Domain.FETCH,
            "mirror-down",
            f"{_name(mirror, path)} could not be fetched: {problems[-1] if problems else 'no URL'}",
            detail="\n".join(problems),
            hint="check the network and the mirror (`kiln doctor` tries each); what has arrived is kept",
            exit_status=ExitStatus.INFRASTRUCTURE,
            retriable=True,
        )


class _WrongBytesError(Exception):
    """A mirror sent another file than was asked for; *resumed*: maybe it was an earlier one that did."""

    def __init__(self, refusal: KilnError, *, resumed: bool) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.resumed = resumed


@dataclass(slots=True)
class _Arrival:
    """A file that is being received; keeps what has come when a connection breaks."""

    download: Download
    file: BufferedRandom
    meter: _Meter
    stop: threading.Event
    resumed: bool = False

    def fetch(self, client: httpx.Client, url: str) -> None:
        self._go_on()
        received = self.file.seek(0, os.SEEK_END)
        headers = {"Range": f"bytes={received}-"} if received else {}
        with client.stream("GET", url, headers=headers) as response:
            if received and response.status_code in (httpx.codes.OK, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE):
                self._start_over()
                received = 0
            self.resumed = received > 0
            response.raise_for_status()
            for piece in response.iter_raw():
                self._go_on()
                received += len(piece)
                if self.download.size_bytes is not None and received > self.download.size_bytes:
                    self._wrong("wrong-size", f"more than the {self.download.size_bytes} bytes that its index promises")
                self.file.write(piece)
                faults.point("download:piece")
                self.meter.add(len(piece), self.download)
        if self.download.size_bytes is not None and received != self.download.size_bytes:
            self._wrong("wrong-size", f"{received} bytes instead of {self.download.size_bytes}")
        self.file.flush()
        self.file.seek(0)
        digest = Digest(self.download.digest.algorithm, _hash(self.file, self.download.digest.algorithm))
        if digest != self.download.digest:
            self._wrong("wrong-digest", f"{digest} instead of {self.download.digest}")

    def _go_on(self) -> None:
        if self.stop.is_set():
            raise _refuse("cancelled", "another download failed")

    def _start_over(self) -> None:
        self.meter.add(-self.file.tell(), self.download)
        self.file.seek(0)
        self.file.truncate()

    def _wrong(self, reason: str, problem: str) -> None:
        self.file.seek(0, os.SEEK_END)
        self._start_over()
        raise _WrongBytesError(
            KilnError(
                Domain.FETCH,
                reason,
                f"{_name(self.download.mirror, self.download.url_path)} is not what was locked: {problem}",
                hint="something changed it on its way; if the archive has moved on, use `kiln build --update-lock`",
                exit_status=ExitStatus.INFRASTRUCTURE,
            ),
            resumed=self.resumed,
        )


class _Meter:
    """Sums up what arrives and tells the sink, not more than some times a second."""

    def __init__(self, step: str, sink: Sink, total_bytes: int | None) -> None:
        self._step = step
        self._sink = sink
        self._total = total_bytes
        self._done = 0
        self._last = 0.0
        self._lock = threading.Lock()

    def add(self, count: int, download: Download) -> None:
        self.count(count, _file_name(download))

    def count(self, count: int, item: str) -> None:
        with self._lock:
            self._done += count
            now = time.monotonic()
            if now - self._last < PROGRESS_INTERVAL_SECONDS:
                return
            self._last = now
            self._emit(item)

    def file_done(self, download: Download) -> None:
        with self._lock:
            self._emit(_file_name(download))

    def finish(self) -> None:
        self._sink.emit(Progress(self._step, self._done, self._done, "bytes"))

    def _emit(self, item: str) -> None:
        self._sink.emit(Progress(self._step, self._done, self._total, "bytes", item))


def _file_name(download: Download) -> str:
    return download.url_path.rpartition("/")[2]


def _hash(file: BufferedRandom, algorithm: str) -> str:
    return hashlib.file_digest(file, algorithm).hexdigest()


def _name(mirror: str, path: str) -> str:
    return f"{mirror}: {path}" if mirror else path


def _refuse(reason: str, message: str) -> KilnError:
    return KilnError(
        Domain.FETCH,
        reason,
        message,
        hint="if the archive has moved on, run `kiln build --update-lock`",
        exit_status=ExitStatus.INFRASTRUCTURE,
    )
