"""Paths inside a tree."""

import os


def in_tree(tree, path):
    """Return the path on this side of the absolute *path* in *tree*; raises ValueError if it would leave the tree."""
    target = os.path.normpath(os.path.join(tree, path.lstrip("/")))
    if target != tree and not target.startswith(tree.rstrip("/") + "/"):
        raise ValueError("%s leaves the tree" % path)
    return target
