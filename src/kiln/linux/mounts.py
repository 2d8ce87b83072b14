"""Mounting by system call: overlay, tmpfs and bind mounts, and mount namespaces of single threads.

Every function acts on the mount namespace of the calling *thread*. A worker thread that has called
`private_namespace` makes mounts that nobody else sees and that vanish with the process, whatever kills it.
All functions raise OSError as the kernel reports it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

# include/uapi/linux/mount.h, sched.h, fcntl.h
MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_REMOUNT: Final = 0x20
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x40000
MNT_DETACH: Final = 0x2
UMOUNT_NOFOLLOW: Final = 0x8
CLONE_NEWNS: Final = 0x20000
FSOPEN_CLOEXEC: Final = 0x1
FSMOUNT_CLOEXEC: Final = 0x1
MOUNT_ATTR_RDONLY: Final = 0x1
MOVE_MOUNT_F_EMPTY_PATH: Final = 0x4
FSCONFIG_SET_FLAG: Final = 0
FSCONFIG_SET_STRING: Final = 1
FSCONFIG_CMD_CREATE: Final = 6
AT_FDCWD: Final = -100
RESOLVE_IN_ROOT: Final = 0x10

# The numbers from 424 on are the same on every architecture (asm-generic/unistd.h).
_SYS_MOVE_MOUNT: Final = 429
_SYS_FSOPEN: Final = 430
_SYS_FSCONFIG: Final = 431
_SYS_FSMOUNT: Final = 432
_SYS_OPENAT2: Final = 437

MAX_MOUNT_OPTION_BYTES: Final = 4095
"""mount(2) copies one page of options."""
BUSY_SECONDS: Final = 2.0
"""How long an overlay's directories may still be held by a mount namespace that is being torn down."""

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]


def private_namespace() -> None:
    """Give the calling thread a mount namespace of its own, from which nothing reaches any other."""
    _checked(_libc.unshare(ctypes.c_int(CLONE_NEWNS)), "unshare")
    mount(None, Path("/"), None, MS_REC | MS_PRIVATE)


def mount(source: str | None, target: Path, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(
        None if source is None else os.fsencode(source),
        os.fsencode(target),
        None if kind is None else kind.encode(),
        flags,
        os.fsencode(options) or None,
    )
    _checked(result, str(target))


def unmount(target: Path, *, lazy: bool = False) -> None:
    """umount2(2); *lazy* detaches a mount that is in use."""
    _checked(_libc.umount2(os.fsencode(target), UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0)), str(target))


@contextmanager
def tmpfs(target: Path, *, mode: int = 0o755, size: str = "50%", devices: bool = False) -> Iterator[Path]:
    """Mount an empty tmpfs, with device nodes usable if *devices*; unmounted at the end."""
    mount("tmpfs", target, "tmpfs", MS_NOSUID | (0 if devices else MS_NODEV), f"mode={mode:o},size={size}")
    with _unmounting(target):
        yield target


@contextmanager
def bind(source: Path, target: Path, *, read_only: bool = False) -> Iterator[Path]:
    """Show *source* (with what is mounted below it) at *target*; unmounted at the end."""
    bind_on(str(source), target, read_only=read_only)
    with _unmounting(target):
        yield target


def bind_on(source: str, target: Path, *, read_only: bool = False, recursive: bool = True) -> None:
    """Bind *source* on *target* and leave it there; for namespaces or trees that are unmounted as a whole."""
    mount(source, target, None, MS_BIND | (MS_REC if recursive else 0))
    if read_only:
        mount(None, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY)


@contextmanager
def overlay(
    lower: Sequence[Path], target: Path, *, upper: Path | None = None, work: Path | None = None
) -> Iterator[Path]:
    """Mount directories over each other, the first of *lower* on top; writable if *upper* and *work* are given.

    A writable overlay keeps hard links whole (`index`), renames directories without copying (`redirect_dir`) and does
    not wait for the disk (`volatile`), where the kernel can. Without *upper*, two lower directories are needed.
    """
    _mount_overlay(lower, target, upper, work)
    with _unmounting(target):
        yield target


def overlay_works(directory: Path) -> bool:
    """Whether a directory below *directory* can be the writable layer of an overlay; leaves nothing behind."""
    probe = directory / f".overlay-{os.getpid()}-{time.monotonic_ns()}"
    names = ("lower", "upper", "work", "merged")
    try:
        for name in names:
            (probe / name).mkdir(parents=True)
        with overlay([probe / "lower"], probe / "merged", upper=probe / "upper", work=probe / "work") as merged:
            (merged / "probe").mkdir()
            # Layers hide files by device nodes and extended attributes; both must work here.
            os.setxattr(probe / "upper", "trusted.overlay.probe", b"y")
            os.removexattr(probe / "upper", "trusted.overlay.probe")
        return (probe / "upper/probe").is_dir()
    except OSError:
        return False
    finally:
        import shutil  # noqa: PLC0415 - slow to load, and needed once in each boot

        shutil.rmtree(probe, ignore_errors=True)


