"""Questions about image directories, with this machine's database of advisories and its catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kiln.authoring.catalog.data import known, load_catalog
from kiln.authoring.catalog.document import read_resolution
from kiln.authoring.catalog.model import Resolution
from kiln.authoring.lock.document import read_lock
from kiln.authoring.lock.model import Lock
from kiln.authoring.recipe.load import RecipeDefaults, read_recipe
from kiln.authoring.recipe.model import Recipe
from kiln.control_plane.images import inventory_of
from kiln.control_plane.scanning import read_statements
from kiln.control_plane.settings import Settings
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.explain.compare import compare
from kiln.explain.facts import read_facts
from kiln.explain.model import Difference
from kiln.explain.removal import Removal, removal
from kiln.explain.story import Step, story
from kiln.explain.why import Image, Origin, why
from kiln.vulnerabilities.database import Database
from kiln.vulnerabilities.match import match
from kiln.vulnerabilities.targets import Scannable
from kiln.vulnerabilities.vex import apply_vex
from kiln_wire import layout
from kiln_wire.canonical import CanonicalError, strict_loads
from kiln_wire.dsse import BundleError, read_bundle
from kiln_wire.statement import Statement, StatementError, read_statement


def difference(before: Path, after: Path, settings: Settings) -> Difference:
    """Compare two images, locks or SBOMs; vulnerabilities by one database for both sides, where there is one.

    Raises KilnError as `kiln.explain.facts.read_facts` does, and (VULNERABILITY) for an unusable database.
    """
    vex, _ = read_statements(settings.vex)

    def look(scannable: Scannable) -> Mapping[str, str] | None:
        if not settings.advisory_database.exists():
            return None
        with Database(settings.advisory_database) as database:
            found = match(scannable.components, database, database.info().ecosystems)
        if not any(item.covered for item in found.coverage):
            return None
        findings = apply_vex(found.findings, scannable.target, vex)
        return {f"{item.id} {item.name}": item.rating for item in findings if item.counts}

    return compare(read_facts(before, look), read_facts(after, look))


def origins(directory: Path, question: str) -> tuple[Origin, ...]:
    """Return why *question* is in the image. Raises KilnError."""
    resolution, lock = _documents(directory)
    return why(Image(resolution, lock, inventory_of(directory)), question)


def without(directory: Path, feature: str) -> Removal:
    """Return what would go without *feature*. Raises KilnError."""
    resolution, lock = _documents(directory)
    return removal(_recipe(directory), resolution, lock, load_catalog(), feature)


def chain_of(directory: Path) -> tuple[Step, ...]:
    """Return the chain of an image in words. Raises KilnError(ATTESTATION, "bad-document")."""
    resolution, lock = _documents(directory)
    statements: dict[str, Statement] = {}
    hints: dict[str, tuple[str, str]] = {}
    for path in sorted((directory / layout.ATTESTATIONS).glob(f"*{layout.BUNDLE_SUFFIX}")):
        try:
            bundle = read_bundle(path.read_bytes())
            statements[path.name] = read_statement(bundle.unverified_payload)
        except (BundleError, StatementError, OSError) as error:
            raise _bad(path, str(error)) from error
        hints[path.name] = (statements[path.name].predicate_type, bundle.hint)
    name = layout.PROVENANCE_BUNDLE.rpartition("/")[2]
    tests = layout.TEST_REPORT_BUNDLE.rpartition("/")[2]
    if name not in statements:
        raise _bad(directory / layout.PROVENANCE_BUNDLE, "it is not there")
    record: Any = None
    try:
        record = (
            strict_loads((directory / layout.RECORD).read_bytes()) if (directory / layout.RECORD).exists() else None
        )
        return story(
            statements[name].predicate,
            {subject.name: subject.digest.hex for subject in statements[name].subjects},
            resolution,
            lock,
            statements[tests].predicate if tests in statements else None,
            hints,
            record,
        )
    except (KeyError, TypeError, IndexError, CanonicalError) as error:
        raise _bad(directory / layout.PROVENANCE_BUNDLE, f"not in the form that Kiln writes: {error!r}") from error


def _documents(directory: Path) -> tuple[Resolution, Lock]:
    resolution, lock = directory / layout.RESOLUTION, directory / layout.LOCK
    try:
        return read_resolution(resolution.read_bytes(), str(resolution)), read_lock(lock.read_bytes(), str(lock))
    except OSError as error:
        raise KilnError(
            Domain.ATTESTATION,
            "no-image",
            f"{error.filename} can't be read: {error.strerror}",
            hint="give an image directory that `kiln build` has made",
            exit_status=ExitStatus.NOT_FOUND,
        ) from error


def _recipe(directory: Path) -> Recipe:
    path = directory / layout.RECIPE
    return read_recipe(path.read_bytes(), str(path), known(load_catalog()), RecipeDefaults())


def _bad(path: Path, problem: str) -> KilnError:
    return KilnError(
        Domain.ATTESTATION,
        "bad-document",
        f"{path} can't be used: {problem}",
        hint="`kiln verify` says whether the image is as it was signed",
        exit_status=ExitStatus.REFUSED,
    )
