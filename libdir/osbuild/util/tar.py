"""Arguments of GNU tar for archives that depend on the packed tree alone."""

import os
import subprocess
import sys

from osbuild.util import programs
from osbuild.util.arguments import epoch

KINDS = ("acls", "selinux", "xattrs")
COMPRESSORS = {
    "gzip": ["gzip", "--no-name"],
    # One thread and several give different bytes, whereas two and more give the same.
    "xz": ["xz", "--threads=%d" % max(2, len(os.sched_getaffinity(0)))],
    "zstd": ["zstd", "--quiet", "--threads=0"],
    "bzip2": ["bzip2"],
    "lzip": ["lzip"],
    "lzma": ["xz", "--format=lzma"],
    "lzop": ["lzop"],
}
ENDINGS = {
    ".gz": "gzip",
    ".tgz": "gzip",
    ".taz": "gzip",
    ".xz": "xz",
    ".txz": "xz",
    ".zst": "zstd",
    ".tzst": "zstd",
    ".bz2": "bzip2",
    ".tbz2": "bzip2",
    ".tbz": "bzip2",
    ".lz": "lzip",
    ".lzma": "lzma",
    ".tlz": "lzma",
    ".lzo": "lzop",
}


def create(archive_format="gnu", keep=KINDS):
    """Return the arguments of tar that make an archive: sorted, with numbers for owners, and without times of now."""
    argv = ["--sort=name", "--numeric-owner"]
    argv += ["--%s" % kind if kind in keep else "--no-%s" % kind for kind in KINDS]
    if keep:
        # Only this format holds them. Left alone, it also holds access and change times and the number of the process.
        names = "exthdr.name=%d/PaxHeaders/%f"
        argv += ["--format=posix", "--pax-option=%s,delete=atime,delete=ctime" % names]
    else:
        argv.append("--format=" + archive_format)
    if "xattrs" in keep:
        argv.append("--xattrs-include=*")
    if epoch() is not None:
        argv += ["--mtime=@%d" % epoch(), "--clamp-mtime"]
    return argv


def compressor(filename, method="auto"):
    """Return argv of the program that compresses *filename*, empty for none. Ends the stage if it is missing."""
    if method == "auto":
        method = ENDINGS.get(os.path.splitext(filename)[1].lower(), "none")
    if method == "none":
        return []
    programs.need(COMPRESSORS[method][0])
    return COMPRESSORS[method]


def pipe(argv, filter_argv, sink):
    """Run tar, and a compressor behind it unless *filter_argv* is empty, into the open file *sink*."""
    if not filter_argv:
        programs.run(argv, stdout=sink)
        return
    with subprocess.Popen(filter_argv, stdin=subprocess.PIPE, stdout=sink) as process:
        programs.run(argv, stdout=process.stdin)
        process.stdin.close()
    if process.returncode != 0:
        sys.exit("%s ended with status %d" % (filter_argv[0], process.returncode))
