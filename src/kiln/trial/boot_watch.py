"""What the serial console of a booting machine says: a login prompt, or one of the ways in which a boot fails."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

TAIL_LINES: Final = 30

_ESCAPE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][0-9A-Za-z]|[=>78cM])")
_LOGIN: Final = re.compile(r"^[A-Za-z0-9._-]+ login: ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class BootFailure:
    """A sign on the console that this boot will not come to a login."""

    sign: str
    message: str
    hint: str


_INITRAMFS_HINT: Final = "compare root= on the kernel's command line with the image's file systems"
_SIGNS: Final = tuple(
    (re.compile(pattern, re.MULTILINE), message, hint)
    for pattern, message, hint in (
        (
            r"Kernel panic - not syncing.*",
            "the kernel panicked",
            "the lines before the panic name the cause: mostly a missing root file system or a damaged /sbin/init",
        ),
        (r"^\(initramfs\) ?", "the boot stopped in the initramfs's shell", _INITRAMFS_HINT),
        (r"Gave up waiting for root (file system )?device", "the root file system was not found", _INITRAMFS_HINT),
        (
            r"No bootable device|BdsDxe: No bootable option|^Shell> ",
            "the firmware found nothing to boot",
            "the image may be made for the other firmware (--firmware bios or uefi), or lacks a boot loader",
        ),
        (
            r"^grub rescue> ?|^grub> ?",
            "the boot loader stopped at its prompt",
            "GRUB did not find its files: compare the file system's UUID in its configuration with the image's",
        ),
        (
            r"You are in (emergency|rescue) mode|Cannot open access to console, the root account is locked",
            "systemd went into emergency mode",
            "a file system of /etc/fstab was not mounted, or a unit that boot needs failed; the lines before say which",
        ),
        (
            r"Freezing execution",
            "systemd crashed",
            "the lines before say why; the image's libraries may not fit together",
        ),
    )
)


def plain(console: str) -> str:
    """Return *console* without terminal escapes and carriage returns."""
    return _ESCAPE.sub("", console).replace("\r", "").replace("\0", "")


def boot_failure(console: str) -> BootFailure | None:
    """Return the first failure that the plain text *console* shows, if any."""
    found = []
    for pattern, message, hint in _SIGNS:
        match = pattern.search(console)
        if match is not None:
            found.append((match.start(), BootFailure(match.group().strip(), message, hint)))
    return min(found, key=lambda item: item[0])[1] if found else None


def in_kernel(console: str) -> bool:
    """Whether a kernel has begun to start, and neither the initial RAM disk nor systemd has spoken yet."""
    return "Linux version" in console and "Run /init" not in console and "systemd[1]" not in console


def has_login_prompt(console: str) -> bool:
    """Whether a getty asked for a name; kernel messages may follow on the same line."""
    return _LOGIN.search(console) is not None


def last_lines(console: str, count: int = TAIL_LINES) -> str:
    """Return the last lines of the plain text *console* that are not empty."""
    return "\n".join([line for line in console.split("\n") if line.strip()][-count:])
