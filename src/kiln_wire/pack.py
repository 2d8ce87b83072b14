"""A trust pack: one file that holds an image with all that proves what it is, and the program that checks it.

    pack.json          every other entry with its digest
    image/             the image directory, or an OCI layout
    trust/root.json    the trust root of whoever packed it, for comparison; it is not trusted for lying here
    kiln_wire/         this verifier
    __main__.py        starts it

Entries are stored, sorted and without times: the same content gives the same bytes. Whoever can change a pack can
change the verifier in it, so an auditor runs a verifier of his own on it: `kiln verify`, or the `kiln_wire` of a pack
that he trusts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from kiln_wire.archive import ArchiveFiles
from kiln_wire.canonical import CanonicalError, strict_loads
from kiln_wire.codec import DocumentError, decode
from kiln_wire.digest import Digest
from kiln_wire.files import Entry, FileError
from kiln_wire.finding import Finding, StepResult, VerificationResult
from kiln_wire.oci import LAYOUT_FILE, OciLayout
from kiln_wire.policy import Policy
from kiln_wire.trust import Trust
from kiln_wire.verify import verify
from kiln_wire.verify_oci import verify_oci

LIST: Final = "pack.json"
IMAGE: Final = "image/"
ROOT: Final = "trust/root.json"
STEP: Final = "pack"
MAX_LIST_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PackedFile:
    """An entry of a pack."""

    name: str
    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Pack:
    """The content of pack.json."""

    kind: Literal["kiln.pack/v1"]
    name: str
    """Of the image."""
    files: tuple[PackedFile, ...]


def verify_pack(files: ArchiveFiles, trust: Trust, *, policy: Policy | None = None) -> VerificationResult:
    """Verify the image in an open pack as it would be verified outside, then the list of the pack's entries."""
    image = files.below(IMAGE)
    if any(entry.name == LAYOUT_FILE for entry in image.entries()):
        result = verify_oci(OciLayout(image), "", trust, policy=policy)
    else:
        result = verify(image, trust, policy=policy)
    findings = _check_list(files)
    outcome: Literal["passed", "failed"] = "failed" if findings else "passed"
    step = StepResult(len(result.steps) + 1, STEP, "Compare the pack with its list", outcome)
    return replace(result, steps=(*result.steps, step), findings=(*result.findings, *findings))


def _check_list(files: ArchiveFiles) -> tuple[Finding, ...]:
    def finding(component: str, reason: str, expected: str, got: str) -> Finding:
        return Finding(STEP, component, reason, expected, got)

    try:
        pack = decode(Pack, strict_loads(files.read(LIST, MAX_LIST_BYTES)))
    except (FileError, CanonicalError, DocumentError) as error:
        return (finding(LIST, "malformed-document", "a list of the pack's entries", str(error)[:200]),)
    listed = {item.name: item for item in pack.files}
    entries: dict[str, Entry] = {entry.name: entry for entry in files.entries() if entry.name != LIST}
    result = [
        finding(name, "missing-file", str(listed[name].digest), "no such entry")
        for name in listed.keys() - entries.keys()
    ]
    result += [
        finding(name, "unexpected-file", "an entry that the list names", "it is not named")
        for name in entries.keys() - listed.keys()
    ]
    rest = sorted(listed.keys() & entries.keys())  # the image's own were hashed before, and are remembered
    for name, got in files.digests(rest).items():
        if got != listed[name].digest or entries[name].size_bytes != listed[name].size_bytes:
            result.append(finding(name, "changed", str(listed[name].digest), str(got)))
    return tuple(sorted(result, key=lambda item: (item.component, item.reason)))
