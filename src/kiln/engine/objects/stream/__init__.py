"""A layer as a stream of bytes with one digest: for another host's store, or for a file.

The stream is the same for the same layer, whenever it is written. It keeps what a layer needs to mean the same in
another store: names of any bytes, owners, modes, times in nanoseconds, extended attributes (capabilities and access
lists among them), hard links, holes, device nodes, and what an overlay hides (whiteouts, opaque and renamed
directories).

    stream  = "kiln-layer/1\\n" entry* end
    entry   = length of the header (4 bytes, big-endian, never 0), header, and for a regular file segment* last
    segment = offset (8 bytes), length (4 bytes, never 0), data: a piece of the file, at multiples of 4096 bytes
    last    = the file's size (8 bytes), 0 (4 bytes)
    end     = 0 (4 bytes), the layer's digest (32 bytes)

A header is a JSON array, of a file's second name `[path, "name", first path]`, else `[path, kind, mode, uid, gid,
mtime in nanoseconds, [[attribute, hexadecimal value], ...], more]`. *more* is a file's size, a link's text, a
device's `[major, minor]`, else null. Entries stand as in the listing of `content`: a directory before what is in it,
names sorted by their bytes. What lies between the segments is holes.

The digest is SHA-256 over the headers, one a line. A regular file's line ends with two more values: the SHA-256 of all
its blocks of 4096 bytes that are not only zeros, and the SHA-256 of where these blocks are (offset and length of each
run of them, 8 bytes each). So it depends on every byte, but not on how a disk keeps zeros.
"""
