"""kiln keys: who may sign what, and whom to trust."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kiln.cli.options import AsJson

keys = typer.Typer(no_args_is_help=True, help="Manage keys, their roles, and the trust root that says so.")

RoleArgument = Annotated[str, typer.Argument(metavar="ROLE", help="A role, or `root`.", show_default=False)]


@keys.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the keys of this machine's trust root, and the roots that were imported."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _list, as_json))


@keys.command()
def new(
    role: RoleArgument,
    days: Annotated[int, typer.Option(min=1, help="Days that the key is good.")] = 1825,
    threshold: Annotated[
        int | None, typer.Option(min=1, help="How many keys of the role must sign.", show_default="unchanged")
    ] = None,
    algorithm: Annotated[str, typer.Option(help="ecdsa-p256 or ed25519, for a new key file.")] = "ecdsa-p256",
    public_key: Annotated[
        Path | None, typer.Option(help="Give the role to somebody else's key instead of making one.")
    ] = None,
) -> None:
    """Make a key and give it a role; or give a role to a key of somebody else."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _new, role, days, threshold, algorithm, public_key))


@keys.command()
def rotate(
    role: RoleArgument, days: Annotated[int, typer.Option(min=1, help="Days that the new key is good.")] = 1825
) -> None:
    """Put a new key in the place of the current one; what that one signed stays good."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _rotate, role, days))


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The beginning of the key's hint.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why, for those who read the root.")] = "unspecified",
    since: Annotated[str, typer.Option(help="RFC 3339 time in UTC from which on nothing counts.")] = "",
) -> None:
    """Revoke a key: what it signs, or may have signed, from then on is refused."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _revoke, key, reason, since))


@keys.command()
def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.", show_default=False)],
) -> None:
    """Write the trust root as one file, for those who verify elsewhere."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _export, output))


@keys.command("import")
def import_(
    root: Annotated[Path, typer.Argument(metavar="FILE", help="A trust root.", show_default=False)],
    name: Annotated[str, typer.Option(help="What to call it here.", show_default=False)],
) -> None:
    """Trust a root of somebody else, or take in its next version: it can only go forward."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _import, root, name))


@keys.command()
def trust(
    log: Annotated[list[str] | None, typer.Option(help="Verifier key of a log. Repeatable.")] = None,
    witness: Annotated[list[str] | None, typer.Option(help="Verifier key of a witness. Repeatable.")] = None,
    quorum: Annotated[int | None, typer.Option(min=0, help="How many witnesses must sign.", show_default=False)] = None,
    authority: Annotated[
        list[Path] | None, typer.Option(help="Certificates of a time stamp authority, in PEM. Repeatable.")
    ] = None,
) -> None:
    """Say in the trust root which logs, witnesses and time stamp authorities count."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _trust, log, witness, quorum, authority))


@keys.command()
def refresh() -> None:
    """Sign the trust root's metadata again, before it expires."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _trust, None, None, None, None))


def _list(as_json: bool) -> int:
    import os

    from kiln.cli.context import now, settings
    from kiln.cli.output import print_json, print_lines, table
    from kiln.control_plane.keys import key_table
    from kiln.errors import ExitStatus

    listed = key_table(settings(), os.environ, now())
    if as_json:
        print_json(listed)
        return int(ExitStatus.OK)
    rows = [[item["root"], item["role"], item["hint"], item["state"], item["validUntil"]] for item in listed["keys"]]
    print_lines(table(rows) or ["there is no trust root yet; the first build, or `kiln keys new`, makes one"])
    return int(ExitStatus.OK)


def _new(role: str, days: int, threshold: int | None, algorithm: str, public_key: Path | None) -> int:
    import os

    from kiln.cli.context import now, settings
    from kiln.cli.output import print_lines
    from kiln.control_plane.keys import new_key
    from kiln.errors import ExitStatus

    hint = new_key(
        settings(),
        os.environ,
        role,
        now(),
        days=days,
        threshold=threshold,
        algorithm=algorithm,
        public_key=public_key,
    )
    print_lines([hint])
    return int(ExitStatus.OK)


def _rotate(role: str, days: int) -> int:
    import os

    from kiln.cli.context import now, settings
    from kiln.cli.output import print_lines
    from kiln.control_plane.keys import rotate_key
    from kiln.errors import ExitStatus

    print_lines([rotate_key(settings(), os.environ, role, now(), days=days)])
    return int(ExitStatus.OK)


def _revoke(key: str, reason: str, since: str) -> int:
    import os

    from kiln.cli.context import now, settings
    from kiln.cli.output import print_lines
    from kiln.control_plane.trust import trust_store
    from kiln.errors import Domain, ExitStatus, KilnError
    from kiln_wire.tuf import seconds

    moment = now()
    try:
        start = seconds(since) if since else moment
    except ValueError:
        raise KilnError(
            Domain.SETTINGS,
            "bad-option",
            f"--since {since}: not a time such as 2026-01-31T12:00:00Z",
            exit_status=ExitStatus.USAGE,
        ) from None
    role = trust_store(settings(), os.environ).revoke(key, moment, since=start, reason=reason)
    print_lines([f"revoked a key of the role {role}; `kiln keys new {role}` makes another"])
    return int(ExitStatus.OK)


def _export(output: Path) -> int:
    import os

    from kiln.cli.context import settings
    from kiln.control_plane.trust import trust_store
    from kiln.errors import ExitStatus
    from kiln.linux.files import write_atomic
    from kiln_wire.canonical import canonical_json

    write_atomic(output, canonical_json(trust_store(settings(), os.environ).document()))
    return int(ExitStatus.OK)


def _import(root: Path, name: str) -> int:
    from kiln.attestation.trust_import import import_root
    from kiln.cli.context import now, settings
    from kiln.cli.output import print_lines
    from kiln.control_plane.trust import IMPORTED
    from kiln.errors import ExitStatus
    from kiln_wire.tuf import time_text

    taken = import_root(settings().trust / IMPORTED, name, root, now())
    print_lines([f"{name}: root {taken.versions.root}, {len(taken.keys)} keys, good until {time_text(taken.expires)}"])
    return int(ExitStatus.OK)


def _trust(log: list[str] | None, witness: list[str] | None, quorum: int | None, authority: list[Path] | None) -> int:
    import os

    from kiln.cli.context import now, settings
    from kiln.control_plane.keys import configure_trust
    from kiln.errors import ExitStatus

    configure_trust(settings(), os.environ, now(), logs=log, witnesses=witness, quorum=quorum, authorities=authority)
    return int(ExitStatus.OK)
