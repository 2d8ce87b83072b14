"""Write a trust root: which keys have which role, as TUF metadata that python-tuf builds and signs.

The directory is a TUF repository (`N.root.json`, `timestamp.json`, `snapshot.json`, `targets.json`), so that any TUF
client can read it. Every change writes new versions and is signed at once; the root's signers must all be within
reach: files, tokens or services.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kiln.attestation.signer import Signer
from kiln.attestation.signers import KeyRing
from kiln.attestation.trust import refused
from kiln.linux.files import write_atomic
from kiln.linux.locks import exclusive
from kiln_wire.canonical import canonical_json
from kiln_wire.note import NoteKey
from kiln_wire.spki import VerifyingKey
from kiln_wire.trust_root import EXTENSION, KIND, ROLES, TrustRoot, open_trust_root
from kiln_wire.tuf import MetadataError, key_entry, key_id_of, time_text

if TYPE_CHECKING:
    from tuf.api.metadata import Key, Metadata, Root, Targets

ROOT_ROLE: Final = "root"
METADATA_ROLE: Final = "metadata"
"""Signs snapshot and timestamp: what has to be renewed often is not signed with the root's key."""
DAY_SECONDS: Final = 86_400
ROOT_DAYS: Final = 1825
METADATA_DAYS: Final = 365
KEY_DAYS: Final = 1825
FIRST_TIME: Final = 0
"""A key that was there before there was a root may have signed at any time."""
_PATTERN: Final = "*.root.json"
_PARTS: Final = ("timestamp", "snapshot", "targets")


