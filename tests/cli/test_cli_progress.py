"""What a person, a log and a program see of the same events."""

from __future__ import annotations

import io
import json
import re

import pytest

from kiln.cli.estimate import Estimator
from kiln.cli.sinks import JsonSink, PlainSink, TerminalSink, Warnings, make_sink
from kiln.cli.words import duration, size
from kiln.events.model import (
    CheckFinished,
    CollectingSink,
    Event,
    Notice,
    NullSink,
    Output,
    Progress,
    StageFinished,
    StageStarted,
    StepFinished,
    StepStarted,
)

EVENTS: list[Event] = [
    StepStarted("fetch", "fetching packages"),
    Progress("fetch", 50_000_000, 100_000_000, "bytes", "libc6.deb"),
    StepFinished("fetch", 2.0, False, "2 files, 100 MB"),
    StepStarted("build", "building the image"),
    StageStarted("os", "org.kiln.deb", "0" * 64, 1, 3),
    Output("os", "Setting up libc6\nSetting up dash\n"),
    StageFinished("os", "org.kiln.deb", "0" * 64, 8.5, False, True),
    Notice("warning", "gpgv is not installed"),
    CheckFinished("service_running ssh", "pass", 0.1),
    CheckFinished("sysctl kernel.kptr_restrict", "fail", 0.1, "expected 2, got 0"),
    StepFinished("build", 61.0, True, "done"),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


def visible(text: str) -> list[str]:
    """Return what stays on a terminal: each line after its last redraw, without colours."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return [line.rpartition("\x1b[2K")[2] for line in plain.split("\n")]


def test_a_terminal_keeps_one_line_a_step_and_every_failure() -> None:
    stream = Terminal()
    sink = TerminalSink(stream, clock=Clock())
    for event in EVENTS:
        sink.emit(event)
    kept = visible(stream.getvalue())
    assert any(line.startswith("  ✓ fetch") and "2 files, 100 MB" in line for line in kept)
    assert any("fail sysctl kernel.kptr_restrict" in line for line in kept)
    assert any("warning gpgv is not installed" in line for line in kept)
    assert not any("service_running" in line for line in kept)
    assert not any("Setting up" in line for line in kept)


def test_a_bar_shows_bytes_and_the_file() -> None:
    stream = Terminal()
    sink = TerminalSink(stream, clock=Clock())
    for event in EVENTS[:2]:
        sink.emit(event)
    assert "████████████░░░░░░░░░░░░ 50 MB of 100 MB  libc6.deb" in stream.getvalue()


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    sink = make_sink("auto", stream)
    for event in EVENTS:
        sink.emit(event)
    assert re.search(r"\x1b\[[0-9;]+m", stream.getvalue()) is None


def test_a_pipe_gets_plain_lines() -> None:
    stream = io.StringIO()
    sink = make_sink("auto", stream)
    for event in EVENTS:
        sink.emit(event)
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().splitlines() == [
        "-> fetch: fetching packages",
        "   fetch           2.0 s  2 files, 100 MB",
        "-> build: building the image",
        "   os: org.kiln.deb  8.5 s",
        "   warning: gpgv is not installed",
        "   FAIL: sysctl kernel.kptr_restrict  expected 2, got 0",
        "   build          cached  done",
    ]


def test_a_long_step_in_a_pipe_shows_that_it_lives() -> None:
    stream = io.StringIO()
    clock = Clock()
    sink = PlainSink(stream, clock=clock)
    sink.emit(EVENTS[0])
    for done in range(0, 100_000_000, 1_000_000):
        sink.emit(Progress("fetch", done, 100_000_000, "bytes"))
    lines = stream.getvalue().splitlines()[1:]
    assert 3 <= len(lines) <= 6  # 50 s by this clock, a line every 10 s
    assert "left" in lines[-1]


def test_verbose_shows_what_programs_print() -> None:
    stream = io.StringIO()
    sink = PlainSink(stream, verbose=True)
    sink.emit(Output("os", "Setting up libc6\n"))
    assert stream.getvalue() == "   | Setting up libc6\n"


def test_json_lines_hold_every_event() -> None:
    stream = io.StringIO()
    sink = JsonSink(stream)
    for event in EVENTS:
        sink.emit(event)
    documents = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(documents) == len(EVENTS)
    assert documents[1] == {
        "event": "progress",
        "step": "fetch",
        "done": 50_000_000,
        "total": 100_000_000,
        "unit": "bytes",
        "item": "libc6.deb",
    }


def test_quiet_is_quiet() -> None:
    assert isinstance(make_sink("quiet"), NullSink)


def test_warnings_are_kept_for_the_end() -> None:
    inner = CollectingSink()
    sink = Warnings(inner)
    for event in EVENTS:
        sink.emit(event)
    assert inner.events == EVENTS
    assert sink.texts == ["gpgv is not installed"]


def test_no_guess_before_there_is_a_rate() -> None:
    estimator = Estimator()
    estimator.report(0.0, 0)
    assert estimator.seconds_left(100) is None
    estimator.report(0.5, 50)
    assert estimator.seconds_left(100) is None
    estimator.report(2.0, 60)
    left = estimator.seconds_left(100)
    assert left is not None
    assert 1 < left < 2
    assert estimator.seconds_left(None) is None


def test_numbers_as_people_read_them() -> None:
    assert [size(0), size(999), size(391_000_000), size(1_234_000_000)] == ["0 B", "999 B", "391 MB", "1.2 GB"]
    assert [duration(0.44), duration(12.4), duration(185)] == ["0.4 s", "12 s", "3 min 05 s"]
