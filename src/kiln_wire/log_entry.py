"""What the transparency log holds of a record: its digest, so that publishing the log tells nothing else."""

from __future__ import annotations

from typing import Final

from kiln_wire.canonical import canonical_json
from kiln_wire.digest import Digest

KIND: Final = "kiln.log-entry/v1"


def log_entry(record: Digest) -> bytes:
    """Return the entry for a record, by the digest of its canonical bytes."""
    return canonical_json({"kind": KIND, "record": str(record)})
