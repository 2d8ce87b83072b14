"""What an owner demands of an image, as a document: a policy is data, not a program.

Every rule that is left out allows everything. docs/verify.md describes the language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from kiln_wire.statement import (
    APPROVAL_TYPE,
    BUILD_LOG_TYPE,
    CYCLONEDX_TYPE,
    LICENCES_TYPE,
    OPENVEX_TYPE,
    PROVENANCE_TYPE,
    RECORD_TYPE,
    SIGNATURE_TYPE,
    SPDX_TYPE,
    TEST_RESULT_TYPE,
    VERIFICATION_TYPE,
    VULNERABILITIES_TYPE,
)

KIND: Final = "kiln.policy/v1"
MAX_POLICY_BYTES: Final = 1024 * 1024
STATEMENTS: Final[Mapping[str, str]] = {
    "provenance": PROVENANCE_TYPE,
    "cyclonedx": CYCLONEDX_TYPE,
    "spdx": SPDX_TYPE,
    "tests": TEST_RESULT_TYPE,
    "verification": VERIFICATION_TYPE,
    "record": RECORD_TYPE,
    "approval": APPROVAL_TYPE,
    "signature": SIGNATURE_TYPE,
    "vex": OPENVEX_TYPE,
    "vulnerabilities": VULNERABILITIES_TYPE,
    "licences": LICENCES_TYPE,
    "build-log": BUILD_LOG_TYPE,
}
"""Short name -> predicate type; any other type is written out."""


@dataclass(frozen=True, slots=True)
class SignerRule:
    """A statement must be signed by *threshold* different keys of a role, or of those listed."""

    statement: str
    role: str = ""
    keys: tuple[str, ...] = ()
    """Hints."""
    threshold: int = 1


@dataclass(frozen=True, slots=True)
class VulnerabilityRule:
    """How many known vulnerabilities of each severity are accepted; VEX statements take out what does not apply."""

    max_critical: int | None = None
    max_high: int | None = None
    max_medium: int | None = None
    max_low: int | None = None
    max_unknown: int | None = None
    max_scan_age_days: int | None = None
    accepted: tuple[str, ...] = ()
    """Ids that do not count."""
    uncovered: Literal["allow", "deny"] = "deny"
    """What to think of components for which no advisories were known: unknown is not the same as clean."""


@dataclass(frozen=True, slots=True)
class LicenceRule:
    """Licences by SPDX id. Of `A OR B` one must do, of `A AND B` both."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    unknown: Literal["allow", "deny"] = "allow"


@dataclass(frozen=True, slots=True)
class TestRule:
    """What must have been tested; that the tests passed is demanded in any case."""

    __test__ = False  # not a pytest class

    min_passed: int = 1
    max_skipped: int | None = None
    required: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TransparencyRule:
    """Whether the record must be in a trusted log, and how many witnesses must have seen that."""

    required: bool = True
    min_witnesses: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules; each that is there must hold."""

    kind: Literal["kiln.policy/v1"]
    require: tuple[str, ...] = ()
    """Statements that must be there: short names or predicate types."""
    signers: tuple[SignerRule, ...] = ()
    vulnerabilities: VulnerabilityRule | None = None
    licences: LicenceRule | None = None
    tests: TestRule | None = None
    transparency: TransparencyRule | None = None
    bases: tuple[str, ...] = ()
    max_age_days: int | None = None
    """Since the build ended, as the provenance says."""
    forbidden_packages: tuple[str, ...] = ()


def predicate_type(statement: str) -> str:
    """Return the predicate type that a short name stands for."""
    return STATEMENTS.get(statement, statement)
