"""Reading and changing the metadata of LVM on a disk image, without the kernel (Python 3.6).

A volume group can be renamed although the host has one of the same name. The layout is that of LVM's
lib/format_text/layout.h: a label in one of the first four sectors, behind it the physical volume's header with lists of
data and metadata areas, and in each metadata area a header that says where the text is.
"""

import binascii
import collections
import json
import os
import re
import struct

SECTOR_BYTES = 512
LABEL_SECTORS = 4
LABEL = struct.Struct("<8sQLL8s")  # id, sector, crc, offset of the physical volume's header, type
VOLUME = struct.Struct("<32sQ")  # identifier, size in bytes
AREA = struct.Struct("<QQ")  # offset, size
HEADER = struct.Struct("<L16sLQQ")  # crc, magic, version, start, size
TEXT = struct.Struct("<QQLL")  # offset in the area, size, crc, flags
HEADER_BYTES = 512
FIRST_CRC = 0xF597A6CF
TOKEN = re.compile(r'\s+|\#[^\n]*|"((?:[^"\\]|\\.)*)"|([{}\[\]=,])|([^\s{}\[\]=,"#]+)')


def checksum(data):
    """Return LVM's checksum."""
    return binascii.crc32(data, FIRST_CRC ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


class Metadata:
    """The text of a volume group as dictionaries: everything in it is under the group's name, but for its history."""

    def __init__(self, vg_name, data):
        self.data = data
        self._vg_name = vg_name

    @property
    def vg_name(self):
        """The name of the volume group."""
        return self._vg_name

    @vg_name.setter
    def vg_name(self, vg_name):
        self.rename_vg(vg_name)

    def rename_vg(self, new_name):
        """Rename the volume group; it stays the first entry."""
        self.data[new_name] = self.data.pop(self._vg_name)
        self.data.move_to_end(new_name, last=False)
        self._vg_name = new_name

    @classmethod
    def decode(cls, data):
        """Read the text. Raises ValueError."""
        words = _words(data.decode("utf-8").rstrip("\0\n"))
        entries = _section(words, None)
        if not entries:
            raise ValueError("the metadata is empty")
        return cls(next(iter(entries)), entries)

    def encode(self):
        """Return the text."""
        return (_write(self.data) + "\0").encode("utf-8")

    def __str__(self):
        return json.dumps(self.data, indent=2)


def _words(text):
    found, at = collections.deque(), 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise ValueError("the metadata cannot be read at byte %d" % at)
        at = match.end()
        quoted, sign, plain = match.groups()
        if quoted is not None:
            found.append(("text", re.sub(r"\\(.)", r"\1", quoted)))
        elif sign is not None:
            found.append(("sign", sign))
        elif plain is not None:
            found.append(("plain", plain))
    return found


def _take(words):
    if not words:
        raise ValueError("the metadata ends too early")
    return words.popleft()


def _section(words, end):
    entries = collections.OrderedDict()
    while words and words[0] != ("sign", end):
        name = _take(words)[1]
        entries[name] = _value(words)
    if end is not None:
        _take(words)
    return entries


def _value(words):
    kind, word = _take(words)
    if (kind, word) == ("sign", "="):
        return _value(words)
    if (kind, word) == ("sign", "{"):
        return _section(words, "}")
    if (kind, word) == ("sign", "["):
        values = []
        while words and words[0] != ("sign", "]"):
            if words[0] == ("sign", ","):
                words.popleft()
                continue
            values.append(_value(words))
        _take(words)
        return values
    if kind == "sign":
        raise ValueError("the metadata has %s where a value belongs" % word)
    if kind == "text":
        return word
    return float(word) if "." in word else int(word)


def _write(entries):
    lines = []
    for name, value in entries.items():
        if isinstance(value, dict):
            lines.append("%s {\n%s}\n" % (name, _write(value)))
        else:
            lines.append("%s = %s\n" % (name, _spell(value)))
    return "".join(lines)


def _spell(value):
    if isinstance(value, str):
        return '"%s"' % re.sub(r'(["\\])', r"\\\1", value)
    if isinstance(value, list):
        return "[%s]" % ", ".join(_spell(item) for item in value)
    return str(value)


class _Area:
    """A metadata area: its header, and where its text is."""

    def __init__(self, file, offset, size):
        self.offset = offset
        file.seek(offset)
        data = file.read(HEADER_BYTES)
        _, self.magic, self.version, self.start, self.size = HEADER.unpack_from(data)
        self.texts = []
        at = HEADER.size
        while at + TEXT.size <= HEADER_BYTES and TEXT.unpack_from(data, at)[0] != 0:
            self.texts.append(TEXT.unpack_from(data, at))
            at += TEXT.size
        if not self.texts:
            raise ValueError("a metadata area of %d bytes at %d has no text" % (size, offset))

    def read(self, file):
        offset, size, expected, _ = self.texts[0]
        file.seek(self.offset + offset)
        data = file.read(size)
        if checksum(data) != expected:
            raise ValueError("the metadata at %d is damaged" % (self.offset + offset))
        return Metadata.decode(data)

    def write(self, file, metadata):
        data = metadata.encode()
        offset, _, _, flags = self.texts[0]
        if offset + len(data) > self.size:
            raise ValueError("the metadata is longer than its area")
        file.seek(self.offset + offset)
        file.write(data)
        self.texts[0] = (offset, len(data), checksum(data), flags)
        body = HEADER.pack(0, self.magic, self.version, self.start, self.size)
        body = (body + b"".join(TEXT.pack(*text) for text in self.texts)).ljust(HEADER_BYTES, b"\0")[4:]
        file.seek(self.offset)
        file.write(struct.pack("<L", checksum(body)) + body)


class Disk:
    """An image with a physical volume; a context that closes it."""

    def __init__(self, fp, path):
        self.fp = fp
        self.path = path
        try:
            self._areas = [_Area(fp, offset, size) for offset, size in self._find()]
            if not self._areas:
                raise RuntimeError("%s has no metadata area" % os.fsdecode(path))
            self.metadata = self._areas[0].read(fp)
        except BaseException:
            fp.close()
            raise

    @classmethod
    def open(cls, path, *, read_only=False):
        """Open an image. Raises OSError, RuntimeError without a label, ValueError for damaged metadata."""
        return cls(open(path, "rb" if read_only else "r+b"), path)

    def _find(self):
        for sector in range(LABEL_SECTORS):
            self.fp.seek(sector * SECTOR_BYTES)
            data = self.fp.read(SECTOR_BYTES)
            if data.startswith(b"LABELONE"):
                break
        else:
            raise RuntimeError("%s has no label of LVM" % os.fsdecode(self.path))
        at = LABEL.unpack_from(data)[3] + VOLUME.size
        lists = []
        for _ in ("data areas", "metadata areas"):
            found = []
            while AREA.unpack_from(data, at)[0] != 0:
                found.append(AREA.unpack_from(data, at))
                at += AREA.size
            at += AREA.size
            lists.append(found)
        return lists[1]

    def flush_metadata(self):
        """Write the metadata into all areas."""
        for area in self._areas:
            area.write(self.fp, self.metadata)

    def rename_vg(self, new_name):
        """Rename the volume group."""
        self.metadata.rename_vg(new_name)

    def set_description(self, desc):
        """Say what the metadata was written for."""
        self.metadata.data["description"] = desc

    def set_creation_time(self, t):
        """Say when the metadata was written, in seconds since 1970."""
        self.metadata.data["creation_time"] = t

    def set_creation_host(self, host):
        """Say which host has written the metadata."""
        self.metadata.data["creation_host"] = host

    def dump(self):
        """Print the metadata."""
        print(os.fsdecode(self.path))
        print(self.metadata)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.fp.flush()
        self.fp.close()
