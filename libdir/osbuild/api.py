"""How a program in the sandbox learns what to do, and tells the engine what it has done (Python 3.6, standard library).

The names are osbuild's: a stage written for it runs here, and one that uses `progress` runs there, where it is silent.
"""

import json
import sys

ARGUMENTS = "/run/osbuild/api/arguments"
META = "/run/osbuild/meta"
SOCKET = "/run/osbuild/api/osbuild"

_channel = None


def arguments(path=ARGUMENTS):
    """Return the arguments of this stage: tree, paths, devices, inputs, mounts, options, meta."""
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def metadata(data, path=META):
    """Report *data* (a dict) about what was made; the engine keeps it with the result."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=2)


def progress(done, total=None, unit="files", item=""):
    """Tell how far the stage has come. Never fails; osbuild's engine ignores messages that it does not know."""
    import socket  # 4 ms that most stages need not spend

    global _channel  # noqa: PLW0603 - one connection for the life of the stage
    message = {"method": "progress", "progress": {"done": done, "total": total, "unit": unit, "item": item}}
    try:
        if _channel is None:
            _channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
            _channel.connect(SOCKET)
        # A message that finds the queue full is dropped: progress must not slow the work down.
        _channel.send(json.dumps(message).encode("utf-8"), socket.MSG_DONTWAIT)
    except OSError:
        return


def exception(error, path=SOCKET):
    """Send *error* to the engine, which puts it into its result, and exit with status 2."""
    import traceback

    traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)
    from osbuild.util.jsoncomm import send_once

    send_once(
        path,
        {
            "method": "exception",
            "exception": {
                "type": type(error).__name__,
                "value": str(error),
                "traceback": "".join(traceback.format_tb(error.__traceback__)),
            },
        },
    )
    sys.exit(2)


class exception_handler:  # noqa: N801 - osbuild's name; used as `with exception_handler():`
    """Send an exception that leaves the block to the engine, and exit."""

    def __init__(self, path=SOCKET):
        self.path = path

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, Exception):
            exception(error, self.path)
        return False
