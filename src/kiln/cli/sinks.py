"""Events made visible: bars on a terminal, plain lines in a pipe, JSON lines for programs. All on standard error."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, Literal, TextIO

from kiln.cli.estimate import Estimator
from kiln.cli.words import duration, size
from kiln.events.model import (
    CheckFinished,
    Event,
    Notice,
    NullSink,
    Output,
    Progress,
    Sink,
    StageFinished,
    StageStarted,
    StepFinished,
    StepStarted,
)

ProgressMode = Literal["auto", "terminal", "plain", "json", "quiet"]
PLAIN_INTERVAL_SECONDS: Final = 10.0
"""In a pipe, a long step says every so often that it is alive."""
REDRAW_SECONDS: Final = 0.08
LINE_COLUMNS: Final = 78


def make_sink(mode: ProgressMode, stream: TextIO = sys.stderr, *, verbose: bool = False) -> Sink:
    """Return the sink for *mode*; `auto` looks whether *stream* is a terminal."""
    if mode == "quiet":
        return NullSink()
    if mode == "json":
        return JsonSink(stream)
    if mode == "terminal" or (mode == "auto" and stream.isatty()):
        return TerminalSink(stream, verbose=verbose, colour=wants_colour(stream))
    return PlainSink(stream, verbose=verbose)


def wants_colour(stream: TextIO) -> bool:
    """Whether to colour text: on a terminal, unless NO_COLOR is set to anything (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def describe_progress(event: Progress) -> str:
    """Return `123 MB of 391 MB`, `37 of 412 packages`, with the item that is worked on."""
    if event.unit == "bytes":
        amount = size(event.done) + (f" of {size(event.total)}" if event.total is not None else "")
    else:
        amount = f"{event.done}" + (f" of {event.total}" if event.total is not None else "") + f" {event.unit}"
    return f"{amount}  {event.item}" if event.item else amount


def step_line(event: StepFinished) -> str:
    """Return the one line that stays of a finished step."""
    how = "cached" if event.cached else duration(event.seconds)
    return f"{event.step:<9} {how:>11}  {event.summary}".rstrip()


class JsonSink:
    """One JSON object a line: `{"event": "stage-finished", ...}`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        """Write *event*."""
        name = "".join(f"-{c.lower()}" if c.isupper() else c for c in type(event).__name__).lstrip("-")
        line = json.dumps({"event": name, **dataclasses.asdict(event)}, ensure_ascii=True)
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


class PlainSink:
    """Plain lines, for logs of build servers: what begins, what ended, and a sign of life in between."""

    def __init__(self, stream: TextIO, *, verbose: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._verbose = verbose
        self._clock = clock
        self._last = 0.0
        self._lock = threading.Lock()
        self._estimator = Estimator()

    def emit(self, event: Event) -> None:
        """Write what is worth a line."""
        with self._lock:
            line = self._line(event)
            if line is not None:
                self._stream.write(line + "\n")
                self._stream.flush()

    def _line(self, event: Event) -> str | None:
        match event:
            case StepStarted():
                self._last = self._clock()
                self._estimator = Estimator()
                return f"-> {event.step}: {event.title}"
            case StepFinished():
                return f"   {step_line(event)}"
            case Progress():
                return self._progress(event)
            case StageFinished():
                how = "cached" if event.cached else duration(event.seconds)
                return f"   {event.pipeline}: {event.stage}  {how}" if event.success else None
            case CheckFinished() if event.verdict != "pass" or self._verbose:
                return f"   {event.verdict.upper()}: {event.name}  {event.detail}".rstrip()
            case Notice():
                return f"   {event.level}: {event.text}"
            case Output() if self._verbose:
                return "\n".join(f"   | {line}" for line in event.text.splitlines()) or None
            case _:
                return None

    def _progress(self, event: Progress) -> str | None:
        now = self._clock()
        self._estimator.report(now, event.done)
        if now - self._last < PLAIN_INTERVAL_SECONDS:
            return None
        self._last = now
        left = self._estimator.seconds_left(event.total)
        return f"   {describe_progress(event)}" + (f"  about {duration(left)} left" if left is not None else "")


class Warnings:
    """Passes everything on and keeps the warnings, so that they can be said again where they are seen: at the end."""

    def __init__(self, inner: Sink) -> None:
        self._inner = inner
        self.texts: list[str] = []

    def emit(self, event: Event) -> None:
        """Pass *event* on."""
        if isinstance(event, Notice) and event.level == "warning":
            self.texts.append(event.text)
        self._inner.emit(event)


class TerminalSink:
    """A line for each finished step, and one live line below with the bar of what runs now."""

    BAR_COLUMNS: Final = 24
    SPINNER: Final = "|/-\\"

    def __init__(
        self,
        stream: TextIO,
        *,
        verbose: bool = False,
        colour: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._verbose = verbose
        self._colour = colour
        self._clock = clock
        self._lock = threading.Lock()
        self._drawn = 0.0
        self._title = ""
        self._started = clock()
        self._estimator = Estimator()
        self._progress: Progress | None = None
        self._stages: dict[str, StageStarted] = {}

    def emit(self, event: Event) -> None:
        """Draw *event*."""
        with self._lock:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case StepStarted():
                self._title, self._started = event.title, self._clock()
                self._estimator, self._progress = Estimator(), None
                self._stages.clear()
                self._draw(force=True)
            case StepFinished():
                self._keep(f"  {self._paint(32, '✓')} {step_line(event)}")
            case Progress():
                self._progress = event
                self._estimator.report(self._clock(), event.done)
                self._draw(force=event.done == event.total)
            case StageStarted():
                self._stages[event.pipeline] = event
                self._draw(force=True)
            case StageFinished():
                self._stages.pop(event.pipeline, None)
                self._progress = None
                self._draw(force=True)
            case CheckFinished() if event.verdict in ("fail", "error"):
                self._keep(f"    {self._paint(31, event.verdict)} {event.name}  {event.detail}")
            case Notice():
                self._keep(f"    {self._paint(33 if event.level == 'warning' else 36, event.level)} {event.text}")
            case Output() if self._verbose:
                for line in event.text.splitlines():
                    self._keep(f"    {self._paint(2, line)}")
            case _:
                self._draw(force=False)

    def _keep(self, line: str) -> None:
        self._stream.write(f"\r\x1b[2K{line}\n")
        self._drawn = 0.0
        self._stream.flush()

    def _draw(self, *, force: bool) -> None:
        now = self._clock()
        if not force and now - self._drawn < REDRAW_SECONDS:
            return
        self._drawn = now
        spin = self.SPINNER[int(now * 8) % len(self.SPINNER)]
        stages = ", ".join(f"{s.pipeline}: {s.stage.removeprefix('org.')}" for s in self._stages.values())
        text = f"{self._title}  {stages}" if stages else self._title
        if self._progress is not None:
            text = f"{self._bar(self._progress)} {describe_progress(self._progress)}"
            left = self._estimator.seconds_left(self._progress.total)
            if left is not None:
                text += f"  ~{duration(left)} left"
            elif stages:
                text += f"  {stages}"
        line = f"  {spin} {text}"[:LINE_COLUMNS]
        self._stream.write(f"\r\x1b[2K{line} {self._paint(2, duration(now - self._started))}")
        self._stream.flush()

    def _paint(self, code: int, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def _bar(self, event: Progress) -> str:
        if not event.total:
            return self._title
        filled = min(self.BAR_COLUMNS, self.BAR_COLUMNS * event.done // event.total)
        return "█" * filled + "░" * (self.BAR_COLUMNS - filled)
