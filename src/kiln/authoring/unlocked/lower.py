"""A checked manifest and its locked packages -> a plan in which every source is pinned by digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kiln.authoring.catalog.model import Base
from kiln.authoring.compose.boot import CONSOLES, boot_menu
from kiln.authoring.compose.inline import InlineFile, file_stages, inline_source
from kiln.authoring.compose.packages import deb_stage, mirror_items
from kiln.authoring.lock.model import LockedTree
from kiln.authoring.unlocked.disk import DiskWish, disk_wish, output_pipelines
from kiln.authoring.unlocked.model import APT_STAGES, BASE_STAGES, GRUB_STAGE, OSTREE_STAGE, Json
from kiln.authoring.unlocked.packages import KERNEL_PREFIX
from kiln_wire.digest import Digest

RUNNER: Final = "org.osbuild.linux"
GENERATOR: Final = "org.kiln.unlocked"
"""Among the generators of a locked form: its version says which manifest it was made of."""
SSH_SERVER: Final = "openssh-server"
COMPRESSOR: Final = "zstd"


@dataclass(frozen=True, slots=True)
class Locked:
    """What the archives gave for a manifest: the packages of each pipeline and of the tools that run the stages."""

    base: Base
    architecture: str
    epoch: int
    trees: Mapping[str, LockedTree]
    tools: LockedTree
    host_keys: tuple[InlineFile, ...]
    """The unit that makes SSH host keys at the first boot; images are made without any."""


def lower(document: Json, locked: Locked, origin: str) -> Json:
    """Return the locked form of *document*; *origin* names the manifest (`sha256:...`)."""
    tools = _free_name(document, "tools")
    identity = Digest.of(origin.encode("utf-8"))
    wish = disk_wish(document, identity)
    lowering = _Lowering(locked, wish, tools)
    pipelines = [lowering.tools_pipeline()]
    roots = {pipeline.get("build", "").removeprefix("name:") for pipeline in document["pipelines"]}
    for pipeline in document["pipelines"]:
        pipelines.append(lowering.pipeline(pipeline, is_root=pipeline.get("name") in roots))
    result: Json = {"version": "2", "pipelines": pipelines}
    metadata = document.get("metadata") or {}
    exports = [pipelines[-1]["name"]]
    if wish is not None:
        made = output_pipelines(wish, exports[0], tools, locked)
        pipelines += made
        exports = [made[-1]["name"]]
    elif document.get("assembler"):
        result["assembler"] = document["assembler"]
        exports = ["assembler"]
    result["sources"] = _sources(document, locked, lowering.files)
    result["metadata"] = {
        "generators": [*metadata.get("generators", []), {"name": GENERATOR, "version": origin}],
        "exports": metadata.get("exports") or [{"name": name} for name in exports],
    }
    return result


def origin_of(document: Json) -> str:
    """Return which manifest a locked form was made of, or an empty text for one that was not made here."""
    for generator in (document.get("metadata") or {}).get("generators", []):
        if generator.get("name") == GENERATOR:
            return str(generator.get("version", ""))
    return ""


class _Lowering:
    """Takes the pipelines one after another, and collects the files that their stages write."""

    def __init__(self, locked: Locked, wish: DiskWish | None, tools: str) -> None:
        self._locked = locked
        self._wish = wish
        self._tools = tools
        self.files: list[InlineFile] = []

    def tools_pipeline(self) -> Json:
        """The tree whose tools run all other stages; made with the host's Python, and nothing else of the host."""
        stage = deb_stage(self._locked.architecture, self._locked.tools)
        return {"name": self._tools, "runner": RUNNER, "source-epoch": self._locked.epoch, "stages": [stage]}

    def pipeline(self, pipeline: Json, *, is_root: bool) -> Json:
        """Return a pipeline with its packages; a tree that only runs stages (*is_root*) is not made ready to start."""
        tree = self._locked.trees.get(pipeline.get("name", ""))
        stages: list[Json] = []
        for stage in pipeline.get("stages", []):
            stages += self._stage(stage, tree)
        if tree is not None and not is_root:
            stages += self._closing(tree)
        given = {"build": f"name:{self._tools}", "source-epoch": self._locked.epoch}
        return {**given, **pipeline, "stages": stages}

    def _stage(self, stage: Json, tree: LockedTree | None) -> list[Json]:
        if stage["type"] in BASE_STAGES and "inputs" not in stage and tree is not None:
            return [deb_stage(self._locked.architecture, tree)]
        if stage["type"] in APT_STAGES and "inputs" not in stage:
            return []  # its packages came with the base: one unpacking, one configuration
        if stage["type"] == OSTREE_STAGE:
            return [{"type": "org.osbuild.ostree.init", "options": {"path": stage["options"]["repository"]}}]
        if stage["type"] == GRUB_STAGE and self._wish is not None:
            return self._boot(stage["options"], self._wish)
        return [stage]

    def _boot(self, options: Json, wish: DiskWish) -> list[Json]:
        # osbuild's stage writes a menu for Fedora's GRUB, which reads entries that Debian's packages do not make.
        words = [f"root=UUID={wish.layout.root_uuid}", "ro", options.get("kernel_opts", "") or CONSOLES]
        menu = boot_menu(self._locked.base.title, wish.layout, " ".join(words))
        return self._write([menu])

    def _write(self, files: list[InlineFile]) -> list[Json]:
        self.files += files
        return file_stages(files)

    def _closing(self, tree: LockedTree) -> list[Json]:
        names = {package.name for package in tree.packages}
        stages: list[Json] = []
        if self._wish is not None:
            stages += self._wish.tree_stages()
        if SSH_SERVER in names and self._locked.host_keys:
            stages += self._write(list(self._locked.host_keys))
            units = [file.path.rpartition("/")[2] for file in self._locked.host_keys]
            stages.append({"type": "org.osbuild.systemd", "options": {"enabled_services": units}})
        if any(name.startswith(KERNEL_PREFIX) for name in names):
            compression = COMPRESSOR if COMPRESSOR in names else "gzip"
            options: Json = {"modules": "most", "compression": compression}
            stages.append({"type": "org.kiln.initramfs", "options": options})
        stages.append({"type": "org.kiln.reset-instance", "options": {}})
        if "systemd" in names:
            stages.append({"type": "org.osbuild.machine-id", "options": {"first-boot": "no"}})
        return stages


def _sources(document: Json, locked: Locked, files: list[InlineFile]) -> Json:
    sources: dict[str, Any] = dict(document.get("sources", {}))
    trees = [locked.tools, *locked.trees.values()]
    _add(sources, "org.kiln.mirror", mirror_items(trees))
    if files:
        _add(sources, "org.osbuild.inline", inline_source(files))
    return sources


def _add(sources: dict[str, Any], kind: str, items: Json) -> None:
    source = sources.get(kind, {})
    sources[kind] = {**source, "items": {**source.get("items", {}), **items}}


def _free_name(document: Json, name: str) -> str:
    taken = {pipeline.get("name") for pipeline in document["pipelines"]}
    while name in taken:
        name = f"kiln-{name}"
    return name
