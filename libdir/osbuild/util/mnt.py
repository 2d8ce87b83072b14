"""Mounting with mount(8), and undoing it (Python 3.6)."""

import contextlib
import enum
import subprocess


class MountPermissions(enum.Enum):
    """Whether what is mounted can be written to."""

    READ_WRITE = "rw"
    READ_ONLY = "ro"


def mount(source, target, bind=True, ro=True, private=True, mode="0755"):
    """Show *source* at *target*. Raises RuntimeError with what mount(8) has said."""
    options = [word for word, wanted in (("rbind", bind), ("ro", ro)) if wanted]
    if mode and not bind:
        options.append("mode=%s" % mode)  # a bind mount has the mode of what it shows
    command = ["mount"] + (["--make-rprivate"] if private else [])
    _run(command + (["-o", ",".join(options)] if options else []) + [source, target])


def umount(target, lazy=False):
    """Take a mount away, with everything below it, after writing it to the disk."""
    subprocess.run(["sync", "-f", target], check=True)
    _run(["umount", "-R"] + (["--lazy"] if lazy else []) + [target])


class MountGuard(contextlib.AbstractContextManager):
    """Mounts that are undone, the last one first, when the block ends."""

    def __init__(self):
        self.mounts = []

    def mount(self, source, target, bind=True, permissions=None, mode="0755"):
        """Show *source* at *target*; *permissions* None leaves them as they are."""
        options = ["bind"] if bind else []
        if permissions is not None:
            value = getattr(permissions, "value", permissions)
            if value not in ("ro", "rw"):
                raise ValueError("unknown permissions: %r" % (permissions,))
            options.append(value)
        if mode and not bind:
            options.append("mode=%s" % mode)  # a bind mount has the mode of what it shows
        _run(["mount", "--make-private"] + (["-o", ",".join(options)] if options else []) + [source, target])
        self.mounts.append({"source": source, "target": target})

    def umount(self):
        """Undo all."""
        while self.mounts:
            target = self.mounts.pop()["target"]
            subprocess.run(["sync", "-f", target], check=True)
            subprocess.run(["umount", target], check=True)

    def __exit__(self, *_):
        self.umount()


def _run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        raise RuntimeError("%s (code: %d)" % (done.stdout.decode("utf-8", "replace").strip(), done.returncode))
