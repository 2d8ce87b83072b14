"""Keys have one role each, for a time; a root changes by the signatures of the one before and never goes back."""

from __future__ import annotations

import copy
import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trust_sample import DAY, NOW, Machine, machine, reasons

from kiln.attestation.signer import sign_statement
from kiln.attestation.signers import KeyRing
from kiln.attestation.trust_import import import_root
from kiln.errors import KilnError
from kiln_wire.canonical import canonical_json
from kiln_wire.trust_root import ROLES, open_trust_root
from kiln_wire.tuf import MetadataError, olpc_canonical


@pytest.fixture
def box(tmp_path: Path) -> Machine:
    return machine(tmp_path)


def refusal(document: Any, **options: Any) -> str:
    with pytest.raises(MetadataError) as caught:
        open_trust_root(document, **{"now": NOW, **options})
    return caught.value.reason


def test_a_new_machine_has_a_root_with_its_image_key(box: Machine) -> None:
    root = box.store.read(NOW)
    (key,) = root.of_role("image-vault")
    assert key.key == box.ring.signer("image-vault").public_key
    assert key.active
    assert root.logs == (box.log.key,)
    assert root.versions.root == 1
    assert set(root.thresholds) == set(ROLES)


def test_a_key_from_before_the_root_keeps_what_it_has_signed(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "state/keys")
    old = ring.signer("image-vault").public_key
    box = machine(tmp_path)
    (key,) = box.store.read(NOW).of_role("image-vault")
    assert (key.key, key.valid_from) == (old, 0)


def test_a_rotated_key_verifies_what_it_signed_and_a_new_one_signs(box: Machine, tmp_path: Path) -> None:
    image = box.image(tmp_path / "box")
    old = box.ring.signer("image-vault").public_key
    box.ring.retire("image-vault")
    new = box.ring.signer("image-vault").public_key
    box.store.replace("image-vault", old.hint, new, NOW + 1)
    keys = {item.key.hint: item.active for item in box.store.read(NOW + 1).of_role("image-vault")}
    assert keys == {old.hint: False, new.hint: True}
    assert box.verify(image, NOW + 2).verdict == "verified"
    assert box.verify(box.image(tmp_path / "next"), NOW + 2).verdict == "verified"


def test_each_threshold_counts_different_keys(box: Machine) -> None:
    box.store.renew_root(NOW, add=box.ring.signer("root.2"), threshold=2)
    document = box.document()
    assert open_trust_root(document, now=NOW).versions.root == 2
    one = copy.deepcopy(document)
    one["roots"][1]["signatures"].pop()
    assert refusal(one) == "not-signed"
    twice = copy.deepcopy(document)
    twice["roots"][1]["signatures"][1] = twice["roots"][1]["signatures"][0]
    assert refusal(twice) == "malformed-metadata"
    for kind in ("timestamp", "snapshot", "targets"):
        bare = copy.deepcopy(document)
        bare[kind]["signatures"] = []
        assert refusal(bare) == "not-signed"


def test_a_root_key_can_be_replaced_and_the_old_one_is_out(box: Machine) -> None:
    first = box.document()
    old = box.ring.signer("root").public_key
    fresh = box.ring.signer("root.2")
    box.store.renew_root(NOW, add=fresh)
    box.store.renew_root(NOW, remove=old.hint)
    root = open_trust_root(box.document(), now=NOW, anchor=first["roots"][0])
    assert root.versions.root == 3
    with pytest.raises(KilnError) as caught:
        box.store.renew_root(NOW, remove=fresh.public_key.hint)
    assert caught.value.reason == "bad-threshold"


def test_a_chain_with_a_gap_or_another_beginning_is_refused(box: Machine, tmp_path: Path) -> None:
    anchor = box.document()["roots"][0]
    for _ in range(2):
        box.store.renew_root(NOW)
    document = box.document()
    gap = {**document, "roots": [document["roots"][0], document["roots"][2]]}
    assert refusal(gap) == "version-gap"
    assert refusal({**document, "roots": document["roots"][2:]}, anchor=anchor) == "version-gap"
    other = machine(tmp_path / "other").document()
    assert refusal(other, anchor=anchor) == "wrong-anchor"
    assert refusal(other | {"roots": [document["roots"][0], *other["roots"]]}, anchor=anchor) != ""


def test_expired_metadata_is_refused_each_part_by_itself(box: Machine) -> None:
    document = box.document()
    for kind in ("timestamp", "snapshot", "targets"):
        late = copy.deepcopy(document)
        late[kind]["signed"]["expires"] = "2026-01-01T00:00:00Z"
        assert refusal(late) == "not-signed"
    assert refusal(document, now=NOW + 366 * DAY) == "expired-metadata"
    box.store.ensure(NOW + 300 * DAY, first_roles=())
    assert open_trust_root(box.document(), now=NOW + 366 * DAY).versions.timestamp == 2


