"""Reading of what a recipe says about the machine: desktop, first boot, kernel, disk."""

from __future__ import annotations

from typing import Final

from kiln.authoring.recipe import rules
from kiln.authoring.recipe.model import Desktop, Disk, Kernel, StartupScript
from kiln.authoring.recipe.sections import optional, required
from kiln.authoring.recipe.sizes import parse_size, whole_mib
from kiln.authoring.recipe.spellings import spellings
from kiln.authoring.recipe.values import Value, shown

MIN_DISK_BYTES: Final = 1024**3  # a lean server with its kernel takes 700 MB
MAX_DISK_BYTES: Final = 16 * 1024**4  # ext4 with 4 KiB blocks
LAYOUTS: Final = ("plain",)
"""What `disk.layout` may say today: boot partitions and one root file system."""


def desktop(value: Value | None) -> Desktop | None:
    """Read the look of a desktop."""
    if value is None or value.kind == "null":
        return None
    fields = value.fields(spellings(Desktop))
    return Desktop(
        theme=optional(fields, "theme", rules.THEME),
        wallpaper=optional(fields, "wallpaper", rules.WALLPAPER),
        favorites=fields["favorites"].texts(rules.DESKTOP_ENTRY) if "favorites" in fields else (),
    )


def startup_script(value: Value) -> StartupScript | None:
    """Read a script for the first boot."""
    fields = value.fields(spellings(StartupScript))
    name = required(value, fields, "name", rules.SCRIPT_NAME)
    script = required(value, fields, "script", rules.SCRIPT)
    return StartupScript(name, script) if name and script else None


def kernel(value: Value | None) -> Kernel:
    """Read the kernel's flavour and command line."""
    if value is None:
        return Kernel()
    fields = value.fields(spellings(Kernel))
    return Kernel(optional(fields, "flavour", rules.FLAVOUR), optional(fields, "cmdline", rules.CMDLINE))


def disk(value: Value | None) -> Disk:
    """Read the size of the disk: bytes, or a text such as `10G`; rounded up to whole MiB."""
    if value is None:
        return Disk()
    fields = value.fields(spellings(Disk))
    layout = optional(fields, "layout", rules.LAYOUT)
    if layout and layout not in LAYOUTS:
        fields["layout"].problem(
            "not-supported-yet", f"the disk layout {shown(layout)} is not supported yet", "leave `layout` out"
        )
    if "size_bytes" not in fields:
        return Disk(layout=layout)
    size = fields["size_bytes"]
    wanted = (
        size.node.scalar
        if size.kind == "integer"
        else parse_size(str(size.node.scalar))
        if size.kind == "string"
        else None
    )
    if size.kind not in ("integer", "string"):
        size.problem("wrong-type", "expected a size", "such as `10G`")
    elif not isinstance(wanted, int):
        size.problem("bad-value", f"{shown(str(size.node.scalar))} is not a size", "such as `10G`")
    elif wanted != 0 and not MIN_DISK_BYTES <= wanted <= MAX_DISK_BYTES:
        size.problem("bad-value", f"a disk of {wanted} bytes", "from 1 GiB to 16 TiB")
    else:
        return Disk(whole_mib(wanted), layout)
    return Disk()
