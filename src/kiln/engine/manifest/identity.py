"""The public ids of stages, inputs, devices and mounts, byte for byte as osbuild computes them.

An id is the SHA-256 over the concatenated JSON of some values in osbuild's spelling: Python's `json.dumps` with
sorted keys and its default separators. Which values, and in which order, is the contract; golden files pin it.
Devices are not part of a stage's id (only through a mount that names one), and neither is the code of a stage:
the engine's private cache key covers both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from kiln.engine.manifest.model import Options


def stage_id(
    type_: str,
    *,
    build: str | None,
    base: str | None,
    options: Options,
    source_epoch: int | None,
    inputs: Mapping[str, str],
    mounts: Iterable[str],
) -> str:
    """Return a stage's id. *build* and *base* are ids; *inputs* maps names to input ids; *mounts* are ids in order."""
    parts: list[object] = [type_, build, base, options]
    if source_epoch is not None:
        parts.append(source_epoch)
    if inputs:
        parts.append(inputs)
    mount_ids = list(mounts)
    if mount_ids:
        parts.append(mount_ids)
    return _digest(parts)


def input_id(type_: str, origin: str, references: Mapping[str, Options], options: Options) -> str:
    """Return an input's id; its name is not part of it."""
    return _digest([type_, origin, references, options])


def device_id(type_: str, parent: str | None, options: Options) -> str:
    """Return a device's id; *parent* is an id."""
    return _digest([type_, *([parent] if parent is not None else []), options])


def mount_id(type_: str, device: str | None, partition: int | None, target: str | None, options: Options) -> str:
    """Return a mount's id; *device* is an id; the mount's name is not part of it."""
    parts: list[object] = [type_]
    parts += [value for value in (device, partition, target) if value]
    return _digest([*parts, options])


def source_id(type_: str, items: Mapping[str, object]) -> str:
    """Return the id by which monitors name a source."""
    return _digest([type_, items])


def context_id(context: Mapping[str, object]) -> str:
    """Return the id by which monitors name the place of a record."""
    return _digest([context])


def _digest(parts: Iterable[object]) -> str:
    state = hashlib.sha256()
    for part in parts:
        state.update(json.dumps(part, sort_keys=True).encode())
    return state.hexdigest()
