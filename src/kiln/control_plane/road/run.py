"""The whole road: request -> recipe -> lock -> plan -> image -> verdict -> attestations -> record.

Each step leaves documents in the image directory. A step whose inputs are what they were in an earlier run, and whose
files are untouched, is not done again; after a failure the next run therefore goes on from the last good step.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import kiln
from kiln.artifact.model import Artifact
from kiln.authoring.catalog.data import load_catalog
from kiln.authoring.catalog.document import resolution_bytes
from kiln.authoring.catalog.entries import Catalog
from kiln.authoring.catalog.model import Resolution
from kiln.authoring.lock.document import lock_bytes, lock_digest
from kiln.authoring.lock.model import Lock
from kiln.authoring.recipe.advice import warnings
from kiln.control_plane.locations import libdir, program_stamps
from kiln.control_plane.road.author import (
    Understood,
    kept_lock,
    new_lock,
    plan_of,
    resolve_all,
    understand,
    with_outputs,
)
from kiln.control_plane.road.ledger import Ledger, fingerprint
from kiln.control_plane.road.model import Built, Order, StageTally
from kiln.control_plane.road.steps import Steps
from kiln.control_plane.settings import Settings
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.events.model import Notice, Sink
from kiln.linux.files import write_if_changed
from kiln.linux.locks import exclusive
from kiln.trial.evaluate import plan_checks
from kiln.trial.machine import Firmware
from kiln.trial.model import TestReport
from kiln_wire import layout
from kiln_wire.codec import decode, encode
from kiln_wire.digest import Digest

if TYPE_CHECKING:
    from kiln.fetch.client import Fetcher

IMAGES: Final = "images"
TRIAL_EVIDENCE: Final = ("evidence/report.json", "evidence/report.xml", "evidence/report.html", "evidence/serial.log")
BUILD_EVIDENCE: Final = (layout.BUILD_LOG, layout.STAGES, layout.INVENTORY)
SSH_PACKAGE: Final = "openssh-server"
SUDO_PACKAGE: Final = "sudo"


def build_image(
    order: Order,
    settings: Settings,
    sink: Sink,
    *,
    environment: Mapping[str, str],
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Built:
    """Carry out *order*; a refusal is recorded, too. Raises KilnError."""
    started = clock()
    invocation_id = str(uuid.uuid4())
    road = _Road(order, settings, sink, environment, clock, started, invocation_id)
    try:
        return road.run()
    except KilnError as error:
        road.record_failure(error)
        raise


@dataclass(slots=True)
class _Road:
    order: Order
    settings: Settings
    sink: Sink
    environment: Mapping[str, str]
    clock: Callable[[], datetime]
    started: datetime
    invocation_id: str
    name: str = ""

    def run(self) -> Built:
        steps = Steps(self.sink)
        catalog = load_catalog()
        understood = self._describe(steps, catalog)
        resolution = self._resolve(steps, understood, catalog)
        self.name = resolution.name
        directory = (self.order.directory or Path(IMAGES) / self.name).absolute()
        run_id = Digest.of(os.fsencode(directory)).hex[:24]
        with self._occupied(run_id, directory):
            (directory / layout.EVIDENCE).mkdir(parents=True, exist_ok=True)
            documents = {**understood.documents, layout.RESOLUTION: resolution_bytes(resolution)}
            for name, data in documents.items():
                write_if_changed(directory / name, data)
            ledger = Ledger(self.settings.runs / f"{run_id}.json", directory)
            lock = self._lock(steps, resolution, directory)
            plan = self._compose(steps, resolution, lock, directory)
            return _Making(self, steps, resolution, lock, plan, directory, ledger).run()

    def _describe(self, steps: Steps, catalog: Catalog) -> Understood:
        with steps.run("describe", "reading the request") as running:
            understood = with_outputs(understand(self.order.request, self.settings, catalog), self.order.outputs)
            recipe = understood.recipe
            features = ", ".join(choice.id for choice in recipe.features)
            running.summary = f"{recipe.base_image}, hardening {recipe.security.hardening_level}; {features}"
        for text in warnings(understood.recipe):
            self.sink.emit(Notice("warning", text))
        for note in understood.interpretation.notes if understood.interpretation else ():
            self.sink.emit(Notice("warning", f"{note.message}: `{note.words.text}`"))
        return understood

    def _resolve(self, steps: Steps, understood: Understood, catalog: Catalog) -> Resolution:
        with steps.run("resolve", "resolving features") as running:
            found = resolve_all(understood, catalog)
            # What the test could not check must be known before an hour of building, not after.
            plan_checks(found.assertions)
            running.summary = (
                f"{len(found.features)} features, {len(found.packages)} packages wished, "
                f"{len(found.files)} files, {len(found.assertions)} checks"
            )
        return found

    def _lock(self, steps: Steps, resolution: Resolution, directory: Path) -> Lock:
        path = directory / layout.LOCK
        with steps.run("lock", "locking every package") as running:
            lock = None if self.order.update_lock else kept_lock(path, resolution)
            running.cached = lock is not None
            if lock is None:
                lock = new_lock(resolution, self.settings, self.sink, self.clock())
                write_if_changed(path, lock_bytes(lock))
            image, build = lock.tree("image"), lock.tree("build")
            running.summary = (
                f"{len(image.packages)} packages ({image.download_bytes / 1000**2:.0f} MB), "
                f"{len(build.packages)} of tools ({build.download_bytes / 1000**2:.0f} MB)"
            )
        return lock

    def _compose(self, steps: Steps, resolution: Resolution, lock: Lock, directory: Path) -> dict[str, Any]:
        with steps.run("compose", "composing the plan") as running:
            plan, data = plan_of(resolution, lock)
            write_if_changed(directory / layout.PLAN, data)
            stages = sum(len(pipeline["stages"]) for pipeline in plan["pipelines"])
            running.summary = f"{len(plan['pipelines'])} pipelines, {stages} stages"
        return plan

    def _occupied(self, run_id: str, directory: Path) -> AbstractContextManager[None]:
        try:
            return exclusive(self.settings.runs / f"{run_id}.lock", blocking=False)
        except KilnError as error:
            raise replace(error, message=f"another run works on {directory}") from None

    def record_failure(self, error: KilnError) -> None:
        """Append the record of a failed run, unless the failure is that nothing can be written."""
        if error.reason in ("no-space", "busy") or error.exit_status == ExitStatus.USAGE:
            return  # a typing error is no event in the life of an image
        from kiln.records.publish import record_failure  # noqa: PLC0415
        from kiln.records.store import Records  # noqa: PLC0415

        try:
            with Records(self.settings.state) as records:
                record_failure(
                    records,
                    error,
                    request_text=self.order.request.text,
                    kiln_version=kiln.__version__,
                    invocation_id=self.invocation_id,
                    started=self.started,
                    now=self.clock(),
                    name=self.name,
                )
        except KilnError as other:
            # The person needs the first error; that it could not be recorded comes second.
            self.sink.emit(Notice("warning", f"this failure could not be recorded: {other.message}"))


@dataclass(slots=True)
class _Making:
    """The steps that leave bytes behind."""

    road: _Road
    steps: Steps
    resolution: Resolution
    lock: Lock
    plan: dict[str, Any]
    directory: Path
    ledger: Ledger

    def run(self) -> Built:
        artifacts, notes = self._build()
        report = self._test(artifacts)
        self._scan(artifacts)
        stages = StageTally(**notes["stages"])
        proof = self._attest(artifacts, report, stages)
        return Built(
            name=self.road.name,
            directory=self.directory,
            artifacts=artifacts,
            package_count=len(self.lock.tree("image").packages),
            download_bytes=sum(tree.download_bytes for tree in self.lock.trees),
            lock_digest=str(lock_digest(self.lock)),
            tree_id=notes["treeId"],
            verification_id=proof["verificationId"],
            record_id=proof["recordId"],
            report=report,
            steps=tuple(self.steps.reports),
            stages=stages,
        )

    def _build(self) -> tuple[tuple[Artifact, ...], dict[str, Any]]:
        name = self.road.name
        programs = libdir(self.road.environment)
        plan = str(Digest.of_file(self.directory / layout.PLAN))
        inputs = fingerprint("build", plan, program_stamps(programs), BUILD_EVIDENCE)
        with self.steps.run("build", "building the image") as running:
            notes = self.ledger.finished("build", inputs)
            running.cached = notes is not None
            if notes is None:
                from kiln.control_plane.road.produce import produce  # noqa: PLC0415

                produced = produce(
                    self.plan,
                    name,
                    self.directory,
                    outputs=self.resolution.outputs,
                    store_root=self.road.settings.store,
                    limits=self.road.settings.limits,
                    libdir=programs,
                    open_fetcher=self._open_fetcher,
                    steps=self.steps,
                    running=running,
                    remotes=self.road.settings.remotes,
                )
                notes = {
                    "artifacts": [encode(artifact) for artifact in produced.artifacts],
                    "treeId": produced.tree_id,
                    "stages": encode(produced.stages),
                }
                files = [artifact.name for artifact in produced.artifacts]
                files += [layout.SQUASHFS_HASHES, layout.DPKG_MANIFEST, *BUILD_EVIDENCE]
                self.ledger.finish("build", inputs, files, notes)
            artifacts = tuple(decode(Artifact, item) for item in notes["artifacts"])
            stages = StageTally(**notes["stages"])
            sizes = ", ".join(
                f"{item.name.rpartition('.')[2]} {item.size_bytes / 1000**2:.0f} MB" for item in artifacts
            )
            running.summary = sizes
            if not running.cached:
                running.summary += f"; {stages}"
        return artifacts, notes

    def _open_fetcher(self) -> AbstractContextManager[Fetcher]:
        from kiln.fetch.client import Fetcher  # noqa: PLC0415
        from kiln.fetch.mirrors import Mirrors  # noqa: PLC0415

        return Fetcher(Mirrors.of_this_machine(dict(self.road.settings.mirrors)), self.road.sink)

    def _test(self, artifacts: tuple[Artifact, ...]) -> TestReport:
        disk = next(artifact for artifact in artifacts if artifact.role == "disk")
        assertions = self.resolution.assertions
        inputs = fingerprint(
            "test", str(disk.digest), [encode(wish) for wish in assertions], self._firmware(), kiln.__version__
        )
        with self.steps.run("test", "booting the image") as running:
            notes = self.ledger.finished("test", inputs)
            running.cached = notes is not None
            if notes is None:
                report = self._trial(disk)
                # A failed test is not remembered as done: the next run tries again.
                if report.verdict == "pass":
                    self.ledger.finish("test", inputs, TRIAL_EVIDENCE, {"report": encode(report)})
            else:
                report = decode(TestReport, notes["report"])
            passed = sum(check.verdict == "pass" for check in report.checks)
            running.summary = (
                f"{passed} of {len(report.checks)} checks passed; booted in {report.boot_seconds:.0f} s "
                f"({report.machine.accelerator}, {report.machine.firmware})"
            )
        if report.verdict != "pass":
            raise _failed(report, self.directory)
        return report

    def _trial(self, disk: Artifact) -> TestReport:
        from kiln.trial.run import run_trial  # noqa: PLC0415

        installed = {package.name for package in self.lock.tree("image").packages}
        return run_trial(
            self.directory / disk.name,
            str(disk.digest),
            self.resolution.assertions,
            has_ssh=SSH_PACKAGE in installed,
            has_sudo=SUDO_PACKAGE in installed,
            ssh_port=self._ssh_port(),
            display=True,
            firmware=self._firmware(),
            evidence_dir=self.directory / layout.EVIDENCE,
            state_dir=self.road.settings.state,
            sink=self.road.sink,
        )

    def _firmware(self) -> Firmware:
        # Only GRUB is there for BIOS, too.
        return self.road.order.firmware if self.resolution.boot == "grub" else "uefi"

    def _ssh_port(self) -> int:
        for feature in self.resolution.features:
            if feature.id == "ssh":
                return int(str(dict(feature.options).get("port", 22)))
        return 22

    def _scan(self, artifacts: tuple[Artifact, ...]) -> None:
        """Look for known vulnerabilities where there is a database; its absence is said, not hidden."""
        from kiln.control_plane.road.examine import examine, forget  # noqa: PLC0415

        settings = self.road.settings
        if not settings.advisory_database.exists():
            forget(self.directory)
            return
        disk = next(artifact for artifact in artifacts if artifact.role == "disk")
        with self.steps.run("scan", "looking for known vulnerabilities") as running:
            examine(self.directory, disk, self.lock, settings, self.ledger, running, self.road.sink, self.road.clock)

    def _attest(self, artifacts: tuple[Artifact, ...], report: TestReport, stages: StageTally) -> dict[str, Any]:
        names = [layout.REQUEST, layout.RECIPE, layout.RESOLUTION, layout.LOCK, layout.PLAN]
        names += [f"{layout.EVIDENCE}/{path.name}" for path in sorted((self.directory / layout.EVIDENCE).iterdir())]
        documents = [f"{name} {Digest.of_file(self.directory / name)}" for name in names]
        inputs = fingerprint("attest", documents, [encode(artifact) for artifact in artifacts], kiln.__version__)
        with self.steps.run("attest", "signing what is known about the image") as running:
            notes = self.ledger.finished("attest", inputs)
            running.cached = notes is not None
            if notes is None:
                from kiln.control_plane.road.prove import prove  # noqa: PLC0415

                proof = prove(
                    self.directory,
                    name=self.road.name,
                    request_text=self.road.order.request.text,
                    lock=self.lock,
                    artifacts=artifacts,
                    report=report,
                    settings=self.road.settings,
                    environment=self.road.environment,
                    remote=stages.remote > 0,
                    invocation_id=self.road.invocation_id,
                    started=self.road.started,
                    clock=self.road.clock,
                )
                for problem in proof.problems:
                    self.road.sink.emit(Notice("warning", f"a witness did not sign the log: {problem}"))
                notes = {"verificationId": proof.verification_id, "recordId": proof.record_id}
                self.ledger.finish("attest", inputs, proof.files, notes)
            running.summary = f"verification {notes['verificationId']}, record {notes['recordId'][:12]}"
        return notes


def _failed(report: TestReport, directory: Path) -> KilnError:
    bad = [check for check in report.checks if check.verdict in ("fail", "error")]
    lines = [
        f"{check.verdict}: {check.name} ({check.reason}): expected {check.expected}, got {check.got}" for check in bad
    ]
    return KilnError(
        Domain.TRIAL,
        "assertion-failed",
        f"{len(bad)} of {len(report.checks)} checks of the booted image did not pass",
        detail="\n".join(lines),
        hint=f"serial log and report are in {directory / layout.EVIDENCE}; `kiln run {directory}` boots the image",
        exit_status=ExitStatus.FAILED,
    )
