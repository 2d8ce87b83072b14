"""OSTree repositories and deployments."""

import os
import sys

from osbuild.util import programs
from osbuild.util.path import in_tree


def cli(*argv, **kwargs):
    """Run ostree."""
    return programs.run(["ostree"] + list(argv), **kwargs)


def repo(tree, path):
    """Return the option that names a repository of the tree."""
    return "--repo=" + in_tree(tree, path)


def commits(inputs, name="commits"):
    """Return (path, {commit: its options}) of an input with commits."""
    if name not in inputs:
        sys.exit("%s: the stage needs the input `%s`" % (os.path.basename(sys.argv[0]), name))
    return inputs[name]["path"], inputs[name]["data"]["refs"]


def only_commit(inputs, name="commits"):
    """Return (path, commit, its options) of an input with one commit. Raises ValueError."""
    path, refs = commits(inputs, name)
    if len(refs) != 1:
        raise ValueError("the input `%s` must hold one commit, not %d" % (name, len(refs)))
    ((commit, options),) = refs.items()
    return path, commit, options


def deployment(root, wanted):
    """Return (name of the state root, path of the deployment) below *root* as the options *wanted* say."""
    base = os.path.join(root, "ostree/deploy")
    if wanted.get("default"):
        found = [
            (osname, os.path.join(base, osname, "deploy", name))
            for osname in sorted(os.listdir(base))
            for name in sorted(os.listdir(os.path.join(base, osname, "deploy")))
            if not name.endswith(".origin")
        ]
        if len(found) != 1:
            raise ValueError("there are %d deployments, so that none is the default" % len(found))
        return found[0]
    repository = "--repo=" + os.path.join(root, "ostree/repo")
    commit = programs.output(["ostree", "rev-parse", repository, wanted["ref"]])
    name = "%s.%d" % (commit, wanted.get("serial", 0))
    return wanted["osname"], os.path.join(base, wanted["osname"], "deploy", name)
