"""Fetching by digest: from real servers on the loopback, and from transports that misbehave on purpose."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from kiln.errors import Domain, KilnError
from kiln.events.model import CollectingSink, Progress
from kiln.fetch.client import PAUSES_SECONDS, Fetcher
from kiln.fetch.mirrors import Mirrors
from kiln.fetch.model import Download
from kiln_wire.digest import Digest

DATA = bytes(range(256)) * 1024
Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Asks the site what to do."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        site: Site = self.server.site
        with site.lock:
            site.requests.append((self.path, self.headers.get("Range")))
            answers = site.answers.get(self.path)
            answer = not_found if not answers else answers.pop(0) if len(answers) > 1 else answers[0]
        answer(self)

    def reply(self, status: int, body: bytes = b"", *, promise: int | None = None, **headers: str) -> None:
        """Send a response; with *promise*, a Content-Length that the body does not keep."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if promise is None else promise))
        self.end_headers()
        self.wfile.write(body)
        if promise is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def not_found(handler: Handler) -> None:
    handler.reply(404, b"no")


def whole(body: bytes = DATA) -> Answer:
    return lambda handler: handler.reply(200, body)


def status(number: int) -> Answer:
    return lambda handler: handler.reply(number, b"")


def cut(body: bytes, after: int) -> Answer:
    """Send the first bytes and drop the connection."""
    return lambda handler: handler.reply(200, body[:after], promise=len(body))


def ranged(body: bytes = DATA) -> Answer:
    """Answer range requests."""

    def answer(handler: Handler) -> None:
        asked = handler.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if not asked:
            handler.reply(200, body)
        elif start >= len(body):
            handler.reply(416, Content_Range=f"bytes */{len(body)}")
        else:
            content_range = f"bytes {start}-{len(body) - 1}/{len(body)}"
            handler.reply(206, body[start:], Content_Range=content_range)

    return answer


@dataclass
class Site:
    """A server: path -> what it answers, one after another, the last for ever."""

    url: str = ""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@pytest.fixture
def make_site() -> Iterator[Callable[..., Site]]:
    """Start servers on the loopback."""
    servers: list[ThreadingHTTPServer] = []

    def start(**answers: list[Answer]) -> Site:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        site = Site(f"http://127.0.0.1:{server.server_port}/root/")
        site.answers = {f"/root/{name}": value for name, value in answers.items()}
        server.site = site  # type: ignore[attr-defined]
        # The default of half a second is how long each test would wait for the end.
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return site

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def sink() -> CollectingSink:
    """What the fetcher tells."""
    return CollectingSink()


def download(directory: Path, name: str = "a", body: bytes = DATA, **changes: Any) -> Download:
    values = {
        "url_path": name,
        "mirror": "debian",
        "digest": Digest.of(body),
        "size_bytes": len(body),
        "destination": directory / "files" / str(Digest.of(body)),
    }
    return Download(**{**values, **changes})


