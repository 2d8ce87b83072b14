"""Verify files that were signed by themselves: one file with its bundle, or a directory with its list of files.

Steps: trust, bundles, content, signatures, subjects, validity, policy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kiln_wire.digest import Digest
from kiln_wire.dsse import MAX_BUNDLE_BYTES
from kiln_wire.files import FileError, Files
from kiln_wire.finding import VerificationResult
from kiln_wire.policy import Policy
from kiln_wire.trust import Trust
from kiln_wire.verify_claims import Claims, Step, claims_steps, run_steps

BUNDLE_SUFFIX: Final = ".sigstore.json"
FILE_LIST: Final = "kiln-files.sha256"
"""SHA-256 of every other file of a signed directory, sorted by name, as `sha256sum` writes it."""
MAX_LIST_BYTES: Final = 16 * 1024 * 1024
STEPS: Final = ("trust", "bundles", "content", "signatures", "subjects", "validity", "policy")


def verify_blob(
    files: Files, name: str, trust: Trust, *, bundle: bytes | None = None, policy: Policy | None = None
) -> VerificationResult:
    """Verify the file *name* of *files* with its bundle (`<name>.sigstore.json` beside it, unless given)."""
    claims = Claims(trust, policy, closed=True)
    run = _Run(files, name, claims, bundle)
    return run_steps(claims.evidence, run.steps(run.hash_one), lambda: 1)


def verify_directory(files: Files, trust: Trust, *, policy: Policy | None = None) -> VerificationResult:
    """Verify a directory that holds FILE_LIST and its bundle: every file is listed, and every listed file is there."""
    claims = Claims(trust, policy, closed=True)
    run = _Run(files, FILE_LIST, claims, None)
    return run_steps(claims.evidence, run.steps(run.hash_listed), lambda: run.count)


class _Run:
    def __init__(self, files: Files, name: str, claims: Claims, bundle: bytes | None) -> None:
        self.files = files
        self.name = name
        self.claims = claims
        self.bundle = bundle
        self.count = 1

    def steps(self, content: Callable[[], bool]) -> tuple[Step, ...]:
        """Return all steps."""
        return (
            ("trust", "Read the keys", self.claims.check_trust),
            ("bundles", "Read the bundle", self.read_bundle),
            ("content", "Hash the content", content),
            *claims_steps(self.claims),
        )

    def read_bundle(self) -> bool:
        """Step 2."""
        name = self.name + BUNDLE_SUFFIX
        try:
            self.claims.add(name, self.bundle or self.files.read(name, MAX_BUNDLE_BYTES))
        except FileError as error:
            self.claims.evidence.error(error.name, error.reason, "a bundle", error.problem)
            return False
        return True

    def hash_one(self) -> bool:
        """Step 3 for a file."""
        got = self.files.digests([self.name])[self.name]
        if not isinstance(got, Digest):
            self.claims.evidence.error(got.name, got.reason, "a readable file", got.problem)
            return False
        self.claims.subjects = {self.name.rpartition("/")[2]: got}
        return True

    def hash_listed(self) -> bool:
        """Step 3 for a directory."""
        evidence = self.claims.evidence
        try:
            data = self.files.read(FILE_LIST, MAX_LIST_BYTES)
            entries = {entry.name: entry for entry in self.files.entries()}
            listed = read_list(data)
        except FileError as error:
            evidence.error(error.name, error.reason, "a list of files", error.problem)
            return False
        self.claims.subjects = {FILE_LIST: Digest.of(data)}
        apart = {FILE_LIST, FILE_LIST + BUNDLE_SUFFIX}
        self.count = len(entries)
        evidence.bytes_hashed = sum(entry.size_bytes for entry in entries.values() if entry.regular)
        for name in sorted(entries.keys() - apart - listed.keys()):
            evidence.error(name, "unexpected-file", "a file that the list names", "it is not named")
        for name, got in self.files.digests(sorted(listed)).items():
            if not isinstance(got, Digest):
                reason = "missing-file" if got.reason == "missing" else got.reason
                evidence.error(name, reason, str(listed[name]), got.problem)
            elif got != listed[name]:
                evidence.error(name, "changed", str(listed[name]), str(got))
        return True


def read_list(data: bytes) -> dict[str, Digest]:
    """Read lines `<64 digits>  <name>`, sorted by name. Raises FileError `malformed-document`."""
    result: dict[str, Digest] = {}
    try:
        for line in data.decode("utf-8").splitlines():
            digest, _, name = line.partition("  ")
            result[name] = Digest("sha256", digest)
            if not name:
                raise ValueError("a line without a name")
    except ValueError as error:
        raise FileError(FILE_LIST, "malformed-document", f"not a list of digests: {error}") from None
    if write_list(result) != data:
        raise FileError(FILE_LIST, "malformed-document", "the lines are not sorted, or not unique")
    return result


def write_list(digests: dict[str, Digest]) -> bytes:
    """Return the list of files."""
    return "".join(f"{digests[name].hex}  {name}\n" for name in sorted(digests)).encode()
