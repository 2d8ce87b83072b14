"""Mount services: they mount file systems for a stage and unmount them after it (Python 3.6)."""

import abc
import os
import subprocess

from osbuild import host


class MountService(host.Service):
    """Override `mount` and `umount`."""

    @abc.abstractmethod
    def mount(self, args):
        """Mount and return the path below args["root"], or None where the stage needs none.

        *args* has source (a device node or None), target, root, tree and options.
        """

    @abc.abstractmethod
    def umount(self):
        """Undo everything; may be called when nothing is mounted."""

    def stop(self):
        self.umount()

    def dispatch(self, method, args, fds):
        if method != "mount":
            raise host.ProtocolError("unknown method: %s" % method)
        return self.mount(args), None


class FileSystemMountService(MountService):
    """Mounts a device's file system with mount(8); override `translate_options`."""

    VALUES = ("uid", "gid", "umask", "shortname", "subvol", "compress")

    def __init__(self, args):
        super().__init__(args)
        self.mountpoint = None
        self.check = False

    @abc.abstractmethod
    def translate_options(self, options):
        """Return the arguments of mount(8) for *options*; the base handles what several file systems share."""
        words = [name for key, name in (("readonly", "ro"), ("norecovery", "norecovery")) if options.get(key)]
        words += ["%s=%s" % (name, options[name]) for name in self.VALUES if name in options]
        return ["-o", ",".join(words)] if words else []

    def mount(self, args):
        target = os.path.join(args["root"], args["target"].lstrip("/"))
        os.makedirs(target, exist_ok=True)
        command = ["mount"] + self.translate_options(args["options"])
        command += ["--source", args["source"], "--target", target]
        print("mounting %s on %s" % (args["source"], target))
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            raise RuntimeError("%s (code: %d)" % (done.stdout.decode("utf-8", "replace").strip(), done.returncode))
        self.mountpoint = target
        self.check = True
        return target

    def umount(self):
        if not self.mountpoint:
            return
        target, self.mountpoint = self.mountpoint, None
        if not os.path.ismount(target):
            return  # another service has unmounted everything below a directory
        self.mountpoint = target
        self.sync()
        subprocess.run(["umount", target], check=self.check)
        self.mountpoint = None

    def sync(self):
        """Have everything on the device: a failure must show here, not in the finished image."""
        subprocess.run(["sync", "-f", self.mountpoint], check=self.check)
