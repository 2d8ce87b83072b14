"""Metadata of The Update Framework, as far as it says whose keys may do what: root, timestamp, snapshot, targets.

Reference: TUF specification 1.0 (sections 4.2 to 4.6: formats; 5.3 to 5.6: order of the checks). Signatures are over
the canonical JSON of OLPC, in which strings escape nothing but `"` and `\\`; versions can't go down, thresholds count
different keys, and expired metadata is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from kiln_wire.ed25519 import Ed25519Key
from kiln_wire.keys import load_key
from kiln_wire.spki import KeyFormatError, VerifyingKey

TOP_ROLES: Final = ("root", "timestamp", "snapshot", "targets")
SPEC_MAJOR: Final = "1."
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
MetadataType = Literal["root", "timestamp", "snapshot", "targets"]


class MetadataError(ValueError):
    """Metadata that can't be relied on; *reason* is a stable kebab-case word, *name* says which metadata."""

    def __init__(self, name: str, reason: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Role:
    """Who can sign for a role: at least *threshold* different keys of *key_ids*."""

    key_ids: tuple[str, ...]
    threshold: int


@dataclass(frozen=True, slots=True)
class Metadata:
    """One document: what is signed, and the signatures by key id."""

    kind: MetadataType
    version: int
    expires: int
    """Seconds since 1970."""
    signed: Mapping[str, Any]
    signatures: Mapping[str, str]

    @property
    def name(self) -> str:
        """How findings name it."""
        return f"{self.kind} {self.version}"

    def check_signatures(self, keys: Mapping[str, VerifyingKey], role: Role) -> None:
        """Raise MetadataError `not-signed` unless enough keys of *role* have signed."""
        message = olpc_canonical(self.signed)
        good = {
            keys[key_id].der
            for key_id in role.key_ids
            if key_id in keys
            and key_id in self.signatures
            and keys[key_id].verify(_hex(self.signatures[key_id]), message)
        }
        if len(good) < role.threshold:
            raise MetadataError(self.name, "not-signed", f"{len(good)} of {role.threshold} needed signatures hold")

    def check_fresh(self, now: int) -> None:
        """Raise MetadataError `expired-metadata` if it has expired at *now*."""
        if self.expires <= now:
            raise MetadataError(self.name, "expired-metadata", f"expired at {time_text(self.expires)}")

    def meta_version(self, file: str) -> int:
        """Return the version that this metadata gives of another. Raises MetadataError `malformed-metadata`."""
        try:
            return _positive(self.signed["meta"][file]["version"])
        except (KeyError, TypeError, ValueError) as error:
            raise MetadataError(self.name, "malformed-metadata", f"no version of {file}: {error}") from None


def read_metadata(document: Any, kind: MetadataType) -> Metadata:
    """Read one document of the type *kind*. Raises MetadataError `malformed-metadata`."""
    try:
        signed, signatures = document["signed"], document["signatures"]
        if set(document) != {"signed", "signatures"} or signed["_type"] != kind:
            raise ValueError(f"not metadata of the type {kind}")
        if not signed["spec_version"].startswith(SPEC_MAJOR):
            raise ValueError(f"of the specification {signed['spec_version'][:20]}")
        listed = {item["keyid"]: item["sig"] for item in signatures}
        if len(listed) != len(signatures) or not all(isinstance(text, str) for text in listed.values()):
            raise ValueError("a key has signed twice")
        return Metadata(kind, _positive(signed["version"]), seconds(signed["expires"]), signed, listed)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MetadataError(kind, "malformed-metadata", f"{type(error).__name__}: {str(error)[:200]}") from None


def read_keys(name: str, table: Any) -> dict[str, VerifyingKey]:
    """Read a table of keys by their ids, which must follow from the keys. Raises MetadataError `malformed-metadata`."""
    try:
        keys = {}
        for key_id, entry in table.items():
            if key_id != key_id_of(entry):
                raise ValueError(f"the id {key_id[:16]} does not follow from the key")
            keys[key_id] = _key(entry)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MetadataError(name, "malformed-metadata", f"{type(error).__name__}: {str(error)[:200]}") from None
    return keys


def read_role(name: str, entry: Any) -> Role:
    """Read ids and threshold. Raises MetadataError `malformed-metadata`."""
    try:
        ids = tuple(entry["keyids"])
        if len(set(ids)) != len(ids) or not all(isinstance(item, str) for item in ids):
            raise ValueError("a key stands twice")
        return Role(ids, _positive(entry["threshold"]))
    except (KeyError, TypeError, ValueError) as error:
        raise MetadataError(name, "malformed-metadata", f"{type(error).__name__}: {str(error)[:200]}") from None


def key_entry(key: VerifyingKey) -> dict[str, Any]:
    """Return a key as metadata holds it."""
    if isinstance(key, Ed25519Key):
        return {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": key.raw.hex()}}
    return {"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": key.pem.decode("ascii")}}


def key_id_of(entry: Mapping[str, Any]) -> str:
    """Return the id of a key: the SHA-256 of its canonical form (section 4.2)."""
    core = {name: entry[name] for name in ("keytype", "scheme", "keyval")}
    return hashlib.sha256(olpc_canonical(core)).hexdigest()


def olpc_canonical(value: Any) -> bytes:
    """Return OLPC's canonical JSON: sorted keys, no spaces, strings with nothing but `"` and `\\` escaped."""
    pieces: list[str] = []
    _write(value, pieces)
    return "".join(pieces).encode("utf-8", "surrogatepass")


def seconds(text: str) -> int:
    """Return RFC 3339 in UTC with whole seconds as seconds since 1970. Raises ValueError."""
    return int(datetime.strptime(text, _TIME).replace(tzinfo=UTC).timestamp())


def time_text(moment: int) -> str:
    """Return seconds since 1970 as RFC 3339 in UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime(_TIME)


def _write(value: Any, pieces: list[str]) -> None:
    match value:
        case None | bool():
            pieces.append({None: "null", True: "true", False: "false"}[value])
        case str():
            pieces.append('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"')
        case int():
            pieces.append(str(value))
        case list() | tuple():
            pieces.append("[")
            for number, item in enumerate(value):
                pieces.append("," if number else "")
                _write(item, pieces)
            pieces.append("]")
        case dict():
            pieces.append("{")
            for number, key in enumerate(sorted(value)):
                pieces.append("," if number else "")
                _write(key, pieces)
                pieces.append(":")
                _write(value[key], pieces)
            pieces.append("}")
        case _:
            raise ValueError(f"{type(value).__name__} has no canonical form")


def _key(entry: Mapping[str, Any]) -> VerifyingKey:
    kinds, public = (entry["keytype"], entry["scheme"]), entry["keyval"]["public"]
    try:
        if kinds == ("ed25519", "ed25519"):
            return Ed25519Key(bytes.fromhex(public))
        if kinds == ("ecdsa", "ecdsa-sha2-nistp256"):
            return load_key(public.encode("ascii"))
    except KeyFormatError as error:
        raise ValueError(str(error)) from None
    raise ValueError(f"keys of the type {kinds} are not known here")


def _positive(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{value!r} is not a positive number")
    return value


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
