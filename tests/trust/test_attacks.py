"""One test for each attack, named after it. Each must be refused, and the file that is to blame be named."""

from __future__ import annotations

import copy
import json
import os
import shutil
import stat
import threading
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from trust_sample import DAY, NOW, Machine, machine, reasons

from kiln.attestation.pack import write_pack
from kiln.attestation.signer import sign_statement
from kiln.attestation.targets import verify_target
from kiln.attestation.trust_import import import_root
from kiln.attestation.verify import verify_image
from kiln.errors import KilnError
from kiln.events.model import NullSink
from kiln.records.monitor import watch
from kiln.records.store import Records
from kiln_wire.archive import PREFIX
from kiln_wire.canonical import canonical_json
from kiln_wire.dsse import read_bundle
from kiln_wire.trust import Trust
from kiln_wire.trust_root import open_trust_root
from kiln_wire.tuf import MetadataError

BUNDLE = "attestations/{}.sigstore.json".format


@pytest.fixture
def box(tmp_path: Path) -> Machine:
    return machine(tmp_path)


@pytest.fixture
def image(box: Machine, tmp_path: Path) -> Path:
    return box.image(tmp_path / "box")


def test_attack_changed_byte(box: Machine, image: Path) -> None:
    path = image / "box.squashfs"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert reasons(box.verify(image)) == {("box.squashfs", "changed")}


def test_attack_swapped_statement(box: Machine, image: Path) -> None:
    one, two = (image / BUNDLE(name) for name in ("sbom-spdx", "sbom-cyclonedx"))
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)
    assert {reason for _, reason in reasons(box.verify(image))} == {"swapped-statement"}


def test_attack_statement_of_another_image(box: Machine, image: Path, tmp_path: Path) -> None:
    """A good statement, by the right key, about something else: the wrong subject."""
    from image_sample import resign, with_digest

    resign(image, "test-report", subjects=lambda subject: with_digest(subject, b"another image"))
    payload = read_bundle((image / BUNDLE("test-report")).read_bytes()).unverified_payload
    (image / BUNDLE("test-report")).write_bytes(sign_statement(box.ring.signer("image-vault"), payload))
    assert (BUNDLE("test-report"), "wrong-subject") in reasons(box.verify(image))


def test_attack_stripped_signature(box: Machine, image: Path) -> None:
    path = image / BUNDLE("provenance")
    document = json.loads(path.read_bytes())
    document["dsseEnvelope"]["signatures"] = []
    path.write_bytes(canonical_json(document))
    assert reasons(box.verify(image)) == {(BUNDLE("provenance"), "malformed-bundle")}


def test_attack_stripped_statement(box: Machine, image: Path) -> None:
    (image / BUNDLE("test-report")).unlink()
    assert (BUNDLE("test-report"), "missing-statement") in reasons(box.verify(image))


def test_attack_expired_key(box: Machine, image: Path) -> None:
    key = box.ring.signer("image-vault").public_key
    (entry,) = box.store.read(NOW).of_role("image-vault")
    for moment, verdict in ((entry.valid_until - 1, "verified"), (entry.valid_until, "refused")):
        for now in range(NOW, moment, 200 * DAY):
            box.store.ensure(now, first_roles=())
        if moment > NOW:
            box.store.renew_root(moment - DAY)
        result = box.verify(image, moment)
        assert result.verdict == verdict
    assert {reason for _, reason in reasons(result)} == {"expired-key"}
    assert key.hint in result.signers


def test_attack_revoked_key(box: Machine, image: Path) -> None:
    hint = box.ring.signer("image-vault").public_key.hint
    assert box.store.revoke(hint, NOW + 5, since=NOW + 5, reason="key-compromise") == "image-vault"
    assert {reason for _, reason in reasons(box.verify(image, NOW + 10))} == {"revoked-key"}


