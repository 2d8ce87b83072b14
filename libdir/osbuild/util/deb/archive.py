"""Reading a binary package, deb(5): an ar(5) archive with debian-binary, control.tar and data.tar."""

import contextlib
import gzip
import io
import lzma
import os
import re
import subprocess
import tarfile
import zlib

AR_MAGIC = b"!<arch>\n"
AR_HEADER_BYTES = 60
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")


class DebError(Exception):
    """The file is not a package that can be read."""


class Package:
    """One .deb file: its control stanza, its maintainer scripts, and where its files are."""

    def __init__(self, path):
        self.path = path
        self.members = dict(_members(path))
        self._member("data.tar")
        with self._tar("control.tar") as archive:
            self.control_files = {
                os.path.normpath(member.name): (archive.extractfile(member).read(), member.mode)
                for member in archive
                if member.isreg()
            }
        if "control" not in self.control_files:
            raise DebError("%s: no control file" % path)
        self.stanza = parse_stanza(text(self.control_files["control"][0]))
        for field in ("Package", "Version", "Architecture"):
            if field not in self.stanza:
                raise DebError("%s: the control file has no field %s" % (path, field))
        for field in ("Package", "Architecture"):
            if not NAME.fullmatch(self.stanza[field]):
                raise DebError("%s: %r cannot be a name in the field %s" % (path, self.stanza[field], field))

    @property
    def name(self):
        return self.stanza["Package"]

    @property
    def info_name(self):
        """The name that dpkg gives to this package's files in its database."""
        if self.stanza.get("Multi-Arch") == "same":
            return "%s:%s" % (self.name, self.stanza["Architecture"])
        return self.name

    @property
    def conffiles(self):
        """Paths of configuration files, without those that the package asks to have removed."""
        lines = text(self.control_files.get("conffiles", (b"", 0))[0]).splitlines()
        return [line.strip() for line in lines if line.strip().startswith("/")]

    @property
    def data_bytes(self):
        """Compressed size of the files, by which work is shared out."""
        return self.members[self._member("data.tar")][1]

    def data(self):
        """Open data.tar for reading as a stream (a context manager)."""
        return self._tar("data.tar")

    def _member(self, prefix):
        found = [name for name in self.members if name.startswith(prefix)]
        if len(found) != 1:
            raise DebError("%s: %s members named %s" % (self.path, len(found) or "no", prefix))
        return found[0]

    @contextlib.contextmanager
    def _tar(self, prefix):
        name = self._member(prefix)
        offset, size = self.members[name]
        with open(self.path, "rb") as file, _decompress(_Window(file, offset, size), name, self.path) as stream:
            try:
                with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 20) as archive:
                    yield archive
                # To the end, where the checksums of the compression are.
                for _ in iter(lambda: stream.read(1 << 20), b""):
                    pass
            except (tarfile.TarError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, EOFError) as error:
                raise DebError("%s: %s: %s" % (self.path, name, error)) from error


def text(data):
    """Decode what a package says; bytes that are not UTF-8 come out again as they were."""
    return data.decode("utf-8", "surrogateescape")


def parse_stanza(text):
    """Read the fields of one control stanza; a continued field keeps its line breaks, as dpkg writes it."""
    fields, name = {}, None
    for line in text.splitlines():
        if line[:1] in (" ", "\t") and name is not None:
            fields[name] += "\n" + line
        elif ":" in line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields


def _members(path):
    with open(path, "rb") as file:
        end = os.fstat(file.fileno()).st_size
        if file.read(len(AR_MAGIC)) != AR_MAGIC:
            raise DebError("%s: not a Debian package" % path)
        while True:
            header = file.read(AR_HEADER_BYTES)
            if not header:
                return
            if len(header) != AR_HEADER_BYTES or header[58:60] != b"`\n":
                raise DebError("%s: damaged archive header" % path)
            name, size = header[:16].decode("ascii", "replace").rstrip().rstrip("/"), header[48:58].strip()
            if not size.isdigit() or file.tell() + int(size) > end:
                raise DebError("%s: cut off or damaged at the member %s" % (path, name))
            yield name, (file.tell(), int(size))
            file.seek(int(size) + int(size) % 2, os.SEEK_CUR)


@contextlib.contextmanager
def _decompress(window, name, path):
    if name.endswith(".tar"):
        yield window
    elif name.endswith(".gz"):
        yield gzip.GzipFile(fileobj=window)
    elif name.endswith(".xz"):
        yield lzma.LZMAFile(window)
    elif name.endswith(".zst"):
        # Python has no zstd before 3.14; the tool reads exactly the member's bytes from a pipe.
        with subprocess.Popen(["zstd", "-dcq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    process.stdout.close()
                    for piece in iter(lambda: window.read(1 << 20), b""):
                        process.stdin.write(piece)
                    process.stdin.close()
                    status = 0
                finally:
                    os._exit(status)
            process.stdin.close()
            yield process.stdout
            os.waitpid(child, 0)
        if process.returncode != 0:
            raise DebError("%s: zstd failed on %s" % (path, name))
    else:
        raise DebError("%s: unknown compression of %s" % (path, name))


class _Window(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file, offset, size):
        super().__init__()
        self._file, self._left = file, size
        file.seek(offset)

    def readable(self):
        return True

    def read(self, size=-1):
        count = self._left if size is None or size < 0 else min(size, self._left)
        data = self._file.read(count)
        self._left -= len(data)
        return data

    def readinto(self, buffer):
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
