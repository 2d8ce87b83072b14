"""kiln store: what was built and fetched before, and how much room it takes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from kiln.cli.options import AsJson

if TYPE_CHECKING:
    from kiln.engine.objects.store import ObjectStore

store = typer.Typer(no_args_is_help=True, help="Look after the store of trees and source files.")

StoreOption = Annotated[
    Path | None, typer.Option("--store", metavar="DIR", help="Another store, such as kiln-osbuild's `.osbuild`.")
]
Bundle = Annotated[str, typer.Argument(metavar="FILE", help="The bundle; - for standard input or output.")]


@store.command()
def du(store: StoreOption = None, as_json: AsJson = False) -> None:
    """Say what takes how much space."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _du, store, as_json))


@store.command()
def gc(
    max_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Also throw away what was not used for longest, down to this size.")
    ] = "",
    index_days: Annotated[
        int, typer.Option(min=0, metavar="DAYS", help="Forget package indexes that nobody read for so long.")
    ] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """Take away leftovers of killed builds, objects that no build can use, and old package indexes."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _gc, max_size, index_days, dry_run, store, as_json))


@store.command()
def fsck(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Leave what is damaged where it is.")] = False,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """Check every object and source file, and put what is damaged into quarantine."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _fsck, dry_run, store, as_json))


@store.command("export")
def export_(
    bundle: Bundle,
    wanted: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of stages or pipelines; default: everything.")
    ] = None,
    sources: Annotated[bool, typer.Option("--sources/--no-sources", help="Whether source files come along.")] = True,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """Write objects, with everything that they stand on, into one file for another machine's store."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _export, bundle, tuple(wanted or ()), sources, store, as_json))


@store.command("import")
def import_(bundle: Bundle, store: StoreOption = None, as_json: AsJson = False) -> None:
    """Put the objects and source files of a bundle into the store. Import only from those whom you trust."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _import, bundle, store, as_json))


def _du(directory: Path | None, as_json: bool) -> int:
    from kiln.cli.context import settings
    from kiln.cli.output import print_json, print_lines, table
    from kiln.engine.objects.sizes import disk_usage
    from kiln.engine.objects.usage import Usage, maximum, usage
    from kiln.errors import ExitStatus
    from kiln_wire.codec import encode

    root = _existing(directory)
    found = list(usage(root))
    if directory is None:
        cache = settings().cache
        for kind in ("indexes", "apt"):
            count = sum(1 for path in (cache / kind).rglob("*") if path.is_file())
            found.append(Usage(kind, count, disk_usage(cache / kind)))
    total, limit = sum(item.bytes for item in found), maximum(root)
    if as_json:
        print_json({"kind": "kiln.store-usage/v1", "store": str(root), "maximum": limit, "bytes": total,
                    "usage": encode(found)})  # fmt: skip
    else:
        rows = [[item.kind, str(item.count), _human(item.bytes)] for item in found]
        print_lines(table([*rows, ["together", "", _human(total)]]))
        if limit is not None:
            print_lines([f"objects shall take at most {_human(limit)}"])
    return int(ExitStatus.OK)


def _gc(max_size: str, index_days: int, dry_run: bool, directory: Path | None, as_json: bool) -> int:
    from datetime import UTC, datetime, timedelta

    from kiln.authoring.lock.index_cache import IndexCache
    from kiln.cli.context import settings
    from kiln.cli.output import print_json, print_lines
    from kiln.engine.objects.tidy import tidy
    from kiln.errors import ExitStatus

    limit = _size(max_size)
    done = tidy(_existing(directory), maximum=limit, dry_run=dry_run)
    pruned: dict[str, int] = {}
    if directory is None:
        before = datetime.now(UTC) - timedelta(days=index_days)
        pruned = IndexCache(settings().cache / "indexes").prune(before, dry_run=dry_run)
    parts = {
        "unusable": dict(done.unusable),
        "evicted": dict(done.evicted),
        "partial": dict(done.partial),
        "indexes": pruned,
    }
    total = sum(sum(part.values()) for part in parts.values())
    if as_json:
        print_json({"kind": "kiln.store-gc/v1", "dryRun": dry_run, "bytes": total, "sessions": done.sessions, **parts})
    else:
        words = {
            "unusable": "objects that no build can use",
            "evicted": "objects that were not used for longest",
            "partial": "files that were not complete",
            "indexes": "package indexes that nobody reads",
        }
        print_lines(f"{len(part)} {words[name]}: {_human(sum(part.values()))}" for name, part in parts.items())
        print_lines([f"{'would free' if dry_run else 'freed'} {_human(total)}"])
    return int(ExitStatus.OK)


