"""From a manifest to its artifact: an unlocked one is checked, locked and written beside it in its locked form."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kiln.artifact.model import Exported
from kiln.authoring.catalog.data import load_catalog
from kiln.authoring.catalog.model import Mirror
from kiln.authoring.compose.inline import InlineFile
from kiln.authoring.lock.trees import Offer
from kiln.authoring.unlocked.lower import origin_of
from kiln.authoring.unlocked.model import Finding, Json, Unlocked, lines, refuse
from kiln.authoring.unlocked.packages import mirror_urls
from kiln.authoring.unlocked.read import is_unlocked, read_manifest
from kiln.control_plane.locations import libdir
from kiln.control_plane.road.model import StageTally, StepReport
from kiln.control_plane.road.produce import BUILD_TITLE, CountedSources, build_log
from kiln.control_plane.road.steps import Running, Steps
from kiln.control_plane.settings import Settings
from kiln.engine.execution.engine import Engine
from kiln.engine.manifest.modules import Modules
from kiln.engine.objects.store import ObjectStore
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.events.model import Notice, Sink, StepStarted
from kiln.linux.files import write_atomic, write_if_changed
from kiln.linux.locks import exclusive
from kiln_wire import layout
from kiln_wire.canonical import pretty_json
from kiln_wire.digest import Digest

if TYPE_CHECKING:
    from kiln.fetch.client import Fetcher

IMAGES: Final = "images"
LOCKED_SUFFIX: Final = ".locked.json"
FIXED_SUFFIX: Final = ".fixed.json"
FIXED_ORIGIN: Final = "+fixed"
HOST_KEYS_FEATURE: Final = "ssh"
HOST_KEYS_UNIT: Final = "kiln-ssh-host-keys.service"


@dataclass(frozen=True, slots=True)
class ManifestOrder:
    """A manifest and how it shall be carried out."""

    path: Path
    data: bytes
    directory: Path | None = None
    """Where the artifact goes; None means `images/<name>` below the working directory."""
    fix: bool = False
    """Make the proposed changes instead of refusing the manifest for its mistakes."""
    update_lock: bool = False


@dataclass(frozen=True, slots=True)
class BuiltManifest:
    """What a manifest gave."""

    name: str
    directory: Path
    locked: Path
    """The locked form, which `kiln-osbuild` and `kiln build` take as well."""
    fixed: Path | None
    """The manifest with the changes that were made, if any."""
    findings: tuple[Finding, ...]
    artifacts: tuple[Exported, ...]
    steps: tuple[StepReport, ...]
    stages: StageTally


def build_manifest(
    order: ManifestOrder,
    settings: Settings,
    sink: Sink,
    *,
    environment: Mapping[str, str],
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> BuiltManifest:
    """Carry out *order*. Raises KilnError: MANIFEST for mistakes in the manifest, LOCK, FETCH, ENGINE, STORE."""
    name = order.path.name.removesuffix(".json").removesuffix(LOCKED_SUFFIX.removesuffix(".json"))
    directory = (order.directory or Path(IMAGES) / name).absolute()
    run_id = Digest.of(os.fsencode(directory)).hex[:24]
    with _occupied(settings.runs / f"{run_id}.lock", directory):
        return _Run(order, settings, sink, environment, clock, name, directory).run()


@dataclass(slots=True)
class _Run:
    order: ManifestOrder
    settings: Settings
    sink: Sink
    environment: Mapping[str, str]
    clock: Callable[[], datetime]
    name: str
    directory: Path
    mirrors: tuple[tuple[str, str], ...] = ()

    def run(self) -> BuiltManifest:
        steps = Steps(self.sink)
        modules = Modules(libdir(self.environment).resolve())
        findings: tuple[Finding, ...]
        path, findings = self.order.path, ()
        plan = json.loads(self.order.data)
        if is_unlocked(plan):
            unlocked = read_manifest(self.order.data, str(self.order.path), modules)
            path, plan, findings = self._lock(steps, unlocked)
        exported, tally = self._build(steps, plan, modules)
        fixed = self._beside(FIXED_SUFFIX) if findings else None
        return BuiltManifest(self.name, self.directory, path, fixed, findings, exported, tuple(steps.reports), tally)

    def _beside(self, suffix: str) -> Path:
        return self.order.path.with_name(self.order.path.name.removesuffix(".json") + suffix)

    def _lock(self, steps: Steps, unlocked: Unlocked) -> tuple[Path, Json, tuple[Finding, ...]]:
        path = self._beside(LOCKED_SUFFIX)
        digest = str(Digest.of(self.order.data))
        with steps.run("lock", "locking the manifest") as running:
            kept = None if self.order.update_lock else _kept(path, digest, fixed=self.order.fix)
            running.cached = kept is not None
            findings: tuple[Finding, ...] = ()
            if kept is None:
                kept, findings = self._new_lock(unlocked, digest)
                write_if_changed(path, pretty_json(kept))
            else:
                self.mirrors = mirror_urls(unlocked, [entry.base for entry in load_catalog().bases])
            running.summary = _summary(kept)
        return path, kept, findings

    def _new_lock(self, unlocked: Unlocked, digest: str) -> tuple[Json, tuple[Finding, ...]]:
        # Here, because a run that keeps its lock needs neither an HTTP client nor a solver.
        from kiln.authoring.lock.solver import AptSolver  # noqa: PLC0415
        from kiln.authoring.unlocked.lock import diagnose, locked_form  # noqa: PLC0415

        catalog = load_catalog()
        bases = [entry.base for entry in catalog.bases]
        solver = AptSolver(self.settings.cache / "apt", bases[0].architectures[0])
        found = diagnose(unlocked, bases, self, solver)
        if found.findings and not self.order.fix:
            raise refuse(unlocked, found.findings, fixing=False)
        for finding in found.findings:
            self.sink.emit(Notice("warning", "changed: " + "\n".join(lines(unlocked, finding))))
        if found.findings:
            write_if_changed(self._beside(FIXED_SUFFIX), pretty_json(found.fixed.document))
            digest += FIXED_ORIGIN

        def host_keys() -> tuple[InlineFile, ...]:
            feature = catalog.feature(HOST_KEYS_FEATURE)
            entries = feature.files if feature is not None else ()
            return tuple(
                InlineFile(entry.path, entry.content.encode("utf-8"))
                for entry in entries
                if entry.path.endswith(f"/{HOST_KEYS_UNIT}")
            )

        return locked_form(found, solver, digest, host_keys), found.findings

    def read(self, mirrors: tuple[Mirror, ...], urls: tuple[tuple[str, str], ...]) -> Offer:
        """Return what *mirrors* offer now (`kiln.authoring.unlocked.lock.Archives`)."""
        from kiln.authoring.lock.keyrings import Keyrings  # noqa: PLC0415
        from kiln.authoring.lock.release import Freshness  # noqa: PLC0415
        from kiln.authoring.lock.trees import read_offer  # noqa: PLC0415

        self.mirrors = urls
        with self._open_fetcher() as fetcher:
            return read_offer(
                mirrors,
                "amd64",
                fetcher=fetcher,
                keyrings=Keyrings(self.settings.keyrings),
                cache=self.settings.cache,
                sink=self.sink,
                now=self.clock(),
                freshness=Freshness(accept_expired=self.settings.accept_expired_indexes),
            )

    def _open_fetcher(self) -> AbstractContextManager[Fetcher]:
        from kiln.fetch.client import Fetcher  # noqa: PLC0415
        from kiln.fetch.mirrors import Mirrors  # noqa: PLC0415

        named = {name: (url,) for name, url in self.mirrors}
        return Fetcher(Mirrors.of_this_machine({**dict(self.settings.mirrors), **named}), self.sink)

    def _build(self, steps: Steps, plan: Json, modules: Modules) -> tuple[tuple[Exported, ...], StageTally]:
        with steps.run("build", BUILD_TITLE) as running, ObjectStore(self.settings.store) as store:
            sources = CountedSources(self._open_fetcher, steps, running)
            chosen = self.settings
            engine = Engine(store, modules.libdir, sources, self.sink, limits=chosen.limits, remotes=chosen.remotes)
            loaded = engine.load(plan)
            wanted = [item["name"] for item in (plan.get("metadata") or {}).get("exports", [])]
            names = wanted or [loaded.pipelines[-1].name]
            result = engine.build(loaded, names)
            (self.directory / layout.EVIDENCE).mkdir(parents=True, exist_ok=True)
            tally = StageTally.of(result.stages)
            if tally.ran or not (self.directory / layout.BUILD_LOG).exists():
                write_atomic(self.directory / layout.BUILD_LOG, build_log(result))
            artifacts: list[Exported] = []
            for name in names:
                self.sink.emit(StepStarted("build", f"exporting {name}"))
                with store.mounted(result.objects[name]) as tree:
                    entries = sorted(path.name for path in tree.iterdir())
                engine.export(result.objects[name], self.directory)
                artifacts += [Exported.of(self.directory / entry) for entry in entries]
            running.cached = not tally.ran
            running.summary = _told(artifacts, tally, running)
        return tuple(artifacts), tally


def _occupied(path: Path, directory: Path) -> AbstractContextManager[None]:
    try:
        return exclusive(path, blocking=False)
    except KilnError as error:
        raise replace(error, message=f"another run works on {directory}") from None


def _kept(path: Path, digest: str, *, fixed: bool) -> Json | None:
    """Return the locked form at *path* if it was made of this manifest.

    Raises KilnError(MANIFEST, "bad-locked-form").
    """
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise KilnError(
            Domain.MANIFEST,
            "bad-locked-form",
            f"{path} is not JSON: {error}",
            hint="restore it from version control, or make it anew with --update-lock",
            exit_status=ExitStatus.REFUSED,
        ) from None
    origins = [digest, digest + FIXED_ORIGIN] if fixed else [digest]
    return document if isinstance(document, dict) and origin_of(document) in origins else None


def _summary(plan: Json) -> str:
    items = plan["sources"]["org.kiln.mirror"]["items"].values()
    size = sum(item["size"] for item in items)
    return f"{len(items)} packages ({size / 1000**2:.0f} MB), {len(plan['pipelines'])} pipelines"


def _told(artifacts: list[Exported], tally: StageTally, running: Running) -> str:
    names = ", ".join(item.name for item in artifacts)
    return names if running.cached else f"{names}; {tally}"
