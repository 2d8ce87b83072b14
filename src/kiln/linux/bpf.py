"""Programs of the classic Berkeley packet filter, as seccomp(2) takes them.

Only what filters of system calls need: load a word, compare, mask, return. Jumps are relative and go forward only.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

# include/uapi/linux/bpf_common.h
BPF_LD_W_ABS: Final = 0x20
BPF_JEQ_K: Final = 0x15
BPF_JGE_K: Final = 0x35
BPF_AND_K: Final = 0x54
BPF_RET_K: Final = 0x06
MAX_INSTRUCTIONS: Final = 4096
"""BPF_MAXINSNS."""
_FILTER: Final = struct.Struct("=HBBI")
"""struct sock_filter: code, jt, jf, k."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; *true* and *false* are how many of the next ones a comparison skips."""

    code: int
    value: int
    true: int = 0
    false: int = 0


def load(offset: int) -> Instruction:
    """Load the 32-bit word at *offset* of the data."""
    return Instruction(BPF_LD_W_ABS, offset)


def mask(bits: int) -> Instruction:
    """Keep only *bits* of the loaded word."""
    return Instruction(BPF_AND_K, bits)


def give(value: int) -> Instruction:
    """End with *value*."""
    return Instruction(BPF_RET_K, value)


def equal(value: int, *, then: int = 0, otherwise: int = 0) -> Instruction:
    """Compare the word with *value*; skip *then* or *otherwise* instructions."""
    return Instruction(BPF_JEQ_K, value, then, otherwise)


def at_least(value: int, *, then: int = 0, otherwise: int = 0) -> Instruction:
    """Ask whether the word is not below *value* (without a sign)."""
    return Instruction(BPF_JGE_K, value, then, otherwise)


def assemble(program: Iterable[Instruction]) -> bytes:
    """Return the array of `struct sock_filter`. Raises ValueError for a program that the kernel would refuse."""
    instructions = list(program)
    if not 0 < len(instructions) <= MAX_INSTRUCTIONS:
        raise ValueError(f"a filter has 1 to {MAX_INSTRUCTIONS} instructions, not {len(instructions)}")
    for position, item in enumerate(instructions):
        if max(item.true, item.false) + position + 1 >= len(instructions) and item.code != BPF_RET_K:
            raise ValueError(f"instruction {position} leads out of the program")
    return b"".join(_FILTER.pack(item.code, item.true, item.false, item.value) for item in instructions)
