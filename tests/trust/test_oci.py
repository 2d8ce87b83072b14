"""Images are signed, copied and verified where they lie: in a layout, and in a real registry."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from oci_sample import make_layout, registry
from trust_sample import NOW

from kiln.artifact.oci.copy import copy_image
from kiln.artifact.oci.layout import open_layout
from kiln.artifact.oci.model import Reference
from kiln.artifact.oci.registry import Registry, is_loopback, open_registry
from kiln.attestation.oci_sign import attest_image, sign_image
from kiln.attestation.signers import KeyRing
from kiln.attestation.targets import oci_place, verify_target
from kiln.errors import KilnError
from kiln.events.model import NullSink
from kiln_wire.digest import Digest
from kiln_wire.finding import VerificationResult
from kiln_wire.oci import OciError, fallback_tag
from kiln_wire.policy import Policy
from kiln_wire.trust import Trust
from kiln_wire.verify_oci import STEPS

MOMENT = datetime.fromtimestamp(NOW, UTC)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed")
    with registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "keys")


def errors(result: VerificationResult) -> set[str]:
    return {item.reason for item in result.findings if item.severity == "error"}


def signed_layout(directory: Path, ring: KeyRing) -> Digest:
    digest = make_layout(directory)
    with open_layout(directory) as layout:
        signer = ring.signer("image-vault")
        assert sign_image(layout, "1", signer, name="box", now=MOMENT) == digest
        attest_image(layout, "1", "https://slsa.dev/provenance/v1", {"a": 1}, signer, now=MOMENT)
    return digest


def trust(ring: KeyRing) -> Trust:
    return Trust((ring.signer("image-vault").public_key,))


def test_a_signed_layout_is_verified_by_both_schemes(tmp_path: Path, ring: KeyRing) -> None:
    signed_layout(tmp_path / "box", ring)
    for target in ("box", "box:1"):
        result = verify_target(str(tmp_path / target), trust(ring))
        assert (result.verdict, result.findings) == ("verified", ())
    assert [step.name for step in result.steps] == list(STEPS)
    index = json.loads((tmp_path / "box/index.json").read_bytes())
    names = {item["annotations"]["org.opencontainers.image.ref.name"].rpartition(".")[2] for item in index["manifests"]}
    assert {"sig", "att", "1"} <= names


def test_a_layout_without_a_signature_or_by_another_key_is_refused(tmp_path: Path, ring: KeyRing) -> None:
    make_layout(tmp_path / "box")
    assert errors(verify_target(str(tmp_path / "box"), trust(ring))) == {"not-signed"}
    signed_layout(tmp_path / "two", KeyRing(tmp_path / "strangers"))
    result = verify_target(str(tmp_path / "two"), trust(ring))
    assert errors(result) == {"not-signed"}
    assert {item.reason for item in result.findings if item.severity == "note"} == {"unknown-key"}


def test_each_scheme_alone_is_enough(tmp_path: Path, ring: KeyRing) -> None:
    digest = signed_layout(tmp_path / "box", ring)
    path = tmp_path / "box/index.json"
    whole = json.loads(path.read_bytes())
    for kept in (fallback_tag(digest), fallback_tag(digest, ".sig"), fallback_tag(digest, ".att")):
        part = [item for item in whole["manifests"] if next(iter(item["annotations"].values())) in ("1", kept)]
        path.write_text(json.dumps({**whole, "manifests": part}))
        assert verify_target(str(tmp_path / "box"), trust(ring)).verdict == "verified", kept


def test_one_flipped_bit_in_any_blob_of_the_image_is_named(tmp_path: Path, ring: KeyRing) -> None:
    digest = signed_layout(tmp_path / "box", ring)
    with open_layout(tmp_path / "box") as layout:
        manifest = json.loads(layout.manifest(digest))
    wanted = [manifest["config"], *manifest["layers"], {"digest": str(digest)}]
    for item in wanted:
        path = tmp_path / "box/blobs" / item["digest"].replace(":", "/")
        good = path.read_bytes()
        changed = bytearray(good)
        changed[len(good) // 2] ^= 1
        path.write_bytes(changed)
        result = verify_target(str(tmp_path / "box"), trust(ring))
        assert result.verdict == "refused"
        assert any(item["digest"][7:] in finding.component for finding in result.findings)
        path.write_bytes(good)


def test_a_signature_that_was_moved_to_another_image_is_about_the_wrong_subject(tmp_path: Path, ring: KeyRing) -> None:
    digest = signed_layout(tmp_path / "box", ring)
    other = make_layout(tmp_path / "other", content=b"other")
    index = json.loads((tmp_path / "box/index.json").read_bytes())
    shutil.copytree(tmp_path / "other/blobs", tmp_path / "box/blobs", dirs_exist_ok=True)
    for item in index["manifests"]:
        name = item["annotations"]["org.opencontainers.image.ref.name"]
        item["annotations"]["org.opencontainers.image.ref.name"] = name.replace(digest.hex, other.hex)
    fresh = json.loads((tmp_path / "other/index.json").read_bytes())["manifests"]
    index["manifests"] = [item for item in index["manifests"] if item["digest"] != str(digest)] + fresh
    (tmp_path / "box/index.json").write_text(json.dumps(index))
    result = verify_target(str(tmp_path / "box"), trust(ring))
    assert errors(result) == {"not-signed"}
    assert "wrong-subject" in {item.reason for item in result.findings}


def test_a_policy_asks_for_statements_of_an_image(tmp_path: Path, ring: KeyRing) -> None:
    signed_layout(tmp_path / "box", ring)
    good, bad = (Policy("kiln.policy/v1", require=(name,)) for name in ("provenance", "vex"))
    assert verify_target(str(tmp_path / "box"), trust(ring), policy=good).verdict == "verified"
    assert errors(verify_target(str(tmp_path / "box"), trust(ring), policy=bad)) == {"statement-required"}


def test_signing_twice_keeps_both_signatures(tmp_path: Path, ring: KeyRing) -> None:
    signed_layout(tmp_path / "box", ring)
    with open_layout(tmp_path / "box") as layout:
        sign_image(layout, "1", ring.signer("image-vault.2"), name="box", now=MOMENT)
    for name in ("image-vault", "image-vault.2"):
        assert verify_target(str(tmp_path / "box"), Trust((ring.signer(name).public_key,))).verdict == "verified"


# --- a real registry, without referrers API (Debian's docker-registry)


def test_an_image_travels_with_its_signatures(host: str, tmp_path: Path, ring: KeyRing) -> None:
    digest = signed_layout(tmp_path / "box", ring)
    reference = f"{host}/team/box:1"
    _copy(str(tmp_path / "box"), reference)
    result = verify_target(reference, trust(ring))
    assert (result.verdict, result.findings) == ("verified", ())
    assert verify_target(f"{host}/team/box@{digest}", trust(ring)).verdict == "verified"
    _copy(reference, str(tmp_path / "back"))
    assert verify_target(str(tmp_path / "back"), trust(ring)).verdict == "verified"
    with open_layout(tmp_path / "back") as layout:
        assert len(layout.referrers(digest)) == 2


def test_signing_in_a_registry_keeps_the_list_of_referrers(host: str, tmp_path: Path, ring: KeyRing) -> None:
    digest = make_layout(tmp_path / "box")
    reference = f"{host}/team/signed:1"
    _copy(str(tmp_path / "box"), reference)
    place = oci_place(reference)
    assert place is not None
    with place.open() as opened:
        sign_image(opened, place.selector, ring.signer("image-vault"), name=place.name, now=MOMENT)
        attest_image(opened, "", "https://openvex.dev/ns", {}, ring.signer("image-vault"), now=MOMENT)
        assert len(opened.referrers(digest)) == 2
        index = json.loads(opened.manifest(opened.resolve(fallback_tag(digest)).digest))
    kinds = {item["annotations"]["dev.sigstore.bundle.predicateType"] for item in index["manifests"]}
    assert kinds == {"https://sigstore.dev/cosign/sign/v1", "https://openvex.dev/ns"}
    assert {item["artifactType"] for item in index["manifests"]} == {"application/vnd.dev.sigstore.bundle.v0.3+json"}
    assert verify_target(reference, trust(ring)).verdict == "verified"


def test_what_is_not_in_a_registry_is_a_finding(host: str, ring: KeyRing) -> None:
    result = verify_target(f"{host}/team/nothing:1", trust(ring))
    assert "no-manifest" in errors(result)


def test_a_registry_that_does_not_answer_is_an_error(ring: KeyRing) -> None:
    with pytest.raises(KilnError) as caught:
        verify_target("127.0.0.1:9/team/box:1", trust(ring))
    assert caught.value.reason == "registry-down"


class Flaky(httpx.BaseTransport):
    """Breaks every third request, and each download after some bytes."""

    def __init__(self) -> None:
        self.inner = httpx.HTTPTransport()
        self.count = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.count += 1
        if self.count % 3 == 1:
            raise httpx.ReadError("broken", request=request)
        answer = self.inner.handle_request(request)
        if request.method == "GET" and "/blobs/" in str(request.url) and answer.status_code == 200:
            data = b"".join(answer.stream)  # type: ignore[arg-type]
            return httpx.Response(200, headers=answer.headers, stream=_Half(data, request))
        return answer


class _Half(httpx.SyncByteStream):
    def __init__(self, data: bytes, request: httpx.Request) -> None:
        self.data, self.request = data, request

    def __iter__(self) -> Iterator[bytes]:
        yield self.data[: len(self.data) // 2]
        raise httpx.ReadError("broken", request=self.request)


def test_broken_connections_are_resumed(
    host: str, tmp_path: Path, ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kiln.artifact.oci.registry.UPLOAD_CHUNK_BYTES", 4096)
    digest = make_layout(tmp_path / "box", content=bytes(range(256)) * 200)
    reference = Reference.parse(f"{host}/team/flaky:1")
    with open_layout(tmp_path / "box") as layout:
        with open_registry(reference, transport=Flaky()) as target:
            copy_image(layout, "1", target, "1", NullSink())
        (layer,) = json.loads(layout.manifest(digest))["layers"]
        from kiln_wire.oci import read_descriptor

        with open_registry(reference, transport=Flaky()) as source:
            assert source.blob(read_descriptor(layer, "layer"), 1 << 20) == bytes(range(256)) * 200


class Lying(httpx.BaseTransport):
    """Answers every manifest and blob with other bytes."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = b'{"schemaVersion": 2, "layers": [], "config": {}}' if "/manifests/" in str(request.url) else b"x" * 10
        return httpx.Response(200, stream=httpx.ByteStream(body))


