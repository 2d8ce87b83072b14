"""Keys in files, tokens and services sign alike; time stamps come from a real authority on this machine."""

from __future__ import annotations

import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from trust_sample import DAY, NOW, Machine, machine, reasons

from kiln.attestation.keys import open_signer
from kiln.attestation.pkcs11 import parse_uri
from kiln.attestation.signer import Signer, sign_statement
from kiln.attestation.signers import KeyRing
from kiln.attestation.timestamps import http_authority, stamp_time
from kiln.attestation.verify import verify_image
from kiln.errors import KilnError
from kiln_wire.dsse import read_bundle, verify
from kiln_wire.statement import Subject, statement_json
from kiln_wire.trust import Trust

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
PAYLOAD = statement_json([], "urn:x", {})


def signs(signer: Signer) -> None:
    bundle = read_bundle(sign_statement(signer, PAYLOAD))
    assert verify(bundle, signer.public_key) == PAYLOAD
    assert not signer.public_key.verify(bundle.signature, b"something else")


@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "ed25519"])
@pytest.mark.parametrize("passphrase", [None, b"secret"])
def test_a_key_file_of_each_algorithm_signs(tmp_path: Path, algorithm: str, passphrase: bytes | None) -> None:
    signer = open_signer(tmp_path / "keys", passphrase=passphrase, algorithm=algorithm)
    assert signer.public_key.algorithm == algorithm
    signs(signer)
    again = open_signer(tmp_path / "keys", passphrase=passphrase)
    assert again.public_key == signer.public_key
    if passphrase:
        with pytest.raises(KilnError) as caught:
            open_signer(tmp_path / "keys")
        assert caught.value.reason == "passphrase-needed"


def test_the_passphrase_comes_from_where_the_settings_say(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys", passphrase="env:P", environment={"P": "secret"})
    signs(ring.signer("image-vault"))
    assert b"ENCRYPTED" in (tmp_path / "keys/image-vault.key").read_bytes()


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, pytest.MonkeyPatch]:
    module = next((path for path in MODULES if Path(path).exists()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        pytest.skip("softhsm2 is not installed")
    directory = tmp_path_factory.mktemp("softhsm")
    (directory / "tokens").mkdir()
    (directory / "softhsm2.conf").write_text(f"directories.tokendir = {directory}/tokens\nobjectstore.backend = file\n")
    patch = pytest.MonkeyPatch()
    patch.setenv("SOFTHSM2_CONF", str(directory / "softhsm2.conf"))
    initialise = ["softhsm2-util", "--init-token", "--free", "--label", "kiln", "--pin", "1234", "--so-pin", "12345678"]
    subprocess.run(initialise, check=True, capture_output=True)
    return module, patch


def _make_key(module: str, label: str, algorithm: str) -> None:
    import pkcs11
    from pkcs11.util.ec import encode_named_curve_parameters

    if algorithm == "ed25519":
        kind, curve = pkcs11.KeyType.EC_EDWARDS, bytes.fromhex("06032b6570")  # the OID id-Ed25519, RFC 8410
    else:
        kind, curve = pkcs11.KeyType.EC, encode_named_curve_parameters("secp256r1")
    token = pkcs11.lib(module).get_token(token_label="kiln")
    try:
        session = token.open(user_pin="1234", rw=True)
    except pkcs11.UserAlreadyLoggedIn:
        session = token.open(rw=True)
    with session:
        parameters = session.create_domain_parameters(kind, {pkcs11.Attribute.EC_PARAMS: curve}, local=True)
        parameters.generate_keypair(store=True, label=label)


@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "ed25519"])
def test_a_key_in_a_real_token_signs(token: tuple[str, pytest.MonkeyPatch], tmp_path: Path, algorithm: str) -> None:
    module, _ = token
    try:
        _make_key(module, algorithm, algorithm)
    except Exception as error:
        if algorithm == "ed25519":
            pytest.skip(f"this SoftHSM makes no Ed25519 keys: {error!r}")
        raise
    uri = f"pkcs11:token=kiln;object={algorithm}?module-path={module}&pin-source=env:PIN"
    ring = KeyRing(tmp_path / "keys", (("image-vault", uri),), environment={"PIN": "1234"})
    signer = ring.signer("image-vault")
    assert signer.public_key.algorithm == algorithm
    signs(signer)
    box = Machine(tmp_path / "state")
    image = box.image(tmp_path / "box", signer)
    assert verify_image(image, trust=Trust((signer.public_key,))).verdict == "verified"