def test_parts_of_different_times_are_refused_together(box: Machine) -> None:
    old = box.document()
    box.store.configure(NOW, witnessQuorum=0)
    new = box.document()
    assert refusal({**new, "targets": old["targets"]}) == "mix-and-match"
    assert refusal({**new, "snapshot": old["snapshot"]}) == "mix-and-match"
    seen = open_trust_root(new, now=NOW).versions
    assert refusal(old, seen=seen) == "rolled-back"


def test_every_flipped_character_of_the_metadata_is_refused(box: Machine) -> None:
    data = canonical_json(box.document())
    good = open_trust_root(box.document(), now=NOW)
    for position in range(0, len(data), 37):
        changed = bytearray(data)
        changed[position] ^= 1
        try:
            document = json.loads(bytes(changed))
        except ValueError:
            continue
        try:
            assert open_trust_root(document, now=NOW) == good
        except MetadataError:
            continue


def test_import_goes_only_forward(box: Machine, tmp_path: Path) -> None:
    path, known = tmp_path / "root.json", tmp_path / "imported"
    path.write_bytes(canonical_json(box.document()))
    assert import_root(known, "vendor", path, NOW).versions.targets == 1
    old = path.read_bytes()
    box.store.renew_root(NOW)
    path.write_bytes(canonical_json(box.document()))
    assert import_root(known, "vendor", path, NOW).versions.root == 2
    path.write_bytes(old)
    with pytest.raises(KilnError) as caught:
        import_root(known, "vendor", path, NOW)
    assert caught.value.reason == "rolled-back"
    path.write_bytes(canonical_json(machine(tmp_path / "other").document()))
    with pytest.raises(KilnError):
        import_root(known, "vendor", path, NOW)


def test_a_statement_by_a_key_of_another_role_is_found(box: Machine, tmp_path: Path) -> None:
    approver = box.ring.signer("approver")
    box.store.enrol("approver", approver.public_key, NOW)
    image = box.image(tmp_path / "box")
    from kiln_wire.dsse import read_bundle

    path = image / "attestations/test-report.sigstore.json"
    path.write_bytes(sign_statement(approver, read_bundle(path.read_bytes()).unverified_payload))
    assert reasons(box.verify(image)) == {("attestations/test-report.sigstore.json", "wrong-role")}


def test_the_key_of_one_role_cannot_get_another(box: Machine) -> None:
    key = box.ring.signer("image-vault").public_key
    with pytest.raises(KilnError) as caught:
        box.store.enrol("approver", key, NOW)
    assert caught.value.reason == "key-known"


def test_our_canonical_form_is_that_of_securesystemslib() -> None:
    from securesystemslib.formats import encode_canonical

    value = {"b": [1, True, None, 'x\n"\\é\x7f'], "a": {"": -5, "z": []}, "A": "€"}
    assert olpc_canonical(value) == encode_canonical(value).encode()


# --- python-tuf's own client


@pytest.fixture
def served(box: Machine) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(box.state / "trust"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass


def _client(served: str, directory: Path, root: bytes) -> Any:
    from tuf.ngclient import Updater

    directory.mkdir(exist_ok=True)
    return Updater(str(directory), metadata_base_url=served, bootstrap=root)


def test_python_tufs_client_follows_our_roots(box: Machine, served: str, tmp_path: Path) -> None:
    from tuf.api.exceptions import RepositoryError

    (box.state / "trust/timestamp.json").touch()
    first = (box.state / "trust/1.root.json").read_bytes()
    real = Machine(box.state)
    import time

    now = int(time.time())
    real.store.configure(now, witnessQuorum=0)
    real.store.renew_root(now, add=real.ring.signer("root.2"), threshold=2)
    _client(served, tmp_path / "client", first).refresh()
    assert json.loads((tmp_path / "client/root.json").read_bytes())["signed"]["version"] == 2
    targets = json.loads((tmp_path / "client/targets.json").read_bytes())["signed"]
    assert targets["delegations"]["roles"][1]["name"] == "image-vault"
    # one flipped bit in any part, and the client that knew nothing refuses
    for name in ("2.root.json", "timestamp.json", "snapshot.json", "targets.json"):
        path = box.state / "trust" / name
        good = path.read_bytes()
        path.write_bytes(good.replace(b'"version":', b'"version" :').replace(b"Z", b"Y", 1))
        with pytest.raises((RepositoryError, ValueError)):
            _client(served, tmp_path / f"client-{name}", first).refresh()
        path.write_bytes(good)
