"""Being root without being root: a user namespace in which the caller's user is number 0 (user_namespaces(7)).

With newuidmap(1) and entries in /etc/subuid and /etc/subgid, the numbers from 1 are mapped as well; without, the
caller's own number is the only one that there is.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

from kiln.linux import process
from kiln.linux.mounts import CLONE_NEWNS

CLONE_NEWUSER: Final = 0x10000000
USEFUL_COUNT: Final = 1000
"""Fewer mapped numbers than a distribution's system users are of no use."""
MAPPERS: Final = (("newuidmap", Path("/etc/subuid")), ("newgidmap", Path("/etc/subgid")))


def is_inside() -> bool:
    """Whether this process is root in a user namespace that is not the host's."""
    return os.geteuid() == 0 and mapped_count() < 2**32 - 1


def mapped_count() -> int:
    """Return how many user numbers there are in this process's user namespace. Raises OSError."""
    lines = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[2]) for line in lines)


def enter() -> int:
    """Become root in a new user and mount namespace; returns how many user numbers there are in it.

    To be called while the process has one thread. Raises OSError where the kernel or the host does not allow it.
    """
    ranges = [_subordinate(file) for _, file in MAPPERS]
    useful = all(count >= USEFUL_COUNT for _, count in ranges) and all(_has(name) for name, _ in MAPPERS)
    user, group = os.geteuid(), os.getegid()
    helper = _Mapper(user, group, ranges) if useful else None
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.unshare(ctypes.c_int(CLONE_NEWUSER | CLONE_NEWNS)) != 0
    number = ctypes.get_errno()
    mapped = helper.finish(go=not failed) if helper is not None else False
    if failed:
        raise OSError(number, os.strerror(number), "unshare")
    if not mapped:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="ascii")
    else:
        with suppress(OSError):
            os.setgroups([])
    os.setgid(0)
    os.setuid(0)
    return mapped_count()


class _Mapper:
    """A child that stays outside, where the maps of its parent can be written by the programs that may do it."""

    def __init__(self, user: int, group: int, ranges: list[tuple[int, int]]) -> None:
        waiting, self._go = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        self._child = os.fork()
        if self._child == 0:
            os.close(self._go)  # else the end of the parent would not be seen
            os._exit(_map(parent, waiting, (user, group), ranges))
        os.close(waiting)

    def finish(self, *, go: bool) -> bool:
        """Have the maps written, if *go*; returns whether they were."""
        if go:
            os.write(self._go, b"x")
        os.close(self._go)
        _, status = os.waitpid(self._child, 0)
        return go and status == 0


def _map(parent: int, waiting: int, own: tuple[int, int], ranges: list[tuple[int, int]]) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        if os.read(waiting, 1) != b"x":
            return 1
        for (name, _), number, (first, count) in zip(MAPPERS, own, ranges, strict=True):
            process.run([name, str(parent), "0", str(number), "1", "1", str(first), str(count)])
    except BaseException:
        return 1
    return 0


def _subordinate(file: Path) -> tuple[int, int]:
    """Return the first range of numbers that this user may map: its begin and its length, 0 for none."""
    names = {str(os.getuid())}
    with suppress(KeyError):
        names.add(pwd.getpwuid(os.getuid()).pw_name)
    with suppress(OSError, ValueError):
        for line in file.read_text(encoding="utf-8").splitlines():
            name, first, count = line.split(":")
            if name in names:
                return int(first), int(count)
    return 0, 0


def _has(name: str) -> bool:
    return any((Path(directory) / name).exists() for directory in process.SEARCH_PATH.split(":"))
