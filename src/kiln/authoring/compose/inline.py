"""Files with literal content, as inputs of the plan."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from kiln_wire.digest import Digest

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A file of the tree with its content; owner and group are names or numbers."""

    path: str
    content: bytes
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"

    @property
    def digest(self) -> Digest:
        """Digest of the content."""
        return Digest.of(self.content)


def inline_source(files: Iterable[InlineFile]) -> Json:
    """Return the items of an org.osbuild.inline source that holds *files*."""
    return {
        str(file.digest): {"encoding": "base64", "data": base64.b64encode(file.content).decode("ascii")}
        for file in sorted(files, key=lambda item: str(item.digest))
    }


def file_stages(files: Iterable[InlineFile]) -> list[Json]:
    """Return the stages that write *files*, with their parent directories, modes and owners."""
    ordered = sorted(files, key=lambda item: item.path)
    if not ordered:
        return []
    stages: list[Json] = []
    parents = sorted({parent for file in ordered for parent in _parents(file.path)})
    if parents:
        stages.append(
            {"type": "org.osbuild.mkdir", "options": {"paths": [{"path": path, "exist_ok": True} for path in parents]}}
        )
    stages.append(
        {
            "type": "org.osbuild.copy",
            "inputs": {
                "files": {
                    "type": "org.osbuild.files",
                    "origin": "org.osbuild.source",
                    "references": sorted({str(file.digest) for file in ordered}),
                }
            },
            "options": {
                "paths": [
                    {"from": f"input://files/{file.digest}", "to": f"tree://{file.path}", "remove_destination": True}
                    for file in ordered
                ]
            },
        }
    )
    stages.append(
        {
            "type": "org.osbuild.chmod",
            "options": {"items": {file.path: {"mode": f"{file.mode:04o}"} for file in ordered}},
        }
    )
    owned = {
        file.path: {"user": file.owner, "group": file.group}
        for file in ordered
        if (file.owner, file.group) != ("root", "root")
    }
    if owned:
        stages.append({"type": "org.osbuild.chown", "options": {"items": owned}})
    return stages


def _parents(path: str) -> list[str]:
    return [str(parent) for parent in PurePosixPath(path).parents if str(parent) != "/"]
