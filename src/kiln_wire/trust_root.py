"""Whose signature counts for what: keys with their roles, from a chain of signed roots.

A trust root is one file that holds TUF metadata: every root since the one that is trusted, and the newest timestamp,
snapshot and targets. Targets delegates to Kiln's roles; beside the keys of each role it says, under `x-kiln`, from
when to when a key may sign, whether it was retired or revoked, and which logs, witnesses and time stamp authorities
are trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kiln_wire.note import COSIGNATURE, NoteError, NoteKey
from kiln_wire.spki import VerifyingKey
from kiln_wire.tuf import (
    Metadata,
    MetadataError,
    MetadataType,
    Role,
    read_keys,
    read_metadata,
    read_role,
    seconds,
)

KIND: Final = "kiln.trust-root/v1"
EXTENSION: Final = "x-kiln"
ROLES: Final = ("package-factory", "image-vault", "build-service", "approver")
"""An attestation never authorises a deployment, an approval does; a key of one role can't do another's work."""
MAX_ROOTS: Final = 1024
MAX_ROOT_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RoleKey:
    """A key that has, or had, a role. Times are seconds since 1970."""

    key: VerifyingKey
    role: str
    valid_from: int
    valid_until: int
    revoked_at: int | None
    """From then on, nothing that it signs counts; what a trusted clock saw before, does."""
    active: bool
    """Whether the role's delegation still lists it; a retired key verifies what it signed, until it expires."""

    def objection(self, signed_at: int | None, now: int) -> str:
        """Return `expired-key` or `revoked-key`, or nothing.

        *signed_at* is a time that somebody else has vouched for. Without one, the signature could have been made at
        any time up to *now*, so a key must be good now.
        """
        at = now if signed_at is None else signed_at
        if self.revoked_at is not None and at >= self.revoked_at:
            return "revoked-key"
        return "" if self.valid_from <= at < self.valid_until else "expired-key"


@dataclass(frozen=True, slots=True)
class Versions:
    """Which metadata was seen last; none of it may go back."""

    root: int
    timestamp: int
    snapshot: int
    targets: int


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """What a chain of roots says now."""

    versions: Versions
    keys: Mapping[str, RoleKey]
    """By the hint of the key."""
    thresholds: Mapping[str, int]
    """How many different keys of a role must sign."""
    logs: tuple[NoteKey, ...] = ()
    witnesses: tuple[NoteKey, ...] = ()
    witness_quorum: int = 0
    timestamp_authorities: tuple[str, ...] = ()
    """Certificates in PEM."""
    expires: int = field(default=0)
    """When the first of its parts does."""

    def of_role(self, role: str) -> tuple[RoleKey, ...]:
        """Return the keys of a role, sorted by hint."""
        return tuple(key for _, key in sorted(self.keys.items()) if key.role == role)


def open_trust_root(document: Any, *, now: int, anchor: Any = None, seen: Versions | None = None) -> TrustRoot:
    """Check a trust root and return what it says.

    *anchor* is the root metadata that is already trusted; the first root of *document* must be it, or be older and
    lead to it. Without an anchor, whoever gave the document is trusted to have given the right one. *seen* is what
    was accepted before.

    Raises MetadataError: `malformed-metadata`, `not-signed`, `expired-metadata`, `rolled-back`, `wrong-anchor`,
    `version-gap`, `mix-and-match`.
    """
    roots, rest = _parts(document)
    root = _walk(roots, anchor)
    root.check_fresh(now)
    keys = read_keys(root.name, root.signed.get("keys"))
    parts: dict[str, Metadata] = {}
    for kind in ("timestamp", "snapshot", "targets"):
        part = rest[kind]
        part.check_signatures(keys, _top_role(root, kind))
        part.check_fresh(now)
        parts[kind] = part
    for parent, child in (("timestamp", "snapshot"), ("snapshot", "targets")):
        if parts[parent].meta_version(f"{child}.json") != parts[child].version:
            raise MetadataError(
                parts[child].name, "mix-and-match", f"the {parent} names another version of the {child} metadata"
            )
    versions = Versions(root.version, *(parts[kind].version for kind in ("timestamp", "snapshot", "targets")))
    if seen is not None:
        _check_rollback(versions, seen)
    return _read(parts["targets"], versions, min(item.expires for item in (root, *parts.values())))


