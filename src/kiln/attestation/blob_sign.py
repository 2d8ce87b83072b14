"""Sign what is no image: a file, or a directory by the list of its files."""

from __future__ import annotations

from pathlib import Path

from kiln.attestation.signer import Signer, Stamper, sign_statement
from kiln.errors import Domain, KilnError
from kiln.linux.files import write_atomic
from kiln_wire.digest import Digest
from kiln_wire.files import DirectoryFiles, FileError
from kiln_wire.statement import SIGNATURE_TYPE, Subject, statement_json
from kiln_wire.verify_blob import BUNDLE_SUFFIX, FILE_LIST, write_list


def sign_file(
    path: Path,
    signer: Signer,
    *,
    predicate_type: str = SIGNATURE_TYPE,
    predicate: object = None,
    stamper: Stamper | None = None,
) -> Path:
    """Write a bundle beside *path* (`<name>.sigstore.json`) and return its path. Raises OSError."""
    subject = Subject(path.name, Digest.of_file(path))
    payload = statement_json([subject], predicate_type, predicate or {})
    bundle = path.with_name(path.name + BUNDLE_SUFFIX)
    write_atomic(bundle, sign_statement(signer, payload, stamper))
    return bundle


def sign_directory(path: Path, signer: Signer, *, stamper: Stamper | None = None) -> Path:
    """Write the list of the directory's files and a bundle of it; return the bundle's path.

    Raises KilnError(ATTESTATION, "missing-evidence") for a file that can't be read or is no plain file.
    """
    apart = {FILE_LIST, FILE_LIST + BUNDLE_SUFFIX}
    with DirectoryFiles(path) as files:
        try:
            digests = files.digests(entry.name for entry in files.entries() if entry.name not in apart)
            bad = next((item for item in digests.values() if not isinstance(item, Digest)), None)
        except FileError as error:
            bad = error
        if bad is not None:
            raise KilnError(
                Domain.ATTESTATION,
                "missing-evidence",
                f"{path / bad.name} {bad.problem}",
                hint="only plain files can be signed",
            )
    listed = {name: digest for name, digest in digests.items() if isinstance(digest, Digest)}
    write_atomic(path / FILE_LIST, write_list(listed))
    return sign_file(path / FILE_LIST, signer, stamper=stamper)
