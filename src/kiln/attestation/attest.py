"""Attest to a finished build: SBOMs, verification document, and one signed statement for each claim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kiln.artifact.model import Artifact, Role
from kiln.artifact.stock import read_inventory
from kiln.attestation.agreement import require_agreement
from kiln.attestation.build_log import build_log_predicate
from kiln.attestation.components import Bill, components
from kiln.attestation.cyclonedx import cyclonedx
from kiln.attestation.licence_report import licence_report
from kiln.attestation.model import Attested, AttestInputs, WrittenFile
from kiln.attestation.provenance import provenance
from kiln.attestation.report import result_predicate, summarise
from kiln.attestation.signer import Signer, Stamper, sign_statement
from kiln.attestation.spdx import spdx
from kiln.attestation.vulnerabilities import vulnerabilities_predicate, with_vulnerabilities
from kiln.errors import Domain, KilnError
from kiln.linux.files import write_atomic
from kiln.vulnerabilities.result import ScanResult, read_scan
from kiln_wire import layout
from kiln_wire.canonical import CanonicalError, canonical_json, strict_loads
from kiln_wire.codec import encode
from kiln_wire.digest import Digest
from kiln_wire.files import DirectoryFiles, FileError
from kiln_wire.statement import (
    BUILD_LOG_TYPE,
    CYCLONEDX_TYPE,
    LICENCES_TYPE,
    OPENVEX_TYPE,
    PROVENANCE_TYPE,
    SPDX_TYPE,
    TEST_RESULT_TYPE,
    VERIFICATION_TYPE,
    VULNERABILITIES_TYPE,
    Subject,
    statement_json,
)
from kiln_wire.verification import Bindings, BoundFile, Verification, build_verification

MAX_RECIPE_BYTES: Final = 16 * 1024 * 1024
_DOCUMENTS: Final = (
    layout.REQUEST,
    layout.RECIPE,
    layout.RESOLUTION,
    layout.LOCK,
    layout.PLAN,
    layout.SQUASHFS_HASHES,
    layout.DPKG_MANIFEST,
    layout.REPORT,
    layout.INVENTORY,
    layout.BUILD_LOG,
    layout.STAGES,
)


def attest(inputs: AttestInputs, signer: Signer, stamper: Stamper | None = None) -> Attested:
    """Write SBOMs, verification.json, kiln.pub and all bundles into the image directory.

    A failed test is attested as such. The SBOMs depend only on lock, image and inventory; times stand in provenance
    and scan alone. Raises KilnError(ATTESTATION): `missing-evidence` if a file is not there or can't be read,
    `evidence-disagrees` if report, recipe, resolution and lock are not of the same build, `sbom-disagrees` if lock and
    inventory name different packages or files.
    """
    disk, root = (_artifact(inputs, role) for role in ("disk", "root"))
    evidence = _evidence_digests(inputs)
    documents = _check(inputs, disk)
    inventory = read_inventory((inputs.directory / layout.INVENTORY).read_bytes(), layout.INVENTORY)
    require_agreement(inputs.lock.tree("image"), inventory, documents[layout.RESOLUTION])
    writer = _Writer(inputs, signer, stamper)
    bill = Bill(
        name=inputs.name,
        lock=inputs.lock,
        lock_digest=evidence[layout.LOCK],
        artifacts=inputs.artifacts,
        components=components(inputs.lock, inputs.lock.tree("image")),
        inventory=inventory,
        kiln_version=inputs.builder.version,
    )
    scan = _scan(inputs)
    writer.stated(
        layout.CYCLONEDX, layout.CYCLONEDX_BUNDLE, CYCLONEDX_TYPE, with_vulnerabilities(cyclonedx(bill), scan)
    )
    writer.stated(layout.SPDX, layout.SPDX_BUNDLE, SPDX_TYPE, spdx(bill))
    verification = _verification(inputs, evidence, disk, root)
    writer.stated(layout.VERIFICATION, layout.VERIFICATION_BUNDLE, VERIFICATION_TYPE, encode(verification))
    writer.bundle(layout.TEST_REPORT_BUNDLE, TEST_RESULT_TYPE, result_predicate(inputs.report, evidence))
    writer.bundle(layout.BUILD_LOG_BUNDLE, BUILD_LOG_TYPE, build_log_predicate(inputs.directory, evidence))
    writer.bundle(layout.LICENCES_BUNDLE, LICENCES_TYPE, encode(licence_report(inventory)))
    if scan is not None:
        writer.bundle(layout.SCAN_BUNDLE, VULNERABILITIES_TYPE, vulnerabilities_predicate(scan))
    if layout.VEX in evidence:
        writer.bundle(layout.VEX_BUNDLE, OPENVEX_TYPE, strict_loads((inputs.directory / layout.VEX).read_bytes()))
    listed = {layout.REQUEST, layout.RECIPE, layout.LOCK, layout.RESOLUTION, layout.PLAN}
    writer.bundle(
        layout.PROVENANCE_BUNDLE,
        PROVENANCE_TYPE,
        provenance(
            request_text=inputs.request_text,
            recipe=documents[layout.RECIPE],
            lock=inputs.lock,
            files=evidence,
            byproducts=sorted(evidence.keys() - listed),
            builder=inputs.builder,
            invocation_id=inputs.invocation_id,
            started=inputs.started,
            finished=inputs.finished,
        ),
    )
    writer.file(layout.PUBLIC_KEY, signer.public_key.pem)
    return Attested(tuple(writer.written), verification, signer.public_key)


class _Writer:
    """Writes files into the image directory and remembers them."""

    def __init__(self, inputs: AttestInputs, signer: Signer, stamper: Stamper | None) -> None:
        self._directory = inputs.directory
        self._signer = signer
        self._stamper = stamper
        self._subjects = [Subject(artifact.name, artifact.digest) for artifact in inputs.artifacts]
        self.written: list[WrittenFile] = []

    def file(self, name: str, data: bytes) -> None:
        """Write one file."""
        path = self._directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
        self.written.append(WrittenFile(name, Digest.of(data), len(data)))

    def bundle(self, name: str, predicate_type: str, predicate: object) -> None:
        """Write one signed statement about the artifacts."""
        payload = statement_json(self._subjects, predicate_type, predicate)
        self.file(name, sign_statement(self._signer, payload, self._stamper))

    def stated(self, name: str, bundle: str, predicate_type: str, document: object) -> None:
        """Write a document and the statement that holds it."""
        self.file(name, canonical_json(document))
        self.bundle(bundle, predicate_type, document)


def _artifact(inputs: AttestInputs, role: Role) -> Artifact:
    found = [artifact for artifact in inputs.artifacts if artifact.role == role]
    if len(found) != 1:
        raise ValueError(f"there must be one artifact with the role {role}, not {len(found)}")
    return found[0]


def _evidence_digests(inputs: AttestInputs) -> Mapping[str, Digest]:
    """Return the digests of all documents of the build and of everything below evidence/."""
    with DirectoryFiles(inputs.directory) as files:
        try:
            entries = {entry.name: entry for entry in files.entries()}
        except FileError as error:
            raise _missing(inputs, error.name, error.problem) from error
        for artifact in inputs.artifacts:
            if artifact.name not in entries or entries[artifact.name].size_bytes != artifact.size_bytes:
                raise _missing(inputs, artifact.name, f"is not there with {artifact.size_bytes} bytes")
        names = {name for name in entries if name.startswith(layout.EVIDENCE + "/")} | set(_DOCUMENTS)
        digests = {}
        for name, digest in files.digests(sorted(names)).items():
            if not isinstance(digest, Digest):
                raise _missing(inputs, name, digest.problem) from digest
            digests[name] = digest
    return digests


def _scan(inputs: AttestInputs) -> ScanResult | None:
    """Return the result of the scan, where there was one."""
    path = inputs.directory / layout.SCAN
    return read_scan(path.read_bytes(), layout.SCAN) if path.exists() else None


def _check(inputs: AttestInputs, disk: Artifact) -> dict[str, Any]:
    """Check that the evidence is of one build, and return the documents of recipe and resolution."""
    documents: dict[str, Any] = {}
    for name, expected in (
        (layout.RECIPE, inputs.lock.recipe_digest),
        (layout.RESOLUTION, inputs.lock.resolution_digest),
    ):
        try:
            documents[name] = strict_loads((inputs.directory / name).read_bytes(), max_bytes=MAX_RECIPE_BYTES)
            got = Digest.of(canonical_json(documents[name]))
        except CanonicalError as error:
            raise _disagrees(f"{name} has no canonical form: {error}") from error
        if got != expected:
            raise _disagrees(f"the lock was made from another {name}: {expected}, not {got}")
    if inputs.report.image_digest != str(disk.digest):
        raise _disagrees(f"the tests ran on another image: {inputs.report.image_digest}, not {disk.digest}")
    return documents


def _verification(inputs: AttestInputs, evidence: Mapping[str, Digest], disk: Artifact, root: Artifact) -> Verification:
    return build_verification(
        name=inputs.name,
        base=inputs.lock.base,
        architecture=inputs.lock.architecture,
        epoch=inputs.lock.epoch,
        bindings=Bindings(
            image=BoundFile(disk.name, disk.digest, disk.size_bytes),
            squashfs=BoundFile(root.name, root.digest, root.size_bytes),
            recipe=evidence[layout.RECIPE],
            squashfs_hashes=evidence[layout.SQUASHFS_HASHES],
            dpkg_manifest=evidence[layout.DPKG_MANIFEST],
            test_report=evidence[layout.REPORT],
        ),
        tests=summarise(inputs.report),
    )


def _missing(inputs: AttestInputs, name: str, problem: str) -> KilnError:
    return KilnError(
        Domain.ATTESTATION,
        "missing-evidence",
        f"{inputs.directory / name} {problem}",
        hint="nothing is attested that can't be shown; run `kiln build` again, it goes on from the last good stage",
    )


def _disagrees(problem: str) -> KilnError:
    return KilnError(
        Domain.ATTESTATION,
        "evidence-disagrees",
        problem,
        hint="the image directory holds files of several builds; build into an empty one",
    )
