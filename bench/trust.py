"""What trust costs: statements and signatures per second, and verification of a 1 GB image.

Each function returns rows for bench/results; files are made below the directory that is given.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from bench.measure import Row, compare
from kiln.artifact.oci.layout import open_layout
from kiln.artifact.oci.model import image_manifest
from kiln.attestation.keys import open_signer
from kiln.attestation.oci_sign import sign_image
from kiln.attestation.signer import Signer, sign_statement
from kiln.attestation.targets import verify_target
from kiln_wire.canonical import canonical_json
from kiln_wire.digest import Digest
from kiln_wire.dsse import read_bundle, verify
from kiln_wire.oci import MANIFEST, Descriptor
from kiln_wire.statement import PROVENANCE_TYPE, Subject, digest_set, statement_json
from kiln_wire.trust import Trust

STATEMENTS = 2000
DEPENDENCIES = 150
VERIFICATIONS = 20
GIGABYTE = 10**9
LAYERS = 4
PIECE = 10**6


def statements(directory: Path) -> list[Row]:
    """Write, sign and bundle provenance with 150 dependencies; then check some with the standard library alone."""
    signer = open_signer(directory / "keys")
    dependencies = [
        {
            "uri": f"pkg:deb/debian/package-{number}@1.{number}?arch=amd64",
            "digest": digest_set(Digest.of(bytes([number]))),
        }
        for number in range(DEPENDENCIES)
    ]
    started = time.process_time()
    for number in range(STATEMENTS):
        subject = Subject(f"image-{number}", Digest.of(str(number).encode()))
        predicate = {"buildDefinition": {"resolvedDependencies": dependencies}, "run": number}
        bundle = sign_statement(signer, statement_json([subject], PROVENANCE_TYPE, predicate))
    signed = (time.process_time() - started) / STATEMENTS
    started = time.process_time()
    for _ in range(VERIFICATIONS):
        verify(read_bundle(bundle), signer.public_key)
    checked = (time.process_time() - started) / VERIFICATIONS
    command = f"sign_statement, {DEPENDENCIES} dependencies, P-256, one core"
    return [
        compare("trust.statements", 1 / signed, None, "1/s", command),
        compare("trust.verify_bundle", 1 / checked, None, "1/s", "the same, checked by kiln_wire in plain Python"),
    ]


def verify_1gb(directory: Path) -> list[Row]:
    """Verify a signed OCI layout of 1 GB against `sha256sum` of its layers, run on all cores."""
    layout_directory = directory / "layout"
    signer = open_signer(directory / "keys")
    blobs = _make_layout(layout_directory, signer)
    trust = Trust((signer.public_key,))
    ours = min(_seconds(lambda: _verified(layout_directory, trust)) for _ in range(3))
    theirs = min(_seconds(lambda: _sha256sum(blobs)) for _ in range(3))
    command = f"kiln verify LAYOUT / sha256sum, {LAYERS} layers, {os.cpu_count()} cores"
    return [compare("trust.verify_1gb", ours, theirs, "s", command)]


def rows(directory: Path) -> list[Row]:
    """Return all rows of this module."""
    return [*statements(directory), *verify_1gb(directory)]


def _make_layout(directory: Path, signer: Signer) -> list[Path]:
    descriptors = []
    with open_layout(directory, create=True) as layout:
        for number in range(LAYERS):
            path = directory / f"layer-{number}"
            state = hashlib.sha256()
            with path.open("wb") as file:
                for piece in range(GIGABYTE // LAYERS // PIECE):
                    data = hashlib.sha256(f"{number} {piece}".encode()).digest() * (PIECE // 32)
                    state.update(data)
                    file.write(data)
            digest = Digest("sha256", state.hexdigest())
            size = layout.push_blob(path, digest)
            path.unlink()
            descriptors.append(Descriptor("application/vnd.oci.image.layer.v1.tar", digest, size))
        config = canonical_json({"architecture": "amd64", "os": "linux"})
        layout.push_blob(config, Digest.of(config))
        described = Descriptor("application/vnd.oci.image.config.v1+json", Digest.of(config), len(config))
        layout.push_manifest(image_manifest(described, descriptors), MANIFEST, "1")
        sign_image(layout, "1", signer, name="bench", now=datetime(2026, 1, 1, tzinfo=UTC))
    return [directory / "blobs" / item.digest.algorithm / item.digest.hex for item in descriptors]


def _verified(layout: Path, trust: Trust) -> None:
    if verify_target(str(layout), trust).verdict != "verified":
        raise RuntimeError("the layout of the benchmark was refused")


def _sha256sum(paths: list[Path]) -> None:
    def one(path: Path) -> None:
        subprocess.run(["sha256sum", str(path)], check=True, stdout=subprocess.DEVNULL)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, paths))


def _seconds(action: Callable[[], None]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
