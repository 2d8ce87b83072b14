"""Container images as inputs of a stage (Python 3.6)."""

import contextlib
import json
import os
import subprocess
import tempfile

from osbuild.util.mnt import MountGuard, MountPermissions

LISTS = ("application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.oci.image.index.v1+json")
STORAGE = "/run/osbuild/containers/storage"


def is_manifest_list(data):
    """Whether a manifest is a list of manifests for several machines."""
    kind = data.get("mediaType")
    return kind in LISTS or (kind is None and data.get("manifests") is not None)


def parse_manifest_list(manifests):
    """Return the digest of each image's manifest with the file of the list that names it."""
    result = {}
    for name in manifests["data"]["files"]:
        with open(os.path.join(manifests["path"], name), encoding="utf-8") as file:
            result.update((entry["digest"], name) for entry in json.load(file)["manifests"])
    return result


def manifest_digest(path):
    """Return the digest of the manifest of an image in skopeo's `dir:` form."""
    done = subprocess.check_output(["skopeo", "manifest-digest", os.path.join(path, "manifest.json")])
    return done.decode().strip()


def parse_containers_input(inputs):
    """Return checksum -> filepath, manifest-list, data and checksum of the images of an input."""
    lists = inputs.get("manifest-lists")
    by_digest = parse_manifest_list(lists) if lists else {}
    unused = dict(lists["data"]["files"]) if lists else {}
    images = inputs["images"]
    result = {}
    for checksum, data in images["data"]["archives"].items():
        path, list_path = os.path.join(images["path"], checksum), None
        if data["format"] == "dir" and lists:
            name = by_digest.get(manifest_digest(path))
            if name:
                unused.pop(name, None)
                list_path = os.path.join(lists["path"], name)
        if data["format"] == "containers-storage":
            path = os.path.join(images["path"], "storage")
        result[checksum] = {"filepath": path, "manifest-list": list_path, "data": data, "checksum": checksum}
    if unused:
        raise RuntimeError("these manifest lists fit no image of the input: %s" % ", ".join(sorted(unused)))
    return result


def merge_manifest(list_manifest, destination):
    """Put a manifest list into an image's directory, so that the image keeps the digest of the list."""
    own = os.path.join(destination, "manifest.json")
    digest = manifest_digest(destination).split(":")[1]
    os.rename(own, os.path.join(destination, digest + ".manifest.json"))
    subprocess.run(["cp", "--reflink=auto", "-a", list_manifest, own], check=True)


@contextlib.contextmanager
def container_source(image):
    """Yield the name of an image and the words by which skopeo and podman find it."""
    kind, path = image["data"]["format"], image["filepath"]
    if kind == "containers-storage":
        driver = image["data"]["storage"].get("driver", "overlay")
        os.makedirs(STORAGE, exist_ok=True)
        with MountGuard() as guard:
            guard.mount(path, STORAGE, permissions=MountPermissions.READ_WRITE)
            id_ = image["checksum"].split(":")[1]
            yield image["data"]["name"], "%s:[%s@%s+/run/containers/storage]%s" % (kind, driver, STORAGE, id_)
            if driver == "overlay":
                # The driver mounts its own directory there and does not always take it away.
                subprocess.run(["umount", "-f", "--lazy", os.path.join(STORAGE, "overlay")], check=False)
        return
    if kind not in ("dir", "oci-archive"):
        raise RuntimeError("unknown format of containers: %s" % kind)
    with tempfile.TemporaryDirectory() as directory:
        # Paths with colons mean something else to skopeo.
        source = os.path.join(directory, "image")
        if kind == "dir" and image["manifest-list"]:
            subprocess.run(["cp", "-a", "--reflink=auto", path, source], check=True)
            merge_manifest(image["manifest-list"], source)
        else:
            os.symlink(path, source)
        yield image["data"]["name"], "%s:%s" % (kind, source)
