"""What can go wrong between two hosts."""

from __future__ import annotations

from kiln.errors import Domain, ExitStatus, KilnError


class ConnectionLostError(Exception):
    """The other side has gone, or is silent."""


def protocol_error(problem: str) -> KilnError:
    """Return the refusal of what is not the protocol."""
    return KilnError(
        Domain.ENGINE,
        "remote-protocol",
        f"the other side does not keep to the protocol: {problem}",
        hint="are both sides Kiln, and does the remote command print nothing of its own?",
        exit_status=ExitStatus.INFRASTRUCTURE,
    )