def test_attack_backdated_signature_by_a_revoked_key(box: Machine, image: Path) -> None:
    """Whoever has the key can write any time into a provenance: only somebody else's clock counts."""
    hint = box.ring.signer("image-vault").public_key.hint
    box.store.revoke(hint, NOW + 5, since=NOW + 5, reason="key-compromise")
    provenance = json.loads(_payload(image / BUNDLE("provenance")))
    provenance["predicate"]["runDetails"]["metadata"]["finishedOn"] = "2020-01-01T00:00:00Z"
    bundle = sign_statement(box.ring.signer("image-vault"), canonical_json(provenance))
    (image / BUNDLE("provenance")).write_bytes(bundle)
    assert (BUNDLE("provenance"), "revoked-key") in reasons(box.verify(image, NOW + 10))


def test_attack_replayed_older_metadata(box: Machine, tmp_path: Path) -> None:
    old = box.document()
    hint = box.ring.signer("image-vault").public_key.hint
    known = tmp_path / "imported"
    path = tmp_path / "root.json"
    path.write_bytes(canonical_json(old))
    import_root(known, "vendor", path, NOW)
    box.store.revoke(hint, NOW, since=NOW, reason="key-compromise")
    new = tmp_path / "new.json"
    new.write_bytes(canonical_json(box.document()))
    import_root(known, "vendor", new, NOW)
    with pytest.raises(KilnError) as caught:
        import_root(known, "vendor", path, NOW)
    assert caught.value.reason == "rolled-back"
    mixed = {**box.document(), "targets": old["targets"]}
    with pytest.raises(MetadataError) as refused:
        open_trust_root(mixed, now=NOW)
    assert refused.value.reason == "mix-and-match"


def test_attack_frozen_metadata(box: Machine, image: Path) -> None:
    """The world is told nothing new, so that it does not hear of a revocation: the timestamp runs out."""
    document = box.document()
    with pytest.raises(MetadataError) as refused:
        open_trust_root(document, now=NOW + 366 * DAY)
    assert refused.value.reason == "expired-metadata"
    trust = Trust((), None, ("expired-metadata", "timestamp 1"), NOW + 366 * DAY)
    assert ("trust root", "expired-metadata") in reasons(verify_image(image, trust=trust))


def test_attack_fork_of_the_log(box: Machine, image: Path, tmp_path: Path) -> None:
    assert watch(box.log.read, box.log.key, tmp_path / "seen").findings == ()
    shutil.copytree(box.state, tmp_path / "fork")
    box.image(tmp_path / "second")
    assert watch(box.log.read, box.log.key, tmp_path / "seen").findings == ()
    forked = Machine(tmp_path / "fork")
    forked.image(tmp_path / "other")
    forked.image(tmp_path / "third")
    found = watch(forked.log.read, box.log.key, tmp_path / "seen")
    assert [item.reason for item in found.findings] == ["fork"]
    assert (tmp_path / "seen.fork").exists()


def test_attack_fork_of_the_log_behind_a_good_signature(box: Machine, image: Path) -> None:
    """A record that was never logged, with the proof of one that was."""
    with Records(box.state) as records:
        record = records.recent()[0]
        run = record.run
        records.append(run, now=datetime.fromtimestamp(NOW + 1, UTC))
        box.log.catch_up(records)
    (image / "record.tlog-proof").write_bytes(box.log.prove(1).data)
    assert reasons(box.verify(image)) == {("record.tlog-proof", "not-included")}


@pytest.mark.parametrize("keep", [0, 1, 50, -1])
def test_attack_truncated_bundle(box: Machine, image: Path, keep: int) -> None:
    path = image / BUNDLE("sbom-spdx")
    path.write_bytes(path.read_bytes()[:keep])
    assert reasons(box.verify(image)) == {(BUNDLE("sbom-spdx"), "malformed-bundle")}