def _fsck(dry_run: bool, directory: Path | None, as_json: bool) -> int:
    from kiln.cli.output import print_json, print_lines
    from kiln.engine.objects.fsck import check
    from kiln.errors import ExitStatus
    from kiln_wire.codec import encode

    found = check(_existing(directory), repair=not dry_run)
    if as_json:
        print_json({"kind": "kiln.store-fsck/v1", "repaired": not dry_run, **dict(encode(found))})
    else:
        print_lines(f"{item.kind} {item.name}: {item.problem}" for item in found.damaged)
        counts = f"{found.objects} objects and {found.sources} source files, {found.verified} with a digest"
        print_lines([f"{counts}; {len(found.damaged)} damaged"])
        if found.damaged and not dry_run:
            print_lines(["what was damaged is in the store's quarantine/, and will be made again"])
    return int(ExitStatus.REFUSED if found.damaged else ExitStatus.OK)


def _export(bundle: str, wanted: tuple[str, ...], sources: bool, directory: Path | None, as_json: bool) -> int:
    from kiln.cli.output import print_json, print_lines
    from kiln.engine.objects.bundle.writing import export_bundle, write_bundle
    from kiln.errors import ExitStatus

    with _open(directory) as opened:
        if bundle == "-":
            write_bundle(opened, sys.stdout.buffer.write, wanted, sources=sources)
            return int(ExitStatus.OK)
        done = export_bundle(opened, Path(bundle), wanted, sources=sources)
    if as_json:
        print_json({"kind": "kiln.store-bundle/v1", "objects": list(done.objects), "sources": list(done.sources)})
    else:
        print_lines([f"{len(done.objects)} objects and {len(done.sources)} source files are in {bundle}"])
    return int(ExitStatus.OK)


def _import(bundle: str, directory: Path | None, as_json: bool) -> int:
    from contextlib import nullcontext

    from kiln.cli.output import print_json, print_lines
    from kiln.engine.objects.bundle.reading import read_bundle
    from kiln.errors import ExitStatus

    source = nullcontext(sys.stdin.buffer) if bundle == "-" else _opened(Path(bundle))
    with source as file, _open(directory, make=True) as opened:
        done = read_bundle(opened, file.read)
    if as_json:
        print_json({"kind": "kiln.store-bundle/v1", "objects": list(done.objects), "sources": list(done.sources)})
    else:
        print_lines([f"{len(done.objects)} objects and {len(done.sources)} source files were new"])
    return int(ExitStatus.OK)


def _existing(directory: Path | None) -> Path:
    """Return the store that is meant. Raises KilnError(STORE, "no-store")."""
    from kiln.cli.context import settings
    from kiln.errors import Domain, ExitStatus, KilnError

    root = (directory or settings().store).absolute()
    if not (root / "objects").is_dir():
        raise KilnError(
            Domain.STORE,
            "no-store",
            f"{root} is not a store",
            hint="the first build makes one; `--store` names another",
            exit_status=ExitStatus.NOT_FOUND,
        )
    return root


def _open(directory: Path | None, *, make: bool = False) -> ObjectStore:
    from kiln.cli.context import settings
    from kiln.engine.objects.store import ObjectStore

    return ObjectStore((directory or settings().store) if make else _existing(directory))


def _opened(path: Path) -> BinaryIO:
    from kiln.errors import Domain, ExitStatus, KilnError

    try:
        return path.open("rb")
    except OSError as error:
        raise KilnError(
            Domain.STORE, "unreadable-bundle", f"the bundle cannot be read: {error}", exit_status=ExitStatus.NOT_FOUND
        ) from None


def _size(text: str) -> int | None:
    from argparse import ArgumentTypeError

    from kiln.engine.arguments import parse_size
    from kiln.errors import Domain, ExitStatus, KilnError

    if not text:
        return None
    try:
        return parse_size(text).bytes
    except ArgumentTypeError as error:
        raise KilnError(Domain.STORE, "invalid-size", f"--max-size: {error}", exit_status=ExitStatus.USAGE) from None


def _human(count: int) -> str:
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"
