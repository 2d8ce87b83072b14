"""Which monitor a name stands for; the others are not even loaded."""

from __future__ import annotations

from typing import Protocol

from kiln.engine.execution.observer import NullObserver, Observer
from kiln.engine.manifest.model import Plan
from kiln.engine.manifest.modules import Modules
from kiln.events.model import NullSink, Sink


class Monitor(Sink, Observer, Protocol):
    """A monitor is told of a plan before everything else, and takes messages of the command line."""

    def load(self, plan: Plan, modules: Modules) -> None:
        """Take the plan."""

    def log(self, text: str, origin: str) -> None:
        """Take a message."""


class NullMonitor(NullSink, NullObserver):
    """Tells nothing."""

    def load(self, plan: Plan, modules: Modules) -> None:
        """Do nothing."""

    def log(self, text: str, origin: str) -> None:
        """Do nothing."""


def choose(name: str, descriptor: int) -> Monitor:
    """Return the monitor of that name, which writes to *descriptor*. Raises KeyError."""
    if name == "LogMonitor":
        from kiln.engine.monitors.log import LogMonitor  # noqa: PLC0415

        return LogMonitor(descriptor)
    if name == "JSONSeqMonitor":
        from kiln.engine.monitors.records import JSONSeqMonitor  # noqa: PLC0415

        return JSONSeqMonitor(descriptor)
    if name == "NullMonitor":
        return NullMonitor()
    raise KeyError(name)
