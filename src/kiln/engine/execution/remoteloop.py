"""The socket `remoteloop` in the sandbox: loop devices for a stage, which end with it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

from kiln.linux import loops
from kiln.linux.cgroups import Group
from kiln.linux.device_policy import Rule

ENDPOINT: Final = "remoteloop"
MAX_DEVICES: Final = 64


class RemoteLoops:
    """Makes devices on request. *held* releases them, the last one first. The processes of *group* may open them."""

    def __init__(self, held: ExitStack, group: Group | None) -> None:
        self._held = held
        self._group = group
        self._count = 0

    def handle(self, request: Any, descriptors: Sequence[int]) -> dict[str, Any]:
        """Answer {"fd", "dir_fd", "offset", "sizelimit", ...} with {"devname"} or an exception."""
        try:
            if not isinstance(request, Mapping):
                raise TypeError("a request is an object")
            if self._count >= MAX_DEVICES:
                raise ValueError(f"a stage gets at most {MAX_DEVICES} loop devices")
            file, directory = descriptors[_whole(request, "fd")], descriptors[_whole(request, "dir_fd")]
            device = loops.attach(
                file,
                offset_bytes=_whole(request, "offset"),
                limit_bytes=_whole(request, "sizelimit"),
                sector_bytes=_whole(request, "sector_size"),
                partitions=bool(request.get("partscan")),
                read_only=bool(request.get("read_only")),
                lock=bool(request.get("lock")),
            )
            self._held.callback(device.close)
            self._count += 1
            if self._group is not None:
                self._group.allow((Rule("b", loops.LOOP_MAJOR, device.minor),))
            device.make_node(directory)
        except (OSError, ValueError, TypeError, IndexError) as error:
            details = {"type": type(error).__name__, "value": str(error), "traceback": ""}
            return {"error": str(error), "exception": details}
        return {"devname": os.fspath(device.name)}


def _whole(request: Mapping[str, Any], key: str) -> int:
    value = request.get(key) or 0
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{key} must be a whole number")
    return value
