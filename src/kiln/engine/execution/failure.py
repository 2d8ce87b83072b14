"""Why a stage failed, in the words of whoever has to repair it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from kiln.engine.execution.model import StageFailedError, StageRun
from kiln.engine.execution.output import StageOutput, missing_tool
from kiln.engine.execution.rootless import owner_hint
from kiln.engine.execution.services import ServiceError
from kiln.engine.execution.supervise import Ended
from kiln.engine.execution.work import CancelledError, StageContext, StageWork
from kiln.errors import Domain, KilnError, disk_full
from kiln.linux.cgroups import Exceeded
from kiln.linux.confinement import REFUSED

LITTLE_SPACE_BYTES: Final = 64 * 1024 * 1024
DISK_FULL_TEXT: Final = "No space left on device"
KEPT_HINT: Final = "the stages before it are kept; the next run goes on from there"


def service_failure(work: StageWork, error: ServiceError) -> StageFailedError:
    """Return a service's refusal as the failure of the stage that it worked for."""
    run = StageRun(work.pipeline.name, work.stage.type, work.stage.id, 0.0, False, error.detail)
    return StageFailedError(
        "service-failed",
        f"the {work.name} cannot have its {error.message}",
        run=run,
        error=error.exception,
        detail=error.detail,
        hint=KEPT_HINT,
    )


def stage_failure(
    work: StageWork,
    context: StageContext,
    *,
    run: StageRun,
    ended: Ended,
    output: StageOutput,
    exception: Mapping[str, Any] | None,
    exceeded: Exceeded | None = None,
) -> Exception:
    """Return the error for a program that did not end with success. *exception* is what it sent, if anything.

    *exceeded* is the limit that it ran into.
    """
    if ended.how == "cancelled":
        return CancelledError()
    if ended.how == "timeout":
        return StageFailedError(
            "stage-timeout",
            f"the {work.name} did not end within {context.timeout_seconds:g} s",
            run=run,
            error=exception,
            detail=output.tail,
            hint="give it more time with --stage-timeout; the stages before it are kept",
        )
    if exceeded == "memory":
        return StageFailedError(
            "memory-limit",
            f"the {work.name} needed more memory than it may have",
            run=run,
            error=exception,
            detail=output.tail,
            hint=f"give it more with --memory-max, or `limits.memory` in kiln.toml; {KEPT_HINT}",
        )
    if exceeded == "pids":
        return StageFailedError(
            "pids-limit",
            f"the {work.name} started more processes than it may have",
            run=run,
            error=exception,
            detail=output.tail,
            hint=f"give it more with --pids-max, or `limits.pids` in kiln.toml; {KEPT_HINT}",
        )
    if DISK_FULL_TEXT in output.text and context.store.free_bytes() < LITTLE_SPACE_BYTES:
        return disk_full(context.store.root, Domain.ENGINE)
    last = output.tail.rpartition("\n")[2]
    tool = missing_tool(output.text)
    if last.startswith(("bwrap: execvp", "sandbox: execvp")):
        tool = _interpreter(work.module.path)
    elif last.startswith(("bwrap: ", REFUSED)):
        return KilnError(
            Domain.HOST,
            "sandbox-failed",
            f"the sandbox for the {work.name} could not be made: {last.removeprefix('bwrap: ')}",
            detail=output.tail,
            hint="`kiln doctor` checks what sandboxes need",
        )
    hint = KEPT_HINT
    if tool is not None:
        where = "the host" if work.pipeline.build is None else f"the tree of the pipeline `{work.pipeline.build}`"
        hint = f"`{tool}` is missing in its build root, {where}; {hint}"
    owners = owner_hint(output.text)
    if owners:
        hint = f"{owners}; {KEPT_HINT}"
    status = f"status {ended.status}" if 0 <= ended.status <= 128 else f"signal {abs(ended.status) % 128}"
    return StageFailedError(
        "stage-failed", f"the {work.name} failed with {status}", run=run, error=exception, detail=output.tail, hint=hint
    )


def _interpreter(program: Path) -> str:
    """Return what a stage's program is started with: the kernel's "no such file" means this, not the program."""
    with program.open("rb") as file:
        line = file.readline(256)
    return line[2:].decode("utf-8", "replace").strip() if line.startswith(b"#!") else program.name
