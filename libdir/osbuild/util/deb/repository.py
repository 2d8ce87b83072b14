"""An archive for apt and debootstrap, made of package files (Debian Repository Format)."""

import hashlib
import os

from osbuild.util.deb.archive import Package, text

DATE = "Thu, 01 Jan 1970 00:00:00 UTC"  # the archive lives as long as the stage, and nobody compares its age


def write(packages, target, suite="kiln", arch=None):
    """Make an archive in the directory *target* of the files of the directory *packages*, which it links to.

    With *arch* it has the layout of a mirror with the component main; without, Packages stands at its top.
    """
    pool = os.path.join(target, "pool")
    os.makedirs(pool)
    stanzas = []
    for name in sorted(os.listdir(packages)):
        path = os.path.join(packages, name)
        package = Package(path)
        # debootstrap and apt look at the ending, which an input that is named by its digest does not have.
        filename = "pool/%s_%s.deb" % (package.name, package.stanza["Architecture"])
        os.symlink(path, os.path.join(target, filename))
        control = text(package.control_files["control"][0]).strip("\n")
        digest = _digest(path)
        stanzas.append(
            "%s\nFilename: %s\nSize: %d\nSHA256: %s\n\n" % (control, filename, os.path.getsize(path), digest)
        )
    index = "Packages" if arch is None else "main/binary-%s/Packages" % arch
    base = target if arch is None else os.path.join(target, "dists", suite)
    os.makedirs(os.path.dirname(os.path.join(base, index)), exist_ok=True)
    with open(os.path.join(base, index), "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write("".join(stanzas))
    size, digest = os.path.getsize(os.path.join(base, index)), _digest(os.path.join(base, index))
    with open(os.path.join(base, "Release"), "w", encoding="utf-8") as file:
        file.write("Suite: %s\nCodename: %s\nDate: %s\n" % (suite, suite, DATE))
        if arch is not None:
            file.write("Architectures: %s\nComponents: main\n" % arch)
        file.write("SHA256:\n %s %d %s\n" % (digest, size, index))


def _digest(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()
