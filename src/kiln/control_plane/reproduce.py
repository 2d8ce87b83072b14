"""Build an attested image again from its lock, and compare: every output by digest, differences by file and cause."""

from __future__ import annotations

import getpass
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import kiln
from kiln.artifact.differences import FileDifference, explain_disk, explain_file, explain_squashfs
from kiln.artifact.stock import TreeFile, read_inventory
from kiln.attestation.provenance import time_text
from kiln.attestation.reproduction import Output, Reproduction, Voice, reproduction_document, tally
from kiln.attestation.signer import sign_statement
from kiln.authoring.catalog.document import read_resolution
from kiln.authoring.lock.document import lock_digest, read_lock
from kiln.control_plane.locations import libdir
from kiln.control_plane.road.author import plan_of
from kiln.control_plane.road.produce import Produced, produce
from kiln.control_plane.road.steps import Steps
from kiln.control_plane.settings import Settings
from kiln.control_plane.trust import signing, verification_trust
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.events.model import Notice, Sink
from kiln.linux.files import write_atomic
from kiln_wire import layout
from kiln_wire.digest import Digest
from kiln_wire.dsse import BundleError, read_bundle
from kiln_wire.spki import VerifyingKey
from kiln_wire.statement import REPRODUCTION_TYPE, Statement, StatementError, read_statement, statement_json

if TYPE_CHECKING:
    from kiln.fetch.client import Fetcher

DISKS: Final = (".qcow2", ".raw", ".img", ".vmdk", ".vdi", ".vhd", ".vhdx")
LISTS: Final = (layout.SQUASHFS_HASHES, layout.DPKG_MANIFEST)
"""Outputs beside the artifacts that a rebuild makes, too."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A rebuild with the statement that this machine signed about it."""

    found: Reproduction
    statement: bytes


def reproduce(
    directory: Path,
    settings: Settings,
    sink: Sink,
    *,
    store: Path | None,
    environment: Mapping[str, str],
    clock: Callable[[], datetime],
) -> Rebuilt:
    """Build again and compare. Without *store* an empty one is used, so that nothing of the first build is reused.

    Raises KilnError: (ATTESTATION) `no-image`, `bad-document`; what locking, fetching and building raise.
    """
    started = clock()
    attested = attested_statement(directory)
    expected = _expected(directory, attested)
    lock_path, resolution_path = directory / layout.LOCK, directory / layout.RESOLUTION
    lock = read_lock(lock_path.read_bytes(), str(lock_path))
    resolution = read_resolution(resolution_path.read_bytes(), str(resolution_path))
    plan, plan_data = plan_of(resolution, lock)
    same_plan = plan_data == (directory / layout.PLAN).read_bytes()
    if not same_plan:
        sink.emit(Notice("warning", "this Kiln makes another plan of the lock than the one that built the image"))
    settings.state.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="reproduce-", dir=settings.state) as temporary:
        work = Path(temporary)
        output = work / "image"
        output.mkdir()
        steps = Steps(sink)
        with steps.run("build", "building the image again") as running:
            produced = produce(
                plan,
                resolution.name,
                output,
                store_root=store or work / "store",
                libdir=libdir(environment),
                outputs=resolution.outputs,
                limits=settings.limits,
                open_fetcher=lambda: _fetcher(settings, sink),
                steps=steps,
                running=running,
                background=store is not None,
            )
        with steps.run("compare", "comparing the outputs") as running:
            outputs = _outputs(expected, output, produced)
            differences = _differences(directory, output, outputs, work)
            equal = sum(item.identical for item in outputs)
            running.summary = f"{equal} of {len(outputs)} outputs are identical"
    found = Reproduction(
        name=resolution.name,
        lock=lock_digest(lock),
        plan=Digest.of(plan_data),
        same_plan=same_plan,
        rebuilder=f"{getpass.getuser()}@{platform.node()}",
        kiln_version=kiln.__version__,
        started=time_text(started),
        finished=time_text(clock()),
        outputs=outputs,
        differences=tuple(differences),
    )
    payload = statement_json(attested.subjects, REPRODUCTION_TYPE, reproduction_document(found))
    signs = signing(settings, environment, int(clock().timestamp()))
    return Rebuilt(found, sign_statement(signs.signer, payload, signs.stamper))


def attested_statement(directory: Path) -> Statement:
    """Return the signed verification statement: what the image's outputs were. Its signature is `kiln verify`'s.

    Raises KilnError(ATTESTATION) `no-image` or `bad-document`.
    """
    path = directory / layout.VERIFICATION_BUNDLE
    try:
        return read_statement(read_bundle(path.read_bytes()).unverified_payload)
    except OSError as error:
        raise KilnError(
            Domain.ATTESTATION,
            "no-image",
            f"{path} can't be read: {error.strerror}",
            hint="give an image directory that `kiln build` has finished",
            exit_status=ExitStatus.NOT_FOUND,
        ) from error
    except (BundleError, StatementError) as error:
        raise _bad(path, str(error)) from error


def rebuilds_of(directory: Path) -> Path:
    """Return the directory beside an image in which statements of rebuilders are kept.

    Not in the image directory: `kiln verify` refuses there what the builder's key has not signed.
    """
    return directory.parent / f"{directory.name}.rebuilds"


