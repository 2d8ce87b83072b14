"""What stands in a tree only while packages are installed into it."""

import contextlib
import os

from osbuild.util import textfile
from osbuild.util.path import in_tree

MACHINE_ID = "/etc/machine-id"
DRACUT_SCRIPTS = ("50-dracut.install", "51-dracut-rescue.install")


@contextlib.contextmanager
def machine_id(tree):
    """Let scriptlets find a machine id that is the same in each build; afterwards it is empty, for the first boot."""
    if os.path.exists(in_tree(tree, MACHINE_ID)):
        yield
        return
    textfile.write(tree, MACHINE_ID, "f" * 32 + "\n", 0o444)
    yield
    textfile.write(tree, MACHINE_ID, "", 0o444)


@contextlib.contextmanager
def without_dracut(tree):
    """Let kernel-install(8) find dracut's scripts replaced by nothing."""
    paths = ["/etc/kernel/install.d/" + name for name in DRACUT_SCRIPTS]
    made = [path for path in paths if not os.path.lexists(in_tree(tree, path))]
    for path in made:
        os.symlink("/dev/null", textfile.prepare(tree, path))
    yield
    for path in made:
        os.unlink(in_tree(tree, path))


@contextlib.contextmanager
def marker(tree, path):
    """Let an empty file exist."""
    textfile.write(tree, path, "")
    yield
    if os.path.exists(in_tree(tree, path)):
        os.unlink(in_tree(tree, path))
