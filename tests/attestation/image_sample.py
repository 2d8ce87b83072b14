"""A small image directory, complete and attested, for the tests of attestation and verification."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from kiln.artifact.licences import Source
from kiln.artifact.model import QCOW2, SQUASHFS, Artifact
from kiln.artifact.stock import Inventory, StockedPackage, TreeFile, inventory_bytes
from kiln.attestation.attest import attest
from kiln.attestation.model import Attested, AttestInputs, Builder
from kiln.attestation.signer import FileSigner, Signer, sign_statement
from kiln.authoring.lock.model import Lock, LockedIndex, LockedPackage, LockedTree
from kiln.trial.model import CheckResult, Machine, TestReport, Verdict
from kiln_wire.canonical import canonical_json, strict_loads
from kiln_wire.codec import encode
from kiln_wire.digest import Digest
from kiln_wire.dsse import read_bundle
from kiln_wire.statement import Subject, read_statement, statement_json

SIGNER = FileSigner(ec.derive_private_key(0xC0FFEE, ec.SECP256R1()))
OTHER_SIGNER = FileSigner(ec.derive_private_key(0xBADC0DE, ec.SECP256R1()))
RECIPE = {"name": "box", "baseImage": "debian-12", "features": [{"id": "ssh", "options": {}}]}
RESOLUTION = {"name": "box", "packages": [{"name": "openssh-server", "reason": {"chain": ["request", "ssh"]}}]}


def package(name: str, version: str = "1.0-1", depends: tuple[str, ...] = (), arch: str = "amd64") -> LockedPackage:
    return LockedPackage(
        name=name,
        version=version,
        architecture=arch,
        mirror="debian",
        suite="bookworm",
        path=f"pool/main/{name[0]}/{name}/{name}_{version.replace(':', '%3a')}_{arch}.deb",
        size_bytes=1000,
        digest=Digest.of(f"{name} {version} {arch}".encode()),
        source=name,
        source_version=version,
        installed_size_bytes=4000,
        essential=False,
        depends=depends,
        reason="feature ssh",
    )


IMAGE_PACKAGES = (
    package("adduser", "3.134", ("libc6",), "all"),
    package("libc6", "2.36-9+deb12u10"),
    package("libstdc++6", "12.2.0-14", ("libc6",)),
    package("openssh-server", "1:9.2p1-2+deb12u7", ("adduser", "libc6")),
)


def make_lock(image: tuple[LockedPackage, ...] = IMAGE_PACKAGES) -> Lock:
    return Lock(
        recipe_digest=Digest.of(canonical_json(RECIPE)),
        resolution_digest=Digest.of(canonical_json(RESOLUTION)),
        base="debian-12",
        architecture="amd64",
        epoch=1_700_000_000,
        indexes=(
            LockedIndex(
                "debian",
                "bookworm",
                ("main",),
                Digest.of(b"InRelease"),
                "2023-11-14T22:13:20Z",
                "",
                ("4D64FEC119C2029067D6E791F8D2585B8783D481",),
            ),
        ),
        trees=(LockedTree("build", (IMAGE_PACKAGES[1], package("mke2fs"))), LockedTree("image", image)),
    )


def make_inventory(lock: Lock, **licences: str) -> Inventory:
    """Return an inventory that agrees with *lock*: a file for each package, and one that no package owns."""
    packages = lock.tree("image").packages

    def file(path: str, *owners: str) -> TreeFile:
        data = path.encode()
        return TreeFile(path, "file", 0o644, 0, 0, len(data), owners, Digest.of(data), hashlib.sha1(data).hexdigest())

    files = [
        file(f"/usr/share/{item.name}/{item.architecture}", f"{item.name}:{item.architecture}") for item in packages
    ]
    return Inventory(
        packages=tuple(
            StockedPackage(item.name, item.architecture, item.version, *_licence(licences.get(item.name, "")))
            for item in packages
        ),
        files=tuple(sorted([*files, file("/etc/hostname")], key=lambda item: item.path)),
        alterations=(),
        licence_texts=(("LicenseRef-own", "Do as you like."),)
        if any("LicenseRef-own" in text for text in licences.values())
        else (),
        accounts=(),
        groups=(),
        units=(),
        sysctls=(),
    )


def _licence(expression: str) -> tuple[str, Source]:
    return expression, "dep5" if expression else "none"


def make_report(image: Digest, *verdicts: Verdict) -> TestReport:
    checks = tuple(
        CheckResult(f"check-{number}", "unit-active", (), "feature ssh", verdict, "active", "active", 0.25)
        for number, verdict in enumerate(verdicts or ("pass", "pass"))
    )
    return TestReport(str(image), Machine("qemu", "tcg", "bios", 1024, 2), 20.5, 30.25, checks)


def make_inputs(directory: Path, *, verdicts: tuple[Verdict, ...] = (), lock: Lock | None = None) -> AttestInputs:
    """Write the files of a finished build, and return what attests them."""
    lock = lock or make_lock()
    qcow2, squashfs = b"QFI\xfb" + b"disk" * 5000, b"hsqs" + b"root" * 3000
    artifacts = (
        Artifact("box.qcow2", QCOW2, Digest.of(qcow2), len(qcow2), "disk"),
        Artifact("box.squashfs", SQUASHFS, Digest.of(squashfs), len(squashfs), "root"),
    )
    report = make_report(artifacts[0].digest, *verdicts)
    manifest = sorted(f"{item.name}:{item.architecture}\t{item.version}\n" for item in lock.tree("image").packages)
    files = {
        "request.json": canonical_json({"kind": "kiln.request/v1", "text": "a box with ssh"}),
        "recipe.json": canonical_json(RECIPE),
        "resolution.json": canonical_json(RESOLUTION),
        "kiln.lock": canonical_json({"kind": "kiln.lock/v1", **encode(lock)}),
        "plan.json": canonical_json({"version": "2", "pipelines": []}),
        "box.qcow2": qcow2,
        "box.squashfs": squashfs,
        "squashfs-hashes.sha256": f"{Digest.of(b'x').hex}  ./etc/hostname\n".encode(),
        "dpkg-manifest": "".join(manifest).encode(),
        "evidence/report.json": json.dumps(encode(report)).encode(),
        "evidence/report.xml": b"<testsuite/>\n",
        "evidence/serial.log": b"Linux version 6.1\n",
        "evidence/build.log": b"stage 1\n",
        "evidence/stages.json": canonical_json({"kind": "kiln.stages/v1", "stages": []}),
        "evidence/inventory.json": inventory_bytes(make_inventory(lock)),
    }
    (directory / "evidence").mkdir(parents=True)
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return AttestInputs(
        directory=directory,
        name="box",
        request_text="a box with ssh",
        lock=lock,
        artifacts=artifacts,
        report=report,
        builder=Builder("urn:kiln:builder:local:v1", "0.1.0"),
        invocation_id="run-1",
        started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        finished=datetime(2026, 1, 2, 3, 9, 5, tzinfo=UTC),
    )


def make_image(directory: Path, signer: Signer = SIGNER, *, verdicts: tuple[Verdict, ...] = ()) -> Attested:
    """Write a complete, attested image directory."""
    return attest(make_inputs(directory, verdicts=verdicts), signer)


def resign(
    directory: Path,
    bundle: str,
    change: Callable[[Any], None] = lambda predicate: None,
    *,
    subjects: Callable[[Subject], Subject] = lambda subject: subject,
    kind: str = "",
    name: str = "",
) -> dict[str, Any]:
    """Change a statement in place and sign it again with the right key: what only an insider could do."""
    path = directory / "attestations" / f"{bundle}.sigstore.json"
    statement = read_statement(read_bundle(path.read_bytes()).unverified_payload)
    change(statement.predicate)
    payload = statement_json(
        [subjects(subject) for subject in statement.subjects], kind or statement.predicate_type, statement.predicate
    )
    target = path.with_name(f"{name}.sigstore.json") if name else path
    target.write_bytes(sign_statement(SIGNER, payload))
    return statement.predicate


def rewrite(directory: Path, name: str, change: Callable[[Any], None]) -> None:
    """Change a JSON document in place."""
    document = strict_loads((directory / name).read_bytes())
    change(document)
    (directory / name).write_bytes(canonical_json(document))


def with_digest(subject: Subject, data: bytes) -> Subject:
    return replace(subject, digest=Digest.of(data))
