"""Reading a binary package, deb(5): an ar(5) archive with debian-binary, control.tar and data.tar."""

import contextlib
import gzip
import io
import lzma
import os
import subprocess
import tarfile

AR_MAGIC = b"!<arch>\n"
AR_HEADER_BYTES = 60


class DebError(Exception):
    """The file is not a package that can be read."""


class Package:
    """One .deb file: its control stanza, its maintainer scripts, and where its files are."""

    def __init__(self, path):
        self.path = path
        self.members = dict(_members(path))
        with self._tar("control.tar") as archive:
            self.control_files = {
                os.path.normpath(member.name): (archive.extractfile(member).read(), member.mode)
                for member in archive
                if member.isreg()
            }
        if "control" not in self.control_files:
            raise DebError("%s: no control file" % path)
        self.stanza = parse_stanza(self.control_files["control"][0].decode("utf-8"))
        for field in ("Package", "Version", "Architecture"):
            if field not in self.stanza:
                raise DebError("%s: the control file has no field %s" % (path, field))

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
        text = self.control_files.get("conffiles", (b"", 0))[0].decode("utf-8")
        return [line.strip() for line in text.splitlines() if line.strip().startswith("/")]

    @property
    def data_bytes(self):
        """Compressed size of the files, by which work is shared out."""
        return next(size for name, (_, size) in self.members.items() if name.startswith("data.tar"))

    def data(self):
        """Open data.tar for reading as a stream (a context manager)."""
        return self._tar("data.tar")

    @contextlib.contextmanager
    def _tar(self, prefix):
        found = [name for name in self.members if name.startswith(prefix)]
        if len(found) != 1:
            raise DebError("%s: %s members named %s" % (self.path, len(found) or "no", prefix))
        offset, size = self.members[found[0]]
        with open(self.path, "rb") as file, _decompress(_Window(file, offset, size), found[0], self.path) as stream:
            try:
                with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 20) as archive:
                    yield archive
            except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
                raise DebError("%s: %s: %s" % (self.path, found[0], error)) from error


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
        if file.read(len(AR_MAGIC)) != AR_MAGIC:
            raise DebError("%s: not a Debian package" % path)
        while True:
            header = file.read(AR_HEADER_BYTES)
            if not header:
                return
            if len(header) != AR_HEADER_BYTES or header[58:60] != b"`\n":
                raise DebError("%s: damaged archive header" % path)
            name, size = header[:16].decode("ascii", "replace").rstrip().rstrip("/"), int(header[48:58])
            yield name, (file.tell(), size)
            file.seek(size + size % 2, os.SEEK_CUR)


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
            for _ in iter(lambda: process.stdout.read(1 << 20), b""):
                pass
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
