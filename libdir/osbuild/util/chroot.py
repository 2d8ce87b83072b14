"""Running programs inside a tree that is being built.

Mounts are made with system calls, since the tools of the build root need not include mount(8). They live in the
stage's own mount namespace and are undone when the block is left, so that nothing of them stays in the tree.
"""

import contextlib
import ctypes
import os
import subprocess
import sys

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 32, 4096, 16384
MNT_DETACH = 2
PR_CAPBSET_DROP, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 24, 47, 4
CAPABILITY_VERSION = 0x20080522
CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_SYS_RESOURCE, CAP_MAC_OVERRIDE, CAP_MAC_ADMIN = 19, 21, 24, 32, 33
POWERS = (CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_SYS_RESOURCE, CAP_MAC_OVERRIDE, CAP_MAC_ADMIN)
"""Capabilities over the machine rather than over the tree."""

_libc = ctypes.CDLL(None, use_errno=True)

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "TERM": "dumb",
}


def mount(source, target, fstype=None, flags=0, data=None):
    """Mount; raises OSError with the target's name."""

    def text(value):
        return None if value is None else os.fsencode(value)

    if _libc.mount(text(source), text(target), text(fstype), ctypes.c_ulong(flags), text(data)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def umount(target):
    """Take a mount away, at once for new users of the path; raises OSError."""
    if _libc.umount2(os.fsencode(target), MNT_DETACH) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def drop_powers():
    """Take from this process, and what it starts, what only the stage's own program may do. Raises OSError.

    Programs of a tree are other people's code. With CAP_SYS_ADMIN they could mount devtmpfs, procfs or a hierarchy of
    control groups, and through these reach the host. To be called between fork and exec.
    """
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable: the lower 32 of each, then the higher
    if _libc.capget(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    for number in POWERS:
        _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0)
        for kind in range(3):
            sets[number // 32 * 3 + kind] &= ~(1 << number % 32) & 0xFFFFFFFF
    _libc.prctl(PR_CAP_AMBIENT, ctypes.c_ulong(PR_CAP_AMBIENT_CLEAR_ALL), 0, 0, 0)
    if _libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")


class Chroot:
    """A tree with what programs in it expect: /proc, /sys, /dev, and empty directories *private*."""

    def __init__(self, tree, bind_mounts=None, private=("run", "tmp")):
        """*bind_mounts* are absolute paths that are the same outside and inside."""
        self.tree = tree
        self._binds = bind_mounts or []
        self._private = private
        self._undo = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as undo:
            for name in ("proc", "sys", "dev") + self._private:
                path = os.path.join(self.tree, name)
                if not os.path.isdir(path):
                    os.mkdir(path)
                    os.chmod(path, 0o1777 if name == "tmp" else 0o755)
            self._undo = undo
            self._mount("proc", "proc", "proc")
            self.bind("/sys", "sys", flags=MS_REC)
            self.bind("/dev", "dev", flags=MS_REC)
            for name in self._private:
                self._mount("tmpfs", name, "tmpfs", data="mode=1777" if name == "tmp" else "mode=755")
            for path in self._binds:
                os.makedirs(os.path.join(self.tree, path.lstrip("/")), exist_ok=True)
                self.bind(path, path, flags=MS_REC)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_):
        self._undo.close()

    def bind(self, source, target, flags=0):
        """Show *source* (a path outside) at *target* (inside, must exist) until the block ends."""
        path = os.path.join(self.tree, target.lstrip("/"))
        mount(source, path, None, MS_BIND | flags)
        self._undo.callback(umount, path)

    def hide(self, program):
        """Let *program* (a path inside) do nothing and succeed until the block ends; a missing one is left alone."""
        if os.path.exists(os.path.join(self.tree, program.lstrip("/"))):
            self.bind(os.path.join(self.tree, "usr/bin/true"), program)

    def run(self, argv, env=None, **kwargs):
        """Run a program inside; its output goes to the stage's. Raises subprocess.CalledProcessError.

        A program that the tree lacks ends the stage with its name.
        """
        check = kwargs.pop("check", True)
        try:
            return subprocess.run(argv, check=check, **dict(self._inside(env), **kwargs))
        except FileNotFoundError as error:
            if error.filename != argv[0]:
                raise
            sys.exit("%s: the tree has no program `%s`" % (os.path.basename(sys.argv[0]), argv[0]))

    def popen(self, argv, env=None, **kwargs):
        """Start a program inside."""
        return subprocess.Popen(argv, **self._inside(env), **kwargs)

    def _inside(self, env):
        environment = dict(ENVIRONMENT)
        if "SOURCE_DATE_EPOCH" in os.environ:
            environment["SOURCE_DATE_EPOCH"] = os.environ["SOURCE_DATE_EPOCH"]
        environment.update(env or {})

        def enter():
            os.chroot(self.tree)
            os.chdir("/")
            os.umask(0o022)
            drop_powers()

        return {"env": environment, "preexec_fn": enter, "stdin": subprocess.DEVNULL}

    def _mount(self, source, name, fstype, data=None):
        path = os.path.join(self.tree, name)
        mount(source, path, fstype, MS_NOSUID | MS_NODEV, data)
        self._undo.callback(umount, path)
