"""Device services: they make block devices for a stage, such as a loop device over a file (Python 3.6)."""

import abc
import os
import stat

from osbuild import host


class DeviceService(host.Service):
    """Override `open` and `close`."""

    @abc.abstractmethod
    def open(self, devpath, parent, tree, options):
        """Make a device and its node in the directory *devpath*; return {"path": <node's name>, ...}.

        *parent* is the name of the parent device's node there, or None; *tree* is the tree that the stage works on.
        """

    @abc.abstractmethod
    def close(self):
        """Release the device; may be called when there is none."""

    def stop(self):
        self.close()

    def dispatch(self, method, args, fds):
        if method == "open":
            return self.open(args["dev"], args["parent"], args["tree"], args["options"]), None
        if method == "close":
            return self.close(), None
        raise host.ProtocolError("unknown method: %s" % method)

    @staticmethod
    def ensure_device_node(path, major, minor, dir_fd=None):
        """Make a block device node where there is none."""
        try:
            os.mknod(path, 0o666 | stat.S_IFBLK, os.makedev(major, minor), dir_fd=dir_fd)
        except FileExistsError:
            return