@pytest.mark.parametrize(
    ("uri", "pin", "reason"),
    [
        ("pkcs11:token=kiln;object=none?module-path={}&pin-source=env:PIN", "1234", "token-failed"),
        ("pkcs11:token=none;object=none?module-path={}&pin-source=env:PIN", "1234", "token-failed"),
        ("pkcs11:token=kiln;object=none?module-path={}&pin-source=env:PIN", "4321", "token-failed"),
        ("pkcs11:token=kiln;object=none?module-path=/none.so", "1234", "token-failed"),
        ("pkcs11:token=kiln?module-path={}", "1234", "bad-signer"),
        ("pkcs11:token=kiln;object=x;colour=red?module-path={}", "1234", "bad-signer"),
        ("ftp:somewhere", "1234", "bad-signer"),
    ],
)
def test_a_token_that_does_not_do_is_refused(
    token: tuple[str, pytest.MonkeyPatch], tmp_path: Path, uri: str, pin: str, reason: str
) -> None:
    ring = KeyRing(tmp_path, (("image-vault", uri.format(token[0])),), environment={"PIN": pin})
    with pytest.raises(KilnError) as caught:
        ring.signer("image-vault")
    assert caught.value.reason == reason


def test_uris_of_rfc_7512_are_read() -> None:
    path, query = parse_uri("pkcs11:token=My%20token;id=%01%02?module-path=/a.so")
    assert (path, query) == ({"token": "My token", "id": "\x01\x02"}, {"module-path": "/a.so"})


def test_a_service_signs_through_securesystemslib(tmp_path: Path) -> None:
    """Its own key files are reached like a cloud: by a URI that securesystemslib resolves."""
    ring = KeyRing(tmp_path / "keys")
    public = ring.signer("image-vault").public_key
    private = tmp_path / "keys/image-vault.key"
    there = KeyRing(tmp_path / "keys", (("image-vault", f"file2:{private}"),))
    signer = there.signer("image-vault")
    assert signer.public_key == public
    signs(signer)


def test_a_service_that_signs_with_another_key_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, Signature

    other = KeyRing(tmp_path / "other").signer("image-vault")

    class Wrong:
        @classmethod
        def from_priv_key_uri(cls, *_arguments: object) -> Wrong:
            return cls()

        def sign(self, payload: bytes) -> Signature:
            return Signature("0" * 64, other.sign(payload).hex())

    monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, "hv", Wrong)  # type: ignore[arg-type]
    KeyRing(tmp_path / "keys").signer("image-vault")
    with pytest.raises(KilnError) as caught:
        KeyRing(tmp_path / "keys", (("image-vault", "hv:key"),)).signer("image-vault").sign(b"x")
    assert caught.value.reason == "wrong-signer"


def test_a_cloud_without_its_library_says_so(tmp_path: Path) -> None:
    KeyRing(tmp_path / "keys").signer("image-vault")
    ring = KeyRing(tmp_path / "keys", (("image-vault", "gcpkms:projects/p/cryptoKeyVersions/1"),))
    with pytest.raises(KilnError) as caught:
        ring.signer("image-vault").sign(b"x")
    assert caught.value.reason == "service-failed"


# --- a time stamp authority made by openssl, on loopback

CONFIG = """
[tsa]
default_tsa = tsa1
[tsa1]
dir = {directory}
serial = $dir/serial
signer_cert = $dir/tsa.pem
signer_key = $dir/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
[ext]
extendedKeyUsage = critical,timeStamping
keyUsage = critical,digitalSignature
basicConstraints = critical,CA:FALSE
[req]
distinguished_name = dn
[dn]
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
"""


