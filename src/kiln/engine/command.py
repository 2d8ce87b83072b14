"""`kiln-osbuild`: the engine with osbuild's command line, so that it can stand in osbuild's place."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kiln.engine import arguments as command_line
from kiln.engine import remoting, result
from kiln.engine.execution.engine import Engine, find_export
from kiln.engine.execution.libdir import default_libdir
from kiln.engine.execution.model import BuildResult
from kiln.engine.execution.rootless import become_root
from kiln.engine.execution.sources import MirrorSources
from kiln.engine.manifest.describe import describe, describe_1
from kiln.engine.manifest.formats import refuse
from kiln.engine.manifest.load import load
from kiln.engine.manifest.model import Plan
from kiln.engine.manifest.modules import Modules
from kiln.engine.manifest.template import fill, parse_definitions
from kiln.engine.manifest.validate import InvalidManifestError, validate
from kiln.engine.objects.layout import Layout
from kiln.engine.objects.store import ObjectStore
from kiln.engine.rerun import NO_OWNERS
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.events.model import Sink
from kiln.linux.cgroups import Limits

if TYPE_CHECKING:
    from kiln.engine.execution.remote.address import Remote
    from kiln.engine.monitors.choose import Monitor

DEFAULT_STORE: Final = Path(".osbuild")
ORIGIN: Final = "osbuild.main_cli"
"""Where monitors say that messages of the command line come from."""
SAID: Final = {
    "unsupported-format": "{}\n",
    "no-output-directory": "{}\n",
    "unknown-checkpoint": "{}\nFailed\n",
}
"""What osbuild writes to stdout when a run ends before its build; otherwise it says no more than that it has failed."""


def execute(argv: Sequence[str], standard_input: bytes | None) -> int:
    """Run the command; returns 0, 1 for a failure, 2 for a manifest or usage that is wrong.

    *standard_input* is what was already read of it.
    """
    arguments = command_line.parse(argv)
    if arguments.worker:
        return remoting.serve(arguments.store, limits=_limits(arguments), maximum=arguments.cache_max_size)
    command = _Command(arguments, argv, standard_input)
    try:
        return command.run()
    except InvalidManifestError as error:
        if arguments.json or arguments.inspect:
            _write(error.to_osbuild())
        else:
            name = "<stdin>" if arguments.manifest == "-" else arguments.manifest
            findings = "".join(f"{finding.id}:\n  {finding.message}\n\n" for finding in error.findings)
            sys.stdout.write(f"{name} has errors:\n\n{findings}")
        return ExitStatus.USAGE
    except KilnError as error:
        if arguments.json:
            _write(result.failure(error, command.plan))
        else:
            sys.stdout.write(SAID.get(error.reason, "Failed\n").format(error.message))
            sys.stdout.flush()
            sys.stderr.write("\n".join(part for part in (f"error: {error}", error.detail, error.hint) if part) + "\n")
        return ExitStatus.USAGE if error.exit_status is ExitStatus.USAGE else ExitStatus.FAILED


class _Command:
    """One run; *plan* is there once the manifest was read."""

    def __init__(self, arguments: argparse.Namespace, argv: Sequence[str], standard_input: bytes | None) -> None:
        self._arguments = arguments
        self._argv = argv
        self._standard_input = standard_input
        self._remotes: Sequence[Remote] = ()
        self.plan: Plan | None = None

    def run(self) -> int:
        arguments = self._arguments
        manifest = self._read()
        document = fill(_decoded(manifest), parse_definitions(arguments.define))
        modules = Modules((arguments.libdir or default_libdir()).resolve())
        if arguments.inspect or arguments.convert:
            validate(document, modules)
            plan = self.plan = load(document)
            self._check(plan)
            if arguments.convert:
                _write(describe(plan, ids=False))
            else:
                _write(describe_1(plan) if plan.format == "1" else describe(plan))
            return ExitStatus.OK
        self._remotes = remoting.remotes(arguments.remote)
        if os.geteuid() != 0:
            become_root()
        monitor = self._monitor()
        with ObjectStore(arguments.store or DEFAULT_STORE.absolute()) as store:
            if arguments.cache_max_size is not None:
                store.set_maximum(arguments.cache_max_size.bytes)
            engine = Engine(
                store,
                modules.libdir,
                _sources(monitor),
                monitor,
                stage_timeout_seconds=arguments.stage_timeout,
                observer=monitor,
                break_at=arguments.break_at,
                limits=_limits(arguments),
                remotes=self._remotes,
            )
            plan = self.plan = engine.load(document)
            self._check(plan)
            built = self._build(engine, plan, monitor, modules)
            if self._repeatable():
                self._remember(engine, store, manifest, document, modules, built)
        return ExitStatus.OK

    def _repeatable(self) -> bool:
        """Whether the next run of the same command says the same: monitors tell times, and shells are opened again."""
        arguments = self._arguments
        silent = arguments.monitor in (None, "NullMonitor") and (arguments.json or arguments.quiet)
        return silent and not arguments.break_at and os.geteuid() == 0

    def _remember(
        self,
        engine: Engine,
        store: ObjectStore,
        manifest: bytes,
        document: Mapping[str, Any],
        modules: Modules,
        built: BuildResult,
    ) -> None:
        from kiln.engine.remember import remember  # noqa: PLC0415 - only after a build

        arguments, plan = self._arguments, self.plan
        if plan is None:
            return
        output = ""
        if arguments.json:
            # What is stored now is cached next time, and says so.
            output = _text(result.success(plan, engine.build(plan, arguments.export)))
        remember(
            self._argv,
            layout=Layout(store.root),
            manifest_name=arguments.manifest,
            manifest=manifest,
            document=document,
            libdir=arguments.libdir or default_libdir(),
            modules=modules,
            plan=plan,
            exports=built.objects,
            output_directory=arguments.output_directory,
            output=output,
        )

    def _read(self) -> bytes:
        name = self._arguments.manifest
        if name == "-" and self._standard_input is not None:
            return self._standard_input
        try:
            return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        except OSError as error:
            raise KilnError(
                Domain.MANIFEST, "unreadable", f"cannot read the manifest: {error}", exit_status=ExitStatus.USAGE
            ) from error

    def _build(self, engine: Engine, plan: Plan, monitor: Monitor, modules: Modules) -> BuildResult:
        arguments = self._arguments
        monitor.load(plan, modules)
        monitor.log(f"starting {arguments.manifest}", ORIGIN)
        try:
            built = engine.build(plan, arguments.export)
        except KilnError:
            monitor.log(f"manifest {arguments.manifest} failed\n", ORIGIN)
            raise
        monitor.log(f"manifest {arguments.manifest} finished successfully\n", ORIGIN)
        for name, ref in built.objects.items():
            engine.export(ref, arguments.output_directory / name, owners=os.environ.get(NO_OWNERS) != "1")
        if arguments.json:
            _write(result.success(plan, built))
        elif not arguments.quiet:
            lines = "".join(f"  {pipeline.name + ':':<10}\t{pipeline.id}\n" for pipeline in plan.pipelines)
            sys.stdout.write(f"\nPipelines\n{lines}")
            marked = _marked(plan, arguments.checkpoint)
            if marked:
                stored = engine.stored(plan)
                lines = "".join(f"  {id_}: {'cached' if id_ in stored else 'not cached'}\n" for id_ in marked)
                sys.stdout.write(f"\nCheckpoints\n{lines}")
        return built

    def _check(self, plan: Plan) -> None:
        """Refuse arguments that do not fit the plan. Raises KilnError."""
        arguments = self._arguments
        for name in arguments.export:
            try:
                find_export(plan, name)
            except KilnError:
                if not arguments.json:
                    sys.stdout.write(f"Export {name} not found!\n")
                raise
        if arguments.checkpoint and not _marked(plan, arguments.checkpoint):
            patterns = ", ".join(f"`{pattern}`" for pattern in arguments.checkpoint)
            raise KilnError(
                Domain.MANIFEST,
                "unknown-checkpoint",
                "No checkpoints matched provided patterns!",
                detail=f"no pipeline and no stage matches {patterns}",
            )
        remoting.check_patterns(self._remotes, plan)
        if arguments.in_vm:
            raise KilnError(Domain.ENGINE, "not-supported", "pipelines in virtual machines (--in-vm) are not supported")
        if arguments.export and arguments.output_directory is None and not (arguments.inspect or arguments.convert):
            raise KilnError(Domain.ENGINE, "no-output-directory", "Need --output-directory for --export")

    def _monitor(self) -> Monitor:
        from kiln.engine.monitors.choose import choose  # noqa: PLC0415 - not needed to inspect

        arguments = self._arguments
        name = arguments.monitor or ("NullMonitor" if arguments.json or arguments.quiet else "LogMonitor")
        sys.stdout.flush()
        return choose(name, arguments.monitor_fd)


def _limits(arguments: argparse.Namespace) -> Limits:
    return Limits(arguments.memory_max, arguments.pids_max, arguments.cpu_max, arguments.io_max)


def _decoded(manifest: bytes) -> Any:
    try:
        return json.loads(manifest)
    except (ValueError, RecursionError) as error:
        raise refuse("", f"the manifest is not JSON: {error}") from None


def _marked(plan: Plan, patterns: Sequence[str]) -> list[str]:
    """Return the ids of the stages that checkpoints mark: by name of a pipeline (its last stage), id or type."""
    marked: dict[str, None] = {}
    for pipeline in plan.pipelines:
        for stage in pipeline.stages:
            names = [stage.id, stage.type]
            if stage is pipeline.stages[-1]:
                names.append(pipeline.name)
            if any(fnmatch.fnmatch(name, pattern) for name in names for pattern in patterns):
                marked[stage.id] = None
    return list(marked)


def _sources(sink: Sink) -> MirrorSources:
    def open_fetcher() -> Any:
        # 150 ms of imports; nothing is fetched when everything is in the store.
        from kiln.fetch.client import Fetcher  # noqa: PLC0415
        from kiln.fetch.mirrors import Mirrors  # noqa: PLC0415

        return Fetcher(Mirrors.of_this_machine({}), sink)

    return MirrorSources(open_fetcher)


def _write(document: object) -> None:
    sys.stdout.write(_text(document))


def _text(document: object) -> str:
    return json.dumps(document) + "\n"
