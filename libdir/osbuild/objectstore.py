"""The engine's store as an input service sees it: trees of pipelines and files of sources (Python 3.6)."""

import os

from osbuild.util.jsoncomm import Socket


class StoreClient:
    """Asks the engine that is connected to the socket *connect_to*."""

    def __init__(self, connect_to="/run/osbuild/api/store"):
        self.client = Socket.new_client(connect_to)

    def __del__(self):
        if getattr(self, "client", None) is not None:
            self.client.close()

    def _call(self, method, **arguments):
        message, _, _ = self.client.send_and_recv(dict(arguments, method=method))
        if message is None:
            raise RuntimeError("the engine has closed the store")
        if "error" in message:
            raise RuntimeError(message["error"])
        return message

    def mkdtemp(self, suffix=None, prefix=None):
        """Return a new directory on the store's file system, which goes away with the stage."""
        return self._call("mkdtemp", suffix=suffix, prefix=prefix)["path"]

    def read_tree(self, object_id):
        """Return where the tree of a pipeline can be read, or None if it is not in the store."""
        return self._call("read-tree", **{"object-id": object_id})["path"]

    def read_tree_at(self, object_id, path, subtree="/"):
        """Show a part of a pipeline's tree at *path*, to be read; returns *path*, or None if it is not in the store."""
        call = {"object-id": object_id, "target": os.fspath(path), "subtree": os.fspath(subtree)}
        return self._call("read-tree-at", **call)["path"]

    def source(self, name):
        """Return the directory of a kind of source files."""
        return self._call("source", name=name)["path"]
