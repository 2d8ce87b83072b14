"""SLSA provenance, predicate version 1: who built the image, from what, how. Pure.

The build type `urn:kiln:buildtype:image:v1` means: Kiln read the request into the recipe, the recipe into the
resolution, locked every package by digest, and ran the plan in sandboxes without network.

- externalParameters: `request` (its text and file), `recipe` (its content and file), `lock` (file): what the person
  controls. The recipe and the lock are enough to build again.
- internalParameters: `resolution` and `plan` (files), `base`, `architecture`, `epoch`: what Kiln made of it.
- resolvedDependencies: every package of every tree as a package URL with its SHA-256 and the trees that it is in, and
  every signed index as `urn:kiln:index:<mirror>:<suite>` with its SHA-256.
- byproducts: the evidence and the lists that belong to the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from kiln.attestation.model import Builder
from kiln.authoring.lock.model import Lock
from kiln.authoring.lock.purl import package_url
from kiln_wire import layout
from kiln_wire.digest import Digest
from kiln_wire.packages import index_uri
from kiln_wire.statement import digest_set
from kiln_wire.verify_inputs import BUILD_TYPE


def provenance(
    *,
    request_text: str,
    recipe: object,
    lock: Lock,
    files: Mapping[str, Digest],
    byproducts: Sequence[str],
    builder: Builder,
    invocation_id: str,
    started: datetime,
    finished: datetime,
) -> dict[str, Any]:
    """Return the predicate. *recipe* is the recipe's JSON document; *files* has the digest of every named file."""

    def file(name: str) -> dict[str, Any]:
        return {"name": name, "digest": digest_set(files[name])}

    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "request": {**file(layout.REQUEST), "text": request_text},
                "recipe": {**file(layout.RECIPE), "content": recipe},
                "lock": file(layout.LOCK),
            },
            "internalParameters": {
                "resolution": file(layout.RESOLUTION),
                "plan": file(layout.PLAN),
                "base": lock.base,
                "architecture": lock.architecture,
                "epoch": lock.epoch,
            },
            "resolvedDependencies": [*_packages(lock), *_indexes(lock)],
        },
        "runDetails": {
            "builder": {"id": builder.id, "version": {"kiln": builder.version}},
            "metadata": {
                "invocationId": invocation_id,
                "startedOn": time_text(started),
                "finishedOn": time_text(finished),
            },
            "byproducts": [file(name) for name in byproducts],
        },
    }


def time_text(moment: datetime) -> str:
    """Return *moment*, which must have a time zone, as RFC 3339 in UTC with whole seconds."""
    if moment.tzinfo is None:
        raise ValueError("a time without a time zone")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _packages(lock: Lock) -> list[dict[str, Any]]:
    trees: dict[tuple[str, Digest], list[str]] = {}
    names: dict[tuple[str, Digest], str] = {}
    for tree in lock.trees:
        for package in tree.packages:
            key = (package_url(package, lock.base), package.digest)
            trees.setdefault(key, []).append(tree.name)
            names[key] = package.name
    return [
        {
            "name": names[key],
            "uri": key[0],
            "digest": digest_set(key[1]),
            "annotations": {"trees": sorted(trees[key])},
        }
        for key in sorted(trees)
    ]


def _indexes(lock: Lock) -> list[dict[str, Any]]:
    return [
        {
            "name": f"{index.mirror} {index.suite}",
            "uri": index_uri(index.mirror, index.suite),
            "digest": digest_set(index.digest),
            "annotations": {
                "components": list(index.components),
                "date": index.date,
                "signedBy": list(index.signed_by),
            },
        }
        for index in lock.indexes
    ]
