"""Copying files with holes."""

import errno
import os

PIECE_BYTES = 1 << 20


def copy(source, target, offset):
    """Copy the file *source* into the existing file *target* from byte *offset* on, leaving holes out."""
    with open(source, "rb") as reader, open(target, "r+b") as writer:
        for start, end in _pieces(reader):
            reader.seek(start)
            writer.seek(offset + start)
            left = end - start
            while left > 0:
                piece = reader.read(min(PIECE_BYTES, left)) or b"\0" * left  # the file has become shorter
                writer.write(piece)
                left -= len(piece)


def _pieces(reader):
    """Yield (start, end) of each part of a file that is not a hole."""
    end, size = 0, os.fstat(reader.fileno()).st_size
    while end < size:
        try:
            start = os.lseek(reader.fileno(), end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole behind
                return
            raise
        end = os.lseek(reader.fileno(), start, os.SEEK_HOLE)
        yield start, end
