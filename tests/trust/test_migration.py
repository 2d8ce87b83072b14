"""A machine from before there was a trust root goes on: its key stays, its images verify, its builds sign."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from trust_sample import NOW, Machine

from kiln.attestation.keys import open_signer
from kiln.attestation.model import AttestInputs
from kiln.attestation.verify import verify_image
from kiln.control_plane.keys import rotate_key
from kiln.control_plane.road.prove import Proof, prove
from kiln.control_plane.settings import Settings
from kiln.control_plane.trust import trust_store, verification_trust
from kiln.errors import KilnError
from kiln_wire import layout
from kiln_wire.finding import VerificationResult


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path / "state")


def _prove(inputs: AttestInputs, settings: Settings, now: int) -> Proof:
    return prove(
        inputs.directory,
        name=inputs.name,
        request_text=inputs.request_text,
        lock=inputs.lock,
        artifacts=inputs.artifacts,
        report=inputs.report,
        settings=settings,
        environment={},
        remote=False,
        invocation_id="run-1",
        started=inputs.started,
        clock=lambda: datetime.fromtimestamp(now, UTC),
    )


def _inputs(directory: Path) -> AttestInputs:
    from image_sample import make_inputs

    return make_inputs(directory)


def _verify(image: Path, settings: Settings, now: int) -> VerificationResult:
    return verify_image(image, trust=verification_trust(settings, now))


def test_an_old_key_and_its_images_live_on(settings: Settings, tmp_path: Path) -> None:
    old = open_signer(settings.keys)
    image = Machine(settings.state).image(tmp_path / "old", old)
    for name in (layout.RECORD, layout.RECORD_BUNDLE, layout.LOG_PROOF):
        (image / name).unlink()
    assert _verify(image, settings, NOW).verdict == "verified"
    proof = _prove(_inputs(tmp_path / "new"), settings, NOW)
    assert layout.LOG_PROOF in proof.files
    assert trust_store(settings, {}).ring.signer("image-vault").public_key == old.public_key
    for directory in (image, tmp_path / "new"):
        result = _verify(directory, settings, NOW)
        assert (result.verdict, result.findings) == ("verified", ())


def test_a_build_after_a_rotation_signs_with_the_new_key(settings: Settings, tmp_path: Path) -> None:
    _prove(_inputs(tmp_path / "one"), settings, NOW)
    fresh = rotate_key(settings, {}, "image-vault", NOW + 1, days=100)
    _prove(_inputs(tmp_path / "two"), settings, NOW + 2)
    for name in ("one", "two"):
        assert _verify(tmp_path / name, settings, NOW + 3).verdict == "verified"
    assert _verify(tmp_path / "two", settings, NOW + 3).signers == (fresh,)


def test_a_build_with_a_revoked_or_expired_key_is_refused_before_it_signs(settings: Settings, tmp_path: Path) -> None:
    _prove(_inputs(tmp_path / "one"), settings, NOW)
    fresh = rotate_key(settings, {}, "image-vault", NOW, days=10)
    with pytest.raises(KilnError) as caught:
        _prove(_inputs(tmp_path / "two"), settings, NOW + 11 * 86_400)
    assert caught.value.reason == "expired-key"
    trust_store(settings, {}).revoke(fresh, NOW, since=NOW, reason="lost")
    with pytest.raises(KilnError) as caught:
        _prove(_inputs(tmp_path / "three"), settings, NOW)
    assert caught.value.reason == "revoked-key"
    assert not (tmp_path / "three/attestations").exists()


def test_a_build_again_replaces_record_and_proof(settings: Settings, tmp_path: Path) -> None:
    inputs = _inputs(tmp_path / "one")
    first = _prove(inputs, settings, NOW)
    second = _prove(inputs, settings, NOW + 1)
    assert first.record_id != second.record_id
    assert (tmp_path / "one" / layout.LOG_PROOF).read_bytes().startswith(b"c2sp.org/tlog-proof@v1\nindex 1\n")
    assert _verify(tmp_path / "one", settings, NOW + 2).verdict == "verified"


def test_a_witness_that_is_down_is_told_and_does_not_stop_a_build(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path / "state", witnesses=("http://127.0.0.1:9",))
    proof = _prove(_inputs(tmp_path / "one"), settings, NOW)
    assert len(proof.problems) == 1
    assert _verify(tmp_path / "one", settings, NOW).verdict == "verified"
