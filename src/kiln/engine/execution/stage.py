"""Running one stage: its tree, its build root, its inputs, its sandbox, and what becomes of the result."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kiln.engine.execution import buildroot, remoteloop, sandbox
from kiln.engine.execution.cancel import Cancel
from kiln.engine.execution.inputs import NATIVE_INPUTS, InputContext, map_input
from kiln.engine.execution.messages import ENDPOINT, Messages
from kiln.engine.execution.model import StageFailedError, StageRun
from kiln.engine.execution.observer import NullObserver, Observer
from kiln.engine.execution.output import StageOutput, missing_tool
from kiln.engine.execution.packets import PacketServer
from kiln.engine.execution.services import CallCancelledError, ServiceError
from kiln.engine.execution.shell import open_shell
from kiln.engine.execution.supervise import Ended, supervise
from kiln.engine.manifest.model import Pipeline, Stage
from kiln.engine.manifest.modules import Module, Modules
from kiln.engine.objects.model import ObjectRef
from kiln.engine.objects.store import ObjectStore
from kiln.engine.objects.working import WorkingTree
from kiln.errors import Domain, KilnError, disk_full
from kiln.events.model import Sink
from kiln.linux import mounts, process
from kiln.linux.sandbox import Mount

SCRATCH_SIZE: Final = "256m"
MAX_METADATA_BYTES: Final = 64 * 1024 * 1024
LITTLE_SPACE_BYTES: Final = 64 * 1024 * 1024
DISK_FULL_TEXT: Final = "No space left on device"


class CancelledError(Exception):
    """The build was ended from outside while this stage ran."""


@dataclass(slots=True)
class StageContext:
    """What all stages of a build share."""

    store: ObjectStore
    modules: Modules
    runtime: Path
    sink: Sink
    sizes: Mapping[str, int]
    timeout_seconds: float | None
    cancel: Cancel
    keep_failed: Path | None
    observer: Observer = field(default_factory=NullObserver)
    break_at: str | None = None
    skeletons: dict[str, buildroot.Skeleton] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class StageWork:
    """One stage and what it works with. *build* None is the host; *runner* None means that the engine prepares it."""

    pipeline: Pipeline
    stage: Stage
    module: Module
    key: str
    base: ObjectRef
    build: ObjectRef | None
    trees: Mapping[str, ObjectRef]
    runner: Path | None


def run_stage(work: StageWork, context: StageContext) -> tuple[ObjectRef, StageRun]:
    """Run a stage and store its result. To be called in a thread with a mount namespace of its own.

    Raises StageFailedError, CancelledError, KilnError.
    """
    working = context.store.begin(work.key, work.base)
    try:
        run = _run(work, context, working)
        stage = work.stage
        ref = context.store.commit(
            working,
            stage=stage.type,
            stage_id=stage.id,
            metadata=run.metadata,
            source_epoch=work.pipeline.source_epoch,
        )
    except StageFailedError:
        if context.keep_failed is not None:
            context.store.keep(working, context.keep_failed)
        raise
    except ServiceError as error:
        raise _service_failure(work, error) from error
    except CallCancelledError:
        raise CancelledError from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(context.store.root, Domain.ENGINE) from error
        raise
    finally:
        context.store.discard(working)
    return ref, run


def _run(work: StageWork, context: StageContext, working: WorkingTree) -> StageRun:
    stage, store = work.stage, context.store
    output = StageOutput(context.sink, stage.type, stage.id)
    with ExitStack() as held:
        place = store.directory("stage-")
        held.callback(place.rmdir)
        scratch = sandbox.Scratch(held.enter_context(mounts.tmpfs(place, size=SCRATCH_SIZE, devices=True)))
        root = _build_root(work, context, scratch, held)
        skeleton = _skeleton(work, context, root, scratch.root)
        scratch.make(skeleton)
        attached = _attach(work, context, working, scratch, held)
        epoch = work.pipeline.source_epoch
        scratch.write_arguments(
            sandbox.arguments(
                stage_id=stage.id,
                options=stage.options,
                inputs={name: reply for name, (_, reply) in attached.inputs.items()},
                devices=attached.devices,
                mounted=attached.mounted,
                source_epoch=epoch,
            ),
        )
        planned = sandbox.stage_sandbox(
            root=root,
            skeleton=skeleton,
            scratch=scratch,
            libdir=context.modules.libdir,
            runtime=context.runtime,
            tree=working.tree,
            var=working.var,
            program=work.module.path,
            inputs=[mount for mount, _ in attached.inputs.values()],
            runner=work.runner,
            extra_capabilities=work.module.capabilities,
            source_epoch=epoch,
        )
        command = [f"{sandbox.RUN}/bin/{stage.type}"]
        if work.runner is not None:
            command.insert(0, f"{sandbox.RUN}/runner/{work.runner.name}")
        messages = Messages(context.sink, stage.type)
        server = PacketServer()
        held.callback(server.close)
        server.listen(scratch.api, ENDPOINT, messages.handle)
        server.listen(scratch.api, remoteloop.ENDPOINT, remoteloop.RemoteLoops(held).handle)
        if context.break_at in ("*", stage.type, stage.id):
            open_shell(planned, f"{work.pipeline.name}: {stage.type}")
        ended = supervise(
            planned.argv(command, bwrap=process.find_program("bwrap")),
            environment=planned.environment,
            on_output=output.feed,
            server=server,
            timeout_seconds=context.timeout_seconds,
            cancel=context.cancel.fileno(),
        )
        output.finish()
        metadata = _metadata(scratch.root / "meta")
        run = StageRun(work.pipeline.name, stage.type, stage.id, ended.seconds, False, output.text, metadata)
        if ended.how != "exited" or ended.status != 0:
            # Inside the block: services that cannot release what a failed stage left must not hide its failure.
            raise _failure(work, context, run=run, ended=ended, output=output, exception=messages.exception)
    return run


@dataclass(frozen=True, slots=True)
class _Attached:
    inputs: Mapping[str, tuple[Mount, dict[str, Any]]]
    devices: Mapping[str, Any]
    mounted: Mapping[str, Any]


def _attach(
    work: StageWork, context: StageContext, working: WorkingTree, scratch: sandbox.Scratch, held: ExitStack
) -> _Attached:
    """Prepare the inputs, devices and mounts of a stage, in this order; *held* releases them in the reverse one."""
    stage = work.stage
    views = scratch.root / "views"
    views.mkdir()
    native = InputContext(context.store, work.trees, context.sizes, views, held)
    if not (stage.devices or stage.mounts or any(entry.type not in NATIVE_INPUTS for entry in stage.inputs)):
        return _Attached({entry.name: map_input(entry, native) for entry in stage.inputs}, {}, {})
    # Services are seldom needed, and their code takes a while to load.
    from kiln.engine.execution.attachments import Attachments  # noqa: PLC0415

    attachments = Attachments(
        context.store,
        context.modules,
        context.runtime,
        context.sink,
        context.cancel.fileno(),
        work.trees,
        tree=working.tree,
        dev=scratch.dev,
        mounts=scratch.mounts,
        held=held,
    )
    inputs = {
        entry.name: map_input(entry, native) if entry.type in NATIVE_INPUTS else attachments.map_input(entry)
        for entry in stage.inputs
    }
    attachments.open_devices(stage)
    attachments.mount_all(stage)
    return _Attached(inputs, attachments.devices, attachments.mounted)


def _build_root(work: StageWork, context: StageContext, scratch: sandbox.Scratch, held: ExitStack) -> Path:
    if work.build is None:
        return buildroot.HOST
    target = scratch.root / "root"
    target.mkdir()
    return held.enter_context(context.store.view(work.build, target))


def _skeleton(work: StageWork, context: StageContext, root: Path, scratch: Path) -> buildroot.Skeleton:
    """Return what the build root offers; examined once, whichever stage comes first."""
    key = "" if work.build is None else work.build.key
    with context.guard:
        known = context.skeletons.get(key)
        if known is None:
            known = buildroot.examine(root, host=work.build is None)
            if known.needs_ldconfig:
                known = buildroot.with_library_cache(root, known, scratch, context.cancel.fileno())
            context.skeletons[key] = known
    return known


def _metadata(path: Path) -> Mapping[str, Any] | None:
    with path.open("rb") as file:
        data = file.read(MAX_METADATA_BYTES + 1)
    if not data or len(data) > MAX_METADATA_BYTES:
        return None
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _interpreter(program: Path) -> str:
    """Return what a stage's program is started with: the kernel's "no such file" means this, not the program."""
    with program.open("rb") as file:
        line = file.readline(256)
    return line[2:].decode("utf-8", "replace").strip() if line.startswith(b"#!") else program.name


def _service_failure(work: StageWork, error: ServiceError) -> StageFailedError:
    """Return a service's refusal as the failure of the stage that it worked for."""
    run = StageRun(work.pipeline.name, work.stage.type, work.stage.id, 0.0, False, error.detail)
    name = f"stage {work.stage.type} of the pipeline `{work.pipeline.name}`"
    return StageFailedError(
        "service-failed",
        f"the {name} cannot have its {error.message}",
        run=run,
        error=error.exception,
        detail=error.detail,
        hint="the stages before it are kept; the next run goes on from there",
    )


