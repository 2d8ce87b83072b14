"""Who signs and whom to trust on this machine, from its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kiln.attestation.keys import DEFAULT_ROLE
from kiln.attestation.signer import Signer, Stamper
from kiln.attestation.signers import KeyRing
from kiln.attestation.timestamps import http_authority, stamp_time
from kiln.attestation.trust import read_public_key, refused, trusted_keys
from kiln.attestation.trust_author import TrustStore
from kiln.attestation.trust_import import read_root_document
from kiln.control_plane.settings import Settings
from kiln.errors import KilnError
from kiln.records.log import RecordLog
from kiln.records.witness import http_post, submit
from kiln_wire.trust import Trust
from kiln_wire.trust_root import TrustRoot, open_trust_root
from kiln_wire.tuf import MetadataError

LOG_ROLE: Final = "log"
IMPORTED: Final = "imported"
OWN_ROOT: Final = "own"


@dataclass(frozen=True, slots=True)
class Signing:
    """All that a build needs to sign and to record."""

    signer: Signer
    stamper: Stamper | None
    log: RecordLog
    root: TrustRoot
    witness_urls: tuple[str, ...]

    def witness(self) -> tuple[str, ...]:
        """Ask the witnesses of the settings to sign the log's checkpoint; return what went wrong."""
        problems = []
        for url in self.witness_urls:
            try:
                submit(self.log, self.root.witnesses, http_post(url))
            except KilnError as error:
                problems.append(f"{url}: {error.message}")
        return tuple(problems)


def key_ring(settings: Settings, environment: Mapping[str, str]) -> KeyRing:
    """Return this machine's private keys."""
    return KeyRing(settings.keys, settings.signers, settings.key_passphrase, environment)


def trust_store(settings: Settings, environment: Mapping[str, str]) -> TrustStore:
    """Return this machine's own trust root."""
    return TrustStore(settings.trust, key_ring(settings, environment))


def record_log(settings: Settings, environment: Mapping[str, str]) -> RecordLog:
    """Return the log of this machine's records."""
    return RecordLog(settings.state, key_ring(settings, environment).signer(LOG_ROLE))


def signing(settings: Settings, environment: Mapping[str, str], now: int) -> Signing:
    """Return what signs images here; keys and trust root are made at first use.

    Raises KilnError(ATTESTATION): `revoked-key` or `expired-key` if the root no longer lets the key sign images, and
    whatever opening keys and root raises.
    """
    store = trust_store(settings, environment)
    log = record_log(settings, environment)
    root = store.ensure(now, first_roles=(DEFAULT_ROLE,), logs=(log.key,))
    signer = store.ring.signer(DEFAULT_ROLE)
    role_key = root.keys.get(signer.public_key.hint)
    renew = f"`kiln keys rotate {DEFAULT_ROLE}` makes a new one"
    if role_key is not None and role_key.revoked_at is not None:
        raise refused("revoked-key", f"the key {signer.public_key.hint} was revoked", renew)
    if role_key is None or not role_key.active or role_key.objection(None, now):
        raise refused("expired-key", f"the key {signer.public_key.hint} is not a current one of the trust root", renew)
    stamper = http_authority(settings.timestamp_authority) if settings.timestamp_authority else None
    return Signing(signer, stamper, log, root, settings.witnesses)


def verification_trust(settings: Settings, now: int, *, keys: Sequence[Path] = (), root: str = "") -> Trust:
    """Return whom `kiln verify` trusts: keys that were given, those of this machine, and one trust root.

    *root* is a file or the name of an imported root; without one it is this machine's own, or the only one imported.
    A root that can't be relied on becomes a finding, not an error. Raises KilnError(ATTESTATION) for unusable files.
    """
    pinned = (*trusted_keys(settings.keys), *(read_public_key(path) for path in keys))
    found, problem = None, None
    try:
        document = _root_document(settings, root)
        found = None if document is None else open_trust_root(document, now=now)
    except MetadataError as error:
        problem = (error.reason, str(error))
    return Trust(pinned, found, problem, now, stamp_time)


def _root_document(settings: Settings, root: str) -> object:
    imported = settings.trust / IMPORTED
    if root and Path(root).is_file():
        return read_root_document(Path(root))
    if root and root != OWN_ROOT:
        path = imported / f"{root}.json"
        if "/" in root or not path.is_file():
            raise refused("no-root", f"{root} is neither a file nor an imported trust root", "see `kiln keys list`")
        return read_root_document(path)
    own = TrustStore(settings.trust, KeyRing(settings.keys))
    if own.exists or root == OWN_ROOT:
        return own.document()
    others = sorted(imported.glob("*.json")) if imported.is_dir() else []
    return read_root_document(others[0]) if len(others) == 1 else None
