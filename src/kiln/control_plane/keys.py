"""Making, changing and listing keys, with the files and the trust root always of one mind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from kiln.attestation.keys import ALGORITHMS, DEFAULT_ROLE
from kiln.attestation.trust import read_public_key, refused
from kiln.attestation.trust_author import ROOT_ROLE, TrustStore, check_role
from kiln.control_plane.settings import Settings
from kiln.control_plane.trust import IMPORTED, OWN_ROOT, record_log, trust_store
from kiln_wire.canonical import strict_loads
from kiln_wire.note import NoteError, NoteKey
from kiln_wire.trust_root import RoleKey, TrustRoot, open_trust_root
from kiln_wire.tuf import MetadataError, time_text

MAX_CERTIFICATE_BYTES: Final = 64 * 1024


def new_key(
    settings: Settings,
    environment: Mapping[str, str],
    role: str,
    now: int,
    *,
    days: int,
    threshold: int | None,
    algorithm: str,
    public_key: Path | None,
) -> str:
    """Give *role* one more key and return its hint: a new one, that of a signer in the settings, or somebody's.

    Raises KilnError(ATTESTATION) as TrustStore does.
    """
    if algorithm not in ALGORITHMS:
        raise refused("bad-algorithm", f"{algorithm[:40]!r} is not an algorithm", f"choose {' or '.join(ALGORITHMS)}")
    store = _ready(settings, environment, now)
    if role == ROOT_ROLE:
        signer = store.ring.signer(store.ring.next_name(role))
        store.renew_root(now, add=signer, threshold=threshold)
        return signer.public_key.hint
    check_role(role)
    if public_key is not None:
        key = read_public_key(public_key)
    else:
        known = store.read(now).keys
        unused = [name for name in store.ring.names(role) if store.ring.signer(name).public_key.hint not in known]
        name = unused[0] if unused else store.ring.next_name(role)
        key = store.ring.signer(name, algorithm=algorithm).public_key
    store.enrol(role, key, now, days=days, threshold=threshold)
    return key.hint


def rotate_key(settings: Settings, environment: Mapping[str, str], role: str, now: int, *, days: int) -> str:
    """Retire the current key of *role* and return the hint of the new one.

    Raises KilnError(ATTESTATION): `no-key` if the role has no current key here, `not-a-file` if it is in a token or a
    service, where its owner makes the new one.
    """
    store = _ready(settings, environment, now)
    ring = store.ring
    if not ring.in_file(role):
        raise refused("not-a-file", f"the key of {role} is not a file", "make the new key there, and `kiln keys new`")
    if not ring.names(role):
        raise refused("no-key", f"this machine has no key of the role {role}", f"make one: `kiln keys new {role}`")
    old = ring.signer(role).public_key
    if role == ROOT_ROLE:
        fresh = ring.signer(ring.next_name(role))
        store.renew_root(now, add=fresh)
        store.renew_root(now, remove=old.hint)
        return fresh.public_key.hint
    check_role(role)
    listed = store.read(now).keys.get(old.hint)
    ring.retire(role)
    key = ring.signer(role, algorithm=old.algorithm).public_key
    if listed is not None and listed.active:
        store.replace(role, old.hint, key, now, days=days)
    else:
        store.enrol(role, key, now, days=days)
    return key.hint


def configure_trust(
    settings: Settings,
    environment: Mapping[str, str],
    now: int,
    *,
    logs: list[str] | None,
    witnesses: list[str] | None,
    quorum: int | None,
    authorities: list[Path] | None,
) -> None:
    """Set what is given in the trust root, and sign it again. Raises KilnError(ATTESTATION, "bad-trust")."""
    values: dict[str, Any] = {}
    try:
        for name, given in (("logs", logs), ("witnesses", witnesses)):
            if given:
                values[name] = [NoteKey.parse(text).vkey for text in given]
        if quorum is not None:
            values["witnessQuorum"] = quorum
        if authorities:
            values["timestampAuthorities"] = [
                path.read_bytes()[:MAX_CERTIFICATE_BYTES].decode("ascii") for path in authorities
            ]
    except (NoteError, OSError, UnicodeDecodeError) as error:
        raise refused(
            "bad-trust", str(error), "give verifier keys as `kiln log status` prints them, and PEM files"
        ) from error
    store = _ready(settings, environment, now)
    if "logs" in values:
        own = record_log(settings, environment).key.vkey
        values["logs"] = sorted({own, *values["logs"]})
    store.configure(now, **values)


def key_table(settings: Settings, environment: Mapping[str, str], now: int) -> dict[str, Any]:
    """Return all keys of all trust roots of this machine, as a document."""
    rows: list[dict[str, str]] = []
    store = trust_store(settings, environment)
    if store.exists:
        rows += _rows(OWN_ROOT, store.document(), now)
    imported = settings.trust / IMPORTED
    for path in sorted(imported.glob("*.json")) if imported.is_dir() else ():
        rows += _rows(path.stem, strict_loads(path.read_bytes()), now)
    return {"kind": "kiln.keys/v1", "keys": rows}


def _rows(name: str, document: Any, now: int) -> list[dict[str, str]]:
    try:
        root: TrustRoot = open_trust_root(document, now=now)
        trouble = ""
    except MetadataError as error:
        root, trouble = open_trust_root(document, now=0), error.reason
    return [
        {
            "root": name,
            "role": key.role,
            "hint": hint,
            "algorithm": key.key.algorithm,
            "state": trouble or _state(key, now),
            "validFrom": time_text(key.valid_from),
            "validUntil": time_text(key.valid_until),
        }
        for hint, key in sorted(root.keys.items(), key=lambda item: (item[1].role, item[0]))
    ]


def _state(key: RoleKey, now: int) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.objection(None, now):
        return "expired"
    return "current" if key.active else "retired"


def _ready(settings: Settings, environment: Mapping[str, str], now: int) -> TrustStore:
    store = trust_store(settings, environment)
    first = (DEFAULT_ROLE,) if store.ring.names(DEFAULT_ROLE) else ()
    store.ensure(now, first_roles=first, logs=(record_log(settings, environment).key,))
    return store
