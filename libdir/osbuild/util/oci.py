"""Blobs of an OCI image layout (image-spec, "OCI Image Layout Specification")."""

import hashlib
import json
import os
import subprocess
import sys

from osbuild.util import programs, tar

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
PIECE_BYTES = 1 << 20


def document(root, value, media_type):
    """Store a JSON document in the layout *root* and return its descriptor."""
    path = os.path.join(_blobs(root), "new")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, sort_keys=True, separators=(",", ":"))
    return _keep(root, path, media_type)


def layer(root, tree):
    """Pack *tree* as a layer into the layout *root* and return (digest of the tar archive, descriptor)."""
    programs.need("tar", "gzip")
    path = os.path.join(_blobs(root), "new")
    # Labels belong to the machine that a container runs on, and access lists to no container that is known.
    argv = ["tar", "--create", *tar.create(keep=("xattrs",)), "--xattrs-exclude=security.selinux"]
    digest = hashlib.sha256()
    with open(path, "wb") as sink:
        packer = subprocess.Popen([*argv, "--directory", tree, "."], stdout=subprocess.PIPE)
        squeezer = subprocess.Popen(["gzip", "--no-name", "--stdout"], stdin=subprocess.PIPE, stdout=sink)
        for piece in iter(lambda: packer.stdout.read(PIECE_BYTES), b""):
            digest.update(piece)
            squeezer.stdin.write(piece)
        packer.stdout.close()
        squeezer.stdin.close()
    for name, process in (("tar", packer), ("gzip", squeezer)):
        if process.wait() != 0:
            sys.exit("%s ended with status %d" % (name, process.returncode))
    return "sha256:" + digest.hexdigest(), _keep(root, path, LAYER)


def _blobs(root):
    path = os.path.join(root, "blobs/sha256")
    os.makedirs(path, exist_ok=True)
    return path


def _keep(root, path, media_type):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(PIECE_BYTES), b""):
            digest.update(piece)
    os.rename(path, os.path.join(_blobs(root), digest.hexdigest()))
    size = os.path.getsize(os.path.join(_blobs(root), digest.hexdigest()))
    return {"mediaType": media_type, "digest": "sha256:" + digest.hexdigest(), "size": size}
