"""Lock to plan: an osbuild manifest, version 2, in which every source is pinned by digest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from kiln.authoring.catalog.model import Resolution, UserWish
from kiln.authoring.compose.boot import boot_menu, fstab_stage, kernel_cmdline
from kiln.authoring.compose.disk import (
    DISK_FILE,
    DISK_PIPELINE,
    disk_pipeline,
    file_input,
    grub_stage,
    systemd_boot_stage,
    tree_input,
    uki_stage,
)
from kiln.authoring.compose.inline import InlineFile, file_stages, inline_source
from kiln.authoring.compose.layout import ROOT_TYPE, DiskLayout, require_room
from kiln.authoring.compose.live import live_files
from kiln.authoring.compose.outputs import OUTPUTS, Context, output_pipelines, pipeline_name
from kiln.authoring.compose.packages import deb_stage, deb_stages, mirror_items
from kiln.authoring.lock.model import Lock
from kiln.errors import Domain, ExitStatus, KilnError
from kiln_wire.digest import Digest

Json = dict[str, Any]

RUNNER: Final = "org.osbuild.linux"
UKI_PIPELINE: Final = "uki"
UKI_FILE: Final = "kernel.efi"
SQUASHFS_COMPRESSION: Final[Json] = {"method": "zstd", "options": {"level": 6}}
SYSTEM_USER_HOME: Final = "/nonexistent"
EXPORTS: Final = ("qcow2", "squashfs")
"""Pipelines whose trees hold the disk and the root that every image has."""
TREE_PIPELINE: Final = "os"
"""The pipeline whose tree is what runs: inventories and software lists are made of it."""


def compose(resolution: Resolution, lock: Lock, lock_digest: Digest) -> Json:
    """Return the plan that builds the image of *lock*.

    Raises KilnError(COMPOSE) with reason `disk-too-small` or `unsupported-architecture`.
    """
    if lock.architecture not in ROOT_TYPE or lock.architecture != "amd64":
        raise KilnError(
            Domain.COMPOSE,
            "unsupported-architecture",
            f"images for {lock.architecture} cannot be composed yet",
            hint="amd64 can",
            exit_status=ExitStatus.USAGE,
        )
    layout = DiskLayout.of(lock_digest, resolution.disk_bytes, bios=resolution.boot == "grub")
    image = lock.tree("image")
    require_room(layout, sum(package.installed_size_bytes for package in image.packages))
    files = [InlineFile(f.path, f.content.encode("utf-8"), f.mode, f.owner, f.group) for f in resolution.files]
    cmdline = kernel_cmdline(resolution, layout)
    if resolution.boot == "grub":
        files.append(boot_menu(resolution.base.title, layout, cmdline))
    if any(OUTPUTS[output].live for output in resolution.outputs):
        files += live_files()
    context = Context(resolution, lock, lock_digest, TREE_PIPELINE, "squashfs", f"{resolution.name}.squashfs")
    exports = [*EXPORTS, *(pipeline_name(output) for output in resolution.outputs)]
    return {
        "version": "2",
        "metadata": {"generators": [{"name": "kiln"}], "exports": [{"name": name} for name in exports]},
        "pipelines": [
            _build_pipeline(lock),
            {
                "name": TREE_PIPELINE,
                "build": "name:build",
                "source-epoch": lock.epoch,
                "stages": [*_tree_stages(resolution, lock, layout, files), *_closing_stages()],
            },
            _squashfs_pipeline(resolution, lock),
            *_uki_pipeline(resolution, lock, cmdline),
            disk_pipeline(
                layout,
                tree=TREE_PIPELINE,
                build="build",
                epoch=lock.epoch,
                architecture=lock.architecture,
                loader=_loader(resolution, layout, cmdline),
            ),
            _qcow2_pipeline(resolution, lock),
            *output_pipelines(context, resolution.outputs),
        ],
        "sources": {
            "org.kiln.mirror": {"items": mirror_items(lock.trees)},
            "org.osbuild.inline": {"items": inline_source(files)},
        },
    }


def _build_pipeline(lock: Lock) -> Json:
    """The tree whose tools run all other stages; made with the host's Python, and nothing else of the host."""
    return {
        "name": "build",
        "runner": RUNNER,
        "source-epoch": lock.epoch,
        "stages": [deb_stage(lock.architecture, lock.tree("build"))],
    }


