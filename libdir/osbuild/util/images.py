"""Disk images: sizes, partitions, file systems and formats (Python 3.6)."""

import contextlib
import json
import os
import subprocess
import tempfile

UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
COMPRESSED = ("qcow2",)


def parse_size(value):
    """Return a number of bytes from a number, or from a text such as 10G."""
    if isinstance(value, int):
        return value
    unit = value[-1] if value[-1] in UNITS else ""
    return int(value[: len(value) - len(unit)]) * UNITS[unit]


def partitions(image):
    """Return (start, length) in sectors of each partition of *image*."""
    done = subprocess.run(["sfdisk", "--json", image], stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout.decode("utf-8"))["partitiontable"]["partitions"]
    return [(entry["start"], entry["size"]) for entry in found]


def make_file_system(device, kind, uuid=None, label=None):
    """Make a file system of *kind* on a device or in a file."""
    if kind == "ext4":
        command = ["mkfs.ext4", "-q", "-F"] + (["-U", uuid] if uuid else []) + (["-L", label] if label else [])
    elif kind == "xfs":
        command = ["mkfs.xfs", "-q", "-f"] + (["-m", "uuid=" + uuid] if uuid else []) + (["-L", label] if label else [])
    elif kind == "btrfs":
        command = ["mkfs.btrfs", "-q", "-f"] + (["-U", uuid] if uuid else []) + (["-L", label] if label else [])
    elif kind == "vfat":
        command = ["mkfs.fat"] + (["-i", uuid.replace("-", "")] if uuid else []) + (["-n", label] if label else [])
    else:
        raise ValueError("%s is not a file system that can be made" % kind)
    subprocess.run(command + [device], check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def mounted(device, kind, target=None):
    """Mount a device on *target*, by default a new directory; yields it."""
    with contextlib.ExitStack() as stack:
        if target is None:
            target = stack.enter_context(tempfile.TemporaryDirectory(prefix="mount-", dir="/tmp"))
        subprocess.run(["mount", "-t", kind, "--", device, target], check=True)
        try:
            yield target
        finally:
            subprocess.run(["umount", "--", target], check=True)


def copy_tree(tree, root, without_owners):
    """Copy a tree into *root*; the directories *without_owners* are on file systems that have no owners and modes."""
    excluded = [path.strip("/") for path in without_owners]
    tar = ["tar", "--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-cf", "-", "-C", tree]
    tar += ["--exclude=./%s/*" % path for path in excluded] + ["."]
    packing = subprocess.Popen(tar, stdout=subprocess.PIPE)
    unpack = ["tar", "--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", "-", "-C", root]
    # The mount points of such file systems cannot take an owner.
    subprocess.run(unpack + ["--exclude=./%s" % path for path in excluded], stdin=packing.stdout, check=True)
    packing.stdout.close()
    if packing.wait() != 0:
        raise subprocess.CalledProcessError(packing.returncode, tar)
    for path in excluded:
        source = os.path.join(tree, path)
        if os.path.isdir(source):
            target = os.path.join(root, path)
            subprocess.run(["cp", "-rL", "--preserve=timestamps", "--", source + "/.", target], check=True)


def convert(raw, target, kind, qcow2_compat=None):
    """Write the raw image *raw* to *target* in a format of qemu-img, or as raw.xz."""
    if kind == "raw.xz":
        with open(target, "wb") as file:
            subprocess.run(["xz", "--keep", "--stdout", "-T0", "--", raw], stdout=file, check=True)
        return
    command = ["qemu-img", "convert", "-f", "raw", "-O", kind]
    if kind in COMPRESSED:
        command.append("-c")
    elif kind == "vmdk":
        command += ["-c", "-o", "subformat=streamOptimized"]
    elif kind == "vpc":
        command += ["-o", "subformat=fixed,force_size"]
    if kind == "qcow2" and qcow2_compat:
        command += ["-o", "compat=%s" % qcow2_compat]
    subprocess.run(command + [raw, target], check=True)
