"""Everything that a stage gets before it runs: its build root, its inputs, devices and mounts, its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kiln.engine.execution import buildroot
from kiln.engine.execution.inputs import NATIVE_INPUTS, InputContext, map_input
from kiln.engine.execution.sandbox import RUN, Scratch, arguments, library, stage_sandbox
from kiln.engine.execution.work import StageContext, StageWork
from kiln.engine.objects.working import WorkingTree
from kiln.linux import mounts
from kiln.linux.sandbox import Mount, Sandbox

SCRATCH_SIZE: Final = "256m"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A sandbox that only waits for its *command*.

    *program* is where this machine has what *command* starts first, *scratch* what the stage writes beside its tree.
    *root* shows the build root to this thread, *root_key* says which one it is; *library* mounts the libdir in it.
    """

    sandbox: Sandbox
    command: tuple[str, ...]
    program: Path
    scratch: Scratch
    root: Path
    root_key: str
    library: tuple[Mount, ...]


def prepare(work: StageWork, context: StageContext, working: WorkingTree, held: ExitStack) -> Prepared:
    """Prepare a stage; *held* takes everything back. Raises KilnError, ServiceError, OSError."""
    stage = work.stage
    place = context.store.directory("stage-")
    held.callback(place.rmdir)
    scratch = Scratch(held.enter_context(mounts.tmpfs(place, size=SCRATCH_SIZE, devices=True)))
    root = _build_root(work, context, scratch, held)
    skeleton = _skeleton(work, context, root, scratch.root)
    scratch.make(skeleton)
    attached = _attach(work, context, working, scratch, held)
    epoch = work.pipeline.source_epoch
    scratch.write_arguments(
        arguments(
            stage_id=stage.id,
            options=stage.options,
            inputs={name: reply for name, (_, reply) in attached.inputs.items()},
            devices=attached.devices,
            mounted=attached.mounted,
            source_epoch=epoch,
        ),
    )
    planned = stage_sandbox(
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
    command = [f"{RUN}/bin/{stage.type}"]
    if work.runner is not None:
        command.insert(0, f"{RUN}/runner/{work.runner.name}")
    return Prepared(
        planned,
        tuple(command),
        work.runner or work.module.path,
        scratch,
        root,
        "" if work.build is None else work.build.key,
        tuple(library(context.modules.libdir, context.runtime)),
    )


@dataclass(frozen=True, slots=True)
class _Attached:
    inputs: Mapping[str, tuple[Mount, dict[str, Any]]]
    devices: Mapping[str, Any]
    mounted: Mapping[str, Any]


def _attach(
    work: StageWork, context: StageContext, working: WorkingTree, scratch: Scratch, held: ExitStack
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


def _build_root(work: StageWork, context: StageContext, scratch: Scratch, held: ExitStack) -> Path:
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
