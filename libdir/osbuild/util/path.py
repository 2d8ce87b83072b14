"""Paths inside a tree."""

import os


def in_tree(tree, path):
    """Return the path on this side of the absolute *path* in *tree*.

    Raises ValueError if it would leave the tree, by itself or through a link on its way. The last part may be a link.
    """
    target = os.path.normpath(os.path.join(tree, path.lstrip("/")))
    if target == tree:
        return target
    root, parent = os.path.realpath(tree), os.path.realpath(os.path.dirname(target))
    if not target.startswith(tree.rstrip("/") + "/") or not (parent + "/").startswith(root.rstrip("/") + "/"):
        raise ValueError("%s leaves the tree" % path)
    return target
