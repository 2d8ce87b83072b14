"""Locks between processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kiln.errors import Domain, KilnError
from kiln.linux.locks import exclusive, shared

HOLD = """
import sys
from pathlib import Path
from kiln.linux import locks
with getattr(locks, sys.argv[1])(Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(kind: str, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-c", HOLD, kind, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        yield process
        assert process.stdin
        process.stdin.close()


def test_a_held_lock_is_busy_for_everybody_else(tmp_path: Path) -> None:
    path = tmp_path / "new/lock"
    with held_elsewhere("exclusive", path):
        for lock in (exclusive, shared):
            with pytest.raises(KilnError) as caught, lock(path, blocking=False):
                pass
            assert (caught.value.domain, caught.value.reason) == (Domain.STORE, "busy")
            assert caught.value.retriable
    with exclusive(path, blocking=False):
        pass


def test_readers_share_and_keep_writers_out(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        held_elsewhere("shared", path),
        shared(path, blocking=False),
        pytest.raises(KilnError) as caught,
        exclusive(path, blocking=False),
    ):
        pass
    assert caught.value.reason == "busy"
    assert path.exists()


def test_a_blocking_lock_waits_for_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    argv = [sys.executable, "-c", HOLD, "exclusive", str(path)]
    with exclusive(path):
        waiting = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.3)
    assert waiting.communicate(timeout=600)[0] == b"held\n"


def test_the_death_of_the_holder_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held_elsewhere("exclusive", path) as process:
        process.kill()
        process.wait()
        with exclusive(path, blocking=False):
            pass


def test_the_end_of_the_block_frees_the_lock_even_from_forked_children(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    reader, writer = os.pipe()
    with exclusive(path):
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
    try:
        with exclusive(path, blocking=False):
            pass
    finally:
        os.close(writer)
        os.close(reader)
        os.waitpid(child, 0)


def test_an_exception_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(ValueError, match="x"), exclusive(path):
        raise ValueError("x")
    with exclusive(path, blocking=False):
        pass
