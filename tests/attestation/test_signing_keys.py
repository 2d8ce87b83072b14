"""A role's key is made once, is nobody else's to read, and what it signs is accepted by code that is not ours."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from image_sample import make_image

from kiln.attestation.keys import open_signer, read_secret
from kiln.attestation.trust import read_public_key, trusted_keys
from kiln.attestation.verify import verify_image
from kiln.errors import Domain, ExitStatus, KilnError
from kiln_wire.trust import Trust


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "state" / "keys"


def _refusal(keys: Path, passphrase: bytes | None = None, role: str = "image-vault") -> str:
    with pytest.raises(KilnError) as caught:
        open_signer(keys, role, passphrase=passphrase)
    assert caught.value.domain is Domain.ATTESTATION
    assert caught.value.exit_status is ExitStatus.REFUSED
    return caught.value.reason


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_key_is_made_at_first_use_for_its_owner_alone(keys: Path) -> None:
    old = os.umask(0)
    try:
        signer = open_signer(keys)
    finally:
        os.umask(old)
    assert (_mode(keys), _mode(keys / "image-vault.key")) == (0o700, 0o600)
    assert read_public_key(keys / "image-vault.pub") == signer.public_key
    assert open_signer(keys).public_key == signer.public_key
    assert trusted_keys(keys) == (signer.public_key,)


def test_each_role_has_its_own_key(keys: Path) -> None:
    assert open_signer(keys, "image-vault").public_key != open_signer(keys, "approver").public_key
    assert len(trusted_keys(keys)) == 2


def test_no_keys_are_trusted_where_there_is_no_directory(tmp_path: Path) -> None:
    assert trusted_keys(tmp_path / "none") == ()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o666])
def test_a_key_file_that_others_may_use_is_refused(keys: Path, mode: int) -> None:
    open_signer(keys)
    (keys / "image-vault.key").chmod(mode)
    assert _refusal(keys) == "unsafe-key-file"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_file_or_directory_of_somebody_else_is_refused(keys: Path) -> None:
    open_signer(keys)
    os.chown(keys / "image-vault.key", 12345, 0)
    assert _refusal(keys) == "unsafe-key-file"
    os.chown(keys / "image-vault.key", 0, 0)
    os.chown(keys, 12345, 0)
    assert _refusal(keys) == "unsafe-key-file"


def test_a_directory_in_which_others_can_write_is_refused(keys: Path) -> None:
    open_signer(keys)
    keys.chmod(0o770)
    assert _refusal(keys) == "unsafe-key-file"


@pytest.mark.parametrize("kind", ["symlink", "dangling symlink", "fifo", "directory"])
def test_a_key_file_that_is_no_plain_file_is_refused(keys: Path, tmp_path: Path, kind: str) -> None:
    open_signer(keys, "other")
    path = keys / "image-vault.key"
    if kind == "symlink":
        path.symlink_to(keys / "other.key")
    elif kind == "dangling symlink":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    else:
        path.mkdir(0o700)
    assert _refusal(keys) == "unsafe-key-file"


def _write(keys: Path, data: bytes) -> None:
    open_signer(keys, "other")
    (keys / "image-vault.key").write_bytes(data)
    (keys / "image-vault.key").chmod(0o600)


def test_a_file_that_is_no_p256_key_is_refused(keys: Path) -> None:
    _write(keys, b"hello")
    assert _refusal(keys) == "bad-key-file"
    for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        _write(keys, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        assert _refusal(keys) == "bad-key-file"


@pytest.mark.parametrize("role", ["", "../x", "a/b", "A", ".hidden", "a" * 64])
def test_a_role_that_is_no_plain_name_is_refused(keys: Path, role: str) -> None:
    assert _refusal(keys, role=role) == "bad-role"


def test_a_passphrase_encrypts_the_file(keys: Path) -> None:
    signer = open_signer(keys, passphrase=b"secret")
    data = (keys / "image-vault.key").read_bytes()
    with pytest.raises(TypeError):
        load_pem_private_key(data, None)
    assert open_signer(keys, passphrase=b"secret").public_key == signer.public_key
    assert _refusal(keys) == "passphrase-needed"
    assert _refusal(keys, b"wrong") == "wrong-passphrase"
    open_signer(keys, "plain")
    assert _refusal(keys, b"secret", role="plain") == "key-not-encrypted"


def test_a_secret_is_named_never_written(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"from a file\n")
    path.chmod(0o600)
    assert read_secret("env:PASS", {"PASS": "from the environment"}) == b"from the environment"
    assert read_secret(f"file:{path}", {}) == b"from a file"
    for reference, reason in (
        ("env:NONE", "no-secret"),
        ("secret", "bad-secret-reference"),
        ("env:", "bad-secret-reference"),
    ):
        with pytest.raises(KilnError) as caught:
            read_secret(reference, {})
        assert caught.value.reason == reason
    path.chmod(0o644)
    with pytest.raises(KilnError) as caught:
        read_secret(f"file:{path}", {})
    assert caught.value.reason == "unsafe-key-file"


_OPENER = "import sys; from pathlib import Path; from kiln.attestation.keys import open_signer; "
_OPENER += "print(open_signer(Path(sys.argv[1])).public_key.hint)"


def test_processes_that_need_the_key_at_once_get_the_same_one(keys: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", _OPENER, str(keys)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    hints = {process.communicate(timeout=600)[0].strip() for process in running}
    assert hints == {open_signer(keys).public_key.hint}


def test_bundles_verify_with_cryptography_by_the_specifications_alone(keys: Path, tmp_path: Path) -> None:
    signer = open_signer(keys)
    make_image(tmp_path / "box", signer)
    public = load_pem_public_key((tmp_path / "box/kiln.pub").read_bytes())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    bundles = sorted((tmp_path / "box/attestations").iterdir())
    assert len(bundles) == 7
    for path in bundles:
        envelope = json.loads(path.read_bytes())["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"])
        kind = envelope["payloadType"].encode()
        signed = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])
        public.verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed, ec.ECDSA(hashes.SHA256()))
        statement = json.loads(payload)
        assert statement["_type"] == "https://in-toto.io/Statement/v1"
        assert [subject["name"] for subject in statement["subject"]] == ["box.qcow2", "box.squashfs"]
    assert verify_image(tmp_path / "box", trust=Trust(trusted_keys(keys))).verdict == "verified"


@pytest.mark.parametrize("content", [b"", b"no key", b"\xff" * 5000])
def test_a_file_that_is_no_public_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pub").write_bytes(content)
    with pytest.raises(KilnError) as caught:
        read_public_key(tmp_path / "x.pub")
    assert caught.value.reason == "bad-public-key"
