"""Starting the programs of the build root.

A stage ends with one line that names the program if it is missing or fails; a traceback would only hide that line.
"""

import os
import shutil
import subprocess
import sys


def need(*names):
    """End the stage if the build root lacks one of the programs *names*. For those that other programs start."""
    for name in names:
        if shutil.which(name) is None:
            _missing(name)


def run(argv, env=None, **kwargs):
    """Run a program; its output goes to the stage's. Ends the stage if it is missing or fails.

    *env* is added to the stage's own environment; messages are in English.
    """
    try:
        done = subprocess.run(argv, check=False, env=dict(os.environ, LC_ALL="C.UTF-8", **(env or {})), **kwargs)
    except FileNotFoundError as error:
        if error.filename != argv[0]:
            raise
        _missing(argv[0])
    if done.returncode != 0:
        sys.exit("%s: %s ended with status %d" % (_stage(), argv[0], done.returncode))
    return done


def output(argv, **kwargs):
    """Run a program and return what it prints, without the last line's end."""
    return run(argv, stdout=subprocess.PIPE, encoding="utf-8", **kwargs).stdout.rstrip("\n")


def _missing(name):
    sys.exit("%s: the build root has no program `%s`" % (_stage(), name))


def _stage():
    return os.path.basename(sys.argv[0])
