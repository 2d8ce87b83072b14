"""Settings of the host, for services (Python 3.6)."""

from osbuild.util import toml

STORAGE = ("/etc/containers/storage.conf", "/usr/share/containers/storage.conf")


def get_container_storage():
    """Return the settings of the host's container storage. Raises FileNotFoundError."""
    for path in STORAGE:
        try:
            return toml.load_from_file(path)
        except FileNotFoundError:
            continue
    raise FileNotFoundError("there is none of %s" % ", ".join(STORAGE))
