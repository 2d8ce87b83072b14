"""The files of an image directory, the output of one build, by their names below it.

    request.json              what was asked, in the words of the person
    recipe.json               what that means; canonical form is hashed
    resolution.json           every thing that the recipe adds, with its reason
    kiln.lock                 every input by digest
    plan.json                 the osbuild manifest that was run
    <name>.qcow2              the disk image            } the subjects
    <name>.squashfs           its root file system      } of every statement
    squashfs-hashes.sha256    SHA-256 of every regular file of that root, as sha256sum writes it
    dpkg-manifest             `name:architecture TAB version` of every package that dpkg says is installed
    sbom.cdx.json             CycloneDX 1.6
    sbom.spdx.json            SPDX 2.3
    evidence/report.json      the test report; beside it the serial log, the build log and the report as JUnit XML
    evidence/inventory.json   every file and package of the tree: owners, digests, licences
    evidence/scan.json        known vulnerabilities of the packages, where there was a database; with vex.json beside it
    verification.json         the facts that a device can check, bound together by one id
    attestations/*.sigstore.json   one signed statement each
    record.json               the record of this build, as it stands in the chain of records
    record.tlog-proof         proof that the log of records holds it, as of one checkpoint (C2SP tlog-proof)
    kiln.pub                  the public key of whoever signed

Every file but `kiln.pub`, the proof and the bundles is bound by digest or by content to a signed statement; a file
that is not listed by one is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kiln_wire.statement import (
    BUILD_LOG_TYPE,
    CYCLONEDX_TYPE,
    LICENCES_TYPE,
    OPENVEX_TYPE,
    PROVENANCE_TYPE,
    RECORD_TYPE,
    SPDX_TYPE,
    TEST_RESULT_TYPE,
    VERIFICATION_TYPE,
    VULNERABILITIES_TYPE,
)

REQUEST: Final = "request.json"
RECIPE: Final = "recipe.json"
RESOLUTION: Final = "resolution.json"
LOCK: Final = "kiln.lock"
PLAN: Final = "plan.json"
SQUASHFS_HASHES: Final = "squashfs-hashes.sha256"
DPKG_MANIFEST: Final = "dpkg-manifest"
CYCLONEDX: Final = "sbom.cdx.json"
SPDX: Final = "sbom.spdx.json"
EVIDENCE: Final = "evidence"
REPORT: Final = "evidence/report.json"
INVENTORY: Final = "evidence/inventory.json"
BUILD_LOG: Final = "evidence/build.log"
STAGES: Final = "evidence/stages.json"
SCAN: Final = "evidence/scan.json"
VEX: Final = "evidence/vex.json"
VERIFICATION: Final = "verification.json"
ATTESTATIONS: Final = "attestations"
RECORD: Final = "record.json"
LOG_PROOF: Final = "record.tlog-proof"
PUBLIC_KEY: Final = "kiln.pub"
BUNDLE_SUFFIX: Final = ".sigstore.json"

PROVENANCE_BUNDLE: Final = "attestations/provenance.sigstore.json"
CYCLONEDX_BUNDLE: Final = "attestations/sbom-cyclonedx.sigstore.json"
SPDX_BUNDLE: Final = "attestations/sbom-spdx.sigstore.json"
TEST_REPORT_BUNDLE: Final = "attestations/test-report.sigstore.json"
VERIFICATION_BUNDLE: Final = "attestations/verification.sigstore.json"
BUILD_LOG_BUNDLE: Final = "attestations/build-log.sigstore.json"
LICENCES_BUNDLE: Final = "attestations/licences.sigstore.json"
SCAN_BUNDLE: Final = "attestations/vulnerabilities.sigstore.json"
VEX_BUNDLE: Final = "attestations/vex.sigstore.json"
RECORD_BUNDLE: Final = "attestations/record.sigstore.json"

REQUIRED_STATEMENTS: Final[Mapping[str, str]] = {
    PROVENANCE_BUNDLE: PROVENANCE_TYPE,
    CYCLONEDX_BUNDLE: CYCLONEDX_TYPE,
    SPDX_BUNDLE: SPDX_TYPE,
    TEST_REPORT_BUNDLE: TEST_RESULT_TYPE,
    VERIFICATION_BUNDLE: VERIFICATION_TYPE,
}
"""Bundle -> type of the predicate that it must hold. An image without one of them is refused."""

KNOWN_STATEMENTS: Final[Mapping[str, str]] = {
    **REQUIRED_STATEMENTS,
    BUILD_LOG_BUNDLE: BUILD_LOG_TYPE,
    LICENCES_BUNDLE: LICENCES_TYPE,
    SCAN_BUNDLE: VULNERABILITIES_TYPE,
    VEX_BUNDLE: OPENVEX_TYPE,
    RECORD_BUNDLE: RECORD_TYPE,
}
"""Those that can be there; a policy may require more of them than an image must have."""

STATED_CONTENT: Final[Mapping[str, str]] = {
    CYCLONEDX: CYCLONEDX_BUNDLE,
    SPDX: SPDX_BUNDLE,
    VERIFICATION: VERIFICATION_BUNDLE,
    RECORD: RECORD_BUNDLE,
}
"""File -> bundle whose predicate, in canonical form, is the file's content."""
