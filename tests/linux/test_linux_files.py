"""Atomic files: all of one or none, whatever happens."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiln.errors import Domain, KilnError
from kiln.linux.files import append_fsync, atomic_file, read_limited, write_atomic, write_if_changed


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_nothing_is_visible_before_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with atomic_file(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_and_no_other(tmp_path: Path, problem: type[BaseException]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(problem), atomic_file(path) as file:
        file.write(b"half")
        raise problem
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_the_mode_is_what_was_asked_for_not_what_the_umask_says(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "a", b"", mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_a_secret_is_never_readable_by_others_not_even_while_it_is_written(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with atomic_file(tmp_path / "key", mode=0o600):
            (temporary,) = tmp_path.iterdir()
            assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_link_is_replaced_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    write_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "target").read_bytes() == b"old"
    assert not (tmp_path / "link").is_symlink()


def test_a_missing_directory_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "no/a", b"")


def test_an_equal_file_keeps_its_time(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_if_changed(path, b"one")
    os.utime(path, (1, 1))
    write_if_changed(path, b"one")
    assert path.stat().st_mtime == 1
    write_if_changed(path, b"two")
    assert path.stat().st_mtime != 1
    assert path.read_bytes() == b"two"


@pytest.mark.root
def test_a_full_disk_is_said_so_and_leaves_the_old_file(tmp_path: Path, small_disk: Callable[[int], Path]) -> None:
    path = small_disk(64 * 1024) / "a"
    write_atomic(path, b"old")
    with pytest.raises(KilnError) as caught:
        write_atomic(path, bytes(128 * 1024))
    assert (caught.value.domain, caught.value.reason, caught.value.retriable) == (Domain.STORE, "no-space", True)
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["a"]


@pytest.mark.root
def test_a_record_for_which_there_is_no_room_is_not_appended_in_part(
    tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    path = small_disk(64 * 1024) / "log"
    append_fsync(path, b"first\n")
    with pytest.raises(KilnError) as caught:
        append_fsync(path, b"x" * 128 * 1024)
    assert caught.value.reason == "no-space"
    assert path.read_bytes() == b"first\n"


def test_appending_adds_at_the_end(tmp_path: Path) -> None:
    append_fsync(tmp_path / "log", b"one\n")
    append_fsync(tmp_path / "log", b"two\n")
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_limited(tmp_path / "a", 5) == b"12345"
    with pytest.raises(KilnError) as caught:
        read_limited(tmp_path / "a", 4)
    assert caught.value.reason == "too-large"
    with pytest.raises(KilnError):
        read_limited(Path("/dev/zero"), 1000)


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=5))
def test_the_last_write_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]) -> None:
    path = tmp_path_factory.getbasetemp() / "property"
    for data in contents:
        write_atomic(path, data)
        assert path.read_bytes() == data


KILLED = """
import os, sys
from pathlib import Path
from kiln.linux.files import atomic_file
with atomic_file(Path(sys.argv[1])) as file:
    file.write(b"x" * 100000)
    file.flush()
    os.kill(os.getpid(), 9)
"""


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode == -9
    assert path.read_bytes() == b"old"
