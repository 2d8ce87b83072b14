"""Text files of the tree."""

import os

from osbuild.util.path import in_tree


def write(tree, path, text, mode=0o644):
    """Write *text* to the file *path* of the tree, with the directories above it.

    What stands there is replaced, not written into: a link could lead out of the tree, and a hard link has other names.
    """
    target = prepare(tree, path)
    with open(target, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(target, mode)


def prepare(tree, path):
    """Make place for the file *path* of the tree and return its path on this side."""
    target = in_tree(tree, path)
    make_directories(tree, os.path.dirname(os.path.normpath("/" + path)))
    target = in_tree(tree, path)
    if os.path.lexists(target):
        os.unlink(target)
    return target


def make_directories(tree, path):
    """Make the directory *path* of the tree and those above it; none of them may lead out of the tree."""
    done = ""
    for part in path.strip("/").split("/"):
        done += "/" + part
        target = in_tree(tree, done)
        if not os.path.isdir(target):
            os.mkdir(target)
            os.chmod(target, 0o755)


def read(tree, path):
    """Return a file's text, or the empty string if the tree has none."""
    try:
        with open(in_tree(tree, path), encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def rewrite(tree, path, text):
    """Give a file that exists a new text; its mode and its owners stay."""
    status = os.stat(in_tree(tree, path))
    write(tree, path, text, status.st_mode & 0o7777)
    os.chown(in_tree(tree, path), status.st_uid, status.st_gid)