def _failure(
    work: StageWork,
    context: StageContext,
    *,
    run: StageRun,
    ended: Ended,
    output: StageOutput,
    exception: Mapping[str, Any] | None,
) -> Exception:
    name = f"stage {work.stage.type} of the pipeline `{work.pipeline.name}`"
    if ended.how == "cancelled":
        return CancelledError()
    if ended.how == "timeout":
        return StageFailedError(
            "stage-timeout",
            f"the {name} did not end within {context.timeout_seconds:g} s",
            run=run,
            error=exception,
            detail=output.tail,
            hint="give it more time with --stage-timeout; the stages before it are kept",
        )
    if DISK_FULL_TEXT in output.text and context.store.free_bytes() < LITTLE_SPACE_BYTES:
        return disk_full(context.store.root, Domain.ENGINE)
    last = output.tail.rpartition("\n")[2]
    tool = missing_tool(output.text)
    if last.startswith("bwrap: execvp"):
        tool = _interpreter(work.module.path)
    elif last.startswith("bwrap: "):
        return KilnError(
            Domain.HOST,
            "sandbox-failed",
            f"the sandbox for the {name} could not be made: {last.removeprefix('bwrap: ')}",
            detail=output.tail,
            hint="`kiln doctor` checks what sandboxes need",
        )
    hint = "the stages before it are kept; the next run goes on from there"
    if tool is not None:
        where = "the host" if work.pipeline.build is None else f"the tree of the pipeline `{work.pipeline.build}`"
        hint = f"`{tool}` is missing in its build root, {where}; {hint}"
    status = f"status {ended.status}" if 0 <= ended.status <= 128 else f"signal {abs(ended.status) % 128}"
    return StageFailedError(
        "stage-failed", f"the {name} failed with {status}", run=run, error=exception, detail=output.tail, hint=hint
    )
