"""kiln sign, kiln attest, kiln approve: put signatures on what is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kiln.cli.options import PlainHttp

if TYPE_CHECKING:
    from kiln.attestation.signer import Signer, Stamper

RoleOption = Annotated[str, typer.Option("--role", help="Whose key signs.")]
TargetArgument = Annotated[
    str,
    typer.Argument(metavar="TARGET", help="An OCI layout, a reference, a file, or a directory.", show_default=False),
]


def sign(target: TargetArgument, role: RoleOption = "image-vault", plain_http: PlainHttp = False) -> None:
    """Sign an OCI image the way cosign reads it, or a file, or a directory."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _sign, target, role, plain_http))


def attest(
    target: TargetArgument,
    predicate: Annotated[Path, typer.Option(help="JSON file: what is claimed.", show_default=False)],
    kind: Annotated[str, typer.Option("--type", help="Predicate type, or a short name.", show_default=False)],
    name: Annotated[str, typer.Option(help="Name of the statement in an image directory.")] = "",
    role: RoleOption = "image-vault",
    plain_http: PlainHttp = False,
) -> None:
    """State something about an image, signed."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _attest, target, predicate, kind, name, role, plain_http))


def approve(
    target: TargetArgument,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    expires_days: Annotated[int, typer.Option(min=0, help="Days that the approval holds; 0 for ever.")] = 0,
    role: RoleOption = "approver",
    plain_http: PlainHttp = False,
) -> None:
    """Approve an image, signed by the approver's key."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _approve, target, reason, expires_days, role, plain_http))


def _signing(role: str) -> tuple[Signer, Stamper | None]:
    import os

    from kiln.attestation.timestamps import http_authority
    from kiln.cli.context import settings
    from kiln.control_plane.trust import key_ring

    found = settings()
    stamper = http_authority(found.timestamp_authority) if found.timestamp_authority else None
    return key_ring(found, os.environ).signer(role), stamper


def _sign(target: str, role: str, plain_http: bool) -> int:
    from datetime import UTC, datetime

    from kiln.attestation.blob_sign import sign_directory, sign_file
    from kiln.attestation.oci_sign import sign_image
    from kiln.attestation.targets import oci_place
    from kiln.cli.output import print_lines
    from kiln.errors import ExitStatus

    place = oci_place(target)
    path = Path(target)
    if place is None:
        _must_exist(path)
    signer, stamper = _signing(role)
    if place is not None:
        with place.open(plain_http=plain_http) as opened:
            digest = sign_image(opened, place.selector, signer, name=place.name, now=datetime.now(UTC), stamper=stamper)
        print_lines([f"signed {digest} with {signer.public_key.hint}"])
    else:
        make = sign_directory if path.is_dir() else sign_file
        print_lines([str(make(path, signer, stamper=stamper))])
    return int(ExitStatus.OK)


def _attest(target: str, predicate: Path, kind: str, name: str, role: str, plain_http: bool) -> int:
    from kiln.errors import Domain, ExitStatus, KilnError
    from kiln.linux.files import read_limited
    from kiln_wire.canonical import CanonicalError, canonical_json, strict_loads
    from kiln_wire.policy import predicate_type

    try:
        document = strict_loads(read_limited(predicate, 64 * 1024 * 1024))
        canonical_json(document)
        if not isinstance(document, dict):
            raise CanonicalError("not an object")
    except (OSError, CanonicalError) as error:
        raise KilnError(
            Domain.ATTESTATION,
            "bad-predicate",
            f"{predicate} can't be stated: {error}",
            hint="give a JSON object without fractions",
            exit_status=ExitStatus.USAGE,
        ) from error
    return _state(target, predicate_type(kind), document, name or "statement", role, plain_http)


def _approve(target: str, reason: str, expires_days: int, role: str, plain_http: bool) -> int:
    from kiln.attestation.approve import approval, approval_name
    from kiln.cli.context import now
    from kiln.records.model import who_records
    from kiln_wire.statement import APPROVAL_TYPE
    from kiln_wire.tuf import time_text

    moment = now()
    expires = time_text(moment + expires_days * 86_400) if expires_days else ""
    predicate = approval(who_records(), reason, time_text(moment), expires)
    name = approval_name(_signing(role)[0].public_key.hint)
    return _state(target, APPROVAL_TYPE, predicate, name, role, plain_http)


def _state(target: str, kind: str, predicate: Any, name: str, role: str, plain_http: bool) -> int:
    from datetime import UTC, datetime

    from kiln.attestation.approve import add_statement
    from kiln.attestation.blob_sign import sign_file
    from kiln.attestation.oci_sign import attest_image
    from kiln.attestation.targets import oci_place
    from kiln.cli.output import print_lines
    from kiln.errors import ExitStatus

    place = oci_place(target)
    if place is None:
        _must_exist(Path(target))
    signer, stamper = _signing(role)
    if place is not None:
        with place.open(plain_http=plain_http) as opened:
            digest = attest_image(
                opened, place.selector, kind, predicate, signer, now=datetime.now(UTC), stamper=stamper
            )
        print_lines([f"stated {kind} about {digest}"])
    elif Path(target).is_dir():
        print_lines([str(add_statement(Path(target), name, kind, predicate, signer, stamper=stamper))])
    else:
        print_lines([str(sign_file(Path(target), signer, predicate_type=kind, predicate=predicate, stamper=stamper))])
    return int(ExitStatus.OK)


def _must_exist(path: Path) -> None:
    from kiln.errors import Domain, ExitStatus, KilnError

    if not path.exists():
        raise KilnError(
            Domain.ATTESTATION,
            "no-image",
            f"there is no {path}",
            hint="give an OCI layout, a reference, a file or a directory",
            exit_status=ExitStatus.NOT_FOUND,
        )
