"""What the machine needs to start: the boot menu, the kernel's command line, the table of file systems."""

from __future__ import annotations

from typing import Any, Final

from kiln.authoring.catalog.model import Resolution
from kiln.authoring.compose.inline import InlineFile
from kiln.authoring.compose.layout import DiskLayout

GRUB_PREFIX: Final = "/boot/grub"
GRUB_MODULES: Final = (
    "normal",
    "linux",
    "search",
    "search_fs_uuid",
    "configfile",
    "echo",
    "test",
    "ls",
    "cat",
    "boot",
    "gzio",
    "reboot",
    "halt",
    "all_video",
    "sleep",
    "minicmd",
)
"""Built into the BIOS core image, so that the tree needs no GRUB at all."""

CONSOLES: Final = "console=tty0 console=ttyS0,115200"
"""Messages and a login on the screen and on the serial line."""

MENU: Final = """\
set default=0
set timeout=1

menuentry "{title}" {{
    search --no-floppy --fs-uuid --set=root {uuid}
    # Debian's kernel packages keep their links in /, Ubuntu's in /boot; upgrades move the links.
    if [ -e /boot/vmlinuz ]; then
        linux /boot/vmlinuz {cmdline}
        initrd /boot/initrd.img
    else
        linux /vmlinuz {cmdline}
        initrd /initrd.img
    fi
}}
"""


def kernel_cmdline(resolution: Resolution, layout: DiskLayout) -> str:
    """Return the kernel's command line."""
    parts = [f"root=UUID={layout.root_uuid}", "ro", resolution.kernel_cmdline]
    return " ".join(part for part in parts if part)


def boot_menu(title: str, layout: DiskLayout, cmdline: str) -> InlineFile:
    """Return grub.cfg; both firmwares read it from the root file system."""
    text = MENU.format(title=title.replace('"', ""), uuid=layout.root_uuid, cmdline=cmdline)
    return InlineFile(f"{GRUB_PREFIX}/grub.cfg", text.encode("utf-8"), mode=0o600)


def fstab_stage(layout: DiskLayout) -> dict[str, Any]:
    """Return the stage that writes /etc/fstab."""
    return {
        "type": "org.osbuild.fstab",
        "options": {
            "filesystems": [
                {
                    "uuid": layout.root_uuid,
                    "path": "/",
                    "vfs_type": "ext4",
                    "options": "errors=remount-ro,relatime",
                    "passno": 1,
                },
                {
                    "uuid": layout.esp_serial,
                    "path": "/boot/efi",
                    "vfs_type": "vfat",
                    # A machine that started by BIOS must come up even if this partition is damaged.
                    "options": "umask=0077,nofail,x-systemd.device-timeout=10s",
                    "passno": 0,
                },
            ]
        },
    }
