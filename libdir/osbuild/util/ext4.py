"""Reading enough of an ext4 file system to say what debugfs shall change.

Layout: kernel documentation, "ext4 Data Structures and Algorithms": super block, group descriptors, inode table.
"""

import struct

SUPER_BLOCK_OFFSET = 1024
ROOT_INODE, FIRST_FREE_INODE = 2, 11
INODE_UNINIT = 0x1  # flag of a group whose inode table and bitmap were never written


def time_commands(image, offset):
    """Yield debugfs commands that set each used inode's access, change and creation time to its modification time."""
    with open(image, "rb") as file:
        for number, mtime in _inodes(file, offset):
            for field in ("atime", "ctime", "crtime"):
                yield "sif <%d> %s @%d\n" % (number, field, mtime)
            for field in ("atime_extra", "ctime_extra", "mtime_extra", "crtime_extra"):
                yield "sif <%d> %s 0\n" % (number, field)


def _inodes(file, offset):
    """Yield (number, modification time in seconds) of every inode in use."""
    file.seek(offset + SUPER_BLOCK_OFFSET)
    block = file.read(1024)
    inodes_count, inodes_per_group = struct.unpack_from("<I", block, 0)[0], struct.unpack_from("<I", block, 40)[0]
    block_bytes = 1024 << struct.unpack_from("<I", block, 24)[0]
    inode_bytes, descriptor_bytes = (
        struct.unpack_from("<H", block, 88)[0],
        struct.unpack_from("<H", block, 254)[0] or 32,
    )
    first_block = struct.unpack_from("<I", block, 20)[0]
    for group in range(inodes_count // inodes_per_group):
        file.seek(offset + (first_block + 1) * block_bytes + group * descriptor_bytes)
        descriptor = file.read(descriptor_bytes)
        (flags,) = struct.unpack_from("<H", descriptor, 18)
        if flags & INODE_UNINIT:
            continue
        bitmap_block, table_block = _block(descriptor, 4), _block(descriptor, 8)
        used = inodes_per_group - struct.unpack_from("<H", descriptor, 28)[0]
        file.seek(offset + bitmap_block * block_bytes)
        bitmap = file.read(inodes_per_group // 8)
        file.seek(offset + table_block * block_bytes)
        table = file.read(used * inode_bytes)
        for index in range(used):
            number = group * inodes_per_group + index + 1
            in_use = bitmap[index >> 3] >> (index & 7) & 1
            if not in_use or (number < FIRST_FREE_INODE and number != ROOT_INODE):
                continue
            yield number, struct.unpack_from("<I", table, index * inode_bytes + 16)[0]


def _block(descriptor, low):
    number = struct.unpack_from("<I", descriptor, low)[0]
    if len(descriptor) >= 64:
        number |= struct.unpack_from("<I", descriptor, low + 32)[0] << 32
    return number
