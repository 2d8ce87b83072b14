"""What the engine hands to a stage: its inputs and devices."""

import os


def only_file(inputs, name):
    """Return the path of the one file that the input *name* holds. Raises ValueError if it holds more or none."""
    entry = inputs[name]
    files = sorted(entry["data"]["files"])
    if len(files) != 1:
        raise ValueError("the input `%s` must hold one file, not %d" % (name, len(files)))
    return os.path.join(entry["path"], files[0])


def device(args, name="device"):
    """Return the path of the device *name*."""
    return os.path.join(args["paths"]["devices"], args["devices"][name]["path"])


def epoch():
    """Return the time that the result shall bear, in seconds, or None if nothing was said."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    return None if text is None else int(text)
