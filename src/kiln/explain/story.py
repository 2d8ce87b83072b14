"""The chain of an image in words: request, recipe, lock, build, tests, signatures, record. Pure.

It repeats what the documents say and checks nothing: that is `kiln verify`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kiln.authoring.catalog.model import Resolution
from kiln.authoring.lock.model import Lock


@dataclass(frozen=True, slots=True)
class Step:
    """One stop of the chain: a title, and what is known there as pairs of a label and a text."""

    title: str
    facts: tuple[tuple[str, str], ...]


def story(
    provenance: Mapping[str, Any],
    subjects: Mapping[str, str],
    resolution: Resolution,
    lock: Lock,
    tests: Mapping[str, Any] | None,
    statements: Mapping[str, tuple[str, str]],
    record: Mapping[str, Any] | None,
) -> tuple[Step, ...]:
    """Return the steps. *statements*: bundle -> (predicate type, hint of its key); *subjects*: file -> SHA-256.

    Raises KeyError, TypeError or IndexError if the provenance is not in the form that Kiln writes.
    """
    definition, run = provenance["buildDefinition"], provenance["runDetails"]
    external, internal = definition["externalParameters"], definition["internalParameters"]
    dependencies = definition["resolvedDependencies"]
    steps = [
        Step("request", (("text", external["request"]["text"].strip()), ("digest", _digest(external["request"])))),
        Step("recipe", (("base", internal["base"]), ("digest", _digest(external["recipe"])))),
        Step(
            "resolution",
            (
                ("features", ", ".join(f"{item.id} {item.version}" for item in resolution.features) or "none"),
                ("digest", _digest(internal["resolution"])),
            ),
        ),
        Step("lock", _lock_facts(lock, external)),
        Step("sources", (("by digest", f"{len(dependencies)} (packages and signed indexes)"),)),
        Step(
            "build",
            (
                ("plan", _digest(internal["plan"])),
                ("build type", definition["buildType"]),
                ("builder", f"{run['builder']['id']}, Kiln {run['builder']['version']['kiln']}"),
                ("invocation", run["metadata"]["invocationId"]),
                ("time", f"{run['metadata']['startedOn']} to {run['metadata']['finishedOn']}"),
            ),
        ),
        Step("artifacts", tuple(sorted((name, f"sha256:{digest}") for name, digest in subjects.items()))),
    ]
    if tests is not None:
        passed, failed, warned = (len(tests[key]) for key in ("passedTests", "failedTests", "warnedTests"))
        verdict = f"{tests['result']}: {passed} passed, {failed} failed, {warned} skipped"
        steps.append(Step("tests", (("verdict", verdict),)))
    steps.append(
        Step("statements", tuple((name, f"{kind}, key {hint}") for name, (kind, hint) in sorted(statements.items())))
    )
    if record is not None:
        before = record["previous"] or "none: it is the first"
        facts = (("number", str(record["sequence"])), ("before it", before), ("by", record["run"]["recordedBy"]))
        steps.append(Step("record", facts))
    return tuple(steps)


def _lock_facts(lock: Lock, external: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    trees = ", ".join(f"{len(tree.packages)} in {tree.name}" for tree in lock.trees)
    indexes = tuple(
        (f"{item.mirror} {item.suite}", f"of {item.date}, signed by {', '.join(item.signed_by)}")
        for item in lock.indexes
    )
    return (("packages", trees), *indexes, ("digest", _digest(external["lock"])))


def _digest(descriptor: Mapping[str, Any]) -> str:
    return f"sha256:{descriptor['digest']['sha256']}"
