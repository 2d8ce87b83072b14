"""What a verification relies on: keys, the roles that a trust root gives them, and what the time is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from kiln_wire.dsse import Bundle
from kiln_wire.spki import VerifyingKey
from kiln_wire.statement import (
    APPROVAL_TYPE,
    BUILD_LOG_TYPE,
    CYCLONEDX_TYPE,
    LICENCES_TYPE,
    PROVENANCE_TYPE,
    RECORD_TYPE,
    SPDX_TYPE,
    TEST_RESULT_TYPE,
    VERIFICATION_TYPE,
)
from kiln_wire.trust_root import RoleKey, TrustRoot

StampTime = Callable[[Bundle, tuple[str, ...]], int | None]
"""(bundle, certificates of trusted authorities in PEM) -> the time in a good time stamp, in seconds since 1970."""

IMAGE_ROLE: Final = "image-vault"
APPROVER_ROLE: Final = "approver"
_OF_A_BUILD: Final = (
    *(PROVENANCE_TYPE, CYCLONEDX_TYPE, SPDX_TYPE, TEST_RESULT_TYPE, VERIFICATION_TYPE, RECORD_TYPE),
    *(BUILD_LOG_TYPE, LICENCES_TYPE),
)
_ROLE_OF_STATEMENT: Final[Mapping[str, str]] = {
    APPROVAL_TYPE: APPROVER_ROLE,
    **dict.fromkeys(_OF_A_BUILD, IMAGE_ROLE),
}


def no_stamp_time(_bundle: Bundle, _authorities: tuple[str, ...]) -> int | None:
    """Read no time stamps: that takes X.509 and CMS, which the standard library does not have."""
    return None


@dataclass(frozen=True, slots=True)
class Trust:
    """*keys* may sign anything at any time; a key of *root* has one role, and a time in which it is good."""

    keys: tuple[VerifyingKey, ...] = ()
    root: TrustRoot | None = None
    root_problem: tuple[str, str] | None = None
    """Reason and text, if a root was given that can't be relied on."""
    now: int = 0
    """Seconds since 1970; only a root needs it."""
    stamp_time: StampTime = no_stamp_time

    @property
    def by_hint(self) -> dict[str, VerifyingKey]:
        """All keys by their hints."""
        roles = {} if self.root is None else {hint: item.key for hint, item in self.root.keys.items()}
        return {**{key.hint: key for key in self.keys}, **roles}

    def role_key(self, hint: str) -> RoleKey | None:
        """Return the key's role; None for one that was given by itself."""
        return None if self.root is None else self.root.keys.get(hint)


def allows(role: str, predicate_type: str) -> bool:
    """Whether a key of *role* may sign a statement of this type about an image."""
    wanted = _ROLE_OF_STATEMENT.get(predicate_type)
    return role == wanted if wanted is not None else role != APPROVER_ROLE
