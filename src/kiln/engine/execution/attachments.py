"""Inputs, devices and mounts that services of the libdir give a stage, in the order of osbuild's contract.

Inputs come first, then devices (parents before children), then mounts. All of them are released by one ExitStack, in
the reverse order, however the stage ends.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kiln.engine.execution.packets import PacketServer
from kiln.engine.execution.services import Service, ServiceError, started
from kiln.engine.execution.store_api import ENDPOINT, StoreApi
from kiln.engine.manifest.model import Device, Input, Mount, Stage
from kiln.engine.manifest.modules import Kind, Modules
from kiln.engine.objects.model import ObjectRef
from kiln.engine.objects.store import ObjectStore
from kiln.events.model import Sink
from kiln.linux.sandbox import Mount as SandboxMount

INPUTS_INSIDE: Final = "/run/osbuild/inputs"
MOUNTS_INSIDE: Final = "/run/osbuild/mounts"
DEVICES_INSIDE: Final = "/dev"
HOST_DEVICES: Final = Path("/dev")


@dataclass(slots=True)
class Attachments:
    """What one stage gets. *tree* is its tree, *dev* and *mounts* are its directories, *trees* are by pipeline name.

    *devices* and *mounted* are the replies for the stage, once `open_devices` and `mount_all` were called.
    """

    store: ObjectStore
    modules: Modules
    runtime: Path
    sink: Sink
    cancel: int
    trees: Mapping[str, ObjectRef]
    tree: Path
    dev: Path
    mounts: Path
    held: ExitStack
    devices: dict[str, Any] = field(default_factory=dict)
    mounted: dict[str, Any] = field(default_factory=dict)
    _nodes: dict[str, str] = field(default_factory=dict)

    def map_input(self, entry: Input) -> tuple[SandboxMount, dict[str, Any]]:
        """Have a service fill a directory; return its mount and what the stage is told. Raises ServiceError."""
        root = self.store.directory("inputs-")
        self.held.callback(self.store.throw_away, root)
        target = root / entry.name
        target.mkdir()
        api = root.with_name(f"{root.name}.api")
        api.mkdir()
        self.held.callback(self.store.throw_away, api)
        server = PacketServer()
        self.held.callback(server.close)
        trees = {id_: self.trees[name] for id_, name in zip(entry.references, entry.pipelines, strict=False)}
        server.listen(api, ENDPOINT, StoreApi(self.store, trees, self.held).handle)
        # The address of a Unix socket has 107 bytes, and services use it as it is; this path is always short.
        directory = os.open(api, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.held.callback(os.close, directory)
        service = self._start("Input", entry.type, f"input/{entry.name}")
        reply = service.call(
            "map",
            {
                "origin": entry.origin,
                "refs": dict(entry.references),
                "target": str(target),
                "options": dict(entry.options),
                "api": {"store": f"/proc/{os.getpid()}/fd/{directory}/{ENDPOINT}"},
            },
            server=server,
        )
        relative = _below(root, reply, service)
        inside = f"{INPUTS_INSIDE}/{entry.name}"
        path = f"{INPUTS_INSIDE}/{relative}"
        return SandboxMount("ro", inside, str(target)), {**reply, "path": path, "data": reply.get("data") or {}}

    def open_devices(self, stage: Stage) -> None:
        """Open the devices of a stage. Raises ServiceError."""
        for device in stage.devices:
            self._open(device)

    def mount_all(self, stage: Stage) -> None:
        """Mount the mounts of a stage. Raises ServiceError."""
        for mount in stage.mounts:
            self._mount(mount)

    def _open(self, device: Device) -> None:
        service = self._start("Device", device.type, f"device/{device.name}")
        arguments = {
            "dev": str(self.dev),
            "tree": str(self.tree),
            "parent": None if device.parent is None else self._nodes[device.parent],
            "options": dict(device.options),
        }
        reply = service.call("open", arguments)
        if not isinstance(reply, Mapping) or not isinstance(reply.get("path"), str):
            raise ServiceError(service.uid, "the reply names no device", None, "")
        node = reply["path"]
        if node.startswith("/") or ".." in Path(node).parts:
            raise ServiceError(service.uid, f"{node!r} is not the name of a device", None, "")
        self._nodes[device.name] = node
        self.devices[device.name] = {**reply, "path": f"{DEVICES_INSIDE}/{node}"}

    def _mount(self, mount: Mount) -> None:
        service = self._start("Mount", mount.type, f"mount/{mount.name}")
        arguments = {
            "source": self._source(mount),
            "target": mount.target,
            "root": str(self.mounts),
            "tree": str(self.tree),
            "options": dict(mount.options),
        }
        path = service.call("mount", arguments)
        if not path:
            self.mounted[mount.name] = {}
            return
        relative = _below(self.mounts, {"path": path}, service)
        self.mounted[mount.name] = {"path": f"{MOUNTS_INSIDE}/{relative}"}

    def _source(self, mount: Mount) -> str | None:
        if mount.source is None:
            return None
        node = self._nodes[mount.source]
        # Tools that read mountinfo look for the device under its usual name.
        path = HOST_DEVICES / node if (HOST_DEVICES / node).exists() else self.dev / node
        return f"{path}p{mount.partition}" if mount.partition else str(path)

    def _start(self, kind: Kind, name: str, uid: str) -> Service:
        module = self.modules.find(kind, name)
        if module is None:
            raise ServiceError(uid, f"the libdir has no program for `{name}`", None, "")
        return self.held.enter_context(
            started(uid, module.path, runtime=self.runtime, sink=self.sink, cancel=self.cancel)
        )


def _below(root: Path, reply: Any, service: Service) -> Path:
    path = reply.get("path") if isinstance(reply, Mapping) else None
    if not isinstance(path, str) or not Path(path).is_relative_to(root) or ".." in Path(path).parts:
        raise ServiceError(service.uid, f"the service's path {path!r} is outside {root}", None, "")
    return Path(path).relative_to(root)
