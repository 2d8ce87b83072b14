"""Starting programs: what they get, what they give, and that they are gone afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiln.errors import Domain, KilnError
from kiln.linux import process


def is_gone(pid: int, within_seconds: float = 600.0) -> bool:
    """Whether no such process runs (a zombie that waits for init counts as gone)."""
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


def test_both_streams_and_the_status_come_back() -> None:
    pieces: list[bytes] = []
    done = process.run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False, on_output=pieces.append)
    assert (done.status, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    assert done.argv == ("sh", "-c", "echo out; echo err >&2; exit 3")
    assert sorted(b"".join(pieces).splitlines()) == [b"err", b"out"]
    assert done.seconds >= 0


def test_a_failure_says_what_the_program_said() -> None:
    with pytest.raises(KilnError) as caught:
        process.run(["sh", "-c", "echo because >&2; exit 3"])
    assert (caught.value.domain, caught.value.reason) == (Domain.HOST, "program-failed")
    assert "status 3" in caught.value.message
    assert "because" in caught.value.detail


def test_a_signal_is_a_negative_status() -> None:
    assert process.run(["sh", "-c", "kill -9 $$"], check=False).status == -9


def test_the_environment_is_an_allow_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KILN_SECRET", "hunter2")
    monkeypatch.setenv("LD_PRELOAD_X", "x")
    monkeypatch.setenv("LC_ALL", "de_DE")
    lines = process.run(["env"]).stdout.decode().splitlines()
    assert {line.partition("=")[0] for line in lines} == {"PATH", "LANG", "HOME", "TERM"}
    assert f"PATH={process.SEARCH_PATH}" in lines
    assert "LANG=C.UTF-8" in lines
    assert process.run(["env"], env={"ONLY": "this"}).stdout == b"ONLY=this\n"


def test_a_missing_program_names_its_package() -> None:
    with pytest.raises(KilnError) as caught:
        process.run(["kiln-no-such-program"])
    assert (caught.value.domain, caught.value.reason) == (Domain.HOST, "missing-tool")
    assert "apt-get install kiln-no-such-program" in caught.value.hint
    assert "squashfs-tools" in process.missing_tool("mksquashfs").hint
    with pytest.raises(KilnError) as caught:
        process.run(["/no/such/program"])
    assert caught.value.reason == "missing-tool"


def test_a_missing_directory_is_not_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        process.run(["true"], cwd=tmp_path / "no")


def test_programs_of_sbin_are_found_and_those_of_the_current_directory_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / "kiln-planted"
    planted.write_text("#!/bin/sh\n", encoding="ascii")
    planted.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for path in ("", "/usr/bin"):
        monkeypatch.setenv("PATH", path)
        assert process.find_program("ldconfig").name == "ldconfig"
        with pytest.raises(KilnError):
            process.find_program("kiln-planted")


def test_much_input_and_much_output_do_not_wait_for_each_other() -> None:
    data = bytes(range(256)) * 20_000
    done = process.run(["sh", "-c", "cat; head -c 1000000 /dev/zero >&2"], stdin=data, timeout_seconds=600)
    assert done.stdout == data
    assert len(done.stderr) == 1_000_000


def test_a_program_that_does_not_read_its_input_is_no_error() -> None:
    assert process.run(["true"], stdin=bytes(1_000_000), timeout_seconds=600).status == 0


@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_pass_unchanged(data: bytes) -> None:
    assert process.run(["cat"], stdin=data).stdout == data


@given(st.binary(max_size=500), st.integers(1, 5))
def test_a_tail_is_text_of_so_many_lines_whatever_the_bytes(data: bytes, lines: int) -> None:
    assert len(process.tail(data, lines).splitlines()) <= lines


def test_output_that_is_not_utf_8_is_kept_and_shown() -> None:
    with pytest.raises(KilnError) as caught:
        process.run(["sh", "-c", r"printf 'a\377b' >&2; exit 1"])
    assert "a\ufffdb" in caught.value.detail


SLEEPERS = "sleep 60 & echo $!; sleep 60 & echo $!; wait"


def test_the_time_limit_ends_the_whole_group() -> None:
    pids: list[bytes] = []
    with pytest.raises(KilnError) as caught:
        process.run(["sh", "-c", SLEEPERS], timeout_seconds=0.5, on_output=pids.append)
    assert (caught.value.domain, caught.value.reason, caught.value.retriable) == (Domain.HOST, "timeout", True)
    numbers = [int(pid) for pid in b"".join(pids).split()]
    assert len(numbers) == 2
    assert all(is_gone(pid) for pid in numbers)


def test_a_program_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.2)
    with pytest.raises(KilnError) as caught:
        process.run(["sh", "-c", "trap '' TERM; echo $$; while :; do sleep 0.05; done"], timeout_seconds=0.3)
    assert caught.value.reason == "timeout"
    assert is_gone(int(caught.value.detail.split()[0]))


def test_the_time_limit_holds_for_a_program_that_keeps_printing() -> None:
    with pytest.raises(KilnError) as caught:
        process.run(["sh", "-c", "while :; do echo x; sleep 0.02; done"], timeout_seconds=0.3)
    assert caught.value.reason == "timeout"


def test_the_time_limit_holds_for_a_program_that_closed_its_output() -> None:
    with pytest.raises(KilnError) as caught:
        process.run(["sh", "-c", "exec >&- 2>&-; sleep 60"], timeout_seconds=0.3)
    assert caught.value.reason == "timeout"


def test_a_child_that_outlives_the_program_is_ended_with_it() -> None:
    done = process.run(["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"])
    assert is_gone(int(done.stdout))


def test_an_exception_of_the_listener_ends_the_program() -> None:
    pids: list[int] = []

    def listen(piece: bytes) -> None:
        pids.append(int(piece))
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        process.run(["sh", "-c", "echo $$; sleep 60"], on_output=listen)
    assert is_gone(pids[0])


def test_leaving_the_block_ends_what_was_spawned() -> None:
    with process.spawn(["sh", "-c", SLEEPERS], stdout=subprocess.PIPE) as running:
        assert running.stdout
        children = [int(running.stdout.readline()) for _ in range(2)]
    assert running.returncode == -signal.SIGTERM
    assert all(is_gone(pid) for pid in [running.pid, *children])
    assert running.stdout.closed


def test_nothing_is_inherited_but_what_is_passed() -> None:
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    try:
        argv = ["ls", "/proc/self/fd"]
        listed = process.run(argv).stdout.split()
        assert str(reader).encode() not in listed
        with process.spawn(argv, stdout=subprocess.PIPE, pass_fds=[writer]) as running:
            assert running.stdout
            assert str(writer).encode() in running.stdout.read().split()
    finally:
        os.close(reader)
        os.close(writer)


def test_the_caller_is_not_in_the_programs_group() -> None:
    done = process.run([sys.executable, "-c", "import os; print(os.getpgid(0), os.getsid(0), os.getpid())"])
    group, session, pid = done.stdout.split()
    assert group == session == pid
    assert int(group) != os.getpgid(0)
