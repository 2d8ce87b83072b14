"""Facts out of image directories, locks and SBOMs, as far as each carries them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from kiln.artifact.stock import Inventory, read_inventory
from kiln.authoring.lock.document import read_lock
from kiln.authoring.lock.model import IMAGE_TREE, Lock
from kiln.errors import Domain, ExitStatus, KilnError, Place
from kiln.explain.model import Facts, Section, Value
from kiln.linux.files import read_limited
from kiln.vulnerabilities.targets import MAX_DOCUMENT_BYTES, Scannable, read_target
from kiln_wire import layout
from kiln_wire.canonical import CanonicalError, strict_loads

SPECIAL_MODE: Final = 0o6000  # setuid and setgid
LOGIN_SHELLS_NOT: Final = ("nologin", "false", "sync", "")
Sections = dict[Section, Mapping[str, Value]]
Scan = Callable[[Scannable], Mapping[str, str] | None]
"""Returns `CVE package` -> rating, or None where there is no database."""


def read_facts(path: Path, scan: Scan) -> Facts:
    """Read one side of a comparison: an image directory, a lock or an SBOM.

    Raises KilnError(VULNERABILITY) `no-target` or `bad-target`, (LOCK, "bad-lock"), (ARTIFACT, "bad-inventory"),
    (ATTESTATION, "bad-document").
    """
    scannable = read_target(path)
    sections: Sections = {}
    found = scan(scannable)
    if found is not None:
        sections["vulnerabilities"] = {name: {"value": rating} for name, rating in found.items()}
    form = scannable.target.kind
    if form == "image":
        directory = path if path.is_dir() else path.parent
        sections |= _image(directory)
        return Facts(str(path), form, sections)
    document = _json(path)
    sections |= _lock(read_lock(path.read_bytes(), str(path))) if form == "lock" else _sbom(document, scannable)
    return Facts(str(path), form, sections)


def _image(directory: Path) -> Sections:
    sections = _lock(read_lock((directory / layout.LOCK).read_bytes(), str(directory / layout.LOCK)))
    recipe = _json(directory / layout.RECIPE)
    sections["recipe"] = dict(_flat(recipe, ""))
    resolution = _json(directory / layout.RESOLUTION)
    sections["features"] = {
        item["id"]: {"version": item["version"], "options": json.dumps(item["options"], sort_keys=True)}
        for item in resolution.get("features", ())
    }
    sections["ports"] = {
        f"{item['port']}/{item['protocol']}": {"value": "exposed" if item["exposed"] else "local"}
        for item in resolution.get("ports", ())
    }
    states = {item["unit"]: {"value": item["state"]} for item in resolution.get("services", ())}
    sections["services"] = states
    sizes = {
        suffix: {"value": file.stat().st_size}
        for suffix in ("qcow2", "squashfs")
        for file in sorted(directory.glob(f"*.{suffix}"))
    }
    sections["sizes"] = {**sections.get("sizes", {}), **sizes}
    path = directory / layout.INVENTORY
    if path.exists():
        inventory = read_inventory(path.read_bytes(), str(path))
        sections |= _inventory(inventory)
        enabled = {item.unit: {"value": "enabled"} for item in inventory.units}
        sections["services"] = {**enabled, **states}
    return sections


def _inventory(inventory: Inventory) -> Sections:
    return {
        "files": {
            item.path: {
                "type": item.type,
                "mode": f"{item.mode:04o}",
                "owner": f"{item.uid}:{item.gid}",
                "package": item.packages[0] if item.packages else "",
                "digest": item.digest.hex if item.digest else "",
                "target": item.target,
            }
            for item in inventory.files
        },
        "setuid": {
            item.path: {
                "mode": f"{item.mode:04o}",
                "owner": f"{item.uid}:{item.gid}",
                "capabilities": item.capabilities,
            }
            for item in inventory.files
            if item.type == "file" and (item.mode & SPECIAL_MODE or item.capabilities)
        },
        "users": {
            item.name: {
                "uid": item.uid,
                "shell": item.shell,
                "locked": item.locked,
                "login": item.shell.rpartition("/")[2] not in LOGIN_SHELLS_NOT,
            }
            for item in inventory.accounts
        },
        "groups": {item.name: {"gid": item.gid, "members": ",".join(item.members)} for item in inventory.groups},
        "sysctls": {item.key: {"value": item.value} for item in inventory.sysctls},
        "licences": {
            f"{item.name}:{item.architecture}": {"value": item.licence} for item in inventory.packages if item.licence
        },
    }


def _lock(lock: Lock) -> Sections:
    tree = lock.tree(IMAGE_TREE)
    installed = sum(item.installed_size_bytes for item in tree.packages)
    return {
        "packages": {f"{item.name}:{item.architecture}": {"value": item.version} for item in tree.packages},
        "sizes": {
            "download": {"value": tree.download_bytes},
            "installed": {"value": installed},
            "packages": {"value": len(tree.packages)},
        },
    }


def _sbom(document: Mapping[str, Any], scannable: Scannable) -> Sections:
    packages: dict[str, Value] = {}
    for item in scannable.components:
        key = _package_key(item.purl, item.name)
        packages[key] = {"value": item.version}
    sections: Sections = {"packages": packages, "sizes": {"packages": {"value": len(packages)}}}
    licences = dict(_sbom_licences(document))
    if licences:
        sections["licences"] = licences
    return sections


def _sbom_licences(document: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    for item in document.get("components") or ():
        for entry in item.get("licenses") or ():
            licence = entry.get("license") or {}
            text = entry.get("expression") or licence.get("id") or licence.get("name")
            if text:
                yield _package_key(item.get("purl", ""), item.get("name", "")), {"value": str(text)}
    for item in document.get("packages") or ():
        text = item.get("licenseConcluded")
        purl = next(
            (entry["referenceLocator"] for entry in item.get("externalRefs") or () if entry["referenceType"] == "purl"),
            "",
        )
        if text and text not in ("NOASSERTION", "NONE") and purl:
            yield _package_key(purl, item["name"]), {"value": str(text)}


def _package_key(purl: str, name: str) -> str:
    words = purl.partition("?")[2].split("&")
    architecture = next((word.removeprefix("arch=") for word in words if word.startswith("arch=")), "")
    return f"{name}:{architecture}" if architecture else purl.partition("@")[0]


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, Value]]:
    """Yield each leaf of a document with its path; lists are one text."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, {"value": value if isinstance(value, str) else json.dumps(value, sort_keys=True)}


def _json(path: Path) -> Any:
    try:
        document = strict_loads(read_limited(path, MAX_DOCUMENT_BYTES), max_bytes=MAX_DOCUMENT_BYTES)
    except FileNotFoundError:
        raise _bad(path, "it is not there") from None
    except CanonicalError as error:
        raise _bad(path, str(error)) from None
    if not isinstance(document, dict):
        raise _bad(path, "not a JSON object")
    return document


def _bad(path: Path, problem: str) -> KilnError:
    return KilnError(
        Domain.ATTESTATION,
        "bad-document",
        f"{path} can't be used: {problem}",
        place=Place(str(path)),
        hint="`kiln verify` says whether the image is as it was signed",
        exit_status=ExitStatus.REFUSED,
    )
