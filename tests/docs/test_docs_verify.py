"""docs/verify.md numbers the steps as the verifier does, and its commands work on an image directory."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pages import ROOT, page, rows, sections, words

from kiln.attestation.keys import DEFAULT_ROLE
from kiln.engine.execution.sandbox import DEFAULT_CAPABILITIES
from kiln_wire import layout
from kiln_wire.verify import STEPS

PAGE = sections(page("verify.md"))
TOOLS = PAGE["Verifying with other tools"]


def test_the_steps_are_those_of_the_verifier_in_their_order() -> None:
    numbered = re.findall(r"^(\d+)\. \*\*(\w+)\*\*", PAGE["Steps"], re.MULTILINE)
    assert numbered == [(str(number), name) for number, (name, _) in enumerate(STEPS, start=1)]


def test_every_statement_has_a_type_for_cosign() -> None:
    aliases = {"slsaprovenance1": "https://slsa.dev/provenance/v1", "cyclonedx": "https://cyclonedx.org/bom"}
    aliases["spdxjson"] = "https://spdx.dev/Document"
    listed = {words(row[0])[0]: words(row[1])[0] for row in rows(TOOLS)}
    assert {f"{layout.ATTESTATIONS}/{name}": aliases.get(kind, kind) for name, kind in listed.items()} == dict(
        layout.KNOWN_STATEMENTS
    )


def test_keys_and_capabilities_are_as_the_page_says() -> None:
    assert {f"{DEFAULT_ROLE}.key", f"{DEFAULT_ROLE}.pub"} <= {words(row[0])[0] for row in rows(PAGE["Keys"])}
    said = PAGE["What the provenance claims"]
    assert f"with {len(DEFAULT_CAPABILITIES)} capabilities" in said
    assert {"CAP_SYS_ADMIN", "CAP_MKNOD"} <= DEFAULT_CAPABILITIES


@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("openssl")), reason="needs jq and openssl")
def test_the_commands_for_openssl_and_jq_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tests/attestation")
    from image_sample import make_image

    make_image(tmp_path / "box")
    lines = [line[4:] for line in TOOLS.splitlines() if line.startswith("    ")]
    script = "\n".join(lines[lines.index("bundle=attestations/provenance.sigstore.json") :])
    script = script.partition("unsquashfs")[0].replace("/tmp/", f"{tmp_path}/")
    done = subprocess.run(
        ["bash", "-euc", script], cwd=tmp_path / "box", capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Verified OK" in done.stdout
    assert "box.qcow2: OK" in done.stdout
    assert "pkg:deb/debian/" in done.stdout
