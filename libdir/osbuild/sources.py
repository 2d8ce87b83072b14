"""Source services: they fetch what a manifest names by digest into the store (Python 3.6)."""

import abc
import os
import shutil
import tempfile

from osbuild import host


class SourceItemResult:
    """How one item went; *metadata* has its checksum and whether it was there before."""

    def __init__(self, success=True, metadata=None, error=""):
        self.success = success
        self.metadata = {} if metadata is None else metadata
        self.error = error

    def set_error(self, error):
        """Note a failure."""
        self.success = False
        self.error = error

    def as_dict(self):
        """Return it as JSON."""
        return {"success": self.success, "metadata": self.metadata, "error": self.error}


class SourceResults:
    """How all items of one source went."""

    def __init__(self, source_type):
        self.source_type = source_type
        self.success = True
        self.results = []

    def add(self, result):
        """Add an item's result."""
        self.results.append(result)
        self.success = self.success and result.success

    @property
    def id(self):
        """The type of the source."""
        return self.source_type

    @property
    def name(self):
        """The name in logs."""
        return "source %s" % self.source_type

    @property
    def output(self):
        """One sentence."""
        if self.success:
            return "%s finished successfully" % self.name
        return "%s finished unsuccessfully: %s" % (self.name, self.results[-1].error)

    def as_dict(self):
        """Return it as JSON."""
        return {
            "name": self.name,
            "source_type": self.source_type,
            "success": self.success,
            "output": self.output,
            "results": [result.as_dict() for result in self.results],
        }


class SourceService(host.Service):
    """Override `fetch_all` and `fetch_one`, and set `content_type`: the directory of the store that holds the items."""

    max_workers = 1
    content_type = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.cache = None
        self.options = None
        self.tmpdir = None

    @abc.abstractmethod
    def fetch_one(self, checksum, desc):
        """Fetch one item into the directory `cache`."""

    @abc.abstractmethod
    def fetch_all(self, items):
        """Fetch every item (checksum to description) that is missing; return SourceResults.as_dict()."""

    def exists(self, checksum, desc):
        """Whether an item is there already."""
        return os.path.isfile(os.path.join(self.cache, checksum))

    def copy_all(self, items, dst_cache):
        """Copy items into another store; returns SourceResults.as_dict()."""
        target = os.path.join(dst_cache, self.content_type)
        os.makedirs(target, exist_ok=True)
        results = SourceResults(self.id)
        for item in items:
            result = SourceItemResult(metadata={"checksum": item})
            try:
                shutil.copy2(os.path.join(self.cache, item), os.path.join(target, item))
            except OSError as error:
                result.set_error(str(error))
            results.add(result)
        return results.as_dict()

    def setup(self, args):
        """Take what a call says about the store and the source."""
        self.cache = os.path.join(args["cache"], self.content_type)
        os.makedirs(self.cache, exist_ok=True)
        self.options = args["options"]

    def dispatch(self, method, args, fds):
        if method == "download":
            self.setup(args)
            with tempfile.TemporaryDirectory(prefix=".unverified-", dir=self.cache) as self.tmpdir:
                return self.fetch_all(args["items"]), None
        if method == "copy":
            self.setup(args)
            return self.copy_all(args["items"], args["dst_cache"]), None
        raise host.ProtocolError("unknown method: %s" % method)
