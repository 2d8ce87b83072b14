"""Keeping udev's rules away from block devices that a build uses (Python 3.6).

A rule set of the host (10-osbuild-inhibitor.rules) leaves a device alone for which there is a file in LOCKDIR.
"""

import os
import pathlib

LOCKDIR = "/run/osbuild/locks/udev"


class UdevInhibitor:
    """One such file."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def __str__(self):
        return "UdevInhibitor at %s" % self.path

    def inhibit(self):
        """Keep the rules away."""
        self.path.touch()

    def release(self):
        """Let them work again."""
        try:
            os.unlink(str(self.path))
        except FileNotFoundError:
            return

    @property
    def active(self):
        """Whether the rules are kept away."""
        return self.path.exists()

    @classmethod
    def _made(cls, name, lockdir):
        inhibitor = cls(pathlib.Path(lockdir, name))
        inhibitor.inhibit()
        return inhibitor

    @classmethod
    def for_dm_name(cls, name, lockdir=LOCKDIR):
        """Keep the rules away from the device-mapper device *name*."""
        return cls._made("dm-%s" % name, lockdir)

    @classmethod
    def for_device(cls, major, minor, lockdir=LOCKDIR):
        """Keep the rules away from a device number."""
        return cls._made("device-%d:%d" % (major, minor), lockdir)
