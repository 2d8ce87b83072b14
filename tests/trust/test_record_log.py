"""The log holds every record, in order; its tiles, proofs and witnesses' signatures lead to one history."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from trust_sample import NOW, Machine, machine, reasons

from kiln.attestation.signers import KeyRing
from kiln.errors import KilnError
from kiln.records.log import RecordLog, check_log
from kiln.records.model import Run
from kiln.records.monitor import watch
from kiln.records.store import Records
from kiln.records.witness import Witness, http_post, read_request, submit, write_request
from kiln.records.witness_http import serve
from kiln_wire.digest import Digest
from kiln_wire.log_entry import log_entry
from kiln_wire.merkle import leaf_hash, root_hash
from kiln_wire.note import Note, NoteKey
from kiln_wire.tiles import TileReader

MOMENT = datetime.fromtimestamp(NOW, UTC)


def run(number: int) -> Run:
    return Run(f"image-{number}", "pass", "a box", "me@here", "1", f"run-{number}", "", "")


def grow(box: Machine, count: int) -> None:
    with Records(box.state) as records:
        start = len(records.recent(10_000))
        for number in range(start, start + count):
            records.append(run(number), now=MOMENT)
        box.log.catch_up(records)


def naive(box: Machine) -> bytes:
    with Records(box.state) as records:
        leaves = [leaf_hash(log_entry(digest)) for digest in records.digests(0)]

    def node(level: int, index: int) -> bytes:
        return leaves[index] if level == 0 else _pair(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))

    from kiln_wire.merkle import node_hash as _pair

    return root_hash(len(leaves), node)


@pytest.fixture
def box(tmp_path: Path) -> Machine:
    return machine(tmp_path)


def test_the_log_grows_over_tiles_and_each_step_is_consistent(box: Machine) -> None:
    heads = []
    for count in (1, 1, 5, 249, 1, 3, 300):
        grow(box, count)
        head = box.log.checkpoint()
        assert head is not None
        assert head.root == naive(box)
        heads.append(head)
    from kiln_wire.merkle import verify_consistency

    for old in heads:
        proof = box.log.prove_consistency(old.size, heads[-1].size)
        assert verify_consistency(old.size, heads[-1].size, old.root, heads[-1].root, proof)
    with Records(box.state) as records:
        digests = list(records.digests(0))
        assert list(check_log(box.log, records)) == []
    for index in (0, 255, 256, 511, 512, 559):
        proof = box.log.prove(index)
        assert proof.verify(log_entry(digests[index]), box.log.key)[0] == heads[-1]
    entries = list(TileReader(box.log.read, 560).entries(0))
    assert entries == [log_entry(digest) for digest in digests]
    assert list(TileReader(box.log.read, 560).entries(300)) == entries[300:]


def test_the_log_catches_up_after_a_kill_between_tiles_and_checkpoint(box: Machine) -> None:
    grow(box, 3)
    checkpoint = (box.log.directory / "checkpoint").read_bytes()
    grow(box, 4)
    (box.log.directory / "checkpoint").write_bytes(checkpoint)
    grow(box, 2)
    assert box.log.checkpoint().root == naive(box)  # type: ignore[union-attr]


def test_records_that_were_replaced_are_not_taken_in(box: Machine, tmp_path: Path) -> None:
    grow(box, 3)
    other = Machine(tmp_path / "other")
    with Records(other.state) as records:
        for number in (7, 8, 9, 10):
            records.append(run(number), now=MOMENT)
    for name in ("records.db", "records.db-wal", "records.db-shm"):
        if (other.state / name).exists():
            shutil.copy(other.state / name, box.state / name)
    with Records(box.state) as records:
        with pytest.raises(KilnError) as caught:
            box.log.catch_up(records)
        assert caught.value.reason == "log-disagrees"
        assert list(check_log(box.log, records)) == ["the records are not those that the checkpoint was signed for"]


def test_a_changed_tile_is_found(box: Machine) -> None:
    grow(box, 3)
    tile = box.log.directory / "tile/0/000.p/3"
    data = bytearray(tile.read_bytes())
    data[0] ^= 1
    tile.write_bytes(data)
    with Records(box.state) as records:
        assert list(check_log(box.log, records)) == ["the tiles do not lead to the checkpoint"]


def test_a_log_needs_an_ed25519_key(box: Machine) -> None:
    with pytest.raises(KilnError) as caught:
        RecordLog(box.state, box.ring.signer("image-vault"))
    assert caught.value.reason == "bad-log-key"


def test_the_monitor_follows_and_finds_a_fork(box: Machine, tmp_path: Path) -> None:
    memory = tmp_path / "seen"
    grow(box, 3)
    first = watch(box.log.read, box.log.key, memory)
    assert (first.findings, first.entries_checked) == ((), 3)
    copy = tmp_path / "copy"
    shutil.copytree(box.state, copy)
    grow(box, 300)
    assert watch(box.log.read, box.log.key, memory).entries_checked == 300
    # the same key tells somebody else another history
    forked = Machine(copy)
    with Records(forked.state) as records:
        for number in range(400):
            records.append(run(9000 + number), now=MOMENT)
        forked.log.catch_up(records)
    found = watch(forked.log.read, box.log.key, memory)
    assert [item.reason for item in found.findings] == ["fork"]
    evidence = (tmp_path / "seen.fork").read_bytes()
    assert evidence.count(box.log.key.name.encode() + b"\n") == 2
    # and the memory still knows the first history
    assert watch(box.log.read, box.log.key, memory).findings == ()


def test_the_monitor_finds_a_log_that_went_back_and_an_entry_that_is_not_in_the_tree(
    box: Machine, tmp_path: Path
) -> None:
    grow(box, 3)
    old = (box.log.directory / "checkpoint").read_bytes()
    grow(box, 1)
    assert watch(box.log.read, box.log.key, tmp_path / "seen").findings == ()
    new = (box.log.directory / "checkpoint").read_bytes()
    (box.log.directory / "checkpoint").write_bytes(old)
    assert [item.reason for item in watch(box.log.read, box.log.key, tmp_path / "seen").findings] == ["rolled-back"]
    (box.log.directory / "checkpoint").write_bytes(new)
    entries = box.log.directory / "tile/entries/000.p/4"
    entries.write_bytes(entries.read_bytes().replace(b"kiln.log", b"kiln.lag", 1))
    assert [item.reason for item in watch(box.log.read, box.log.key, tmp_path / "other").findings] == ["changed-entry"]


@pytest.fixture
def witness(box: Machine, tmp_path: Path) -> Witness:
    ring = KeyRing(tmp_path / "witness/keys")
    return Witness("witness.example/one", ring.signer("witness"), tmp_path / "witness/state", [box.log.key])


@pytest.fixture
def url(witness: Witness) -> Iterator[str]:
    with serve(witness, ("127.0.0.1", 0), lambda: NOW) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_witness_signs_each_step_over_http_and_the_image_carries_it(
    box: Machine, witness: Witness, url: str, tmp_path: Path
) -> None:
    box.store.configure(NOW, witnesses=[witness.key.vkey], witnessQuorum=1)
    for _ in range(3):
        grow(box, 2)
        submit(box.log, [witness.key], http_post(url))
    image = box.image(tmp_path / "box")
    assert reasons(box.verify(image)) == {("record.tlog-proof", "too-few-witnesses")}
    submit(box.log, [witness.key], http_post(url))
    (image / "record.tlog-proof").write_bytes(box.log.prove(6).data)
    assert box.verify(image).verdict == "verified"
    note = Note.parse((box.log.directory / "checkpoint").read_bytes())
    assert [item.time for item in note.signers([witness.key])] == [NOW]


def _checkpoint(box: Machine) -> bytes:
    return box.log.read("checkpoint")


def test_a_witness_answers_as_the_specification_says(box: Machine, witness: Witness, tmp_path: Path) -> None:
    grow(box, 3)
    three = _checkpoint(box)
    assert witness.add_checkpoint(b"", now=NOW).status == 400
    assert witness.add_checkpoint(b"old 03\n\n" + three, now=NOW).status == 400
    assert witness.add_checkpoint(write_request(4, (), three), now=NOW).status == 400
    assert witness.add_checkpoint(write_request(0, (bytes(32),), three), now=NOW).status == 422
    stranger = Machine(tmp_path / "stranger").ready()
    grow(stranger, 1)
    assert witness.add_checkpoint(write_request(0, (), _checkpoint(stranger)), now=NOW).status == 404
    assert witness.add_checkpoint(write_request(0, (), three.replace(b"\n3\n", b"\n4\n")), now=NOW).status == 403
    assert witness.add_checkpoint(write_request(0, (), three), now=NOW).status == 200
    grow(box, 2)
    answer = witness.add_checkpoint(write_request(0, (), _checkpoint(box)), now=NOW)
    assert (answer.status, answer.body, answer.content_type) == (409, b"3\n", "text/x.tlog.size")
    assert witness.add_checkpoint(write_request(3, (bytes(32),), _checkpoint(box)), now=NOW).status == 422
    proof = box.log.prove_consistency(3, 5)
    assert witness.add_checkpoint(write_request(3, proof, _checkpoint(box)), now=NOW).status == 200
    assert read_request(write_request(3, proof, three)) == (3, proof, three)


def test_a_witness_does_not_sign_a_fork(box: Machine, witness: Witness, tmp_path: Path) -> None:
    grow(box, 3)
    shutil.copytree(box.state, tmp_path / "copy")
    grow(box, 2)
    submit(box.log, [witness.key], lambda body: _post(witness, body))
    forked = Machine(tmp_path / "copy")
    with Records(forked.state) as records:
        for number in range(4):
            records.append(run(9000 + number), now=MOMENT)
        forked.log.catch_up(records)
    with pytest.raises(KilnError) as caught:
        submit(forked.log, [witness.key], lambda body: _post(witness, body))
    assert caught.value.reason == "witness-refused"


def test_a_signature_of_another_witness_is_not_taken(box: Machine, witness: Witness) -> None:
    grow(box, 1)
    other = NoteKey("witness.example/two", witness.key.key, witness.key.kind)
    with pytest.raises(KilnError) as caught:
        submit(box.log, [other], lambda body: _post(witness, body))
    assert caught.value.reason == "witness-refused"


def _post(witness: Witness, body: bytes) -> tuple[int, bytes]:
    answer = witness.add_checkpoint(body, now=NOW)
    return answer.status, answer.body


def test_an_image_carries_a_proof_that_its_record_is_in_the_log(box: Machine, tmp_path: Path) -> None:
    grow(box, 5)
    image = box.image(tmp_path / "box")
    assert box.verify(image).findings == ()
    (image / "record.tlog-proof").unlink()
    assert box.verify(image).verdict == "verified"


def test_a_proof_of_another_log_or_record_is_found(box: Machine, tmp_path: Path) -> None:
    image = box.image(tmp_path / "box")
    other = Machine(tmp_path / "other").ready()
    grow(other, 1)
    proof = image / "record.tlog-proof"
    good = proof.read_bytes()
    proof.write_bytes(other.log.prove(0).data)
    assert reasons(box.verify(image)) == {("record.tlog-proof", "unknown-log")}
    grow(box, 1)
    proof.write_bytes(box.log.prove(1).data)
    assert reasons(box.verify(image)) == {("record.tlog-proof", "not-included")}
    for position in range(0, len(good), 11):
        changed = bytearray(good)
        changed[position] ^= 1
        proof.write_bytes(changed)
        assert {name for name, _ in reasons(box.verify(image))} == {"record.tlog-proof"}, position
    assert Digest.of(good)
