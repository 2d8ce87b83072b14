"""The verifier's own command line: `python3 PACK --key signer.pub`, or `python3 -m kiln_wire.pack_main PACK ...`.

Exit status: 0 verified, 4 refused, 2 wrong usage or unusable keys. Needs nothing but Python 3.11.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kiln_wire.archive import ArchiveFiles
from kiln_wire.canonical import CanonicalError, strict_loads
from kiln_wire.codec import DocumentError, decode, encode
from kiln_wire.files import FileError
from kiln_wire.finding import VerificationResult
from kiln_wire.keys import load_key
from kiln_wire.pack import verify_pack
from kiln_wire.policy import MAX_POLICY_BYTES, Policy
from kiln_wire.render import result_lines
from kiln_wire.spki import KeyFormatError, VerifyingKey
from kiln_wire.trust import Trust
from kiln_wire.trust_root import MAX_ROOT_BYTES, TrustRoot, open_trust_root
from kiln_wire.tuf import MetadataError

VERIFIED: Final = 0
USAGE: Final = 2
REFUSED: Final = 4


def main(arguments: Sequence[str] | None = None, *, itself: Path | None = None) -> int:
    """Verify a pack, by default *itself*, and print the outcome; return the exit status."""
    options = _parser(itself).parse_args(arguments)
    try:
        root = None if options.root is None else _root(options.root, options.now)
        trust = Trust(tuple(_key(path) for path in options.key), root, now=options.now)
        policy = None if options.policy is None else _policy(options.policy)
    except (OSError, KeyFormatError, MetadataError, CanonicalError, DocumentError) as error:
        sys.stderr.write(f"error: {error}\n")
        return USAGE
    try:
        with ArchiveFiles(options.pack) as files:
            result = verify_pack(files, trust, policy=policy)
    except (FileError, OSError) as error:
        sys.stdout.write(f"{options.pack}: refused: {error}\n")
        return REFUSED
    _print(options.pack, result, as_json=options.json)
    return VERIFIED if result.verdict == "verified" else REFUSED


def _print(pack: Path, result: VerificationResult, *, as_json: bool) -> None:
    if as_json:
        document = {"kind": "kiln.verification-result/v1", "verdict": result.verdict, **encode(result)}
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        return
    sys.stdout.write("\n".join([*result_lines(result), "", f"{pack}: {result.verdict}"]) + "\n")


def _parser(itself: Path | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Verify a trust pack, offline.")
    parser.add_argument("pack", type=Path, nargs="?" if itself else None, default=itself, help="the pack")
    parser.add_argument("--key", type=Path, action="append", default=[], help="public key to trust; repeatable")
    parser.add_argument("--root", type=Path, help="trust root: keys with their roles")
    parser.add_argument("--policy", type=Path, help="policy, as JSON")
    parser.add_argument("--now", type=int, default=int(time.time()), help="seconds since 1970, instead of the clock")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _key(path: Path) -> VerifyingKey:
    return load_key(path.read_bytes())


def _root(path: Path, now: int) -> TrustRoot:
    return open_trust_root(strict_loads(path.read_bytes(), max_bytes=MAX_ROOT_BYTES), now=now)


def _policy(path: Path) -> Policy:
    return decode(Policy, strict_loads(path.read_bytes(), max_bytes=MAX_POLICY_BYTES))


if __name__ == "__main__":
    sys.exit(main())
