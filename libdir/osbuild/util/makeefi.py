"""The EFI programs of a tree as the file system that removable media boot from (Python 3.6)."""

import glob
import os
import shutil
import subprocess
import tempfile

from osbuild.util.path import ensure_glob

OWN = "usr/lib/efi/*/*/EFI"  # of each package: boot loader and shim
SHARED = ("usr/lib/bootupd/updates/EFI", "boot/efi/EFI")
LABEL = "EFI-SYSTEM"
SECTOR_BYTES = 512
OVERHEAD_BYTES = 2 << 20


def find_efi_source_paths(tree):
    """Return the directories `EFI` of a tree that are to be copied. Raises ValueError."""
    if glob.glob(os.path.join(tree, OWN)):
        return ensure_glob(os.path.join(tree, OWN), n=2)
    for path in SHARED:
        if os.path.isdir(os.path.join(tree, path)):
            return [os.path.join(tree, path)]
    raise ValueError("%s has no EFI programs" % tree)


def find_efi_vendor_dir_name(efidir=None, source_tree=None):
    """Return the name of the distribution's directory in one of the two. Raises ValueError."""
    if (efidir is None) == (source_tree is None):
        raise ValueError("exactly one of efidir and source_tree")
    place = efidir if source_tree is None else find_efi_source_paths(source_tree)[0]
    names = sorted(name for name in os.listdir(place) if name != "BOOT")
    if len(names) != 1:
        raise ValueError("%s has %d vendors instead of one" % (place, len(names)))
    return names[0]


def mkefidir(efidir, source_tree):
    """Put a tree's EFI programs into the directory *efidir*, all in BOOT, and nothing that would be installed."""
    for source in find_efi_source_paths(source_tree):
        for directory, _, names in os.walk(source):
            target = os.path.join(efidir, os.path.relpath(directory, source))
            os.makedirs(target, exist_ok=True)
            for name in names:
                shutil.copy2(os.path.join(directory, name), os.path.join(target, name))
    vendor = os.path.join(efidir, find_efi_vendor_dir_name(efidir))
    # The fallback program would write boot entries; shim is in BOOT already.
    for pattern in ("BOOT/fb*.efi", os.path.join(vendor, "BOOT*.CSV"), os.path.join(vendor, "shim*.efi")):
        for path in ensure_glob(os.path.join(efidir, pattern)):
            os.unlink(path)
    for path in ensure_glob(os.path.join(vendor, "*")):
        shutil.move(path, os.path.join(efidir, "BOOT"))
    os.rmdir(vendor)


def mkefiboot(efidir, output_efiboot_img, loop_client):
    """Make a FAT image with the directory *efidir* as /EFI; *loop_client* lends a loop device."""
    sizes = [
        SECTOR_BYTES + os.path.getsize(os.path.join(directory, name))
        for directory, subdirectories, names in os.walk(efidir)
        for name in subdirectories + names
    ]
    # Whole sectors: firmware may take the size of a sector from that of the image.
    size = -(-(sum(sizes) + len(sizes) * SECTOR_BYTES + OVERHEAD_BYTES) // SECTOR_BYTES) * SECTOR_BYTES
    with open(output_efiboot_img, "wb") as file:
        file.truncate(size)
    with loop_client.device(output_efiboot_img) as device, tempfile.TemporaryDirectory() as directory:
        subprocess.run(["mkfs", "-t", "vfat", "-I", "--mbr=n", "-n", LABEL, device], check=True)
        subprocess.run(["mount", "-o", "utf8", device, directory], check=True)
        try:
            # FAT has neither owners nor modes.
            subprocess.run(["cp", "-rL", "--", efidir, os.path.join(directory, "EFI")], check=True)
        finally:
            subprocess.run(["umount", directory], check=True)
