"""Loop devices for a stage, made by the engine: the stage's own network of devices has none (Python 3.6)."""

import contextlib
import os

from osbuild.util.jsoncomm import Socket


class LoopClient:
    """Asks the engine on the socket *connect_to*; what it gives is released when the stage ends."""

    def __init__(self, connect_to):
        self.client = Socket.new_client(connect_to)

    def __del__(self):
        if getattr(self, "client", None) is not None:
            self.client.close()

    def create_device(
        self,
        fd,
        dir_fd=None,
        offset=None,
        sizelimit=None,
        lock=False,
        partscan=False,
        read_only=False,
        sector_size=512,
    ):
        """Bind a loop device to the file *fd* with a node in *dir_fd* (by default /dev); returns the node's name."""
        with contextlib.ExitStack() as stack:
            if dir_fd is None:
                dir_fd = os.open("/dev", os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, dir_fd)
            request = {
                "fd": 0,
                "dir_fd": 1,
                "lock": lock,
                "partscan": partscan,
                "read_only": read_only,
                "sector_size": sector_size,
            }
            if offset:
                request["offset"] = offset
            if sizelimit:
                request["sizelimit"] = sizelimit
            answer, _, _ = self.client.send_and_recv(request, fds=[fd, dir_fd])
        if not answer or "devname" not in answer:
            raise RuntimeError("the engine gave no loop device: %s" % (answer,))
        return answer["devname"]

    @contextlib.contextmanager
    def device(
        self, filename, offset=None, sizelimit=None, lock=False, partscan=False, read_only=False, sector_size=512
    ):
        """Yield the path of a loop device over a file."""
        fd = os.open(filename, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
        try:
            name = self.create_device(
                fd,
                offset=offset,
                sizelimit=sizelimit,
                lock=lock,
                partscan=partscan,
                read_only=read_only,
                sector_size=sector_size,
            )
        finally:
            os.close(fd)
        path = os.path.join("/dev", name)
        try:
            yield path
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)
