"""What the command line says about other hosts: which ones to use, and being one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kiln.engine.manifest.model import Plan
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.linux.cgroups import Limits

if TYPE_CHECKING:
    from kiln.engine.arguments import CacheSize
    from kiln.engine.execution.remote.address import Remote


def serve(store: Path | None, *, limits: Limits, maximum: CacheSize | None) -> int:
    """Be a worker on standard input and output until they are closed; returns the exit status."""
    from kiln.engine.execution.remote import worker  # noqa: PLC0415 - nobody else's

    with worker.standard_streams() as (reading, writing):
        return worker.serve(store or worker.DEFAULT_STORE, reading, writing, limits=limits, maximum=maximum)


def remotes(texts: Sequence[str]) -> Sequence[Remote]:
    """Read the values of `--remote`. Raises KilnError "bad-remote"."""
    if not texts:
        return ()
    from kiln.engine.execution.remote.address import parse_remote  # noqa: PLC0415 - seldom needed

    return [parse_remote(text) for text in texts]


def check_patterns(found: Sequence[Remote], plan: Plan) -> None:
    """Refuse a host that nothing of the plan would run on. Raises KilnError(MANIFEST, "unknown-remote-pattern")."""
    if not found:
        return
    from kiln.engine.execution.remote.address import without_use  # noqa: PLC0415 - seldom needed

    for remote in without_use(found, plan):
        raise KilnError(
            Domain.MANIFEST,
            "unknown-remote-pattern",
            f"no pipeline and no stage matches `{remote.pattern}`, which is to run on {remote.host.name}",
            hint=f"the plan has the pipelines {', '.join(pipeline.name for pipeline in plan.pipelines) or 'none'}",
            exit_status=ExitStatus.USAGE,
        )
