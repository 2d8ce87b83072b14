"""Steps 7, 9 and 10 of a verification: verification document, packages and tests agree with what was signed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from kiln_wire import layout
from kiln_wire.canonical import CanonicalError, canonical_json
from kiln_wire.codec import DocumentError, decode
from kiln_wire.packages import (
    cyclonedx_packages,
    lock_packages,
    manifest_packages,
    spdx_packages,
)
from kiln_wire.verification import BoundFile, Verification, check_verification
from kiln_wire.verify_state import Evidence

IMAGE_TREE: Final = "image"


def check_verification_document(evidence: Evidence) -> bool:
    """Step 7: what was signed is well formed, its id follows, it is about the subjects, and the files are those."""
    predicate = evidence.predicate(layout.VERIFICATION_BUNDLE)
    if predicate is None:
        return False
    bundle = layout.VERIFICATION_BUNDLE
    try:
        evidence.compare_content(layout.VERIFICATION, canonical_json(predicate))
        document = decode(Verification, predicate)
    except (CanonicalError, DocumentError) as error:
        evidence.error(bundle, "malformed-verification", "a kiln.verification/v1 document", str(error))
        return False
    evidence.verification = document
    for reason in check_verification(document):
        evidence.error(bundle, reason, "what follows from the document's own content", document.verification_id)
    bound = document.bindings
    for file in (bound.image, bound.squashfs):
        _check_subject(evidence, file)
    for name, digest in (
        (layout.RECIPE, bound.recipe),
        (layout.SQUASHFS_HASHES, bound.squashfs_hashes),
        (layout.DPKG_MANIFEST, bound.dpkg_manifest),
        (layout.REPORT, bound.test_report),
    ):
        evidence.compare(name, digest)
    return True


def _check_subject(evidence: Evidence, file: BoundFile) -> None:
    if evidence.subjects.get(file.name) != file.digest:
        expected = f"one of {', '.join(f'{name} {digest}' for name, digest in evidence.subjects.items())}"
        evidence.error(layout.VERIFICATION_BUNDLE, "wrong-subject", expected, f"{file.name} {file.digest}")
    entry = evidence.entries.get(file.name)
    if entry is not None and entry.size_bytes != file.size_bytes and file.name not in evidence.named:
        evidence.error(
            layout.VERIFICATION_BUNDLE,
            "wrong-size",
            f"{file.name} {entry.size_bytes} bytes",
            f"{file.size_bytes} bytes",
        )


def check_packages(evidence: Evidence) -> bool:
    """Step 9: the SBOM files are what was signed; lock, SBOMs and dpkg-manifest name the same packages."""
    lock = evidence.document(layout.LOCK)
    readers: tuple[tuple[str, str, Callable[[Any], Collection[object]]], ...] = (
        (layout.CYCLONEDX, layout.CYCLONEDX_BUNDLE, cyclonedx_packages),
        (layout.SPDX, layout.SPDX_BUNDLE, spdx_packages),
    )
    done = lock is not None
    for name, bundle, read in readers:
        predicate = evidence.predicate(bundle)
        if predicate is None:
            done = False
            continue
        try:
            evidence.compare_content(name, canonical_json(predicate))
        except CanonicalError as error:
            evidence.error(bundle, "malformed-document", "canonical JSON", str(error))
            continue
        if lock is not None:
            evidence.agree(name, lambda: lock_packages(lock, IMAGE_TREE), lambda p=predicate, r=read: r(p))  # type: ignore[misc]
    manifest = evidence.documents.get(layout.DPKG_MANIFEST)
    if lock is not None and manifest is not None and layout.DPKG_MANIFEST not in evidence.named:
        evidence.agree(
            layout.DPKG_MANIFEST,
            lambda: {item.package for item in lock_packages(lock, IMAGE_TREE)},
            lambda: manifest_packages(manifest),
        )
    return done


def check_tests(evidence: Evidence) -> bool:
    """Step 10: statement, verification document and report give the same verdict on this image, and it is good."""
    predicate, verification = evidence.predicate(layout.TEST_REPORT_BUNDLE), evidence.verification
    if predicate is None or verification is None:
        return False
    result, tests = predicate.get("result"), verification.tests
    if result not in ("PASSED", "WARNED") or tests.verdict != "pass":
        got = f"{str(result)[:20]}, {tests.failed} failed, {tests.errors} could not be carried out"
        evidence.error(layout.TEST_REPORT_BUNDLE, "tests-not-passed", "PASSED", got)
    elif tests.skipped:
        evidence.add(layout.REPORT, "tests-skipped", "every test carried out", f"{tests.skipped} skipped", "warning")
    report = evidence.document(layout.REPORT)
    if report is None:
        return layout.REPORT in evidence.named
    image = str(verification.bindings.image.digest)
    if report.get("imageDigest") != image:
        evidence.error(layout.REPORT, "wrong-image", image, str(report.get("imageDigest"))[:80])
    try:
        verdicts = [check["verdict"] for check in report["checks"]]
    except (KeyError, TypeError) as error:
        evidence.error(layout.REPORT, "malformed-document", "checks with verdicts", repr(error)[:200])
        return False
    counts = tuple(verdicts.count(verdict) for verdict in ("pass", "fail", "error", "skip"))
    stated = (tests.passed, tests.failed, tests.errors, tests.skipped)
    if counts != stated or sum(counts) != len(verdicts):
        evidence.error(layout.REPORT, "wrong-test-summary", f"{stated} (passed, failed, errors, skipped)", str(counts))
    return True
