"""Paths inside a tree (Python 3.6)."""

import contextlib
import glob
import os

TREE = "/run/osbuild/tree"


def in_tree(tree, path, must_exist=False):
    """Return the path on this side of the absolute *path* in *tree*.

    Raises ValueError if it would leave the tree, by itself or through a link on its way. The last part may be a link.

    osbuild's stages call it the other way round, as `in_tree(path, tree)`, and want to know whether *path* is in the
    tree of the stage; that call gets their answer.
    """
    if path == TREE:
        inside = (os.path.abspath(tree) + "/").startswith(TREE + "/")
        return inside and (not must_exist or os.path.exists(tree))
    tree = os.path.normpath(tree)  # osbuild's engine names the root of mounts `/run/osbuild/mounts/.`
    target = os.path.normpath(os.path.join(tree, path.lstrip("/")))
    if target == tree:
        return target
    root, parent = os.path.realpath(tree), os.path.realpath(os.path.dirname(target))
    if not target.startswith(tree.rstrip("/") + "/") or not (parent + "/").startswith(root.rstrip("/") + "/"):
        raise ValueError("%s leaves the tree" % path)
    return target


def join_abs(root, *paths):
    """Return *paths* below *root*, also those that begin with a slash, as an absolute path."""
    joined = os.path.join(root, *(os.fspath(path).lstrip("/") for path in paths))
    return os.path.normpath(os.path.join("/", joined))


def ensure_glob(pathname, n="", **kwargs):
    """Return what matches a pattern. Raises ValueError if nothing does, or not exactly *n* names."""
    found = glob.glob(pathname, **kwargs)
    if not found or (n != "" and len(found) != int(n)):
        raise ValueError("%d names match %s, expected %s" % (len(found), pathname, n if n != "" else "some"))
    return found


def clamp_mtime(path, start, to):
    """Set the time of everything in *path* that was changed at *start* or later to *to*, in seconds."""

    def clamp(name, directory=None):
        if os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime >= start:
            with contextlib.suppress(PermissionError):  # an immutable file
                os.utime(name, None if to is None else (to, to), dir_fd=directory, follow_symlinks=False)

    clamp(path)
    for _, directories, files, descriptor in os.fwalk(path):
        for name in directories + files:
            clamp(name, descriptor)
