"""The commands about keys, the log, signing, packing and verifying, as a person types them."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from oci_sample import make_layout
from trust_sample import Machine
from typer.testing import CliRunner

from kiln.cli.main import app
from kiln.records.store import Records


class Kiln:
    """Runs `kiln` with a state directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"

    def __call__(self, *arguments: str | Path, status: int = 0) -> str:
        environment = {"KILN_STATE": str(self.state), "XDG_CONFIG_HOME": str(self.directory / "config")}
        with contextlib.chdir(self.directory):
            done = CliRunner().invoke(app, [str(item) for item in arguments], env=environment)
        assert done.exit_code == status, done.output + repr(done.exception)
        return done.stdout


@pytest.fixture
def kiln(tmp_path: Path) -> Kiln:
    return Kiln(tmp_path)


def test_keys_from_first_to_last(kiln: Kiln, tmp_path: Path) -> None:
    assert "no trust root yet" in kiln("keys", "list")
    first = kiln("keys", "new", "image-vault").strip()
    listed = json.loads(kiln("keys", "list", "--json"))
    assert listed["kind"] == "kiln.keys/v1"
    assert [(item["role"], item["hint"], item["state"]) for item in listed["keys"]] == [
        ("image-vault", first, "current")
    ]
    second = kiln("keys", "rotate", "image-vault").strip()
    approver = kiln("keys", "new", "approver", "--algorithm", "ed25519", "--days", "30").strip()
    states = {item["hint"]: item["state"] for item in json.loads(kiln("keys", "list", "--json"))["keys"]}
    assert states == {first: "retired", second: "current", approver: "current"}
    kiln("keys", "revoke", second[:20], "--reason", "lost")
    assert kiln("keys", "revoke", "nothing", status=4) == ""
    third = kiln("keys", "rotate", "image-vault").strip()
    states = {item["hint"]: item["state"] for item in json.loads(kiln("keys", "list", "--json"))["keys"]}
    assert states == {first: "retired", second: "revoked", third: "current", approver: "current"}
    kiln("keys", "new", "root", "--threshold", "2")
    kiln("keys", "refresh")
    kiln("keys", "export", "--output", "root.json")
    other = Kiln(tmp_path / "other")
    other.directory.mkdir()
    assert "root 2" in other("keys", "import", tmp_path / "root.json", "--name", "vendor")
    assert "vendor" in other("keys", "list")
    kiln("keys", "new", "emperor", status=4)


def test_an_image_is_verified_with_root_policy_and_pack(kiln: Kiln, tmp_path: Path) -> None:
    kiln("keys", "new", "image-vault")
    image = Machine(kiln.state).image(tmp_path / "box")
    assert "verified" in kiln("verify", image)
    kiln("keys", "export", "--output", "root.json")
    (tmp_path / "policy.yaml").write_text(
        "kind: kiln.policy/v1\nrequire: [provenance]\nsigners:\n  - {statement: approval, role: approver}\n"
    )
    refused = kiln("verify", image, "--policy", "policy.yaml", status=4)
    assert "policy: too-few-signers" in refused
    kiln("keys", "new", "approver")
    kiln("keys", "export", "--output", "root.json")
    kiln("approve", image, "--reason", "release 7", "--expires-days", "30")
    assert "verified" in kiln("verify", image, "--policy", "policy.yaml")
    assert "kiln.pyz" in kiln("pack", image)
    other = Kiln(tmp_path / "other")
    other.directory.mkdir()
    pack = tmp_path / "box.kiln.pyz"
    result = json.loads(other("verify", pack, "--root", tmp_path / "root.json", "--json"))
    assert (result["kind"], result["verdict"]) == ("kiln.verification-result/v1", "verified")
    assert "untrusted-key" in other("verify", pack, status=4)
    (image / "kiln.lock").write_bytes(b"{}")
    assert "kiln.lock: changed" in kiln("verify", image, status=4)


def test_files_directories_and_layouts_are_signed_and_verified(kiln: Kiln, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/a").write_text("a")
    make_layout(tmp_path / "layout")
    (tmp_path / "claim.json").write_text('{"good": true}')
    for target in ("file", "tree", "./layout"):
        kiln("sign", target)
        assert "verified" in kiln("verify", target)
    kiln("attest", "./layout", "--predicate", "claim.json", "--type", "urn:example:claim:v1")
    kiln("copy", "./layout", "./copy:2")
    assert "verified" in kiln("verify", "./copy:2")
    (tmp_path / "tree/extra").write_text("b")
    assert "extra: unexpected-file" in kiln("verify", "tree", status=4)
    (tmp_path / "file").write_text("contenu")
    assert "wrong-subject" in kiln("verify", "file", status=4)
    kiln("sign", "nowhere", status=3)
    kiln("verify", "nowhere", status=3)
    kiln("attest", "file", "--predicate", "file", "--type", "x", status=2)


def test_the_log_is_shown_proved_checked_and_watched(kiln: Kiln, tmp_path: Path) -> None:
    kiln("keys", "new", "image-vault")
    box = Machine(kiln.state)
    box.image(tmp_path / "box")
    status = json.loads(kiln("log", "status", "--json"))
    assert (status["kind"], status["size"]) == ("kiln.log/v1", 1)
    with Records(kiln.state) as records:
        record = records.recent()[0]
    assert kiln("log", "prove", record.id[:12]).startswith("c2sp.org/tlog-proof@v1\nindex 0\n")
    assert "is that of the records" in kiln("log", "check")
    watch = ("log", "monitor", status["directory"], "--key", status["key"], "--memory", "seen")
    assert json.loads(kiln(*watch, "--json")) == {
        "kind": "kiln.log-watch/v1",
        "size": 1,
        "entriesChecked": 1,
        "findings": [],
    }
    assert "0 of them new" in kiln(*watch)
    kiln("log", "monitor", "nowhere", "--key", status["key"], "--memory", "none", status=4)
    kiln("log", "monitor", "nowhere", "--key", "nonsense", "--memory", "none", status=2)
    assert "0 witnesses" in kiln("log", "submit")
