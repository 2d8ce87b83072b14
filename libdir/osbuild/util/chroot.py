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

        return {"env": environment, "preexec_fn": enter, "stdin": subprocess.DEVNULL}

    def _mount(self, source, name, fstype, data=None):
        path = os.path.join(self.tree, name)
        mount(source, path, fstype, MS_NOSUID | MS_NODEV, data)
        self._undo.callback(umount, path)
