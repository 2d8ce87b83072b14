"""Trust roots of others: taken in once by a person's decision, then only ever forward."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from kiln.attestation.trust import refused
from kiln.attestation.trust_author import bad_root
from kiln.linux.files import read_limited, write_atomic
from kiln.linux.locks import exclusive
from kiln_wire.canonical import CanonicalError, canonical_json, strict_loads
from kiln_wire.trust_root import MAX_ROOT_BYTES, TrustRoot, open_trust_root
from kiln_wire.tuf import MetadataError

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")


def read_root_document(path: Path) -> Any:
    """Return the document of a trust root file. Raises KilnError(ATTESTATION): `no-root`, `malformed-metadata`."""
    try:
        return strict_loads(read_limited(path, MAX_ROOT_BYTES))
    except OSError as error:
        raise refused(
            "no-root", f"{path} can't be read: {error.strerror}", "give a file of `kiln keys export`"
        ) from error
    except CanonicalError as error:
        raise refused("malformed-metadata", f"{path}: {error}", "give a file of `kiln keys export`") from error


def read_root(path: Path, now: int) -> TrustRoot:
    """Return what a trust root file says, which whoever gave the path trusts. Raises KilnError(ATTESTATION)."""
    document = read_root_document(path)
    try:
        return open_trust_root(document, now=now)
    except MetadataError as error:
        raise bad_root(path, error) from error


def import_root(directory: Path, name: str, path: Path, now: int) -> TrustRoot:
    """Take in a trust root under *name*; over one that is known, it must continue its chain and not go back.

    The root that is known may have expired: its successors vouch for themselves (TUF, section 5.3).
    Raises KilnError(ATTESTATION): `bad-name`, `no-root`, or a reason of MetadataError.
    """
    if _NAME.fullmatch(name) is None:
        raise refused("bad-name", f"{name[:80]!r} can't name a trust root", "use small letters, digits, `-` and `.`")
    document = read_root_document(path)
    directory.mkdir(parents=True, exist_ok=True)
    known = directory / f"{name}.json"
    with exclusive(directory / ".lock"):
        try:
            anchor = seen = None
            if known.exists():
                old = json.loads(known.read_bytes())
                anchor = old["roots"][-1]
                seen = open_trust_root(old, now=FIRST_MOMENT).versions
            root = open_trust_root(document, now=now, anchor=anchor, seen=seen)
        except MetadataError as error:
            raise bad_root(path, error) from error
        write_atomic(known, canonical_json(document))
    return root


FIRST_MOMENT: Final = 0
"""For reading again what was current when it was accepted."""
