"""SELinux labels, without a library (Python 3.6)."""

import errno
import os
import subprocess

XATTR_NAME_SELINUX = b"security.selinux"


def parse_config(config_file):
    """Return the settings of /etc/selinux/config, an open file."""
    lines = (line.strip() for line in config_file)
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, value in pairs}


def config_get_policy(config):
    """Return the policy, or None where SELinux is off."""
    return config.get("SELINUXTYPE") if config.get("SELINUX") in ("enforcing", "permissive") else None


def setfiles(spec_file, root, *paths, exclude_paths=None):
    """Label *paths* (below *root*) as the file contexts *spec_file* say, with setfiles(8)."""
    excluded = [word for path in exclude_paths or [] for word in ("-e", path)]
    for path in paths:
        subprocess.run(["setfiles", "-F", "-r", root] + excluded + [spec_file, root + path], check=True)


def getfilecon(path):
    """Return the label of a file."""
    return os.getxattr(path, XATTR_NAME_SELINUX, follow_symlinks=False).decode().strip("\n\0")


def setfilecon(path, context):
    """Label a file; one that has the label already is well, also where none can be set."""
    try:
        os.setxattr(path, XATTR_NAME_SELINUX, context.encode(), follow_symlinks=True)
    except OSError as error:
        if error.errno != errno.ENOTSUP or getfilecon(path) != context:
            raise
