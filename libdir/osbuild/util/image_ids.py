"""Identifiers that qemu-img draws by lot when it writes a disk image; here they are set, so that bytes can be compared.

Fields: VMware "Virtual Disk Format 5.0", VirtualBox VDICore.h, Microsoft "Virtual Hard Disk Image Format
Specification" and [MS-VHDX].
"""

import re
import struct
import uuid

SECTOR_BYTES = 512
VMDK_DESCRIPTOR_OFFSET = SECTOR_BYTES
VMDK_DESCRIPTOR_SIZE = 36  # where the header says how many sectors it has
VDI_UUIDS = 0x188  # creation, last change; the two behind them belong to other images
VHD_EPOCH = 946684800  # seconds are counted from 2000-01-01
VHD_FOOTER_BYTES = 512
VHDX_HEADERS = (64 * 1024, 128 * 1024)
VHDX_HEADER_BYTES = 4096
VHDX_REGIONS = (192 * 1024, 256 * 1024)
VHDX_METADATA = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
VHDX_DISK_ID = uuid.UUID("beca12ab-b2e6-4523-93ef-c309e000c746")


def fix(path, kind, identifier, epoch):
    """Set the identifiers of the image *path* of a kind: vmdk, vdi, vpc or vhdx."""
    with open(path, "r+b") as file:
        {"vmdk": _vmdk, "vdi": _vdi, "vpc": _vhd, "vhdx": _vhdx}[kind](file, identifier, epoch)


def crc32c(data):
    """Return the checksum of Castagnoli (RFC 3720, appendix B.4)."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def _vmdk(file, identifier, epoch):
    file.seek(VMDK_DESCRIPTOR_SIZE)
    (size,) = struct.unpack("<Q", file.read(8))
    file.seek(VMDK_DESCRIPTOR_OFFSET)
    text = file.read(size * SECTOR_BYTES).rstrip(b"\0")
    # qemu-img writes as many digits as the number has; 0xffffffff and 0xfffffffe have meanings of their own.
    text, count = re.subn(rb"\nCID=[0-9a-f]+\n", b"\nCID=%08x\n" % (identifier.int & 0x7FFFFFFF), text, count=1)
    if not count:
        raise ValueError("the image has no descriptor in its second sector")
    file.seek(VMDK_DESCRIPTOR_OFFSET)
    file.write(text.ljust(size * SECTOR_BYTES, b"\0"))


def _vdi(file, identifier, epoch):
    file.seek(VDI_UUIDS)
    file.write(identifier.bytes_le + identifier.bytes_le)


def _vhd(file, identifier, epoch):
    file.seek(-VHD_FOOTER_BYTES, 2)
    end = file.tell()
    footer = bytearray(file.read(VHD_FOOTER_BYTES))
    struct.pack_into(">I", footer, 24, max(0, epoch - VHD_EPOCH))
    footer[68:84] = identifier.bytes
    footer[64:68] = bytes(4)
    struct.pack_into(">I", footer, 64, ~sum(footer) & 0xFFFFFFFF)
    file.seek(0)
    places = [end, 0] if file.read(8) == b"conectix" else [end]
    for place in places:
        file.seek(place)
        file.write(footer)


def _vhdx(file, identifier, epoch):
    headers = []
    for place in VHDX_HEADERS:
        file.seek(place)
        headers.append(bytearray(file.read(VHDX_HEADER_BYTES)))
    # Of the two headers the one with the higher number holds; qemu-img begins to count somewhere.
    numbers = [struct.unpack_from("<Q", header, 8)[0] for header in headers]
    for index, header in enumerate(headers):
        struct.pack_into("<Q", header, 8, 1 + (numbers[index] > numbers[1 - index]))
        header[16:32] = uuid.uuid5(identifier, "file-write-%d" % index).bytes_le
        header[32:48] = uuid.uuid5(identifier, "data-write-%d" % index).bytes_le
        header[4:8] = bytes(4)
        struct.pack_into("<I", header, 4, crc32c(header))
        file.seek(VHDX_HEADERS[index])
        file.write(header)
    log_bytes, log_start = struct.unpack_from("<IQ", headers[0], 68)
    if any(headers[0][48:64]) or any(headers[1][48:64]):
        raise ValueError("the image's log is not empty")
    file.seek(log_start)
    file.write(bytes(log_bytes))
    file.seek(_vhdx_disk_id(file))
    file.write(identifier.bytes_le)


def _vhdx_disk_id(file):
    """Return where the metadata item with the disk's identifier is."""
    file.seek(VHDX_REGIONS[0])
    table = file.read(64 * 1024)
    (count,) = struct.unpack_from("<I", table, 8)
    for index in range(count):
        entry = table[16 + 32 * index : 48 + 32 * index]
        if entry[:16] == VHDX_METADATA.bytes_le:
            (region,) = struct.unpack_from("<Q", entry, 16)
            file.seek(region)
            items = file.read(64 * 1024)
            (number,) = struct.unpack_from("<H", items, 10)
            for item in range(number):
                found = items[32 + 32 * item : 64 + 32 * item]
                if found[:16] == VHDX_DISK_ID.bytes_le:
                    return region + struct.unpack_from("<I", found, 16)[0]
    raise ValueError("the image has no identifier of its disk")