class Pauses(list[float]):
    """A sleep that remembers instead."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def fetch(sites: list[Site], sink: CollectingSink, *downloads: Download, pauses: Pauses | None = None) -> None:
    mirrors = Mirrors({"debian": tuple(site.url for site in sites)})
    with Fetcher(mirrors, sink, sleep=Pauses() if pauses is None else pauses) as fetcher:
        fetcher.download_all("fetch", downloads)


def refusal(sites: list[Site], sink: CollectingSink, *downloads: Download, pauses: Pauses | None = None) -> KilnError:
    with pytest.raises(KilnError) as caught:
        fetch(sites, sink, *downloads, pauses=pauses)
    assert caught.value.domain is Domain.FETCH
    return caught.value


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def test_a_file_arrives_whole_under_its_name_only(make_site: Any, sink: CollectingSink, tmp_path: Path) -> None:
    wanted = download(tmp_path)
    fetch([make_site(a=[whole()])], sink, wanted)
    assert files(tmp_path) == [wanted.destination]
    assert wanted.destination.read_bytes() == DATA


def test_what_is_there_already_is_not_asked_for(make_site: Any, sink: CollectingSink, tmp_path: Path) -> None:
    site = make_site(a=[whole()])
    fetch([site], sink, download(tmp_path))
    fetch([site], sink, download(tmp_path))
    assert len(site.requests) == 1


def test_a_cut_connection_is_resumed_where_it_broke(make_site: Any, sink: CollectingSink, tmp_path: Path) -> None:
    site = make_site(a=[cut(DATA, 100_000), ranged()])
    fetch([site], sink, download(tmp_path))
    assert site.requests == [("/root/a", None), ("/root/a", "bytes=100000-")]
    assert files(tmp_path)[0].read_bytes() == DATA


def test_a_server_without_ranges_sends_it_all_again(make_site: Any, sink: CollectingSink, tmp_path: Path) -> None:
    fetch([make_site(a=[cut(DATA, 70_000), whole()])], sink, download(tmp_path))
    assert files(tmp_path)[0].read_bytes() == DATA


def test_an_error_between_does_not_lose_what_has_come(make_site: Any, sink: CollectingSink, tmp_path: Path) -> None:
    site = make_site(a=[cut(DATA, 70_000), status(503), ranged()])
    fetch([site], sink, download(tmp_path))
    assert [asked for _, asked in site.requests] == [None, "bytes=70000-", "bytes=70000-"]
    assert files(tmp_path)[0].read_bytes() == DATA


def test_a_range_past_the_end_starts_over(make_site: Any, sink: CollectingSink, tmp_path: Path) -> None:
    # Everything had come, the promised length was wrong, and the size is not known: nothing is left to resume.
    lying_length: Answer = lambda handler: handler.reply(200, DATA, promise=len(DATA) + 1)  # noqa: E731
    site = make_site(a=[lying_length, ranged()])
    fetch([site], sink, download(tmp_path, size_bytes=None))
    assert [asked for _, asked in site.requests] == [None, f"bytes={len(DATA)}-", None]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"x" * len(DATA), "wrong-digest"),
        (DATA[:-1], "wrong-size"),
        (DATA + b"x", "wrong-size"),
        (b"", "wrong-size"),
    ],
    ids=["other bytes", "short", "long", "empty"],
)
def test_other_bytes_are_refused_and_not_asked_for_again(
    make_site: Any, sink: CollectingSink, tmp_path: Path, body: bytes, reason: str
) -> None:
    site = make_site(a=[whole(body)])
    error = refusal([site], sink, download(tmp_path))
    assert error.reason == reason
    assert not error.retriable
    assert len(site.requests) == 1
    assert files(tmp_path) == []


def test_an_endless_answer_is_cut_off_at_the_promised_size(sink: CollectingSink, tmp_path: Path) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 65536
            yield b"x" * 65536

    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=endless()))
    with (
        Fetcher(Mirrors({"debian": ("http://m.invalid",)}), sink, transport=transport) as fetcher,
        pytest.raises(KilnError, match="not what was locked"),
    ):
        fetcher.download_all("fetch", [download(tmp_path)])
    assert sent <= len(DATA) + 2 * 65536
    assert files(tmp_path) == []


@pytest.mark.parametrize("number", [403, 404, 410])
def test_what_no_mirror_has_is_not_found(make_site: Any, sink: CollectingSink, tmp_path: Path, number: int) -> None:
    site, other = make_site(a=[status(number)]), make_site()
    pauses = Pauses()
    assert refusal([site, other], sink, download(tmp_path), pauses=pauses).reason == "not-found"
    assert len(site.requests) == len(other.requests) == 1
    assert pauses == []


def test_a_server_error_is_asked_again_with_growing_pauses(
    make_site: Any, sink: CollectingSink, tmp_path: Path
) -> None:
    pauses = Pauses()
    site = make_site(a=[status(500), status(502), whole()])
    fetch([site], sink, download(tmp_path), pauses=pauses)
    assert pauses == [0.25, 0.5]
    assert files(tmp_path)[0].read_bytes() == DATA


def test_a_mirror_that_stays_down_is_retriable_and_says_each_problem(
    make_site: Any, sink: CollectingSink, tmp_path: Path
) -> None:
    pauses = Pauses()
    site = make_site(a=[status(503)])
    error = refusal([site], sink, download(tmp_path), pauses=pauses)
    assert (error.reason, error.retriable) == ("mirror-down", True)
    assert error.detail.count("HTTP status 503") == len(PAUSES_SECONDS) == len(site.requests)
    assert pauses == [0.25, 0.5, 1.0], "no pause after the last attempt"
    assert files(tmp_path) == []


def test_a_url_that_cannot_be_used_is_not_tried_again(sink: CollectingSink, tmp_path: Path) -> None:
    pauses = Pauses()
    for base in ("gopher://m.invalid", "http://[::1"):
        with Fetcher(Mirrors({"debian": (base,)}), sink, sleep=pauses) as fetcher, pytest.raises(KilnError) as caught:
            fetcher.download_all("fetch", [download(tmp_path)])
        assert caught.value.reason == "mirror-down"
    assert pauses == []


@pytest.mark.parametrize("first", [[status(500)], [], [whole(b"lie")]], ids=["down", "missing", "lies"])
def test_the_second_mirror_helps_when_the_first(
    make_site: Any, sink: CollectingSink, tmp_path: Path, first: list[Answer]
) -> None:
    fetch([make_site(a=first), make_site(a=[whole()])], sink, download(tmp_path))
    assert files(tmp_path)[0].read_bytes() == DATA


def test_a_mirror_with_a_closed_port_is_passed_over(make_site: Any, sink: CollectingSink, tmp_path: Path) -> None:
    closed = Site("http://127.0.0.1:1/root")
    fetch([closed, make_site(a=[whole()])], sink, download(tmp_path))
    assert len(files(tmp_path)) == 1


def test_the_lie_of_one_mirror_is_not_held_against_the_next(
    make_site: Any, sink: CollectingSink, tmp_path: Path
) -> None:
    # The first sends other bytes and breaks; the second resumes rightly, and the whole is wrong through no fault of it.
    liar = make_site(a=[cut(b"x" * len(DATA), 50_000), status(500)])
    honest = make_site(a=[ranged()])
    fetch([liar, honest], sink, download(tmp_path))
    assert files(tmp_path)[0].read_bytes() == DATA
    assert [asked for _, asked in honest.requests] == ["bytes=50000-", None]


def test_many_files_at_once_and_the_bytes_add_up(make_site: Any, sink: CollectingSink, tmp_path: Path) -> None:
    bodies = {f"f{number}": os.urandom(1000 * number + 1) for number in range(30)}
    site = make_site(**{name: [whole(body)] for name, body in bodies.items()})
    site.answers["/root/f29"] = [cut(bodies["f29"], 500), whole(bodies["f29"])]  # sent again, but counted once
    fetch([site], sink, *(download(tmp_path, name, body) for name, body in bodies.items()))
    total = sum(map(len, bodies.values()))
    events = [event for event in sink.events if isinstance(event, Progress)]
    assert {event.total for event in events} == {total}
    assert events[-1] == Progress("fetch", total, total, "bytes")
    assert all(0 <= event.done <= total for event in events)
    assert {event.item for event in events} >= {"f1", "f29"}
    assert {path.read_bytes() for path in files(tmp_path)} == set(bodies.values())


def test_a_total_that_cannot_be_known_is_not_made_up(make_site: Any, sink: CollectingSink, tmp_path: Path) -> None:
    site = make_site(a=[whole()], b=[whole(b"b")])
    fetch([site], sink, download(tmp_path), download(tmp_path, "b", b"b", size_bytes=None))
    *before, last = (event for event in sink.events if isinstance(event, Progress))
    assert {event.total for event in before} == {None}
    assert (last.done, last.total) == (len(DATA) + 1, len(DATA) + 1)


def test_the_first_failure_ends_the_others_and_keeps_what_is_whole(
    make_site: Any, sink: CollectingSink, tmp_path: Path
) -> None:
    started, release = threading.Event(), threading.Event()

    def slow(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(DATA)))
        handler.end_headers()
        handler.wfile.write(DATA[:100_000])
        started.set()
        release.wait(600)
        handler.wfile.write(DATA[100_000:])

    def fail(handler: Handler) -> None:
        started.wait(600)
        threading.Timer(0.2, release.set).start()
        handler.reply(404)

    site = make_site(done=[whole(b"done")], slow=[slow], gone=[fail], **{f"later{n}": [whole(b"l")] for n in range(40)})
    fetch([site], sink, download(tmp_path, "done", b"done"))
    wanted = [download(tmp_path, "slow"), download(tmp_path, "gone", b"gone")]
    # More than there are threads, so that some have not begun when the failure comes.
    wanted += [download(tmp_path, f"later{n}", b"l", destination=tmp_path / f"x{n}") for n in range(40)]
    assert refusal([site], sink, *wanted).reason == "not-found"
    assert (tmp_path / "files" / str(Digest.of(b"done"))).exists()
    assert not wanted[0].destination.exists()
    assert not list(tmp_path.rglob("*.part"))


def test_a_download_in_its_retries_ends_with_the_others(sink: CollectingSink, tmp_path: Path) -> None:
    failed, asked = threading.Event(), 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        if request.url.path == "/gone":
            return httpx.Response(404)
        asked += 1
        return httpx.Response(503)

    def sleep(_: float) -> None:
        failed.wait(1)

    mirrors = Mirrors({"debian": ("http://m.invalid", "http://n.invalid", "http://o.invalid")})
    with Fetcher(mirrors, sink, transport=httpx.MockTransport(answer), sleep=sleep) as fetcher:
        with pytest.raises(KilnError) as caught:
            fetcher.download_all("fetch", [download(tmp_path, "busy"), download(tmp_path, "gone", b"gone")])
        failed.set()
    assert caught.value.reason == "not-found"
    assert asked <= 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_fault_of_the_mirror(
    make_site: Any, sink: CollectingSink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(_: int) -> None:
        raise OSError(number, os.strerror(number))

    site = make_site(a=[whole()])
    monkeypatch.setattr(os, "fsync", full)
    error = refusal([site], sink, download(tmp_path))
    assert (error.reason, error.retriable) == ("no-space", True)
    assert len(site.requests) == 1
    assert files(tmp_path) == []


@pytest.mark.root
def test_a_really_full_disk(
    make_site: Any, sink: CollectingSink, tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(64 * 1024)
    assert refusal([make_site(a=[whole()])], sink, download(disk)).reason == "no-space"
    assert files(disk) == []


def test_a_broken_disk_is_not_called_a_mirror_that_is_down(
    make_site: Any, sink: CollectingSink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(hashlib, "file_digest", broken)
    with pytest.raises(OSError, match="Input/output"):
        fetch([make_site(a=[whole()])], sink, download(tmp_path))
    assert files(tmp_path) == []


def test_an_interruption_leaves_nothing_half_written(
    make_site: Any, sink: CollectingSink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kiln.fetch.client.wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(
            [make_site(**{f"f{n}": [whole()] for n in range(20)})],
            sink,
            *(download(tmp_path, f"f{n}") for n in range(20)),
        )
    assert not list(tmp_path.rglob("*.part"))


def test_a_whole_url_needs_no_mirror(make_site: Any, sink: CollectingSink, tmp_path: Path) -> None:
    site = make_site(a=[whole()])
    fetch([], sink, download(tmp_path, url_path=f"{site.url}a", mirror=""))
    assert len(files(tmp_path)) == 1


def test_redirects_are_followed(make_site: Any, sink: CollectingSink, tmp_path: Path) -> None:
    site = make_site(a=[lambda handler: handler.reply(302, Location="/root/b")], b=[whole()])
    fetch([site], sink, download(tmp_path))
    assert [path for path, _ in site.requests] == ["/root/a", "/root/b"]


def test_a_small_file_without_a_digest(make_site: Any, sink: CollectingSink) -> None:
    site = make_site(index=[status(500), whole(b"12345")])
    with Fetcher(Mirrors({"debian": (site.url,)}), sink, sleep=Pauses()) as fetcher:
        assert fetcher.get_bytes("debian", "/index", max_bytes=5) == b"12345"
        with pytest.raises(KilnError) as caught:
            fetcher.get_bytes("debian", "index", max_bytes=4)
        assert caught.value.reason == "too-large"
        with pytest.raises(KilnError) as caught:
            fetcher.get_bytes("debian", "other", max_bytes=4)
        assert caught.value.reason == "not-found"
        with pytest.raises(KilnError) as caught:
            fetcher.get_bytes("fedora", "index", max_bytes=4)
        assert caught.value.reason == "unknown-mirror"
        assert "debian" in caught.value.detail


def test_settings_come_before_the_machines_own_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    apt = {"debian": ("http://apt.invalid/debian",), "debian-security": ("http://apt.invalid/debian-security/",)}
    monkeypatch.setattr("kiln.fetch.mirrors.apt_mirrors", lambda: apt)
    mirrors = Mirrors.of_this_machine({"debian": ("http://one.invalid/x/", "http://two.invalid/x")})
    assert mirrors.resolve("debian") == ("http://one.invalid/x", "http://two.invalid/x")
    assert mirrors.resolve("debian-security") == ("http://apt.invalid/debian-security",)
    assert sorted(mirrors) == ["debian", "debian-security"]
