"""Locations in a stage's options: tree:///path, mount://name/path, input://name/path, or a bare path in the tree."""

import os
import re

from osbuild.util.path import in_tree

LOCATION = re.compile(r"([a-z]+)://([^/]*)(/.*)?\Z", re.DOTALL)
UNITS = {"": 1}
UNITS.update({"%sB" % unit: 1000 ** (power + 1) for power, unit in enumerate("kMGT")})
UNITS.update({"%siB" % unit: 1024 ** (power + 1) for power, unit in enumerate("KMGT")})


def parse_size(s):
    """Return a number of bytes for a text such as `10 GiB`, or `unlimited` for itself. Raises TypeError."""
    match = re.match(r"\s*([0-9]+)\s*([A-Za-z]*)$", s)
    if s == "unlimited":
        return s
    if not match or match.group(2) not in UNITS:
        raise TypeError("not a size: %r" % s)
    return int(match.group(1)) * UNITS[match.group(2)]


def parse_location(location, args):
    """Return the path that *location* stands for, given the stage's arguments.

    A trailing slash is kept, as `/.`: it means the content of a directory. Raises ValueError for an unknown scheme, an
    unknown input or mount, and a path that leaves its root.
    """
    root, path = parse_location_into_parts(location, args)
    target = in_tree(root, path)
    return os.path.join(target, ".") if path.endswith("/") and path.strip("/") else target


def parse_location_into_parts(location, args):
    """Return (root directory, path below it, beginning with a slash)."""
    # Not a URL: `%`, `?` and `#` in the name of a file stand for themselves.
    match = LOCATION.match(location)
    scheme, name, path = match.groups() if match else ("tree", "", location)
    path = path or "/"
    if scheme == "tree":
        if name:
            raise ValueError("%s: a location in the tree has no name" % location)
        return args["tree"], path
    if scheme == "input":
        return _named(args.get("inputs", {}), name, location)["path"], path
    if scheme == "mount":
        root = args["paths"]["mounts"]
        if name:
            root = _named(args.get("mounts", {}), name, location)["path"]
        return root, path
    raise ValueError("%s: unknown scheme" % location)


def _named(entries, name, location):
    if name not in entries:
        raise ValueError("%s: there is no `%s`" % (location, name))
    return entries[name]
