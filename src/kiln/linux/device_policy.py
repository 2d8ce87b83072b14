"""Which devices the processes of a control group may open, whatever nodes they make or find.

In the hierarchy of version 2 this is a program of the extended Berkeley packet filter that the kernel asks at each
open(2) and mknod(2) of a device (bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE); it needs no controller.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from kiln.linux.syscalls import ARCHITECTURES

# include/uapi/linux/bpf.h
BPF_PROG_LOAD: Final = 5
BPF_PROG_ATTACH: Final = 8
BPF_PROG_TYPE_CGROUP_DEVICE: Final = 15
BPF_CGROUP_DEVICE: Final = 6
ACCESS: Final = {"m": 1, "r": 2, "w": 4}
TYPE: Final = {"b": 1, "c": 2}
_INSTRUCTION: Final = struct.Struct("=BBhi")
"""struct bpf_insn: code, registers, offset, immediate."""
_LOAD_WORD: Final = 0x61
_COPY: Final = 0xBF
_SET: Final = 0xB7
_AND: Final = 0x57
_SHIFT_RIGHT: Final = 0x77
_UNLESS_EQUAL: Final = 0x55
_EXIT: Final = 0x95
# Registers: the context, then what is loaded from `struct bpf_cgroup_dev_ctx`.
_CONTEXT, _ACCESS, _TYPE, _MAJOR, _MINOR, _LEFT, _RESULT = 1, 2, 3, 4, 5, 6, 0


@dataclass(frozen=True, slots=True)
class Rule:
    """*access* is one or more of the letters r, w and m (mknod); None stands for every number."""

    type: Literal["b", "c"]
    major: int | None
    minor: int | None
    access: str = "rwm"

    def __str__(self) -> str:
        """Return it as the controller of version 1 takes it."""
        number = [("*" if value is None else str(value)) for value in (self.major, self.minor)]
        return f"{self.type} {':'.join(number)} {self.access}"


STANDARD: Final = (
    # A node that cannot be opened does no harm in a tree; the filter of system calls says which ones can be made.
    *(Rule("c", None, None, "m"), Rule("b", None, None, "m")),
    *(Rule("c", 1, minor) for minor in (3, 5, 7, 8, 9)),  # null, zero, full, random, urandom
    *(Rule("c", 5, 0), Rule("c", 5, 2), Rule("c", 136, None)),  # tty, ptmx, terminals of a devpts
    Rule("c", 10, 229),  # fuse
)
"""What every stage may open."""


def nodes(directory: Path) -> tuple[Rule, ...]:
    """Return rules for the device nodes in *directory* and below, which the engine made. Raises OSError."""
    found: list[Rule] = []
    for path in directory.rglob("*"):
        status = path.lstat()
        number = os.major(status.st_rdev), os.minor(status.st_rdev)
        if stat.S_ISBLK(status.st_mode):
            found.append(Rule("b", *number))
        elif stat.S_ISCHR(status.st_mode):
            found.append(Rule("c", *number))
    return tuple(found)


def compile_rules(rules: Iterable[Rule]) -> bytes:
    """Return the program (an array of `struct bpf_insn`) that allows what *rules* allow, and nothing else."""
    program = [
        _instruction(_LOAD_WORD, _ACCESS, _CONTEXT, 0),
        _instruction(_COPY, _TYPE, _ACCESS),
        _instruction(_AND, _TYPE, immediate=0xFFFF),
        _instruction(_SHIFT_RIGHT, _ACCESS, immediate=16),
        _instruction(_LOAD_WORD, _MAJOR, _CONTEXT, 4),
        _instruction(_LOAD_WORD, _MINOR, _CONTEXT, 8),
    ]
    for rule in rules:
        program += _compile(rule)
    return b"".join([*program, _instruction(_SET, _RESULT, immediate=0), _instruction(_EXIT)])


def attach(rules: Sequence[Rule], group: Path) -> None:
    """Let the processes in a group of version 2 open what *rules* allow; earlier rules are replaced. Raises OSError."""
    standard = tuple(rules) == STANDARD
    loaded = _load_standard() if standard else _load(compile_rules(rules))
    try:
        directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _bpf(BPF_PROG_ATTACH, struct.pack("=4I", directory, loaded, BPF_CGROUP_DEVICE, 0))
        finally:
            os.close(directory)
    finally:
        if not standard:
            os.close(loaded)


@cache
def _load_standard() -> int:
    """Return the program of nearly every stage: the kernel checks it once in each process."""
    return _load(compile_rules(STANDARD))


def _compile(rule: Rule) -> list[bytes]:
    conditions = [(_TYPE, TYPE[rule.type]), (_MAJOR, rule.major), (_MINOR, rule.minor)]
    tests = [(register, value) for register, value in conditions if value is not None]
    refused = 7 & ~sum(ACCESS[letter] for letter in rule.access)
    # The asked access without what the rule allows must be empty.
    rest = [
        _instruction(_COPY, _LEFT, _ACCESS),
        _instruction(_AND, _LEFT, immediate=refused),
        _instruction(_UNLESS_EQUAL, _LEFT, offset=2),
        _instruction(_SET, _RESULT, immediate=1),
        _instruction(_EXIT),
    ]
    jumps = [
        _instruction(_UNLESS_EQUAL, register, offset=len(tests) - index - 1 + len(rest), immediate=value)
        for index, (register, value) in enumerate(tests)
    ]
    return [*jumps, *rest]


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, *, immediate: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, target | source << 4, offset, immediate)


def _load(program: bytes) -> int:
    instructions = ctypes.create_string_buffer(program, len(program))
    license_ = ctypes.create_string_buffer(b"GPL")
    request = struct.pack(
        "=IIQQIIQII16sII",
        BPF_PROG_TYPE_CGROUP_DEVICE,
        len(program) // _INSTRUCTION.size,
        ctypes.addressof(instructions),
        ctypes.addressof(license_),
        *(0, 0, 0, 0, 0),
        b"kiln_devices",
        *(0, BPF_CGROUP_DEVICE),
    )
    return _bpf(BPF_PROG_LOAD, request)


def _bpf(command: int, request: bytes) -> int:
    architecture = ARCHITECTURES.get(os.uname().machine)
    if architecture is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), "bpf")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    buffer = ctypes.create_string_buffer(request, len(request))
    number = ctypes.c_long(architecture.numbers["bpf"])
    result = libc.syscall(number, ctypes.c_int(command), buffer, ctypes.c_uint(len(request)))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), "bpf")
    return int(result)  # descriptors of programs are closed by execve(2)
