"""Building as a user that is not root: what changes, and what cannot be had."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kiln.engine.manifest.model import Stage
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.linux import userns

OWNER_TEXT: Final = "Invalid argument"
"""What chown(2) says of a number that is not mapped."""
OWNER_HINT: Final = (
    "this build has one user number, so that files cannot belong to others: install `uidmap` and give the user ranges "
    "in /etc/subuid and /etc/subgid, or build as root"
)


def become_root() -> None:
    """Go on as root of a user namespace. Raises KilnError(HOST, "not-root") where that is not allowed."""
    try:
        userns.enter()
    except OSError as error:
        raise KilnError(
            Domain.HOST,
            "not-root",
            "building needs root, or a user namespace, which this host does not allow",
            detail=str(error),
            hint="run it with sudo, or have user namespaces allowed (user.max_user_namespaces, AppArmor)",
            exit_status=ExitStatus.INFRASTRUCTURE,
        ) from error


def refuse_devices(stages: Iterable[Stage]) -> None:
    """Refuse stages that need what only the host's root has. Raises KilnError(HOST, "needs-root")."""
    if not userns.is_inside():
        return
    for stage in stages:
        if stage.devices or stage.mounts:
            raise KilnError(
                Domain.HOST,
                "needs-root",
                f"the stage {stage.type} needs devices or mounts of the host, which a user namespace cannot have",
                hint="run it with sudo; stages without `devices` and `mounts` can be built by any user",
                exit_status=ExitStatus.INFRASTRUCTURE,
            )


def owner_hint(output: str) -> str:
    """Return what may be the matter with a stage that failed with this output, or nothing."""
    return OWNER_HINT if OWNER_TEXT in output and userns.is_inside() and userns.mapped_count() == 1 else ""