def test_attack_duplicate_json_keys(box: Machine, image: Path) -> None:
    path = image / BUNDLE("provenance")
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"payloadType":', b'"payloadType":"x","payloadType":', 1))
    assert reasons(box.verify(image)) == {(BUNDLE("provenance"), "malformed-bundle")}
    twice = _payload_text(data).replace(b'"predicateType":', b'"predicateType":"x","predicateType":', 1)
    path.write_bytes(sign_statement(box.ring.signer("image-vault"), twice))
    assert reasons(box.verify(image)) == {(BUNDLE("provenance"), "malformed-statement")}


@pytest.mark.parametrize("name", [BUNDLE("provenance"), "kiln.lock", "evidence/report.json", "verification.json"])
@pytest.mark.parametrize(
    "data", [b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000, b"1" * 200_000, b'{"a":1e999999}']
)
def test_attack_deep_or_huge_json(box: Machine, image: Path, name: str, data: bytes) -> None:
    (image / name).write_bytes(data)
    assert name in {component for component, _ in reasons(box.verify(image))}


def test_attack_huge_file_in_the_place_of_a_document(box: Machine, image: Path) -> None:
    with (image / "kiln.lock").open("wb") as file:
        file.truncate(1 << 28)  # sparse: it takes no space, and must take no memory
    assert "kiln.lock" in {component for component, _ in reasons(box.verify(image))}


def _zip(path: Path, entries: list[tuple[str, bytes, int]], *, compression: int = zipfile.ZIP_STORED) -> Path:
    with path.open("wb") as file:
        file.write(PREFIX)
        with zipfile.ZipFile(file, "w", compression) as archive:
            for name, data, mode in entries:
                info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                info.external_attr = mode << 16
                info.compress_type = compression
                archive.writestr(info, data)
    return path


REGULAR = stat.S_IFREG | 0o644


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "entries",
    [
        [("../escape", b"x", REGULAR)],
        [("image/../../escape", b"x", REGULAR)],
        [("/etc/cron.d/x", b"x", REGULAR)],
        [("image\\..\\escape", b"x", REGULAR)],
        [("image//a", b"x", REGULAR)],
        [("image/./a", b"x", REGULAR)],
        [("image/a\nb", b"x", REGULAR)],
        [("image/link", b"/etc/passwd", stat.S_IFLNK | 0o777)],
        [("image/device", b"", stat.S_IFCHR | 0o644)],
        [("image/a", b"x", REGULAR), ("image/a", b"y", REGULAR)],
    ],
)
def test_attack_path_traversal_in_an_archive(
    box: Machine, tmp_path: Path, entries: list[tuple[str, bytes, int]]
) -> None:
    path = _zip(tmp_path / "evil.pyz", entries)
    with pytest.raises(KilnError) as caught:
        verify_target(str(path), box.trust())
    assert (caught.value.reason, caught.value.exit_status) == ("malformed-archive", 4)
    assert not list(tmp_path.rglob("escape"))


