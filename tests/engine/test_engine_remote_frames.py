"""Frames: what one side sends the other receives, and nothing else is taken for a frame."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiln.engine.execution.remote.documents import Need, event_document, read_as, read_event
from kiln.engine.execution.remote.errors import ConnectionLostError
from kiln.engine.execution.remote.frames import (
    HEADER,
    LIMITS,
    MAX_DATA_BYTES,
    MAX_DOCUMENT_BYTES,
    Channel,
    DataReader,
    DataWriter,
    Kind,
    WokenError,
    frame,
    read_document,
)
from kiln.errors import KilnError
from kiln.events.model import Notice, Output, Progress, StepStarted

HANG_SECONDS = 600.0


class Wire:
    """Two channels on two pipes."""

    def __init__(self, silence=HANG_SECONDS, cancel=None):
        (a, self.b), (self.c, d) = os.pipe(), os.pipe()
        self.descriptors = [a, self.b, self.c, d]
        self.here = Channel(self.c, self.b, silence, cancel)
        self.there = Channel(a, d, silence, cancel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.here.close()
        self.there.close()
        for descriptor in self.descriptors:
            os.close(descriptor)

    def end(self):
        """Close what `there` reads from."""
        self.descriptors.remove(self.b)
        os.close(self.b)


def feed(wire, data):
    """Write bytes for `there` to read, and the end, without waiting for the reader."""

    def write():
        with os.fdopen(os.dup(wire.b), "wb") as file:
            os.set_blocking(file.fileno(), True)
            file.write(data)
        wire.end()

    thread = threading.Thread(target=write)
    thread.start()
    return thread


def read_all(wire):
    frames = []
    while True:
        try:
            frames.append(wire.there.receive())
        except ConnectionLostError:
            return frames


FRAMES = st.lists(
    st.tuples(st.sampled_from([kind for kind in Kind if LIMITS.get(kind) != 0]), st.binary(max_size=3000)), max_size=6
)


@given(FRAMES)
def test_what_is_sent_is_received(frames):
    with Wire() as wire:
        thread = feed(wire, b"".join(frame(*entry) for entry in frames))
        assert read_all(wire) == frames
        thread.join()


@given(FRAMES, st.data())
def test_a_truncated_stream_gives_whole_frames_and_then_its_end(frames, drawn):
    data = b"".join(frame(*entry) for entry in frames)
    cut = drawn.draw(st.integers(0, len(data)))
    with Wire() as wire:
        thread = feed(wire, data[:cut])
        received = read_all(wire)
        thread.join()
    assert received == frames[: len(received)]
    assert sum(len(frame(*entry)) for entry in received) <= cut


@given(FRAMES.filter(bool), st.data())
def test_no_changed_byte_gets_through(frames, drawn):
    data = bytearray(b"".join(frame(*entry) for entry in frames))
    position = drawn.draw(st.integers(0, len(data) - 1))
    data[position] ^= drawn.draw(st.integers(1, 255))
    with Wire() as wire:
        thread = feed(wire, bytes(data))
        received = []
        with pytest.raises((KilnError, ConnectionLostError)):
            while True:
                received.append(wire.there.receive())
        thread.join()
    assert received == frames[: len(received)]
    assert len(received) < len(frames)


@given(st.binary(max_size=500))
def test_noise_is_refused(data):
    with Wire() as wire:
        thread = feed(wire, data)
        with pytest.raises((KilnError, ConnectionLostError)):
            while True:
                wire.there.receive()
        thread.join()


@pytest.mark.parametrize(
    ("kind", "length"),
    [(Kind.DATA, MAX_DATA_BYTES + 1), (Kind.JOB, MAX_DOCUMENT_BYTES + 1), (Kind.PING, 1), (Kind.EVENT, 2**32 - 1)],
)
def test_a_huge_frame_is_refused_before_it_is_read(kind, length):
    with Wire() as wire:
        os.write(wire.b, HEADER.pack(kind.value, length, 0))
        with pytest.raises(KilnError) as caught:
            wire.there.receive()
        assert caught.value.reason == "remote-protocol"


def test_a_ping_is_a_sign_of_life_and_nothing_else():
    with Wire() as wire:
        wire.here.silence_seconds = 0.1
        wire.here.start_pinging()
        assert wire.there._receive(None) == (Kind.PING, b"")
        wire.here.send(Kind.END)
        assert wire.there.receive() == (Kind.END, b"")


def test_silence_is_the_end():
    with Wire(silence=0.2) as wire, pytest.raises(ConnectionLostError, match="heard"):
        wire.there.receive()


def test_a_reader_that_does_not_read_is_the_end():
    with Wire(silence=0.2) as wire, pytest.raises(ConnectionLostError, match="sent"):
        while True:
            wire.here.send(Kind.DATA, bytes(MAX_DATA_BYTES))


@pytest.mark.parametrize("always", [True, False])
def test_waiting_ends_when_it_shall(always):
    woken = os.eventfd(0)
    with Wire(cancel=woken if always else None) as wire:
        threading.Timer(0.1, os.eventfd_write, (woken, 1)).start()
        with pytest.raises(WokenError):
            wire.there.receive(watch=None if always else woken)
    os.close(woken)


@given(st.lists(st.binary(max_size=5000), max_size=8), st.integers(1, 7000))
def test_streams_are_whole(pieces, size):
    with Wire() as wire:

        def write():
            writer = DataWriter(wire.here)
            for piece in pieces:
                writer.write(piece)
            writer.finish()
            assert writer.written == sum(map(len, pieces))

        thread = threading.Thread(target=write)
        thread.start()
        reader = DataReader(wire.there)
        data = b""
        while piece := reader.read(size):
            data += piece
        reader.finish()
        thread.join()
        assert data == b"".join(pieces)


def test_a_stream_that_goes_on_is_refused():
    with Wire() as wire:
        writer = DataWriter(wire.here)
        writer.write(b"more than was asked for")
        writer.finish()
        reader = DataReader(wire.there)
        reader.read(4)
        with pytest.raises(KilnError, match="goes on"):
            reader.finish()


@given(st.binary(max_size=200))
def test_a_document_is_what_it_should_be_or_refused(payload):
    for read in (read_document, lambda data: read_as(Need, data), read_event):
        try:
            read(payload)
        except KilnError as error:
            assert error.reason == "remote-protocol"


def test_events_of_stages_are_passed_on_and_no_others():
    for event in (Output("x", "text", "id"), Notice("info", "y"), Progress("build", 1, None, "bytes", "z")):
        import json

        assert read_event(json.dumps(event_document(event)).encode()) == event
    assert event_document(StepStarted("build", "x")) is None