def _tree_stages(resolution: Resolution, lock: Lock, layout: DiskLayout, files: list[InlineFile]) -> list[Json]:
    stages = deb_stages(lock.architecture, lock.tree("image"))
    if resolution.removals:
        # Before the files: some of them go where a package's own had been.
        paths = [wish.path for wish in resolution.removals]
        stages.append({"type": "org.kiln.remove", "options": {"paths": paths}})
    stages += _account_stages(resolution.users)
    stages += file_stages(files)
    if resolution.sysctls:
        stages.append(
            {
                "type": "org.osbuild.sysctld",
                "options": {
                    # Read last, so that no package's file (there is a 99-protect-links.conf) overrides the recipe.
                    "filename": "zz-kiln.conf",
                    "path": "/etc/sysctl.d",
                    "config": [{"key": wish.key, "value": wish.value} for wish in resolution.sysctls],
                },
            }
        )
    stages += [
        {"type": "org.osbuild.hostname", "options": {"hostname": resolution.hostname}},
        {"type": "org.osbuild.locale", "options": {"language": resolution.locale}},
        {"type": "org.osbuild.timezone", "options": {"zone": resolution.timezone}},
        {"type": "org.osbuild.mkdir", "options": {"paths": [{"path": "/boot/efi", "exist_ok": True, "mode": 0o700}]}},
        fstab_stage(layout),
    ]
    units = _unit_options(resolution)
    if units:
        stages.append({"type": "org.osbuild.systemd", "options": units})
    return stages


def _closing_stages() -> list[Json]:
    return [
        {"type": "org.kiln.initramfs", "options": {"modules": "most", "compression": "zstd"}},
        {"type": "org.kiln.reset-instance", "options": {}},
        {"type": "org.osbuild.machine-id", "options": {"first-boot": "no"}},
    ]


def _account_stages(users: Iterable[UserWish]) -> list[Json]:
    accounts: Json = {}
    groups: Json = {}
    for user in users:
        for group in user.groups:
            groups[group] = {}
        account: Json = {"shell": user.shell, "description": user.comment}
        if user.system:
            account |= {"system": True, "home": user.home or SYSTEM_USER_HOME}
        elif user.home:
            account["home"] = user.home
        if user.groups:
            account["groups"] = list(user.groups)
        if user.ssh_keys:
            account["keys"] = list(user.ssh_keys)
        if user.password_hash:
            account["password"] = user.password_hash
        accounts[user.name] = account
    stages: list[Json] = []
    if groups:
        stages.append({"type": "org.osbuild.groups", "options": {"groups": groups}})
    if accounts:
        stages.append({"type": "org.osbuild.users", "options": {"users": accounts}})
    return stages


def _unit_options(resolution: Resolution) -> Json:
    names = {"enabled": "enabled_services", "disabled": "disabled_services", "masked": "masked_services"}
    options: Json = {}
    for state, key in names.items():
        units = sorted(wish.unit for wish in resolution.services if wish.state == state)
        if units:
            options[key] = units
    return options


def _squashfs_pipeline(resolution: Resolution, lock: Lock) -> Json:
    return {
        "name": "squashfs",
        "build": "name:build",
        "source-epoch": lock.epoch,
        "stages": [
            {
                "type": "org.osbuild.squashfs",
                "inputs": {"tree": tree_input(TREE_PIPELINE)},
                "options": {"filename": f"{resolution.name}.squashfs", "compression": SQUASHFS_COMPRESSION},
            }
        ],
    }


def _loader(resolution: Resolution, layout: DiskLayout, cmdline: str) -> Json:
    if resolution.boot == "systemd-boot":
        return systemd_boot_stage(layout, TREE_PIPELINE, resolution.base.title, cmdline)
    if resolution.boot == "uki":
        return uki_stage(layout, UKI_PIPELINE, UKI_FILE)
    return grub_stage(layout, resolution.base.distribution)


def _uki_pipeline(resolution: Resolution, lock: Lock, cmdline: str) -> list[Json]:
    if resolution.boot != "uki":
        return []
    options = {"filename": UKI_FILE, "cmdline": cmdline}
    stage = {"type": "org.kiln.uki", "inputs": {"tree": tree_input(TREE_PIPELINE)}, "options": options}
    return [{"name": UKI_PIPELINE, "build": "name:build", "source-epoch": lock.epoch, "stages": [stage]}]


def _qcow2_pipeline(resolution: Resolution, lock: Lock) -> Json:
    return {
        "name": "qcow2",
        "build": "name:build",
        "source-epoch": lock.epoch,
        "stages": [
            {
                "type": "org.osbuild.qemu",
                "inputs": {"image": file_input(DISK_PIPELINE, DISK_FILE)},
                "options": {
                    "filename": f"{resolution.name}.qcow2",
                    "format": {"type": "qcow2", "compat": "1.1", "compression": False},
                },
            }
        ],
    }
