"""What a stage sees of its build root: /usr and /boot, and an /etc prepared once instead of by a runner each time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from kiln.linux import mounts
from kiln.linux.confinement import Confinement
from kiln.linux.sandbox import Mount, Sandbox
from kiln.linux.seccomp import stage_filter

HOST: Final = Path("/")
MERGED: Final = ("lib", "lib64", "bin", "sbin")
COPIED: Final = ("passwd", "group", "ld.so.cache", "mke2fs.conf")
"""Files of the build root's /etc that stages get as their own."""
SHOWN: Final = ("alternatives", "ssl", "containers", "selinux", "ld.so.conf", "ld.so.conf.d")
"""What of the build root's /etc stages can read."""
MINIMAL_PASSWD: Final = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
MINIMAL_GROUP: Final = b"root:x:0:\nnogroup:x:65534:\n"
MAX_COPIED_BYTES: Final = 16 * 1024 * 1024
LDCONFIG: Final = "usr/sbin/ldconfig"


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The content of /etc for the stages in one build root, and what of it is only shown."""

    etc: Mapping[str, bytes]
    shown: tuple[str, ...]
    boot: bool
    ostree: bool
    needs_ldconfig: bool


def examine(root: Path, *, host: bool) -> Skeleton:
    """Read what stages need from a build root, without ever leaving it by a symbolic link. Raises OSError."""
    etc = {"passwd": MINIMAL_PASSWD, "group": MINIMAL_GROUP}
    if not host:
        etc |= {name: data for name in COPIED if (data := _read(root, f"etc/{name}")) is not None}
    else:
        # The host's accounts are nobody's business; its libraries and tools must be found.
        for name in ("ld.so.cache", "mke2fs.conf"):
            data = _read(root, f"etc/{name}")
            if data is not None:
                etc[name] = data
    shown = tuple(name for name in SHOWN if _plain(root / "etc" / name))
    ldconfig = "ld.so.cache" not in etc and (root / LDCONFIG).is_file()
    return Skeleton(etc, shown, not host and _plain(root / "boot"), _plain(root / "ostree"), ldconfig)


def system_mounts(root: Path, skeleton: Skeleton, etc: Path) -> list[Mount]:
    """Return the mounts that show the build root at *root* with the prepared directory *etc* as /etc."""
    result = [Mount("ro", "/boot", str(root / "boot"))] if skeleton.boot else []
    result.append(Mount("ro", "/usr", str(root / "usr")))
    result += [Mount("symlink", f"/{name}", f"usr/{name}") for name in MERGED]
    result.append(Mount("rw", "/etc", str(etc)))
    result += [Mount("ro", f"/etc/{name}", str(root / "etc" / name)) for name in skeleton.shown]
    if skeleton.ostree:
        result.append(Mount("ro", "/ostree", str(root / "ostree")))
    return result


def write_etc(skeleton: Skeleton, etc: Path) -> None:
    """Fill the directory *etc*. Raises OSError."""
    for name, data in skeleton.etc.items():
        (etc / name).write_bytes(data)


def _plain(path: Path) -> bool:
    """Whether *path* is there and is not a symbolic link, which could lead out of the build root."""
    return path.exists() and not path.is_symlink()


def _read(root: Path, path: str) -> bytes | None:
    try:
        descriptor = mounts.open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(MAX_COPIED_BYTES + 1)
    return data if len(data) <= MAX_COPIED_BYTES else None


def with_library_cache(root: Path, skeleton: Skeleton, scratch: Path, cancel: int) -> Skeleton:
    """Return *skeleton* with the ld.so.cache that the build root's own ldconfig makes. Raises KilnError(HOST, ...)."""
    made = scratch / "ldconfig"
    (made / "etc").mkdir(parents=True)
    write_etc(skeleton, made / "etc")
    mounts_ = [*system_mounts(root, skeleton, made / "etc"), Mount("proc", "/proc")]
    sandbox = Sandbox(tuple(mounts_), frozenset(), {"PATH": "/usr/sbin:/usr/bin"})
    from kiln.engine.execution.bubblewrap import run_sandboxed  # noqa: PLC0415 - seldom needed

    run_sandboxed(
        sandbox,
        [f"/{LDCONFIG}", "-X", "-C", "/etc/ld.so.cache"],
        on_output=lambda data: None,
        server=None,
        timeout_seconds=None,
        cancel=cancel,
        confinement=Confinement(seccomp=stage_filter()),
    )
    # Where it made none, the loader falls back to its built-in directories; a stage that needs more says so.
    data = _read(made, "etc/ld.so.cache")
    etc = {**skeleton.etc, **({} if data is None else {"ld.so.cache": data})}
    return replace(skeleton, etc=etc, needs_ldconfig=False)
