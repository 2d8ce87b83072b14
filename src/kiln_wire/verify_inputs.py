"""Step 8 of a verification: request, recipe, resolution, lock and plan are those of the provenance and fit together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from kiln_wire import layout
from kiln_wire.canonical import canonical_json
from kiln_wire.digest import Digest
from kiln_wire.packages import lock_indexes, lock_packages, provenance_indexes, provenance_packages
from kiln_wire.statement import StatementError, read_digest_set
from kiln_wire.verify_state import Evidence

BUILD_TYPE: Final = "urn:kiln:buildtype:image:v1"


def check_inputs(evidence: Evidence) -> bool:
    """Step 8: the files are those of the provenance; lock, recipe and resolution name each other."""
    predicate = evidence.predicate(layout.PROVENANCE_BUNDLE)
    if predicate is None:
        return False
    try:
        if predicate["buildDefinition"]["buildType"] != BUILD_TYPE:
            evidence.error(
                layout.PROVENANCE_BUNDLE,
                "unknown-build-type",
                BUILD_TYPE,
                str(predicate["buildDefinition"]["buildType"])[:80],
            )
        listed = dict(_listed_files(predicate))
    except (KeyError, TypeError, AttributeError, StatementError) as error:
        evidence.error(
            layout.PROVENANCE_BUNDLE, "malformed-provenance", "SLSA provenance v1 by Kiln", repr(error)[:200]
        )
        return False
    for name in (layout.REQUEST, layout.RECIPE, layout.RESOLUTION, layout.LOCK, layout.PLAN):
        if name not in listed:
            evidence.error(layout.PROVENANCE_BUNDLE, "incomplete-provenance", name, "not listed")
    for name, digest in listed.items():
        evidence.compare(name, digest)
    _check_request(evidence, predicate)
    lock = evidence.document(layout.LOCK)
    if lock is None:
        return False
    _check_lock(evidence, lock)
    provenance = layout.PROVENANCE_BUNDLE
    evidence.agree(provenance, lambda: lock_packages(lock, None), lambda: provenance_packages(predicate))
    evidence.agree(provenance, lambda: lock_indexes(lock), lambda: provenance_indexes(predicate))
    return True


def _check_request(evidence: Evidence, predicate: Any) -> None:
    text = predicate["buildDefinition"]["externalParameters"]["request"].get("text")
    request = evidence.document(layout.REQUEST)
    if request is not None and text not in _strings(request):
        evidence.error(layout.PROVENANCE_BUNDLE, "wrong-request", "the text in request.json", str(text)[:80])


def _check_lock(evidence: Evidence, lock: dict[str, Any]) -> None:
    """The lock names recipe and resolution by digest, and is of the image that the verification document describes."""
    expected: dict[str, object] = {}
    for key, name in (("recipeDigest", layout.RECIPE), ("resolutionDigest", layout.RESOLUTION)):
        document = evidence.document(name)
        if document is not None:
            expected[key] = str(Digest.of(canonical_json(document)))
    if evidence.verification is not None:
        expected.update({key: getattr(evidence.verification, key) for key in ("base", "architecture", "epoch")})
    for key, value in expected.items():
        if lock.get(key) != value:
            evidence.error(layout.LOCK, "wrong-input", f"{key} {value}", str(lock.get(key))[:80])


def _listed_files(predicate: Any) -> Iterator[tuple[str, Digest]]:
    """Yield the files of the image directory that a provenance names by digest."""
    definition = predicate["buildDefinition"]
    external, internal = definition["externalParameters"], definition["internalParameters"]
    descriptors = [external["request"], external["recipe"], external["lock"], internal["resolution"], internal["plan"]]
    for descriptor in (*descriptors, *predicate["runDetails"]["byproducts"]):
        if not isinstance(descriptor["name"], str):
            raise StatementError("a file's name is not a string")
        yield descriptor["name"], read_digest_set(descriptor["digest"])


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
