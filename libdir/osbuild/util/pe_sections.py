"""Adding sections to an EFI program (Microsoft PE format), as a unified kernel image needs them."""

import struct

from osbuild.util.pe import align

SECTION_HEADER_BYTES = 40
READABLE_DATA = 0x40000040  # IMAGE_SCN_MEM_READ | IMAGE_SCN_CNT_INITIALIZED_DATA


def with_sections(stub, sections):
    """Return the program *stub* with further sections [(name, content)]. Raises ValueError."""
    (header,) = struct.unpack_from("<I", stub, 0x3C)
    if stub[:2] != b"MZ" or stub[header : header + 4] != b"PE\0\0":
        raise ValueError("this is not an EFI program")
    count, optional_bytes = (
        struct.unpack_from("<H", stub, header + 6)[0],
        struct.unpack_from("<H", stub, header + 20)[0],
    )
    optional = header + 24
    section_alignment, file_alignment = struct.unpack_from("<II", stub, optional + 32)
    (headers_bytes,) = struct.unpack_from("<I", stub, optional + 60)
    table = optional + optional_bytes
    if table + (count + len(sections)) * SECTION_HEADER_BYTES > headers_bytes:
        raise ValueError("the program's headers have no room for %d more sections" % len(sections))
    address = end = 0
    for index in range(count):
        size, start, raw_size, raw_start = struct.unpack_from("<IIII", stub, table + index * SECTION_HEADER_BYTES + 8)
        address, end = max(address, start + size), max(end, raw_start + raw_size)
    head, parts = bytearray(stub[:end]), []
    length = align(end, file_alignment)
    parts.append(bytes(length - end))
    for index, (name, content) in enumerate(sections, count):
        address = align(address, section_alignment)
        raw_size = align(len(content), file_alignment)
        fields = (name.encode("ascii"), len(content), address, raw_size, length, 0, 0, 0, 0, READABLE_DATA)
        struct.pack_into("<8sIIIIIIHHI", head, table + index * SECTION_HEADER_BYTES, *fields)
        parts += [content, bytes(raw_size - len(content))]
        address, length = address + len(content), length + raw_size
    struct.pack_into("<H", head, header + 6, count + len(sections))
    struct.pack_into("<I", head, header + 8, 0)  # the time of linking: no statement about this program
    # The symbols that the linker left stood behind the sections, and are not part of the new program.
    struct.pack_into("<II", head, header + 12, 0, 0)
    struct.pack_into("<I", head, optional + 56, align(address, section_alignment))
    struct.pack_into("<I", head, optional + 64, 0)
    return bytes(head) + b"".join(parts)