def keep(directory: Path, statement: bytes) -> Path:
    """Put this machine's statement among those of the image's rebuilders, and return its path."""
    name = Digest.of(read_bundle(statement).hint.encode("ascii")).hex[:16]
    path = rebuilds_of(directory) / f"{name}{layout.BUNDLE_SUFFIX}"
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, statement)
    return path


def rebuilder_keys(settings: Settings, now: datetime, keys: Sequence[Path]) -> tuple[VerifyingKey, ...]:
    """Return the keys whose statements count: those given, this machine's, and those of its trust root that are good.

    Raises KilnError(ATTESTATION) for unusable key files.
    """
    seconds = int(now.timestamp())
    trust = verification_trust(settings, seconds, keys=keys)
    roles = trust.root.keys.values() if trust.root is not None else ()
    return (*trust.keys, *(role.key for role in roles if not role.objection(None, seconds)))


def voices(directory: Path, trusted: Sequence[VerifyingKey], others: Sequence[Path]) -> tuple[Voice, ...]:
    """Check the statements of all rebuilders of an image, and *others*. Raises KilnError(ATTESTATION, ...)."""
    attested = attested_statement(directory)
    lock = Digest.of_file(directory / layout.LOCK)
    paths = sorted(rebuilds_of(directory).glob(f"*{layout.BUNDLE_SUFFIX}")) if rebuilds_of(directory).is_dir() else []
    statements = []
    for path in [*paths, *others]:
        try:
            statements.append((str(path), path.read_bytes()))
        except OSError as error:
            raise _bad(path, str(error.strerror)) from error
    return tally(statements, attested.subjects, lock, trusted)


def _expected(directory: Path, attested: Statement) -> dict[str, Digest]:
    """Return output -> digest: the artifacts as they were signed, the lists as the signed document binds them."""
    expected = {subject.name: subject.digest for subject in attested.subjects}
    try:
        bindings = attested.predicate["bindings"]
        expected[layout.SQUASHFS_HASHES] = Digest.parse(bindings["squashfsHashes"])
        expected[layout.DPKG_MANIFEST] = Digest.parse(bindings["dpkgManifest"])
    except (KeyError, TypeError, ValueError) as error:
        raise _bad(directory / layout.VERIFICATION_BUNDLE, f"not a verification document: {error!r}") from error
    return expected


def _outputs(expected: Mapping[str, Digest], output: Path, produced: Produced) -> tuple[Output, ...]:
    got = {artifact.name: artifact.digest for artifact in produced.artifacts}
    got |= {name: Digest.of_file(output / name) for name in LISTS}
    return tuple(Output(name, digest, got.get(name)) for name, digest in sorted(expected.items()))


def _differences(directory: Path, output: Path, outputs: Sequence[Output], work: Path) -> list[FileDifference]:
    found: list[FileDifference] = []
    for item in outputs:
        if item.identical:
            continue
        before, after = directory / item.name, output / item.name
        if not before.exists() or item.got is None:
            where = "original is not there" if item.got is not None else "rebuild did not make it"
            found.append(FileDifference(item.name, "", "missing", "unknown", where))
        else:
            with tempfile.TemporaryDirectory(prefix="explain-", dir=work) as temporary:
                found += _explainer(item.name)(item.name, before, after, Path(temporary))
    found += _ownership(directory, output)
    return found


def _explainer(name: str) -> Callable[[str, Path, Path, Path], list[FileDifference]]:
    """Return what looks into an output of this name."""
    if name.endswith(".squashfs"):
        return explain_squashfs
    return explain_disk if name.endswith(DISKS) else explain_file


def _ownership(directory: Path, output: Path) -> list[FileDifference]:
    """Return files whose content is equal and whose owner, mode or capabilities are not."""
    sides = []
    for side in (directory, output):
        path = side / layout.INVENTORY
        if not path.exists():
            return []
        sides.append({file.path: file for file in read_inventory(path.read_bytes(), str(path)).files})
    return [
        FileDifference("root", path, "changed", "metadata", f"{_rights(old)} -> {_rights(sides[1][path])}")
        for path, old in sides[0].items()
        if path in sides[1] and _rights(old) != _rights(sides[1][path])
    ]


def _rights(file: TreeFile) -> str:
    return f"{file.mode:04o} {file.uid}:{file.gid}" + (f" {file.capabilities}" if file.capabilities else "")


def _fetcher(settings: Settings, sink: Sink) -> AbstractContextManager[Fetcher]:
    from kiln.fetch.client import Fetcher  # noqa: PLC0415 - a store that has everything needs none
    from kiln.fetch.mirrors import Mirrors  # noqa: PLC0415

    return Fetcher(Mirrors.of_this_machine(dict(settings.mirrors)), sink)


def _bad(path: Path, problem: str) -> KilnError:
    return KilnError(
        Domain.ATTESTATION,
        "bad-document",
        f"{path} can't be used: {problem}",
        hint="`kiln verify` says whether the image is as it was signed",
        exit_status=ExitStatus.REFUSED,
    )