class Tsa:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "openssl.cnf").write_text(CONFIG.format(directory=directory))
        (directory / "serial").write_text("01\n")
        for name in ("ca", "tsa"):
            self.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
        self.openssl(
            *("req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=CA", "-days", "30", "-out", "ca.pem"),
            *("-config", "openssl.cnf", "-extensions", "ca"),
        )
        self.openssl("req", "-new", "-key", "tsa.key", "-subj", "/CN=TSA", "-out", "tsa.csr", "-config", "openssl.cnf")
        self.openssl(
            *("x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30"),
            *("-extfile", "openssl.cnf", "-extensions", "ext", "-out", "tsa.pem"),
        )
        self.chain = (directory / "tsa.pem").read_text() + (directory / "ca.pem").read_text()

    def openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)

    def reply(self, query: bytes) -> bytes:
        (self.directory / "query").write_bytes(query)
        self.openssl("ts", "-reply", "-config", "openssl.cnf", "-queryfile", "query", "-out", "reply")
        return (self.directory / "reply").read_bytes()


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Tsa:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return Tsa(tmp_path_factory.mktemp("tsa"))


@pytest.fixture
def url(tsa: Tsa) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = tsa.reply(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def test_a_stamp_keeps_a_signature_good_after_its_key_has_ended(tsa: Tsa, url: str, tmp_path: Path) -> None:
    import time

    box = machine(tmp_path)
    real = int(time.time())
    box.store.configure(NOW, timestampAuthorities=[tsa.chain])
    image = box.image(tmp_path / "box", stamper=http_authority(url))
    bundle = read_bundle((image / "attestations/provenance.sigstore.json").read_bytes())
    stamped = stamp_time(bundle, (tsa.chain,))
    assert stamped is not None
    assert abs(stamped - real) < DAY
    hint = box.ring.signer("image-vault").public_key.hint
    # revoked after the stamps were made: what was stamped before is good, what was not is not
    box.store.revoke(hint, real, since=stamped + DAY, reason="superseded")
    box.store.configure(real + 2 * DAY, witnessQuorum=0)
    later = real + 2 * DAY
    assert verify_image(image, trust=box.trust(later, stamp_time)).verdict == "verified"
    result = verify_image(image, trust=box.trust(later))
    assert {reason for _, reason in reasons(result)} == {"revoked-key"}
    assert stamp_time(bundle, ()) is None


def test_a_stamp_of_another_signature_or_authority_is_none(tsa: Tsa, url: str, tmp_path: Path) -> None:
    signer = open_signer(tmp_path / "keys")
    one = sign_statement(signer, statement_json([Subject("a", _digest())], "urn:x", {}), http_authority(url))
    two = sign_statement(signer, statement_json([Subject("b", _digest())], "urn:x", {}))
    stamped, bare = read_bundle(one), read_bundle(two)
    from dataclasses import replace

    assert stamp_time(stamped, (tsa.chain,)) is not None
    assert stamp_time(replace(bare, timestamps=stamped.timestamps), (tsa.chain,)) is None
    other = Tsa(_directory(tmp_path / "other"))
    assert stamp_time(stamped, (other.chain,)) is None
    assert stamp_time(replace(stamped, timestamps=(stamped.timestamps[0][:-9],)), (tsa.chain,)) is None


def test_nothing_is_signed_when_the_authority_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(KilnError) as caught:
        sign_statement(open_signer(tmp_path / "keys"), PAYLOAD, http_authority("http://127.0.0.1:9/"))
    assert (caught.value.reason, caught.value.retriable) == ("no-timestamp", True)


def _digest():  # type: ignore[no-untyped-def]
    from kiln_wire.digest import Digest

    return Digest.of(b"")


def _directory(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "ed25519"])
def test_securesystemslib_verifies_what_we_sign(tmp_path: Path, algorithm: str) -> None:
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import Signature

    from kiln.attestation.trust_author import tuf_key
    from kiln_wire.dsse import STATEMENT_PAYLOAD_TYPE

    signer = open_signer(tmp_path / "keys", algorithm=algorithm)
    key = tuf_key(signer.public_key)
    bundle = read_bundle(sign_statement(signer, PAYLOAD))
    for payload, good in ((PAYLOAD, True), (PAYLOAD[:-1] + b"]", False)):
        signature = Signature(key.keyid, bundle.signature.hex())
        envelope = Envelope(payload, STATEMENT_PAYLOAD_TYPE, {key.keyid: signature})
        if good:
            assert key.keyid in envelope.verify([key], 1)
        else:
            with pytest.raises(VerificationError):
                envelope.verify([key], 1)