def open_in_root(root: Path, path: str, flags: int = os.O_PATH) -> int:
    """Open *path* as a process sees it whose root is *root*: no symbolic link leads out (openat2, Linux 5.6)."""
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        how = (ctypes.c_uint64 * 3)(flags | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT)
        relative = os.fsencode(path.lstrip("/") or ".")
        return _checked(_libc.syscall(_SYS_OPENAT2, directory, relative, how, ctypes.sizeof(how)), path)
    finally:
        os.close(directory)


def sync_file_system(path: Path) -> None:
    """Have everything that was written to the file system of *path* on disk (syncfs(2))."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.syncfs(descriptor), str(path))
    finally:
        os.close(descriptor)


def mounted_below(directory: Path) -> list[Path]:
    """Return the mount points below *directory* in this namespace, innermost first."""
    prefix = f"{directory.resolve()}/"
    points = []
    for line in Path("/proc/thread-self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        point = line.split(" ")[4].encode("utf-8", "surrogateescape").decode("unicode_escape", "surrogateescape")
        if point.startswith(prefix):
            points.append(Path(point))
    return points[::-1]


def _mount_overlay(lower: Sequence[Path], target: Path, upper: Path | None, work: Path | None) -> None:
    comfort = [("index", "on"), ("redirect_dir", "on"), ("volatile", "")] if upper is not None else []
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return _mount_overlay_once(lower, target, upper, work, comfort)
        except OSError as error:
            if error.errno == errno.EBUSY and time.monotonic() < deadline:
                time.sleep(0.01)
            elif comfort and error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ESTALE):
                comfort = comfort[:-1]
            else:
                raise


def _mount_overlay_once(
    lower: Sequence[Path], target: Path, upper: Path | None, work: Path | None, comfort: Sequence[tuple[str, str]]
) -> None:
    context = _libc.syscall(_SYS_FSOPEN, b"overlay", FSOPEN_CLOEXEC)
    if context < 0:
        if ctypes.get_errno() == errno.ENOSYS:
            return _mount_overlay_by_options(lower, target, upper, work, comfort)
        _checked(context, "overlay")
    try:
        for path in lower:
            try:
                _configure(context, "lowerdir+", path)
            except OSError as error:
                if path is lower[0] and error.errno == errno.EINVAL:  # Linux before 6.7 has no `lowerdir+`
                    return _mount_overlay_by_options(lower, target, upper, work, comfort)
                raise
        if upper is not None and work is not None:
            _configure(context, "upperdir", upper)
            _configure(context, "workdir", work)
        for key, value in comfort:
            _configure(context, key, value)
        _checked(_libc.syscall(_SYS_FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0), str(target))
        attributes = MOUNT_ATTR_RDONLY if upper is None else 0
        tree = _checked(_libc.syscall(_SYS_FSMOUNT, context, FSMOUNT_CLOEXEC, attributes), str(target))
    finally:
        os.close(context)
    try:
        moved = _libc.syscall(_SYS_MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH)
        _checked(moved, str(target))
    finally:
        os.close(tree)
    return None


def _configure(context: int, key: str, value: str | Path) -> None:
    if value == "":
        result = _libc.syscall(_SYS_FSCONFIG, context, FSCONFIG_SET_FLAG, key.encode(), None, 0)
    else:
        result = _libc.syscall(_SYS_FSCONFIG, context, FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0)
    _checked(result, key)


def _mount_overlay_by_options(
    lower: Sequence[Path], target: Path, upper: Path | None, work: Path | None, comfort: Sequence[tuple[str, str]]
) -> None:
    # Paths through open descriptors are short and free of the separators `:` and `,`; 200 of them fit in one page.
    descriptors: list[int] = []

    def short(path: Path) -> str:
        descriptors.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return f"/proc/thread-self/fd/{descriptors[-1]}"

    try:
        options = ["lowerdir=" + ":".join(short(path) for path in lower)]
        if upper is not None and work is not None:
            options += [f"upperdir={short(upper)}", f"workdir={short(work)}"]
        options += [f"{key}={value}" if value else key for key, value in comfort]
        text = ",".join(options)
        if len(text) > MAX_MOUNT_OPTION_BYTES:
            raise OSError(errno.E2BIG, f"{len(lower)} layers do not fit in the options of one mount", str(target))
        mount("overlay", target, "overlay", MS_RDONLY if upper is None else 0, text)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


@contextmanager
def _unmounting(target: Path) -> Iterator[None]:
    try:
        yield
    finally:
        try:
            unmount(target)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            unmount(target, lazy=True)


def _checked(result: Any, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return int(result)
