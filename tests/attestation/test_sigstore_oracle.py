"""sigstore's JavaScript verifier accepts every bundle and refuses it after a change."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from image_sample import OTHER_SIGNER, make_image

pytestmark = [pytest.mark.full, pytest.mark.network]

PACKAGES = ("@sigstore/verify@3.1.1", "@sigstore/bundle@4.0.0")


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    directory = tmp_path_factory.mktemp("npm")
    (directory / "package.json").write_text("{}")
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *PACKAGES]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"npm can't install the verifier: {done.stderr[-300:]}")
    return directory


def _accepts(modules: Path, key: Path, *bundles: Path) -> bool:
    script = Path(__file__).with_name("sigstore_verify.cjs")
    command = ["node", str(script), str(modules), str(key), *map(str, bundles)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))
    assert done.returncode == 0 or "VerificationError" in done.stderr or "unknown key" in done.stderr, done.stderr
    return done.returncode == 0


def test_sigstore_js_accepts_our_bundles_and_no_other_key(modules: Path, tmp_path: Path) -> None:
    make_image(tmp_path / "box")
    bundles = sorted((tmp_path / "box/attestations").iterdir())
    assert _accepts(modules, tmp_path / "box/kiln.pub", *bundles)
    (tmp_path / "other.pub").write_bytes(OTHER_SIGNER.public_key.pem)
    assert not _accepts(modules, tmp_path / "other.pub", bundles[0])


def test_sigstore_js_refuses_a_changed_payload(modules: Path, tmp_path: Path) -> None:
    make_image(tmp_path / "box")
    path = tmp_path / "box/attestations/provenance.sigstore.json"
    document = json.loads(path.read_bytes())
    payload = base64.b64decode(document["dsseEnvelope"]["payload"]).replace(b"run-1", b"run-2")
    document["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    path.write_text(json.dumps(document))
    assert not _accepts(modules, tmp_path / "box/kiln.pub", path)