def test_a_registry_that_lies_is_found_out() -> None:
    reference = Reference.parse("127.0.0.1:5000/box:1")
    with open_registry(reference, transport=Lying()) as source:
        assert isinstance(source, Registry)
        with pytest.raises(OciError) as caught:
            source.manifest(Digest.of(b""))
        assert caught.value.reason == "changed"
        from kiln_wire.oci import Descriptor

        for size, reason in ((10, "changed"), (9, "wrong-size"), (11, "wrong-size")):
            wanted = Descriptor("x", Digest.of(b"y" * 10), size)
            problem = source.check([wanted])[wanted.digest]
            assert problem is not None
            assert problem.reason == reason


@pytest.mark.parametrize(
    "text",
    [
        "box",
        "box:1",
        "Team/box",
        "host/../x:1",
        "host.example/UPPER:1",
        "host.example/x@sha256:12",
        "a.b/x:@",
        "a.b/x@",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(KilnError) as caught:
        Reference.parse(text)
    assert caught.value.reason == "bad-reference"


def test_references_are_read() -> None:
    assert Reference.parse("localhost:5000/a/b") == Reference("localhost:5000", "a/b", "latest")
    assert Reference.parse("h.example/a:1").selector == "1"
    pinned = Reference.parse(f"h.example/a:1@sha256:{'0' * 64}")
    assert (pinned.tag, pinned.selector) == ("1", f"sha256:{'0' * 64}")


def test_plain_http_is_for_this_machine_alone() -> None:
    assert all(map(is_loopback, ("localhost", "localhost:5000", "127.0.0.1:1", "[::1]:5000", "127.9.9.9")))
    assert not any(
        map(is_loopback, ("example.com", "10.0.0.1:5000", "localhost.example:5000", "127.0.0.1.nip.example"))
    )


def _copy(source: str, target: str) -> None:
    left, right = oci_place(source), oci_place(target, create=True)
    assert left is not None
    assert right is not None
    with left.open() as origin, right.open(create=True) as goal:
        tag = right.reference.tag if right.reference else right.selector or "latest"
        copy_image(origin, left.selector, goal, tag, NullSink())
