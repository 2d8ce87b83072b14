"""What is installed in a tree, and which of its files dpkg treats specially."""

import os

from osbuild.util.deb.archive import parse_stanza

DIRECTORY = "var/lib/dpkg"


def packages(tree):
    """Return {(name, architecture): version} of what is installed in a tree."""
    found = {}
    for text in _read(tree, "status").split("\n\n"):
        stanza = parse_stanza(text)
        if stanza.get("Status", "").endswith(" installed"):
            found[stanza["Package"], stanza["Architecture"]] = stanza["Version"]
    return found


def special_paths(tree):
    """Return the paths that are diverted, or whose owners and modes an administrator set (dpkg-statoverride)."""
    diverted = _read(tree, "diversions").splitlines()
    # Three lines each: the path, where it goes, the package that asked.
    found = {line for index, line in enumerate(diverted) if index % 3 != 2}
    found.update(line.split(" ", 3)[3] for line in _read(tree, "statoverride").splitlines() if line.count(" ") >= 3)
    return found


def _read(tree, name):
    path = os.path.join(tree, DIRECTORY, name)
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
