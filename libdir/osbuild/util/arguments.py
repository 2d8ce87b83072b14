"""What the engine hands to a stage: its inputs and devices."""

import os
import sys


def only_file(inputs, name):
    """Return the path of the one file that the input *name* holds. Raises ValueError if it holds more or none."""
    entry = _named(inputs, name, "input")
    files = sorted(entry["data"]["files"])
    if len(files) != 1:
        raise ValueError("the input `%s` must hold one file, not %d" % (name, len(files)))
    return os.path.join(entry["path"], files[0])


def device(args, name="device"):
    """Return the path of the device *name*."""
    return os.path.join(args["paths"]["devices"], _named(args["devices"], name, "device")["path"])


def tree(inputs, name="tree"):
    """Return the path of the tree that the input *name* shows."""
    return _named(inputs, name, "input")["path"]


def epoch():
    """Return the time that the result shall bear, in seconds, or None if nothing was said."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    return None if text is None else int(text)


def identity(args):
    """Return 64 hexadecimal digits that are the same for the same stage with the same options and inputs."""
    return args["meta"]["id"]


def _named(entries, name, kind):
    # osbuild's schemas say what `inputs` and `devices` must hold, but not that a stage must have them.
    if name not in entries:
        sys.exit("%s: the stage needs the %s `%s`" % (os.path.basename(sys.argv[0]), kind, name))
    return entries[name]
