"""Digests of files (Python 3.6)."""

import hashlib

ALGORITHMS = ("md5", "sha1", "sha256", "sha384", "sha512")
CHUNK = 1024 * 1024


def verify_file(filename, checksum):
    """Whether the file has the digest *checksum* (`algorithm:hex`). Raises RuntimeError for another algorithm."""
    algorithm, _, expected = checksum.partition(":")
    if algorithm not in ALGORITHMS:
        raise RuntimeError("unsupported checksum algorithm: %s" % algorithm)
    state = hashlib.new(algorithm)
    with open(filename, "rb") as file:
        for piece in iter(lambda: file.read(CHUNK), b""):
            state.update(piece)
    return state.hexdigest() == expected


verify_checksum = verify_file  # an older name
