"""Where a section may be added to an EFI program (Microsoft PE format, "PE Header")."""

import struct


def room(path):
    """Return (address behind the last section, alignment of sections) of a PE32+ file, the address with its base."""
    with open(path, "rb") as file:
        data = file.read(4096)
    (header,) = struct.unpack_from("<I", data, 0x3C)
    if data[:2] != b"MZ" or data[header : header + 4] != b"PE\0\0":
        raise ValueError("%s is not an EFI program" % path)
    sections, optional_bytes = (
        struct.unpack_from("<H", data, header + 6)[0],
        struct.unpack_from("<H", data, header + 20)[0],
    )
    optional = header + 24
    (base,) = struct.unpack_from("<Q", data, optional + 24)
    alignment = max(struct.unpack_from("<II", data, optional + 32))
    end = 0
    for index in range(sections):
        size, address = struct.unpack_from("<II", data, optional + optional_bytes + index * 40 + 8)
        end = max(end, address + size)
    return base + align(end, alignment), alignment


def align(address, alignment):
    """Return the first multiple of *alignment* that is not below *address*."""
    return -(-address // alignment) * alignment