@dataclass(frozen=True, slots=True)
class TrustStore:
    """This machine's own trust root."""

    directory: Path
    ring: KeyRing

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return (self.directory / "timestamp.json").exists()

    def document(self) -> dict[str, Any]:
        """Return the trust root as one document (kiln_wire.trust_root). Raises KilnError(ATTESTATION, "no-root")."""
        if not self.exists:
            raise refused("no-root", f"there is no trust root in {self.directory}", "make one: `kiln keys new`")
        roots = sorted(self.directory.glob(_PATTERN), key=lambda path: int(path.name.partition(".")[0]))
        parts = {kind: json.loads((self.directory / f"{kind}.json").read_bytes()) for kind in _PARTS}
        return {"kind": KIND, "roots": [json.loads(path.read_bytes()) for path in roots], **parts}

    def read(self, now: int) -> TrustRoot:
        """Return what the root says now. Raises KilnError(ATTESTATION): `no-root`, or a reason of MetadataError."""
        try:
            return open_trust_root(self.document(), now=now)
        except MetadataError as error:
            raise bad_root(self.directory, error) from error

    def ensure(self, now: int, *, first_roles: tuple[str, ...], logs: tuple[NoteKey, ...] = ()) -> TrustRoot:
        """Return the root, made now if there is none, with the keys that *first_roles* have; renews what ends soon.

        A key file from before there was a root keeps its role for everything that it has signed.
        """
        with self._changing():
            if not self.exists:
                self._create(now, first_roles, logs)
            elif self._ends_soon(now):
                self._change(now, lambda targets: None)
        return self.read(now)

    def enrol(
        self, role: str, key: VerifyingKey, now: int, *, days: int = KEY_DAYS, threshold: int | None = None
    ) -> None:
        """Give *key* a role from now on. Raises KilnError(ATTESTATION): `bad-role`, `key-known`, `bad-threshold`."""
        check_role(role)

        def change(targets: Targets) -> None:
            add_key(targets, role, key, time_text(now), time_text(now + days * DAY_SECONDS))
            if threshold is not None:
                _role(targets, role).threshold = threshold
            _check_threshold(targets, role)

        with self._changing():
            self._change(now, change)

    def replace(self, role: str, old: str, key: VerifyingKey, now: int, *, days: int = KEY_DAYS) -> None:
        """Put *key* in the place of the key with the hint *old*, which is retired: what it signed stays good.

        Raises KilnError(ATTESTATION, "no-key").
        """

        def change(targets: Targets) -> None:
            key_id = find_key(targets, old)
            _role(targets, role).keyids.remove(key_id)
            add_key(targets, role, key, time_text(now), time_text(now + days * DAY_SECONDS))

        with self._changing():
            self._change(now, change)

    def revoke(self, hint: str, now: int, *, since: int, reason: str) -> str:
        """Revoke the key with the hint *hint* as of *since*; return its role. Raises KilnError(ATTESTATION, "no-key").

        The role may be left with fewer keys than its threshold: then nothing can be signed for it until one is added.
        """
        role = ""

        def change(targets: Targets) -> None:
            nonlocal role
            key_id = find_key(targets, hint)
            entry = targets.unrecognized_fields[EXTENSION]["keys"][key_id]
            entry.update(revokedAt=time_text(since), reason=reason)
            role = entry["role"]
            listed = _role(targets, role)
            if key_id in listed.keyids:
                listed.keyids.remove(key_id)

        with self._changing():
            self._change(now, change)
        return role

    def renew_root(
        self, now: int, *, add: Signer | None = None, remove: str = "", threshold: int | None = None
    ) -> None:
        """Write the next root: with a key more, a key less (by hint), or another threshold.

        It is signed by the keys of the root before and by its own. Raises KilnError(ATTESTATION): `bad-threshold`,
        `threshold-not-met`, `no-key`.
        """
        with self._changing():
            old = self._load_root()
            fresh = self._load_root()
            root: Root = fresh.signed
            root.version += 1
            root.expires = _moment(now + ROOT_DAYS * DAY_SECONDS)
            if add is not None:
                for name in (ROOT_ROLE, "targets"):
                    root.add_key(tuf_key(add.public_key), name)
            if remove:
                wanted = [key_id for key_id in root.roles[ROOT_ROLE].keyids if _hint_of(root.keys[key_id]) == remove]
                if not wanted:
                    raise refused("no-key", f"the root has no key {remove}", "`kiln keys list` shows them")
                for name in (ROOT_ROLE, "targets"):
                    root.revoke_key(wanted[0], name)
            if threshold is not None:
                root.roles[ROOT_ROLE].threshold = root.roles["targets"].threshold = threshold
            if not 1 <= root.roles[ROOT_ROLE].threshold <= len(root.roles[ROOT_ROLE].keyids):
                raise bad_threshold(root.roles[ROOT_ROLE].threshold, len(root.roles[ROOT_ROLE].keyids))
            self._sign(fresh, ROOT_ROLE, (old.signed, root), also=add)
            self._write(f"{root.version}.root.json", fresh)
            self._change(now, lambda targets: None, also=add)

    def configure(self, now: int, **values: Any) -> None:
        """Set logs, witnesses, witnessQuorum or timestampAuthorities."""

        def change(targets: Targets) -> None:
            targets.unrecognized_fields[EXTENSION].update(values)

        with self._changing():
            self._change(now, change)

    def _changing(self) -> Any:
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        return exclusive(self.directory / ".lock")

    def _create(self, now: int, first_roles: tuple[str, ...], logs: tuple[NoteKey, ...]) -> None:
        from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, Snapshot, Targets, Timestamp  # noqa: PLC0415

        root = Root(expires=_moment(now + ROOT_DAYS * DAY_SECONDS), consistent_snapshot=False)
        for name, signer in ((ROOT_ROLE, ROOT_ROLE), ("targets", ROOT_ROLE), ("snapshot", METADATA_ROLE)):
            root.add_key(tuf_key(self.ring.signer(signer).public_key), name)
        root.add_key(tuf_key(self.ring.signer(METADATA_ROLE).public_key), "timestamp")
        delegations = Delegations({}, {role: DelegatedRole(role, [], 1, True, paths=[f"{role}/*"]) for role in ROLES})
        extension = {
            "keys": {},
            "logs": [key.vkey for key in logs],
            "witnesses": [],
            "witnessQuorum": 0,
            "timestampAuthorities": [],
        }
        targets = Targets(
            expires=_moment(now + METADATA_DAYS * DAY_SECONDS),
            delegations=delegations,
            unrecognized_fields={EXTENSION: extension},
        )
        for role in first_roles:
            known = (self.ring.directory_of(role) / f"{role}.key").exists()
            key = self.ring.signer(role).public_key
            since = time_text(FIRST_TIME if known else now)
            add_key(targets, role, key, since, time_text(now + KEY_DAYS * DAY_SECONDS))
        first = Metadata(root)
        self._sign(first, ROOT_ROLE, (root,))
        self._write("1.root.json", first)
        snapshot, timestamp = Snapshot(), Timestamp()
        snapshot.version = timestamp.version = 0  # publishing counts them up
        self._publish(now, targets, snapshot, timestamp, root)

    def _ends_soon(self, now: int) -> bool:
        soonest = min(self._load(kind).signed.expires for kind in _PARTS)
        return bool(soonest.timestamp() < now + METADATA_DAYS * DAY_SECONDS // 2)

    def _change(self, now: int, change: Callable[[Targets], None], *, also: Signer | None = None) -> None:
        targets, snapshot, timestamp = (self._load(kind).signed for kind in ("targets", "snapshot", "timestamp"))
        change(targets)
        targets.version += 1
        targets.expires = _moment(now + METADATA_DAYS * DAY_SECONDS)
        self._publish(now, targets, snapshot, timestamp, self._load_root().signed, also=also)

    def _publish(
        self, now: int, targets: Any, snapshot: Any, timestamp: Any, root: Root, *, also: Signer | None = None
    ) -> None:
        from tuf.api.metadata import Metadata, MetaFile  # noqa: PLC0415

        snapshot.version += 1
        timestamp.version += 1
        snapshot.expires = timestamp.expires = _moment(now + METADATA_DAYS * DAY_SECONDS)
        snapshot.meta["targets.json"] = MetaFile(targets.version)
        timestamp.snapshot_meta = MetaFile(snapshot.version)
        # A reader that sees new parts beside an old timestamp refuses them, and is right again after the last write.
        for part, name in ((targets, ROOT_ROLE), (snapshot, METADATA_ROLE), (timestamp, METADATA_ROLE)):
            document: Metadata[Any] = Metadata(part)
            self._sign(document, name, (root,), also=also, of=part.type)
            self._write(f"{part.type}.json", document)

    def _sign(
        self,
        document: Metadata[Any],
        ring_role: str,
        roots: tuple[Root, ...],
        *,
        also: Signer | None = None,
        of: str = ROOT_ROLE,
    ) -> None:
        """Sign with every key within reach that one of *roots* lists for the role *of*, enough for each of them."""
        document.signatures.clear()
        wanted = {key_id for root in roots for key_id in root.roles[of].keyids}
        signers = [self.ring.signer(name) for name in self.ring.names(ring_role)] + ([also] if also else [])
        for signer in signers:
            adapted = tuf_signer(signer)
            if adapted.public_key.keyid in wanted:
                document.sign(adapted, append=True)
        for root in roots:
            role = root.roles[of]
            if len(set(role.keyids) & set(document.signatures)) < role.threshold:
                raise refused(
                    "threshold-not-met",
                    f"{role.threshold} keys must sign the {of} metadata, fewer are within reach",
                    "name the other signers in the settings (`[signers]`: root.2 and so on)",
                )

    def _load(self, kind: str) -> Metadata[Any]:
        from tuf.api.metadata import Metadata  # noqa: PLC0415

        return Metadata.from_file(str(self.directory / f"{kind}.json"))

    def _load_root(self) -> Metadata[Root]:
        from tuf.api.metadata import Metadata  # noqa: PLC0415

        newest = max(self.directory.glob(_PATTERN), key=lambda path: int(path.name.partition(".")[0]))
        return Metadata.from_file(str(newest))

    def _write(self, name: str, document: Metadata[Any]) -> None:
        write_atomic(self.directory / name, canonical_json(document.to_dict()))


def tuf_key(key: VerifyingKey) -> Key:
    """Return a key as python-tuf has it."""
    from tuf.api.metadata import Key  # noqa: PLC0415

    entry = key_entry(key)
    return Key.from_dict(key_id_of(entry), entry)


def tuf_signer(signer: Signer) -> Any:
    """Return a signer as securesystemslib has it."""
    from securesystemslib import signer as library  # noqa: PLC0415

    base: Any = library.Signer

    class Adapter(base):  # type: ignore[misc]
        public_key = tuf_key(signer.public_key)

        @classmethod
        def from_priv_key_uri(cls, _uri: str, _key: Any, _secrets: Any = None) -> Any:
            raise NotImplementedError

        def sign(self, payload: bytes) -> Any:
            return library.Signature(self.public_key.keyid, signer.sign(payload).hex())

    return Adapter()


def add_key(targets: Targets, role: str, key: VerifyingKey, since: str, until: str) -> None:
    """List *key* for *role*. Raises KilnError(ATTESTATION, "key-known")."""
    added = tuf_key(key)
    validity = targets.unrecognized_fields[EXTENSION]["keys"]
    if added.keyid in validity:
        known = validity[added.keyid]["role"]
        raise refused("key-known", f"this key has, or had, the role {known}", "each role has keys of its own")
    targets.add_key(added, role)
    validity[added.keyid] = {"role": role, "validFrom": since, "validUntil": until}


def find_key(targets: Targets, hint: str) -> str:
    """Return the id of the key whose hint begins with *hint*. Raises KilnError(ATTESTATION, "no-key")."""
    keys = targets.delegations.keys if targets.delegations is not None else {}
    found = [key_id for key_id, key in keys.items() if _hint_of(key).startswith(hint)]
    if len(found) != 1:
        raise refused("no-key", f"{len(found)} keys begin with {hint[:80]!r}", "`kiln keys list` shows them")
    return found[0]


def check_role(role: str) -> None:
    """Raise KilnError(ATTESTATION, "bad-role") if there is no such role."""
    if role not in ROLES:
        raise refused("bad-role", f"{role[:80]!r} is not a role", f"choose {', '.join(ROLES)}")


def bad_root(place: Path, error: MetadataError) -> Exception:
    """Return the refusal of a trust root."""
    return refused(
        error.reason, f"the trust root {place} can't be relied on: {error}", "get a current one: `kiln keys import`"
    )


def bad_threshold(threshold: int, keys: int) -> Exception:
    """Return the refusal of a threshold that can't be met."""
    return refused("bad-threshold", f"{threshold} of {keys} keys can't be asked for", "add keys first")


def _role(targets: Targets, role: str) -> Any:
    if targets.delegations is None or targets.delegations.roles is None:
        raise AssertionError
    return targets.delegations.roles[role]


def _check_threshold(targets: Targets, role: str) -> None:
    listed = _role(targets, role)
    if not 1 <= listed.threshold <= len(listed.keyids):
        raise bad_threshold(listed.threshold, len(listed.keyids))


def _hint_of(key: Key) -> str:
    from kiln_wire.tuf import read_keys  # noqa: PLC0415

    return read_keys("key", {key.keyid: key.to_dict()})[key.keyid].hint


def _moment(seconds: int) -> Any:
    from datetime import UTC, datetime  # noqa: PLC0415

    return datetime.fromtimestamp(seconds, UTC)
