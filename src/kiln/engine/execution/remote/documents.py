"""What client and worker say to each other, as values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from kiln.engine.execution.remote.errors import protocol_error
from kiln.engine.execution.remote.frames import read_document
from kiln.engine.manifest.model import Pipeline, Stage
from kiln.engine.objects.model import Backend
from kiln.events.model import Notice, Output, Progress
from kiln_wire.codec import DocumentError, decode, encode

PROTOCOL: Final = 1
"""Increased with every change after which the two sides would misunderstand each other."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClientHello:
    """The first frame of a client; the worker makes its store of the same kind and is silent for no longer."""

    protocol: int
    kiln: str
    backend: Backend
    silence_seconds: float


@dataclass(frozen=True, slots=True)
class WorkerHello:
    """The worker's answer. *host* stands for its system, see `keys.host_identity`; *machine* is uname(2)'s."""

    protocol: int
    kiln: str
    machine: str
    host: str


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A stage and the digests of all it needs. Trees are digests of layers from the bottom to the top.

    *build* is the pipeline's build root by name, *root* its tree (None for the host); *bundle* is the libdir. *files*
    are checksums of source files, *sizes* what the manifest says of them. With *keep_failed* the tree of a stage that
    failed is returned.
    """

    pipeline: str
    build: str | None
    source_epoch: int | None
    stage: Stage
    runner: str | None
    bundle: str
    base: tuple[str, ...]
    root: tuple[str, ...] | None
    trees: tuple[tuple[str, tuple[str, ...]], ...]
    files: tuple[str, ...]
    sizes: tuple[tuple[str, int], ...]
    timeout_seconds: float | None
    keep_failed: bool

    def layers(self) -> tuple[str, ...]:
        """Return every digest that must be there before the stage can run, the libdir's too."""
        trees = (layer for _, layers in self.trees for layer in layers)
        return tuple(dict.fromkeys((self.bundle, *(self.root or ()), *self.base, *trees)))

    def digest(self) -> str:
        """Return what a result can be found by: everything that the result depends on."""
        document = encode(self)
        del document["timeoutSeconds"], document["keepFailed"]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode("ascii")).hexdigest()

    def pipeline_value(self) -> Pipeline:
        """Return the stage's pipeline, as far as the stage is concerned."""
        return Pipeline(self.pipeline, self.build, None, self.source_epoch, (self.stage,))


@dataclass(frozen=True, slots=True)
class Need:
    """Digests of layers and checksums of files that the worker lacks."""

    layers: tuple[str, ...]
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a stage ended; a layer of the digest *layer* follows if there is one. *cached*: it had run there before.

    A stage that failed has a *reason* and the rest of a `StageFailedError`, and its tree as the layer, if wanted.
    """

    success: bool
    layer: str | None
    seconds: float
    output: str
    metadata: Any = None
    cached: bool = False
    reason: str = ""
    message: str = ""
    detail: str = ""
    hint: str = ""
    exception: Any = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the worker cannot do what it was asked; a `KilnError` in a document."""

    domain: str
    reason: str
    message: str
    detail: str
    hint: str
    retriable: bool


def read_as(cls: type[T], payload: bytes) -> T:
    """Return the document of a frame as a value. Raises KilnError(ENGINE, "remote-protocol")."""
    try:
        return decode(cls, read_document(payload))
    except DocumentError as error:
        raise protocol_error(f"{cls.__name__}: {error}") from None


Passed = Output | Progress | Notice
"""The events that a worker passes on; those about stages are the client's own."""
EVENTS: Final[Mapping[str, type[Passed]]] = {event.__name__: event for event in (Output, Progress, Notice)}


def event_document(event: object) -> Any:
    """Return an event as a document, None for one that is not passed on."""
    name = type(event).__name__
    return {"event": name, "value": encode(event)} if name in EVENTS else None


def read_event(payload: bytes) -> Passed:
    """Return the event of a frame. Raises KilnError(ENGINE, "remote-protocol")."""
    document = read_document(payload)
    try:
        return decode(EVENTS[document["event"]], document["value"])
    except (DocumentError, KeyError, TypeError) as error:
        raise protocol_error(f"an event: {error}") from None
