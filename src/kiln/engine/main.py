"""`kiln-osbuild`: the engine with osbuild's command line, so that it can stand in osbuild's place."""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from kiln.engine import result
from kiln.engine.execution.engine import Engine, find_export
from kiln.engine.execution.libdir import default_libdir
from kiln.engine.execution.sources import MirrorSources
from kiln.engine.manifest.describe import describe
from kiln.engine.manifest.formats import refuse
from kiln.engine.manifest.load import load
from kiln.engine.manifest.model import Plan
from kiln.engine.manifest.modules import Modules
from kiln.engine.manifest.validate import InvalidManifestError, validate
from kiln.engine.objects.store import ObjectStore
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.events.model import Event, NullSink, Output, Sink, StageFinished, StageStarted

VERSION: Final = 191
"""The osbuild whose contract this is; consumers compare the number."""
MONITORS: Final = ("NullMonitor", "LogMonitor")


class TextSink:
    """Writes what happens as lines of text."""

    def emit(self, event: Event) -> None:
        """Write one event."""
        match event:
            case StageStarted():
                text = f"{event.pipeline}: {event.stage} ({event.index}/{event.total}) {event.stage_id}\n"
            case Output():
                text = event.text
            case StageFinished():
                outcome = "cached" if event.cached else f"{event.seconds:.2f} s" if event.success else "failed"
                text = f"{event.pipeline}: {event.stage}: {outcome}\n"
            case _:
                return
        sys.stdout.write(text)
        sys.stdout.flush()


def run() -> None:
    """Run the command and exit with its status."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        status = main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("\nAborted\n")
        status = ExitStatus.INTERRUPTED
    sys.exit(status)


def main(argv: Sequence[str]) -> int:
    """Run the command with these arguments; returns 0, 1 for a failure, 2 for a manifest or usage that is wrong."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except InvalidManifestError as error:
        if arguments.json:
            _write(error.to_osbuild())
        else:
            sys.stderr.write(f"{arguments.manifest} has errors:\n\n{error.detail}\n")
        return ExitStatus.USAGE
    except KilnError as error:
        if arguments.json:
            _write(result.failure(error))
        else:
            sys.stderr.write("\n".join(part for part in (f"error: {error}", error.detail, error.hint) if part) + "\n")
        return ExitStatus.USAGE if error.exit_status is ExitStatus.USAGE else ExitStatus.FAILED


def _run(arguments: argparse.Namespace) -> int:
    document = _read(arguments.manifest)
    libdir = arguments.libdir or default_libdir()
    if arguments.inspect:
        validate(document, Modules(libdir))
        plan = load(document)
        _check(arguments, plan)
        _write(describe(plan))
        return ExitStatus.OK
    quiet = arguments.json or arguments.quiet or arguments.monitor == "NullMonitor"
    sink: Sink = NullSink() if quiet else TextSink()
    with ObjectStore(arguments.store) as store:
        engine = Engine(store, libdir, _sources(sink), sink, stage_timeout_seconds=arguments.stage_timeout)
        plan = engine.load(document)
        _check(arguments, plan)
        built = engine.build(plan, arguments.export)
        for name, ref in built.objects.items():
            engine.export(ref, arguments.output_directory / name)
    if arguments.json:
        _write(result.success(built))
    elif not arguments.quiet:
        lines = "".join(f"  {pipeline.name + ':':<10}\t{pipeline.id}\n" for pipeline in plan.pipelines)
        sys.stdout.write(f"\nPipelines\n{lines}")
    return ExitStatus.OK


def _read(manifest: str) -> Any:
    try:
        data = sys.stdin.buffer.read() if manifest == "-" else Path(manifest).read_bytes()
    except OSError as error:
        raise KilnError(
            Domain.MANIFEST, "unreadable", f"cannot read the manifest: {error}", exit_status=ExitStatus.USAGE
        ) from error
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise refuse("", f"the manifest is not JSON: {error}") from None


def _check(arguments: argparse.Namespace, plan: Plan) -> None:
    """Refuse arguments that do not fit the plan. Raises KilnError."""
    for name in arguments.export:
        find_export(plan, name)
    names = [name for pipeline in plan.pipelines for name in (pipeline.name, *_stage_names(plan, pipeline.name))]
    for pattern in arguments.checkpoint:
        if not fnmatch.filter(names, pattern):
            raise KilnError(Domain.MANIFEST, "unknown-checkpoint", f"no pipeline and no stage matches `{pattern}`")
    if arguments.export and arguments.output_directory is None and not arguments.inspect:
        raise KilnError(Domain.ENGINE, "no-output-directory", "--export needs --output-directory")


def _stage_names(plan: Plan, pipeline: str) -> list[str]:
    found = plan.pipeline(pipeline)
    return [] if found is None else [name for stage in found.stages for name in (stage.id, stage.type)]


def _sources(sink: Sink) -> MirrorSources:
    def open_fetcher() -> Any:
        # 150 ms of imports; nothing is fetched when everything is in the store.
        from kiln.fetch.client import Fetcher  # noqa: PLC0415
        from kiln.fetch.mirrors import Mirrors  # noqa: PLC0415

        return Fetcher(Mirrors.of_this_machine({}), sink)

    return MirrorSources(open_fetcher)


def _write(document: object) -> None:
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kiln-osbuild", description="Build operating system artifacts")
    parser.add_argument("manifest", metavar="MANIFEST", help="a manifest in JSON, or - for standard input")
    parser.add_argument(
        "--store",
        "--cache",
        type=Path,
        default=Path(".osbuild"),
        metavar="DIR",
        help="where sources and trees are kept",
    )
    parser.add_argument("-l", "--libdir", type=Path, metavar="DIR", help="the programs of stages")
    parser.add_argument(
        "--checkpoint", action="append", default=[], metavar="PATTERN", help="accepted; every stage is kept anyway"
    )
    parser.add_argument("--export", action="append", default=[], metavar="NAME", help="build and export a pipeline")
    parser.add_argument("--output-directory", type=Path, metavar="DIR", help="where exports go")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--inspect", action="store_true", help="print the manifest with ids, and stop")
    parser.add_argument("--monitor", choices=MONITORS, help="how to tell what happens")
    parser.add_argument("--stage-timeout", type=float, metavar="SECONDS", help="wall time for each stage")
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--version", action="version", version=f"osbuild {VERSION}")
    return parser


if __name__ == "__main__":
    run()
