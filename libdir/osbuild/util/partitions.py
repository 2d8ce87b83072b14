"""Scripts for sfdisk(8)."""

from osbuild.util import programs

ATTRIBUTES = {0: "RequiredPartition", 1: "NoBlockIOProtocol", 2: "LegacyBIOSBootable"}


def script(label, uuid, entries):
    """Return a script. An entry has any of partnum, start and size in sectors, type, uuid, name, bootable, attrs."""
    lines = ["label: " + label, "label-id: " + uuid]
    for index, entry in enumerate(entries, 1):
        fields = ["%s=%s" % (key, entry[key]) for key in ("start", "size", "type", "uuid") if key in entry]
        if "name" in entry:
            fields.append('name="%s"' % entry["name"])
        if entry.get("attrs"):
            fields.append('attrs="%s"' % ",".join(_attribute(bit) for bit in sorted(entry["attrs"])))
        if entry.get("bootable"):
            fields.append("bootable")
        lines.append("disk%d : %s" % (entry.get("partnum", index), ", ".join(fields)))
    return "\n".join(lines) + "\n"


def write(device, text):
    """Run a script on a device or a file."""
    programs.run(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", device], input=text, universal_newlines=True)


def _attribute(bit):
    if 2 < bit < 48:  # UEFI specification, table "Defined GPT Partition Entry - Attributes": reserved
        raise ValueError("attribute bit %d cannot be set" % bit)
    return ATTRIBUTES.get(bit, "GUID:%d" % bit)
