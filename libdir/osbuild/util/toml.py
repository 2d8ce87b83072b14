"""TOML with whichever library the build root has (Python 3.6)."""

import importlib

READERS = ("tomllib", "tomli", "toml", "pytoml")
WRITERS = ("tomli_w", "toml", "pytoml")
BINARY = ("tomllib", "tomli", "tomli_w")


def _first(names):
    for name in names:
        try:
            return name, importlib.import_module(name)
        except ImportError:
            continue
    raise ModuleNotFoundError("No module named " + " or ".join("'%s'" % name for name in names))


def load_from_file(path):
    """Return the content of a file."""
    name, module = _first(READERS)
    if name in BINARY:
        with open(path, "rb") as file:
            return module.load(file)
    with open(path, encoding="utf-8") as file:
        return module.load(file)


def dump_to_file(data, path, header=""):
    """Write *data* to a file, after a line of *header*."""
    name, module = _first(WRITERS)
    text = module.dumps(data)
    with open(path, "w", encoding="utf-8") as file:
        file.write("%s\n%s" % (header, text) if header else text)
