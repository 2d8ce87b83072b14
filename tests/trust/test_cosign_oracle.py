"""cosign 2 and 3, oras and sigstore's JavaScript accept what we sign, and refuse it after one flipped byte."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from oci_sample import make_layout, registry
from test_oci import MOMENT, _copy, signed_layout
from trust_sample import machine

from kiln.artifact.oci.layout import open_layout
from kiln.attestation.blob_sign import sign_file
from kiln.attestation.oci_sign import attest_image
from kiln.attestation.signers import KeyRing
from kiln.attestation.targets import verify_target
from kiln.attestation.trust import read_public_key
from kiln_wire.statement import SIGNATURE_TYPE
from kiln_wire.trust import Trust

pytestmark = pytest.mark.full

ORACLES = Path("/opt/oracles")
COSIGN = ("cosign2", "cosign3")
QUIET = ("--insecure-ignore-tlog=true",)
REMOTE = (*QUIET, "--allow-http-registry")
NO_SERVER = {"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=str(ORACLES))
    if found is None:
        pytest.skip(f"{name} is neither on PATH nor in {ORACLES}; see docs/testing.md")
    return found


def accepts(home: Path, name: str, *arguments: str) -> bool:
    environment = {**os.environ, "HOME": str(home), "COSIGN_PASSWORD": ""}
    done = subprocess.run(
        [program(name), *arguments], cwd=home, capture_output=True, text=True, env=environment, check=False
    )
    wrong_usage = ("unknown flag", "unknown command", "connection refused")
    assert not any(text in done.stderr for text in wrong_usage), done.stderr
    return done.returncode == 0


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed")
    with registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "keys")


def published(host: str, name: str, tmp_path: Path, ring: KeyRing) -> str:
    """Sign an image with all kinds of statements in a layout, and copy it into the registry."""
    signed_layout(tmp_path / name, ring)
    with open_layout(tmp_path / name) as layout:
        for kind in ("https://openvex.dev/ns", "https://cyclonedx.org/bom", "https://spdx.dev/Document"):
            attest_image(layout, "1", kind, {"a": 1}, ring.signer("image-vault"), now=MOMENT)
    _copy(str(tmp_path / name), f"{host}/oracle/{name}:1")
    return f"{host}/oracle/{name}:1"


@pytest.mark.parametrize("cosign", COSIGN)
def test_cosign_verifies_an_image_and_its_attestations(cosign: str, host: str, tmp_path: Path, ring: KeyRing) -> None:
    reference = published(host, f"good-{cosign}", tmp_path, ring)
    key = str(tmp_path / "keys/image-vault.pub")
    assert accepts(tmp_path, cosign, "verify", "--key", key, *REMOTE, reference)
    for kind in ("slsaprovenance1", "openvex", "cyclonedx", "spdxjson"):
        assert accepts(tmp_path, cosign, "verify-attestation", "--key", key, "--type", kind, *REMOTE, reference)
    ring.signer("approver")
    wrong = str(tmp_path / "keys/approver.pub")
    assert not accepts(tmp_path, cosign, "verify", "--key", wrong, *REMOTE, reference)


def test_cosign_3_reads_the_older_scheme_too(host: str, tmp_path: Path, ring: KeyRing) -> None:
    reference = published(host, "older", tmp_path, ring)
    key = ("--new-bundle-format=false", "--key", str(tmp_path / "keys/image-vault.pub"))
    assert accepts(tmp_path, "cosign3", "verify", *key, *REMOTE, reference)
    assert accepts(tmp_path, "cosign3", "verify-attestation", *key, "--type", "slsaprovenance1", *REMOTE, reference)


@pytest.mark.parametrize("cosign", COSIGN)
def test_cosign_refuses_an_image_whose_signatures_have_one_flipped_byte(
    cosign: str, host: str, tmp_path: Path, ring: KeyRing
) -> None:
    signed_layout(tmp_path / "box", ring)
    changed = 0
    for path in list((tmp_path / "box/blobs/sha256").iterdir()):
        data = path.read_bytes()
        if b'"payloadType"' in data:
            document = json.loads(data)
            envelope = document.get("dsseEnvelope", document)
            signature = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
            signature[-1] ^= 1
            envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()
            changed += _replace(tmp_path / "box", path, json.dumps(document).encode())
        elif b"simplesigning" in data and b"cosign/signature" in data:
            document = json.loads(data)
            for layer in document["layers"]:
                signature = bytearray(base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"]))
                signature[-1] ^= 1
                layer["annotations"]["dev.cosignproject.cosign/signature"] = base64.b64encode(signature).decode()
            changed += _replace(tmp_path / "box", path, json.dumps(document).encode())
    assert changed >= 4
    reference = f"{host}/oracle/flipped-{cosign}:1"
    _copy(str(tmp_path / "box"), reference)
    key = str(tmp_path / "keys/image-vault.pub")
    assert not accepts(tmp_path, cosign, "verify", "--key", key, *REMOTE, reference)
    assert verify_target(reference, Trust((read_public_key(Path(key)),))).verdict == "refused"


def _replace(layout: Path, path: Path, data: bytes) -> int:
    """Put other content in the place of a blob, and follow all digests up to the index."""
    from kiln_wire.digest import Digest

    pending = [(path.name, data)]
    while pending:
        old, content = pending.pop()
        fresh = Digest.of(content)
        (layout / "blobs/sha256" / fresh.hex).write_bytes(content)
        for other in [*(layout / "blobs/sha256").iterdir(), layout / "index.json"]:
            text = other.read_bytes()
            if f'"sha256:{old}"'.encode() not in text or other.name == fresh.hex:
                continue
            document = json.loads(text)
            if not document.keys() & {"layers", "manifests"}:
                continue
            for item in [*document.get("layers", []), *document.get("manifests", [])]:
                if item["digest"] == f"sha256:{old}":
                    item.update(digest=str(fresh), size=len(content))
            changed = json.dumps(document).encode()
            if other.name == "index.json":
                other.write_bytes(changed)
            else:
                pending.append((other.name, changed))
    return 1


@pytest.mark.parametrize("cosign", COSIGN)
def test_we_verify_what_cosign_signs(cosign: str, host: str, tmp_path: Path) -> None:
    make_layout(tmp_path / "box", content=cosign.encode())
    reference = f"{host}/oracle/theirs-{cosign}:1"
    _copy(str(tmp_path / "box"), reference)
    assert accepts(tmp_path, cosign, "generate-key-pair", "--output-key-prefix", "theirs")
    options: tuple[str, ...] = ("--tlog-upload=false",)
    if cosign == "cosign3":
        assert accepts(tmp_path, cosign, "signing-config", "create", "--out", "config.json")
        options = ("--signing-config", "config.json")
    assert accepts(tmp_path, cosign, "sign", "--key", "theirs.key", *options, "--allow-http-registry", "-y", reference)
    trust = Trust((read_public_key(tmp_path / "theirs.pub"),))
    assert verify_target(reference, trust).verdict == "verified"


@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "ed25519"])
@pytest.mark.parametrize("cosign", COSIGN)
def test_cosign_verifies_a_signed_file_until_a_byte_changes(
    cosign: str, algorithm: str, tmp_path: Path, ring: KeyRing
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    bundle = sign_file(tmp_path / "file", ring.signer("image-vault", algorithm=algorithm))
    command = ["verify-blob-attestation", "--key", str(tmp_path / "keys/image-vault.pub"), *QUIET]
    command += ["--bundle", str(bundle), "--type", SIGNATURE_TYPE, *_offline(cosign, tmp_path), str(tmp_path / "file")]
    assert accepts(tmp_path, cosign, *command)
    (tmp_path / "file").write_bytes(b"contenu")
    assert not accepts(tmp_path, cosign, *command)
    (tmp_path / "file").write_bytes(b"content")
    document = json.loads(bundle.read_bytes())
    payload = base64.b64decode(document["dsseEnvelope"]["payload"]).replace(b"cosign", b"cosigm")
    document["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    bundle.write_text(json.dumps(document))
    assert not accepts(tmp_path, cosign, *command)


@pytest.mark.parametrize("cosign", COSIGN)
def test_cosign_verifies_the_statements_of_an_image_directory(cosign: str, tmp_path: Path) -> None:
    box = machine(tmp_path)
    image = box.image(tmp_path / "box")
    kinds = {"provenance": "slsaprovenance1", "sbom-cyclonedx": "cyclonedx", "sbom-spdx": "spdxjson"}
    for name, kind in kinds.items():
        bundle = ("--bundle", str(image / f"attestations/{name}.sigstore.json"), "--type", kind)
        command = ("verify-blob-attestation", "--key", str(image / "kiln.pub"), *QUIET, *bundle)
        assert accepts(tmp_path, cosign, *command, *_offline(cosign, tmp_path), str(image / "box.qcow2"))


def _offline(cosign: str, directory: Path) -> tuple[str, ...]:
    """Return what keeps cosign 2 from asking a server for a trusted root."""
    if cosign != "cosign2":
        return ()
    path = directory / "trusted-root.json"
    path.write_text(json.dumps(NO_SERVER))
    return ("--new-bundle-format", "--trusted-root", str(path))


def test_oras_shows_our_referrers(host: str, tmp_path: Path, ring: KeyRing) -> None:
    reference = published(host, "oras", tmp_path, ring)
    command = [program("oras"), "discover", "--plain-http", "--format", "json", reference]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "HOME": str(tmp_path)}
    )
    listed = json.loads(done.stdout)["referrers"]
    kinds = {item["annotations"]["dev.sigstore.bundle.predicateType"] for item in listed}
    assert len(listed) == 5
    assert SIGNATURE_TYPE in kinds
