"""What runners of osbuild do to a build root before a stage (Python 3.6)."""

import contextlib
import os
import platform
import shutil
import subprocess
import sys

FAKE_MACHINE_ID = "f" * 32


def ldconfig(*dirs):
    """Make the loader's cache, with further directories of libraries."""
    with open("/etc/ld.so.conf", "a" if not dirs else "w", encoding="utf-8") as file:
        file.write("".join("%s\n" % path for path in dirs))
    subprocess.run(["ldconfig"], check=True)


def sysusers():
    """Make the accounts that packages of the build root describe."""
    done = subprocess.run(["systemd-sysusers"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        sys.stderr.write(done.stdout.decode("utf-8", "replace"))
        sys.exit(1)


def tmpfiles():
    """Make the directories that packages describe; some need accounts that are not there, which is no failure."""
    subprocess.run(["systemd-tmpfiles", "--create"], check=False)


def nsswitch():
    """Leave name services at their defaults, which work without services."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink("/etc/nsswitch.conf")


def python_alternatives():
    """Have /usr/bin/python3 lead somewhere on systems where it goes through alternatives."""
    os.makedirs("/etc/alternatives", exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.symlink("/usr/bin/python3.6", "/etc/alternatives/python3")


def sequoia():
    """Give rpm the default cryptographic policy."""
    os.makedirs("/etc/crypto-policies", exist_ok=True)
    source = "/usr/share/crypto-policies/back-ends/DEFAULT"
    if os.path.isdir(source):
        shutil.copytree(source, "/etc/crypto-policies/back-ends")


@contextlib.contextmanager
def create_machine_id_if_needed(tree="", keep_empty=False):
    """Have a machine id that is the same in every build while the block runs; *keep_empty* leaves an empty file."""
    path = tree + "/etc/machine-id"
    try:
        if not os.path.exists(path):
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            with open(path, "w", encoding="ascii") as file:
                file.write(FAKE_MACHINE_ID + "\n")
            os.chmod(path, 0o444)
        yield
    finally:
        os.unlink(path)
        if keep_empty:
            with open(path, "w", encoding="ascii"):
                pass
            os.chmod(path, 0o444)


def quirks():
    """Return the environment of stages."""
    environment = dict(os.environ)
    if platform.machine() == "aarch64":
        environment["OSBUILD_QEMU_IMG_COROUTINES"] = "1"  # qemu-img hangs there with more (launchpad bug 1805256)
    return environment
