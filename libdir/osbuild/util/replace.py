"""Changing texts and finding files by patterns (Python 3.6)."""

import glob
import os
import re


def replace(target, patterns):
    """Replace in each line of a file; *patterns* are pairs of a regular expression and what stands for it."""
    compiled = [(re.compile(pattern), text) for pattern, text in patterns]
    new = target + ".replace"
    with open(target, encoding="utf-8") as source, open(new, "w", encoding="utf-8") as result:
        for line in source:
            changed = line
            for pattern, text in compiled:
                changed = pattern.sub(text, changed)
            result.write(changed)
    os.rename(new, target)


def rglob(pathname, *, fatal=False):
    """Yield what matches a pattern, each name once. Raises OSError if nothing does and *fatal* is true."""
    names = dict.fromkeys(glob.iglob(pathname))
    if fatal and not names:
        raise OSError("nothing matches %s" % pathname)
    yield from names