def _parts(document: Any) -> tuple[list[Metadata], dict[str, Metadata]]:
    wanted = {"kind", "roots", "timestamp", "snapshot", "targets"}
    if not isinstance(document, dict) or set(document) != wanted or document["kind"] != KIND:
        raise MetadataError("root", "malformed-metadata", f"not a {KIND} document")
    listed = document["roots"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_ROOTS:
        raise MetadataError("root", "malformed-metadata", f"there must be 1 to {MAX_ROOTS} roots")
    kinds: tuple[MetadataType, ...] = ("timestamp", "snapshot", "targets")
    return [read_metadata(item, "root") for item in listed], {
        kind: read_metadata(document[kind], kind) for kind in kinds
    }


def _walk(roots: list[Metadata], anchor: Any) -> Metadata:
    """Follow the chain: each root is signed by the keys of the one before and by its own (section 5.3)."""
    trusted = read_metadata(anchor, "root") if anchor is not None else roots[0]
    if roots[-1].version < trusted.version:
        raise MetadataError(roots[-1].name, "rolled-back", f"root {trusted.version} is already trusted")
    if roots[0].version > trusted.version + 1:
        raise MetadataError(roots[0].name, "version-gap", f"the roots after {trusted.version} are missing")
    trusted.check_signatures(read_keys(trusted.name, trusted.signed.get("keys")), _top_role(trusted, "root"))
    for root in roots:
        if root.version <= trusted.version:
            if root.version == trusted.version and root.signed != trusted.signed:
                raise MetadataError(root.name, "wrong-anchor", "another root of this version is trusted")
            continue
        if root.version != trusted.version + 1:
            raise MetadataError(root.name, "version-gap", f"follows root {trusted.version}")
        for signer in (trusted, root):
            root.check_signatures(read_keys(signer.name, signer.signed.get("keys")), _top_role(signer, "root"))
        trusted = root
    return trusted


def _top_role(root: Metadata, name: str) -> Role:
    roles = root.signed.get("roles")
    return read_role(root.name, roles.get(name) if isinstance(roles, dict) else None)


def _check_rollback(versions: Versions, seen: Versions) -> None:
    for kind in ("root", "timestamp", "snapshot", "targets"):
        got, known = getattr(versions, kind), getattr(seen, kind)
        if got < known:
            raise MetadataError(f"{kind} {got}", "rolled-back", f"version {known} was seen before")


def _read(targets: Metadata, versions: Versions, expires: int) -> TrustRoot:
    try:
        delegations, extension = targets.signed["delegations"], targets.signed[EXTENSION]
        keys = read_keys(targets.name, delegations["keys"])
        roles = {item["name"]: read_role(targets.name, item) for item in delegations["roles"]}
        if len(roles) != len(delegations["roles"]) or set(extension["keys"]) != set(keys):
            raise ValueError("a role stands twice, or not every key has a validity")
        found = {}
        for key_id, key in keys.items():
            entry = extension["keys"][key_id]
            revoked = entry.get("revokedAt")
            found[key.hint] = RoleKey(
                key=key,
                role=str(entry["role"]),
                valid_from=seconds(entry["validFrom"]),
                valid_until=seconds(entry["validUntil"]),
                revoked_at=None if revoked is None else seconds(revoked),
                active=key_id in roles[entry["role"]].key_ids,
            )
        witnesses = tuple(NoteKey.parse(text) for text in extension["witnesses"])
        if any(witness.kind != COSIGNATURE for witness in witnesses):
            raise ValueError("a witness's key is not one for cosignatures")
        return TrustRoot(
            versions=versions,
            keys=found,
            thresholds={name: role.threshold for name, role in roles.items()},
            logs=tuple(NoteKey.parse(text) for text in extension["logs"]),
            witnesses=witnesses,
            witness_quorum=int(extension["witnessQuorum"]),
            timestamp_authorities=tuple(str(text) for text in extension["timestampAuthorities"]),
            expires=expires,
        )
    except (KeyError, TypeError, ValueError, AttributeError, NoteError) as error:
        if isinstance(error, MetadataError):
            raise
        raise MetadataError(targets.name, "malformed-metadata", f"{type(error).__name__}: {str(error)[:200]}") from None
