"""Remembering that a manifest is valid, because the validator costs more than a cached build."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kiln.engine.manifest.formats import normalise
from kiln.engine.manifest.modules import Modules
from kiln.engine.manifest.validate import check_shape, modules_of, validate


def validate_once(document: Mapping[str, Any], modules: Modules, remembered: Path) -> None:
    """Check *document* unless the same one has passed the same schemas before. Raises as `validate` does."""
    version = check_shape(document)
    mark = remembered / _digest(document, modules, version)
    if mark.exists():
        return
    validate(document, modules)
    mark.touch()


def _digest(document: Mapping[str, Any], modules: Modules, version: str) -> str:
    state = hashlib.sha256(json.dumps(document, sort_keys=True).encode("ascii"))
    things = dict.fromkeys((thing.kind, thing.name) for thing in modules_of(normalise(document)))
    paths = dict.fromkeys(path for kind, name in things for path in modules.description_files(kind, name))
    for path in (modules.libdir / f"schemas/osbuild{version}.json", *paths):
        try:
            data = path.read_bytes()
        except (OSError, ValueError):
            data = b""
        state.update(hashlib.sha256(data).digest())
    return state.hexdigest()
