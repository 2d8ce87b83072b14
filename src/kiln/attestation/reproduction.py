"""Statements of rebuilders: "from this lock I came to the same bytes", or where I did not (kiln.reproduction/v1).

Each rebuilder signs a statement of its own about the same artifacts; how many agree is counted, never added up to more
than that. Two rebuilds on one machine, or by one operator, are no independent ones: SLSA's property
`SLSA_BUILD_REPRODUCED` asks for independently operated platforms, and no document of ours claims it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from kiln.artifact.differences import FileDifference
from kiln_wire.codec import DocumentError, decode, encode
from kiln_wire.digest import Digest
from kiln_wire.dsse import BundleError, read_bundle, verify
from kiln_wire.spki import VerifyingKey
from kiln_wire.statement import REPRODUCTION_TYPE, StatementError, Subject, read_statement

KIND: Final = "kiln.reproduction/v1"

Verdict = Literal["identical", "equivalent", "different"]


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a build, as it was attested and as it was rebuilt."""

    name: str
    expected: Digest
    got: Digest | None
    """None where the rebuild did not make it."""

    @property
    def identical(self) -> bool:
        """Whether both are the same bytes."""
        return self.expected == self.got


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What a rebuild came to."""

    name: str
    lock: Digest
    plan: Digest
    same_plan: bool
    """Whether this Kiln makes the same plan of the lock as the one that built."""
    rebuilder: str
    kiln_version: str
    started: str
    finished: str
    outputs: tuple[Output, ...]
    differences: tuple[FileDifference, ...]

    @property
    def verdict(self) -> Verdict:
        """`equivalent`: some outputs are other bytes, but no file in them is."""
        if all(output.identical for output in self.outputs):
            return "identical"
        only_metadata = bool(self.differences) and all(item.cause == "metadata" for item in self.differences)
        return "equivalent" if only_metadata else "different"


@dataclass(frozen=True, slots=True)
class Voice:
    """One rebuilder's statement as it was checked. *problem* is empty if it counts."""

    statement: str
    key: str
    rebuilder: str
    verdict: Verdict | None
    problem: str


def reproduction_document(found: Reproduction) -> dict[str, object]:
    """Return the document, which is the predicate, too."""
    return {"kind": KIND, "verdict": found.verdict, **encode(found)}


def read_reproduction(document: object) -> Reproduction:
    """Read a predicate. Raises DocumentError."""
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise DocumentError("$.kind", f"this is not a {KIND} document")
    found = decode(Reproduction, {key: value for key, value in document.items() if key not in ("kind", "verdict")})
    if document.get("verdict") != found.verdict:
        raise DocumentError("$.verdict", "it does not follow from the outputs")
    return found


def tally(
    statements: Iterable[tuple[str, bytes]], subjects: Sequence[Subject], lock: Digest, trusted: Sequence[VerifyingKey]
) -> tuple[Voice, ...]:
    """Check each statement: its signature by a trusted key, its subjects, its lock. A key has one voice, its first."""
    keys = {key.hint: key for key in trusted}
    heard: set[str] = set()
    voices = []
    for name, data in statements:
        voice = _voice(name, data, frozenset(subjects), lock, keys)
        if not voice.problem and voice.key in heard:
            voice = Voice(name, voice.key, voice.rebuilder, voice.verdict, "this key has spoken already")
        heard.add(voice.key)
        voices.append(voice)
    return tuple(voices)


def _voice(name: str, data: bytes, subjects: frozenset[Subject], lock: Digest, keys: dict[str, VerifyingKey]) -> Voice:
    try:
        bundle = read_bundle(data)
    except BundleError as error:
        return Voice(name, "", "", None, f"no bundle: {error}")
    key = keys.get(bundle.hint)
    if key is None:
        return Voice(name, bundle.hint, "", None, "the key is not trusted here: give --key")
    try:
        statement = read_statement(verify(bundle, key))
        if statement.predicate_type != REPRODUCTION_TYPE:
            return Voice(name, bundle.hint, "", None, f"a statement of another type: {statement.predicate_type}")
        found = read_reproduction(statement.predicate)
    except (BundleError, StatementError, DocumentError) as error:
        return Voice(name, bundle.hint, "", None, str(error))
    if frozenset(statement.subjects) != subjects or found.lock != lock:
        return Voice(name, bundle.hint, found.rebuilder, found.verdict, "it is about another image")
    return Voice(name, bundle.hint, found.rebuilder, found.verdict, "")
