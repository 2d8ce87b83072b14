"""dm-verity's hash tree (kernel documentation, "dm-verity"; cryptsetup's superblock, version 1)."""

import hashlib
import os
import struct

BLOCK_BYTES = 4096
HASHES_IN_BLOCK = BLOCK_BYTES // 32
PIECE_BLOCKS = 1024


def build(data, target, salt, identifier):
    """Write the hash tree of the file *data*, with its superblock, to *target*; return the root hash in hexadecimal.

    The data must be whole blocks of 4 KiB. Raises ValueError.
    """
    size = os.path.getsize(data)
    if size % BLOCK_BYTES or not size:
        raise ValueError("%d bytes are not a whole number of blocks of %d bytes" % (size, BLOCK_BYTES))
    salted = hashlib.sha256(salt)
    levels = [_hashes(data, salted)]
    while len(levels[-1]) > 32:
        blocks = _padded(levels[-1])
        levels.append(
            b"".join(_hash(salted, blocks[at : at + BLOCK_BYTES]) for at in range(0, len(blocks), BLOCK_BYTES))
        )
    with open(target, "wb") as file:
        file.write(_superblock(size // BLOCK_BYTES, salt, identifier).ljust(BLOCK_BYTES, b"\0"))
        # The root's level stands first; the last one is the root hash itself, which no block holds.
        for level in reversed(levels[:-1]):
            file.write(_padded(level))
    return levels[-1].hex()


def _hashes(path, salted):
    digests = []
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(BLOCK_BYTES * PIECE_BLOCKS), b""):
            view = memoryview(piece)
            digests += [_hash(salted, view[at : at + BLOCK_BYTES]) for at in range(0, len(view), BLOCK_BYTES)]
    return b"".join(digests)


def _hash(salted, block):
    state = salted.copy()
    state.update(block)
    return state.digest()


def _padded(data):
    return data + bytes(-len(data) % BLOCK_BYTES)


def _superblock(blocks, salt, identifier):
    head = struct.pack(
        "<8sII16s32sIIQH6s", b"verity\0\0", 1, 1, identifier.bytes, b"sha256", 4096, 4096, blocks, len(salt), b""
    )
    return head + salt.ljust(256, b"\0")
