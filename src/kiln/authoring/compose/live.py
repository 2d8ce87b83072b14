"""What a tree needs to run from a medium that is only read: the SquashFS is found, and memory laid over it."""

from __future__ import annotations

from typing import Final

from kiln.authoring.compose.inline import InlineFile

BOOT_SCRIPT: Final = "kiln-live"
HOOK: Final = """\
#!/bin/sh
# The modules of media, and what lays a writable directory over a file system that is only read.
[ "$1" = prereqs ] && exit 0
. /usr/share/initramfs-tools/hook-functions
for module in loop squashfs overlay isofs sr_mod cdrom virtio_scsi ahci ata_piix usb_storage uas; do
    manual_add_modules $module
done
"""
SCRIPT: Final = """\
# initramfs-tools(7): chosen by boot=kiln-live. kiln.live=<label> is the name of the medium's file system; without a
# medium, the system lies in the initial RAM disk itself.
mountroot() {
    label=
    for word in $(cat /proc/cmdline); do
        case $word in kiln.live=*) label=${word#kiln.live=} ;; esac
    done
    modprobe -a loop squashfs overlay isofs sr_mod 2>/dev/null
    mkdir -p /run/live/medium /run/live/system /run/live/memory
    system=/live/filesystem.squashfs
    if [ ! -e "$system" ]; then
        # Not by udev's links: it makes none for discs without a program that is not here.
        tries=0
        until medium=$(blkid -L "$label") && [ -n "$medium" ]; do
            tries=$((tries + 1))
            [ $tries -gt 120 ] && panic "There is no medium named $label"
            sleep 1
        done
        mount -t iso9660 -o ro "$medium" /run/live/medium || panic "The medium cannot be mounted"
        system=/run/live/medium$system
    fi
    losetup /dev/loop0 "$system" || panic "The system's image cannot be opened"
    mount -t squashfs -o ro /dev/loop0 /run/live/system || panic "The system's image cannot be mounted"
    mount -t tmpfs -o mode=0755 tmpfs /run/live/memory
    mkdir /run/live/memory/upper /run/live/memory/work
    layers=lowerdir=/run/live/system,upperdir=/run/live/memory/upper,workdir=/run/live/memory/work
    mount -t overlay -o "$layers" overlay "$rootmnt" || panic "Memory cannot be laid over the system"
    # Its disks are not here.
    : > "$rootmnt/etc/fstab"
}
"""


def live_files() -> list[InlineFile]:
    """Return the files that make the initial RAM disk able to run the system from a medium."""
    root = "/etc/initramfs-tools"
    return [
        InlineFile(f"{root}/hooks/{BOOT_SCRIPT}", HOOK.encode("ascii"), mode=0o755),
        InlineFile(f"{root}/scripts/{BOOT_SCRIPT}", SCRIPT.encode("ascii")),
    ]


def live_cmdline(label: str, words: str) -> str:
    """Return the kernel's command line for a medium named *label*; an empty label means that there is none."""
    medium = f" kiln.live={label}" if label else ""
    return f"boot={BOOT_SCRIPT}{medium} {words}".strip()
