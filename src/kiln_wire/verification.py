"""The verification document: the facts of one build that a device can check, bound together by one id.

The id is the SHA-256 of the canonical JSON of the digests that it binds, so it changes with any of them and can be
computed again from the files alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from kiln_wire.canonical import canonical_json
from kiln_wire.codec import encode
from kiln_wire.digest import Digest

KIND: Final = "kiln.verification/v1"


@dataclass(frozen=True, slots=True)
class BoundFile:
    """A file of the image directory, by name and content."""

    name: str
    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Bindings:
    """What the verification id binds."""

    image: BoundFile
    squashfs: BoundFile
    recipe: Digest
    """Of the bytes of recipe.json."""
    squashfs_hashes: Digest
    dpkg_manifest: Digest
    test_report: Digest
    """Of the bytes of evidence/report.json."""


@dataclass(frozen=True, slots=True)
class TestSummary:
    """How many checks ended how, and what follows."""

    __test__ = False  # not a pytest class

    verdict: Literal["pass", "fail", "error"]
    passed: int
    failed: int
    errors: int
    skipped: int


@dataclass(frozen=True, slots=True)
class Verification:
    """The content of `verification.json`."""

    kind: Literal["kiln.verification/v1"]
    verification_id: str
    name: str
    base: str
    architecture: str
    epoch: int
    """SOURCE_DATE_EPOCH of the build, seconds since 1970."""
    bindings: Bindings
    tests: TestSummary


def verification_id(bindings: Bindings) -> str:
    """Return the id that *bindings* have: `sha256:` and 64 hexadecimal digits."""
    return str(Digest.of(canonical_json({"kind": KIND, "bindings": encode(bindings)})))


def build_verification(
    *, name: str, base: str, architecture: str, epoch: int, bindings: Bindings, tests: TestSummary
) -> Verification:
    """Return the document with its id computed."""
    return Verification(
        kind="kiln.verification/v1",
        verification_id=verification_id(bindings),
        name=name,
        base=base,
        architecture=architecture,
        epoch=epoch,
        bindings=bindings,
        tests=tests,
    )


def summary_verdict(tests: TestSummary) -> Literal["pass", "fail", "error"]:
    """Return the verdict that the counts lead to: nothing tested is an error."""
    if tests.errors or tests.passed + tests.failed == 0:
        return "error"
    return "fail" if tests.failed else "pass"


def check_verification(document: Verification) -> tuple[str, ...]:
    """Return what is wrong with *document* in itself: stable kebab-case words, none if all is well."""
    problems = []
    if document.verification_id != verification_id(document.bindings):
        problems.append("wrong-verification-id")
    if document.tests.verdict != summary_verdict(document.tests):
        problems.append("wrong-test-summary")
    return tuple(problems)
