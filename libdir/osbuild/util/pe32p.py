"""The headers of 64-bit programs of UEFI and Windows, PE32+ (Python 3.6)."""

import collections
import enum
import struct

OFFSET_OF_HEADER = 0x3C
MAGIC = 0x20B

CoffFormat = "<4sHHIIIHH"
CoffHeader = collections.namedtuple(
    "CoffHeader",
    "Signature Machine NumberOfSections TimeDateStamp PointerToSymbolTable NumberOfSymbols SizeOfOptionalHeader "
    "Characteristics",
)
SectionFormat = "<8sIIIIIIHHI"
SectionHeader = collections.namedtuple(
    "SectionHeader",
    "Name VirtualSize VirtualAddress SizeOfRawData PointerToRawData PointerToRelocations PointerToLinenumbers "
    "NumberOfRelocations NumberOfLinenumbers Characteristics",
)
OptionalFormat = "<HBBIIIIIQIIHHHHHHIIIIHHQQQQII"
OptionalHeader = collections.namedtuple(
    "OptionalHeader",
    "Magic MajorLinkerVersion MinorLinkerVersion SizeOfCode SizeOfInitializedData SizeOfUninitializedData "
    "AddressOfEntryPoint BaseOfCode ImageBase SectionAlignment FileAlignment MajorOperatingSystemVersion "
    "MinorOperatingSystemVersion MajorImageVersion MinorImageVersion MajorSubsystemVersion MinorSubsystemVersion "
    "Reserved1 SizeOfImage SizeOfHeaders CheckSum Subsystem DllCharacteristics SizeOfStackReserve SizeOfStackCommit "
    "SizeOfHeapReserve SizeOfHeapCommit LoaderFlags NumberOfRvaAndSizes",
)


class SectionFlags(enum.Flag):
    """How a section is to be aligned."""

    ALIGN_1BYTES = 0x00100000
    ALIGN_2BYTES = 0x00200000
    ALIGN_4BYTES = 0x00300000
    ALIGN_8BYTES = 0x00400000
    ALIGN_16BYTES = 0x00500000
    ALIGN_32BYTES = 0x00600000
    ALIGN_64BYTES = 0x00700000
    ALIGN_128BYTES = 0x00800000
    ALIGN_256BYTES = 0x00900000
    ALIGN_512BYTES = 0x00A00000
    ALIGN_1024BYTES = 0x00B00000
    ALIGN_2048BYTES = 0x00C00000
    ALIGN_4096BYTES = 0x00D00000
    ALIGN_8192BYTES = 0x00E00000
    ALIGN_MASK = 0x00F00000
    ALIGN_DEFAULT = ALIGN_16BYTES


def _read(file, kind, layout):
    data = file.read(struct.calcsize(layout))
    if len(data) < struct.calcsize(layout):
        raise ValueError("the file ends within the %s" % kind.__name__)
    return kind(*struct.unpack(layout, data))


def read_coff_header(f):
    """Return the first header of an open file. Raises ValueError where it is no such program."""
    f.seek(OFFSET_OF_HEADER)
    place = f.read(4)
    if len(place) < 4:
        raise ValueError("the file is too short for a program")
    f.seek(struct.unpack("<I", place)[0])
    header = _read(f, CoffHeader, CoffFormat)
    if header.Signature != b"PE\0\0":
        raise ValueError("the file has no PE header")
    return header


def read_optional_header(f, coff=None):
    """Return the second header; with *coff*, the file must stand behind the first one. Raises ValueError."""
    coff = read_coff_header(f) if coff is None else coff
    begin = f.tell()
    header = _read(f, OptionalHeader, OptionalFormat)
    if header.Magic != MAGIC:
        raise ValueError("not a 64-bit program: %#x" % header.Magic)
    f.seek(begin + coff.SizeOfOptionalHeader)
    return header


def iter_sections(f, coff=None):
    """Yield the headers of sections; with *coff*, the file must stand behind the second header. Raises ValueError."""
    if coff is None:
        coff = read_coff_header(f)
        f.seek(coff.SizeOfOptionalHeader, 1)
    for _ in range(coff.NumberOfSections):
        yield _read(f, SectionHeader, SectionFormat)


def read_sections(f, coff=None):
    """Return the headers of sections as a list."""
    return list(iter_sections(f, coff))
