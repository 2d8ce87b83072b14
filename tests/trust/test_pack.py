"""A pack is the same bytes for the same image, and proves itself with nothing but Python's standard library."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from oci_sample import make_layout
from test_oci import signed_layout
from trust_sample import NOW, Machine, machine

from kiln.attestation.pack import write_pack
from kiln.attestation.targets import verify_target
from kiln.errors import KilnError
from kiln.events.model import NullSink
from kiln_wire.canonical import canonical_json
from kiln_wire.digest import Digest
from kiln_wire.trust import Trust


@pytest.fixture
def box(tmp_path: Path) -> Machine:
    return machine(tmp_path)


@pytest.fixture
def pack(box: Machine, tmp_path: Path) -> Path:
    image = box.image(tmp_path / "box")
    (tmp_path / "root.json").write_bytes(canonical_json(box.document()))
    written = write_pack(image, tmp_path / "box.kiln.pyz", NullSink(), root=box.document())
    assert written.digest == Digest.of_file(written.path)
    return written.path


def run(pack: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the pack's own verifier without anything that is installed, and without a network."""
    command = [sys.executable, "-I", "-S", str(pack), "--now", str(NOW), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


def test_a_pack_verifies_itself_with_a_root(pack: Path, tmp_path: Path) -> None:
    done = run(pack, "--root", str(tmp_path / "root.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"{pack}: verified\n")
    assert "15. Compare the pack with its list" in done.stdout


def test_a_pack_verifies_itself_with_a_key(pack: Path, tmp_path: Path) -> None:
    done = run(pack, "--key", str(tmp_path / "state/keys/image-vault.pub"), "--json")
    assert done.returncode == 0, done.stdout
    result = json.loads(done.stdout)
    assert result["verdict"] == "verified"
    assert [item["reason"] for item in result["findings"]] == ["unchecked-proof"]


def test_a_pack_is_not_trusted_for_what_lies_in_it(pack: Path) -> None:
    done = run(pack)
    assert done.returncode == 4
    assert "untrusted-key" in done.stdout


def test_a_pack_applies_a_policy(pack: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"kind": "kiln.policy/v1", "require": ["approval"]}))
    done = run(pack, "--root", str(tmp_path / "root.json"), "--policy", str(policy))
    assert done.returncode == 4
    assert "statement-required" in done.stdout


def test_the_same_image_gives_the_same_bytes(pack: Path, box: Machine, tmp_path: Path) -> None:
    for path in (tmp_path / "box").rglob("*"):
        os.utime(path, (1, 1))
    again = write_pack(tmp_path / "box", tmp_path / "again.pyz", NullSink(), root=box.document()).path
    assert again.read_bytes() == pack.read_bytes()
    assert stat.S_IMODE(pack.stat().st_mode) == 0o755


def test_kiln_verify_takes_a_pack(pack: Path, box: Machine) -> None:
    result = verify_target(str(pack), box.trust())
    assert (result.verdict, result.findings) == ("verified", ())


def test_a_pack_of_a_layout_verifies_itself(box: Machine, tmp_path: Path) -> None:
    signed_layout(tmp_path / "layout", box.ring)
    pack = write_pack(tmp_path / "layout", tmp_path / "layout.pyz", NullSink()).path
    assert run(pack, "--key", str(tmp_path / "state/keys/image-vault.pub")).returncode == 0
    assert verify_target(str(pack), Trust((box.ring.signer("image-vault").public_key,))).verdict == "verified"
    make_layout(tmp_path / "bare")
    bare = write_pack(tmp_path / "bare", tmp_path / "bare.pyz", NullSink()).path
    assert run(bare, "--key", str(tmp_path / "state/keys/image-vault.pub")).returncode == 4


def test_every_flipped_byte_of_a_pack_is_refused(pack: Path, box: Machine, tmp_path: Path) -> None:
    data = pack.read_bytes()
    trust = box.trust()
    step = max(1, len(data) // 150)
    for position in range(0, len(data), step):
        changed = bytearray(data)
        changed[position] ^= 1
        bad = tmp_path / "bad.pyz"
        bad.write_bytes(changed)
        try:
            assert verify_target(str(bad), trust).verdict == "refused", position
        except KilnError as error:
            assert error.exit_status == 4, position


def test_a_changed_verifier_in_a_pack_is_named(pack: Path, box: Machine, tmp_path: Path) -> None:
    data = pack.read_bytes()
    at = data.index(b"def verify_pack(")
    bad = tmp_path / "bad.pyz"
    bad.write_bytes(data[:at] + b"DEF" + data[at + 3 :])
    result = verify_target(str(bad), box.trust())
    assert [(item.component, item.reason) for item in result.findings] == [("kiln_wire/pack.py", "changed")]


def test_unusable_keys_are_wrong_usage(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "no.pub").write_text("hello")
    assert run(pack, "--key", str(tmp_path / "no.pub")).returncode == 2
    assert run(pack, "--key", "/nowhere").returncode == 2
    (tmp_path / "root2.json").write_text("{}")
    assert run(pack, "--root", str(tmp_path / "root2.json")).returncode == 2


def test_what_is_no_directory_is_not_packed(tmp_path: Path) -> None:
    with pytest.raises(KilnError) as caught:
        write_pack(tmp_path / "none", tmp_path / "x", NullSink())
    assert caught.value.reason == "no-image"
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/link").symlink_to("/etc/passwd")
    with pytest.raises(KilnError) as caught:
        write_pack(tmp_path / "dir", tmp_path / "x", NullSink())
    assert caught.value.reason == "missing-evidence"
    assert not (tmp_path / "x").exists()


def test_an_auditors_own_python_opens_a_pack(pack: Path) -> None:
    with zipfile.ZipFile(pack) as archive:
        assert archive.testzip() is None
        assert {"pack.json", "trust/root.json", "image/kiln.lock", "__main__.py"} <= set(archive.namelist())


def test_a_pack_with_entries_beyond_4_gib_is_read(
    box: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 64-bit records of the format, with the limit pulled down to where a test can reach it."""
    image = box.image(tmp_path / "box")
    with monkeypatch.context() as patch:
        patch.setattr(zipfile, "ZIP64_LIMIT", 10_000)
        pack = write_pack(image, tmp_path / "big.pyz", NullSink()).path
    assert b"PK\x06\x06" in pack.read_bytes()
    assert verify_target(str(pack), box.trust()).verdict == "verified"
    data = pack.read_bytes()
    start = data.index(b"PK\x06\x06")
    for position in range(start, len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        (tmp_path / "bad.pyz").write_bytes(changed)
        try:
            result = verify_target(str(tmp_path / "bad.pyz"), box.trust())
        except KilnError:
            continue
        assert result.verdict == "verified"  # a field of the last records that nobody reads where there are 64-bit ones
