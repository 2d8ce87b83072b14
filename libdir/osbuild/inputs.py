"""Input services: they prepare a directory that a stage reads (Python 3.6)."""

import abc

from osbuild import host
from osbuild.objectstore import StoreClient


class InputService(host.Service):
    """Override `map` (and `unmap` where something is to be undone)."""

    @abc.abstractmethod
    def map(self, store, origin, refs, target, options):
        """Fill the directory *target* with what *refs* (id to options) name; return {"path": ..., "data": {...}}.

        *origin* says whether the ids are of pipelines or of source files; *store* is a StoreClient.
        """

    def unmap(self):
        """Undo it."""

    def stop(self):
        self.unmap()

    def dispatch(self, method, args, fds):
        if method != "map":
            raise host.ProtocolError("unknown method: %s" % method)
        store = StoreClient(args["api"]["store"])
        return self.map(store, args["origin"], args["refs"], args["target"], args["options"]), None
