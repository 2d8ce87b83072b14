"""Further outputs of an image, each a pipeline over the same tree or the same disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kiln.authoring.catalog.model import Resolution
from kiln.authoring.compose.boot import CONSOLES
from kiln.authoring.compose.disk import DISK_FILE, DISK_PIPELINE, file_input, tree_input
from kiln.authoring.compose.layout import identifier
from kiln.authoring.compose.live import live_cmdline
from kiln.authoring.lock.model import Lock
from kiln_wire.digest import Digest

Json = dict[str, Any]
Stages = list[Json]

OCI_ARCHITECTURES: Final = {"amd64": "amd64", "arm64": "arm64"}
MAX_VOLUME_NAME: Final = 32
"""ISO 9660, section 8.4.8."""


@dataclass(frozen=True, slots=True)
class Context:
    """What outputs are made of; *tree* and *squashfs* are pipelines."""

    resolution: Resolution
    lock: Lock
    lock_digest: Digest
    tree: str
    squashfs: str
    squashfs_file: str

    @property
    def name(self) -> str:
        """Name of the image; files begin with it."""
        return self.resolution.name

    def uuid(self, role: str) -> str:
        """Return an identifier that follows from the lock."""
        return identifier(self.lock_digest, role)


@dataclass(frozen=True, slots=True)
class Output:
    """One kind of output: the ending of its file, its media type, the stages that make it."""

    suffix: str
    media_type: str
    stages: Callable[[Context, str], Stages]
    basis: Callable[[Context, str], Stages] | None = None
    """Stages of a pipeline of their own, whose tree the output is made of."""
    live: bool = False
    """Whether the initial RAM disk must be able to run the system from a medium."""


def _tar(context: Context, file: str) -> Stages:
    options = {"filename": file, "root-node": "include"}
    return [{"type": "org.osbuild.tar", "inputs": {"tree": tree_input(context.tree)}, "options": options}]


def _compressed(kind: str) -> Callable[[Context, str], Stages]:
    def stages(_context: Context, file: str) -> Stages:
        return [{"type": kind, "inputs": {"file": _disk()}, "options": {"filename": file}}]

    return stages


def _raw(_context: Context, file: str) -> Stages:
    options = {"filename": file, "format": {"type": "raw"}}
    return [{"type": "org.osbuild.qemu", "inputs": {"image": _disk()}, "options": options}]


def _qcow2_compressed(_context: Context, file: str) -> Stages:
    kind = {"type": "qcow2", "compat": "1.1", "compression": True, "compression-type": "zstd"}
    return [{"type": "org.osbuild.qemu", "inputs": {"image": _disk()}, "options": {"filename": file, "format": kind}}]


def _disk_image(kind: str) -> Callable[[Context, str], Stages]:
    def stages(context: Context, file: str) -> Stages:
        options = {"filename": file, "format": kind, "uuid": context.uuid(kind)}
        return [{"type": "org.kiln.disk-image", "inputs": {"image": _disk()}, "options": options}]

    return stages


def _appliance(kind: str) -> Callable[[Context, str], Stages]:
    def stages(context: Context, file: str) -> Stages:
        options = {"filename": file, "kind": kind, "name": context.name, "uuid": context.uuid(kind)}
        return [{"type": "org.kiln.appliance", "inputs": {"image": _disk()}, "options": options}]

    return stages


def _oci(context: Context, file: str) -> Stages:
    options = {
        "filename": file,
        "name": context.name,
        "architecture": OCI_ARCHITECTURES[context.lock.architecture],
        "annotations": {"org.opencontainers.image.title": context.name},
    }
    return [{"type": "org.kiln.oci", "inputs": {"tree": tree_input(context.tree)}, "options": options}]


def _erofs(context: Context, file: str) -> Stages:
    options = {"filename": file, "compression": {"method": "lz4hc"}}
    return [{"type": "org.osbuild.erofs", "inputs": {"tree": tree_input(context.tree)}, "options": options}]


def _verity(context: Context, file: str) -> Stages:
    data = file_input(context.squashfs, context.squashfs_file)
    options = {"filename": file, "root-hash-file": f"/{context.name}.roothash"}
    return [{"type": "org.kiln.verity", "inputs": {"data": data}, "options": options}]


def _uki(context: Context, file: str) -> Stages:
    words = f"root=UUID={context.uuid('root')} ro {context.resolution.kernel_cmdline}".strip()
    options = {"filename": file, "cmdline": words}
    return [{"type": "org.kiln.uki", "inputs": {"tree": tree_input(context.tree)}, "options": options}]


def _iso(context: Context, file: str) -> Stages:
    label = volume_name(context.name)
    words = context.resolution.kernel_cmdline
    entries = [{"title": f"{context.name} (live)", "cmdline": live_cmdline(label, words or CONSOLES)}]
    options = {
        "filename": file,
        "volid": label,
        "fat-volid": context.uuid("iso")[:8],
        "vendor": context.resolution.base.distribution,
        "entries": entries,
    }
    inputs = {"tree": tree_input(context.tree), "squashfs": file_input(context.squashfs, context.squashfs_file)}
    return [{"type": "org.kiln.iso", "inputs": inputs, "options": options}]


def _pxe_tree(context: Context, _file: str) -> Stages:
    inputs = {"tree": tree_input(context.tree), "squashfs": file_input(context.squashfs, context.squashfs_file)}
    words = live_cmdline("", context.resolution.kernel_cmdline or CONSOLES)
    return [{"type": "org.kiln.pxe", "inputs": inputs, "options": {"cmdline": words}}]


def _pxe(_context: Context, file: str) -> Stages:
    tree = tree_input(f"{pipeline_name('pxe')}-tree")
    return [{"type": "org.osbuild.tar", "inputs": {"tree": tree}, "options": {"filename": file, "root-node": "omit"}}]


def _repository(context: Context, _file: str) -> Stages:
    ref = f"{context.resolution.base.distribution}/{context.resolution.base.codename}/{context.lock.architecture}"
    options = {"ref": f"{ref}/{context.name}"}
    return [
        {"type": "org.osbuild.ostree.init", "options": {"path": "/repo"}},
        {"type": "org.osbuild.ostree.commit", "inputs": {"tree": tree_input(context.tree)}, "options": options},
    ]


def _ostree(_context: Context, file: str) -> Stages:
    tree = tree_input(f"{pipeline_name('ostree')}-tree")
    return [{"type": "org.osbuild.tar", "inputs": {"tree": tree}, "options": {"filename": file, "root-node": "omit"}}]


def _disk() -> Json:
    return file_input(DISK_PIPELINE, DISK_FILE)


_TAR: Final = "application/x-tar"
OUTPUTS: Final[Mapping[str, Output]] = {
    "raw": Output(".raw", "application/vnd.kiln.image.raw", _raw),
    "raw.xz": Output(".raw.xz", "application/x-xz", _compressed("org.osbuild.xz")),
    "raw.gz": Output(".raw.gz", "application/gzip", _compressed("org.osbuild.gzip")),
    "raw.zst": Output(".raw.zst", "application/zstd", _compressed("org.osbuild.zstd")),
    "qcow2.zst": Output(".small.qcow2", "application/vnd.kiln.image.qcow2", _qcow2_compressed),
    "vmdk": Output(".vmdk", "application/x-vmdk", _disk_image("vmdk")),
    "vdi": Output(".vdi", "application/x-virtualbox-vdi", _disk_image("vdi")),
    "vhdx": Output(".vhdx", "application/x-vhdx", _disk_image("vhdx")),
    "vhd": Output(".vhd", "application/x-vhd", _disk_image("vhd")),
    "ova": Output(".ova", "application/ovf", _appliance("ova")),
    "vagrant": Output(".box", "application/vnd.kiln.vagrant.box", _appliance("vagrant")),
    "ec2": Output(".ec2.raw", "application/vnd.kiln.image.raw", _raw),
    "azure": Output(".azure.vhd", "application/x-vhd", _disk_image("vhd-fixed")),
    "gcp": Output(".gcp.tar.gz", "application/gzip", _appliance("gcp")),
    "openstack": Output(".openstack.qcow2", "application/vnd.kiln.image.qcow2", _qcow2_compressed),
    "tar": Output(".tar", _TAR, _tar),
    "tar.gz": Output(".tar.gz", "application/gzip", _tar),
    "tar.xz": Output(".tar.xz", "application/x-xz", _tar),
    "tar.zst": Output(".tar.zst", "application/zstd", _tar),
    "wsl": Output(".wsl.tar.gz", "application/gzip", _tar),
    "lxc": Output(".lxc.tar.xz", "application/x-xz", _tar),
    "oci": Output(".oci.tar", "application/vnd.oci.image.layout.v1.tar", _oci),
    "erofs": Output(".erofs", "application/vnd.kiln.image.erofs", _erofs),
    "verity": Output(".verity", "application/vnd.kiln.verity", _verity),
    "uki": Output(".efi", "application/efi", _uki),
    "pxe": Output(".pxe.tar", _TAR, _pxe, basis=_pxe_tree, live=True),
    "iso": Output(".iso", "application/vnd.efi.iso", _iso, live=True),
    "ostree": Output(".ostree.tar", _TAR, _ostree, basis=_repository),
}
"""What a recipe can name in `outputs`, beside the disk (qcow2) and the root (squashfs) that every image has."""


def pipeline_name(output: str) -> str:
    """Return the name of the pipeline that makes an output."""
    return f"output-{output}"


def file_name(image: str, output: str) -> str:
    """Return the name of an output's file."""
    return f"{image}{OUTPUTS[output].suffix}"


def output_pipelines(context: Context, wanted: Sequence[str]) -> list[Json]:
    """Return the pipelines of the outputs *wanted*."""
    pipelines: list[Json] = []
    for output in wanted:
        kind, name, file = OUTPUTS[output], pipeline_name(output), file_name(context.name, output)
        if kind.basis is not None:
            pipelines.append(_pipeline(context, f"{name}-tree", kind.basis(context, file)))
        pipelines.append(_pipeline(context, name, kind.stages(context, file)))
    return pipelines


def _pipeline(context: Context, name: str, stages: Stages) -> Json:
    return {"name": name, "build": "name:build", "source-epoch": context.lock.epoch, "stages": stages}


def volume_name(name: str) -> str:
    """Return the name of a volume that stands for an image: capitals, digits and underscores."""
    return re.sub("[^A-Z0-9_]", "_", name.upper())[:MAX_VOLUME_NAME]
