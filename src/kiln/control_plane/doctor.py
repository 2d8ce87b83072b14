"""What this host has and lacks for each part of the road, and how to get it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from kiln.authoring.catalog.data import load_catalog
from kiln.control_plane.settings import Settings
from kiln.errors import KilnError
from kiln.events.model import NullSink
from kiln.fetch.client import Fetcher
from kiln.fetch.mirrors import Mirrors
from kiln.linux.process import PACKAGE_OF_PROGRAM, find_program
from kiln.trial.accelerator import choose_accelerator

Status = Literal["ok", "warning", "missing"]

PROGRAMS: Final = (
    ("apt-get", "resolves packages", True),
    ("gpgv", "second opinion on index signatures", False),
    ("bwrap", "sandboxes of the engine", True),
    ("qemu-system-x86_64", "boots images for their tests", True),
    ("qemu-img", "throw-away disks for tests", True),
    ("ssh", "logs in to images under test", True),
    ("ssh-keygen", "keys for that login", True),
    ("openssl", "password hash of the account that tests log in with", True),
)
FIRMWARE: Final = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
KEYRING_DIRECTORIES: Final = (Path("/usr/share/keyrings"), Path("/etc/apt/keyrings"))
MINIMUM_PYTHON: Final = (3, 11)
MAX_INDEX_BYTES: Final = 16 * 1024**2
FREE_BYTES: Final = 10 * 1000**3
FREE_MEMORY_BYTES: Final = 3 * 1000**3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    status: Status
    text: str
    hint: str = ""


def examine(settings: Settings) -> tuple[Finding, ...]:
    """Look at everything; changes nothing but the remembered answer of the KVM probe."""
    findings: list[Finding] = []
    for check in (_python, _programs, _privileges, _firmware, _accelerator, _disk, _memory, _mirrors, _keyrings):
        findings += check(settings)
    return tuple(findings)


def usable(findings: tuple[Finding, ...]) -> bool:
    """Whether nothing that the road needs is missing."""
    return all(finding.status != "missing" for finding in findings)


def _python(_: Settings) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= MINIMUM_PYTHON:
        yield Finding("python", "ok", version)
    else:
        yield Finding("python", "missing", version, "Kiln needs Python 3.11 or newer")
    if not Path("/usr/bin/python3").exists():
        hint = "apt-get install python3: the engine's first build root uses /usr/bin/python3 of the host"
        yield Finding("python3", "missing", "no /usr/bin/python3", hint)


def _programs(_: Settings) -> Iterator[Finding]:
    for name, use, needed in PROGRAMS:
        try:
            yield Finding(name, "ok", f"{find_program(name)} ({use})")
        except KilnError:
            package = PACKAGE_OF_PROGRAM.get(name, name)
            yield Finding(name, "missing" if needed else "warning", f"not found ({use})", f"apt-get install {package}")


def _privileges(_: Settings) -> Iterator[Finding]:
    if os.geteuid() == 0:
        yield Finding("privileges", "ok", "running as root")
    else:
        yield Finding("privileges", "missing", "not root", "run as root: trees hold files of many owners and devices")


def _firmware(_: Settings) -> Iterator[Finding]:
    if FIRMWARE.exists():
        yield Finding("firmware", "ok", f"{FIRMWARE} (UEFI boots)")
    else:
        yield Finding("firmware", "warning", "no OVMF: images are tested by BIOS only", "apt-get install ovmf")


def _accelerator(settings: Settings) -> Iterator[Finding]:
    try:
        accelerator = choose_accelerator(settings.state)
    except KilnError:
        return  # QEMU itself is missing, which is a finding of its own
    if accelerator == "kvm":
        yield Finding("accelerator", "ok", "KVM runs a guest")
    else:
        yield Finding("accelerator", "warning", "no working KVM: tests boot with TCG, about ten times slower")


def _disk(settings: Settings) -> Iterator[Finding]:
    existing = next(path for path in (settings.state, *settings.state.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    text = f"{free / 1000**3:.1f} GB free for {settings.state}"
    if free >= FREE_BYTES:
        yield Finding("disk", "ok", text)
    else:
        yield Finding("disk", "warning", text, "an image with its trees takes about 5 GB; KILN_STATE moves the state")


def _memory(_: Settings) -> Iterator[Finding]:
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    text = f"{available / 1000**3:.1f} GB available"
    status: Status = "ok" if available >= FREE_MEMORY_BYTES else "warning"
    yield Finding("memory", status, text, "" if status == "ok" else "tests give a virtual machine 2 GiB")


def _mirrors(settings: Settings) -> Iterator[Finding]:
    known = Mirrors.of_this_machine(dict(settings.mirrors))
    entry = load_catalog().base(settings.base)
    wanted = entry.base.mirrors if entry is not None else ()
    if entry is None:
        yield Finding(
            "base", "missing", f"no base `{settings.base}`", "set `base` in kiln.toml to one of the catalogue"
        )
    # One try each: whoever asks the doctor does not want to wait for retries.
    with Fetcher(known, NullSink(), sleep=lambda _: None) as fetcher:
        for source in wanted:
            name = f"{source.mirror}/{source.suite}"
            try:
                fetcher.get_bytes(source.mirror, f"dists/{source.suite}/InRelease", max_bytes=MAX_INDEX_BYTES)
            except KilnError as error:
                yield Finding(name, "missing", error.message, error.hint)
            else:
                yield Finding(name, "ok", "answers")


def _keyrings(settings: Settings) -> Iterator[Finding]:
    found = sorted(
        path.name
        for directory in (*settings.keyrings, *KEYRING_DIRECTORIES)
        if directory.is_dir()
        for path in directory.glob("*archive-keyring.*")
    )
    if found:
        yield Finding("keyrings", "ok", ", ".join(found))
    else:
        yield Finding("keyrings", "missing", "no archive keyring", "apt-get install debian-archive-keyring")