def test_attack_compressed_bomb_in_an_archive(box: Machine, tmp_path: Path) -> None:
    bomb = [("image/kiln.lock", bytes(50_000_000), REGULAR)]
    path = _zip(tmp_path / "bomb.pyz", bomb, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(KilnError) as caught:
        verify_target(str(path), box.trust())
    assert caught.value.reason == "malformed-archive"


@pytest.mark.parametrize("change", [lambda data: data + b"more", lambda data: data[:-30], lambda data: data[:1000]])
def test_attack_bytes_beside_the_entries_of_an_archive(
    box: Machine, image: Path, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    pack = write_pack(image, tmp_path / "box.pyz", NullSink()).path
    pack.write_bytes(change(pack.read_bytes()))
    with pytest.raises(KilnError) as caught:
        verify_target(str(pack), box.trust())
    assert caught.value.reason == "malformed-archive"


def test_attack_hidden_entry_in_an_archive(box: Machine, image: Path, tmp_path: Path) -> None:
    pack = write_pack(image, tmp_path / "box.pyz", NullSink()).path
    with zipfile.ZipFile(pack, "a") as archive:
        info = zipfile.ZipInfo("kiln_wire/extra.py", (1980, 1, 1, 0, 0, 0))
        info.external_attr = REGULAR << 16
        archive.writestr(info, b"x")
    result = verify_target(str(pack), box.trust())
    assert ("kiln_wire/extra.py", "unexpected-file") in reasons(result)


def test_attack_symlink_race(box: Machine, image: Path, tmp_path: Path) -> None:
    """While the image is read, one of its directories is exchanged for a link to another image's, again and again."""
    evil = tmp_path / "evil"
    shutil.copytree(image, evil)
    (evil / "evidence/build.log").write_bytes(b"nothing to see here")
    real, stop = tmp_path / "real", threading.Event()

    def race() -> None:
        while not stop.is_set():
            (image / "evidence").rename(real)
            (image / "evidence").symlink_to(evil / "evidence")
            (image / "evidence").unlink()
            real.rename(image / "evidence")

    thread = threading.Thread(target=race)
    thread.start()
    try:
        for _ in range(30):
            try:
                result = box.verify(image)
            except KilnError as error:  # the directory was not there at all when it was opened
                assert error.reason in ("no-image", "unreadable")
                continue
            # what was seen is either the image or a refusal, never the other one's file as this one's
            assert ("evidence/build.log", "changed") not in reasons(result)
            assert result.verdict == "verified" or reasons(result)
    finally:
        stop.set()
        thread.join()
    assert box.verify(image).verdict == "verified"


@pytest.mark.parametrize("name", ["box.squashfs", "kiln.lock", "evidence/build.log", BUNDLE("provenance")])
def test_attack_symlink_in_the_place_of_a_file(box: Machine, image: Path, tmp_path: Path, name: str) -> None:
    moved = tmp_path / "moved"
    (image / name).rename(moved)
    (image / name).symlink_to(moved)
    assert (name, "not-a-regular-file") in reasons(box.verify(image))


def test_attack_fifo_in_the_place_of_a_file(box: Machine, image: Path) -> None:
    (image / "kiln.lock").unlink()
    os.mkfifo(image / "kiln.lock")
    assert ("kiln.lock", "not-a-regular-file") in reasons(box.verify(image))


def test_attack_key_beside_the_image(box: Machine, image: Path, tmp_path: Path) -> None:
    """All statements signed again with the attacker's key, which lies beside the image."""
    stranger = Machine(tmp_path / "stranger").ready()
    forged = stranger.image(tmp_path / "forged")
    result = box.verify(forged)
    assert result.verdict == "refused"
    assert "untrusted-key" in {item.reason for item in result.findings}


def test_attack_role_of_another_key(box: Machine, image: Path) -> None:
    """The approver's key, which people hold, signs what only the image vault may say."""
    approver = box.ring.signer("approver")
    box.store.enrol("approver", approver.public_key, NOW)
    path = image / BUNDLE("provenance")
    path.write_bytes(sign_statement(approver, _payload(path)))
    assert (BUNDLE("provenance"), "wrong-role") in reasons(box.verify(image))


def test_attack_threshold_by_one_key_twice(box: Machine) -> None:
    box.store.renew_root(NOW, add=box.ring.signer("root.2"), threshold=2)
    document = copy.deepcopy(box.document())
    root = document["roots"][1]["signed"]
    first, second = root["roles"]["root"]["keyids"]
    # the same key under a second id: the id does not follow from it
    root["keys"][second] = root["keys"][first]
    with pytest.raises(MetadataError) as refused:
        open_trust_root(document, now=NOW)
    assert refused.value.reason in ("malformed-metadata", "not-signed")


def _payload(path: Path) -> bytes:
    return _payload_text(path.read_bytes())


def _payload_text(data: bytes) -> bytes:
    return read_bundle(data).unverified_payload
