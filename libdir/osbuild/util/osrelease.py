"""os-release(5) (Python 3.6)."""

import os
import shlex

DEFAULT_PATHS = ["/etc/os-release", "/usr/lib/os-release"]


def parse_files(*paths):
    """Return the values of the first of *paths* that is there. Raises ValueError for a line that is no assignment."""
    for path in paths:
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                return dict(_parse(line.strip()) for line in file if line.strip() and not line.startswith("#"))
    return {}


def describe_os(*paths):
    """Return the name and version of the system, such as `debian12`."""
    values = parse_files(*paths)
    return values.get("ID", "linux") + values.get("VERSION_ID", "").replace(".", "")


def _parse(line):
    key, _, text = line.partition("=")
    words = shlex.split(text)
    if len(words) != 1:
        raise ValueError("%s has not exactly one value: %s" % (key, text))
    return key, words[0]
