"""Assertions about the image as a file, and about what it is made of; seen from the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kiln.trial.assertions.content import PackageParams, has_version
from kiln.trial.assertions.kind import AssertionType, Outcome, not_seen, verdict
from kiln.trial.observe import Need, Seen

MIB: Final = 1024 * 1024
SIZE: Final = Need("image-size")
COMPONENTS: Final = Need("components")


@dataclass(frozen=True, slots=True)
class SizeParams:
    """*mib*: an upper limit."""

    mib: int

    def __post_init__(self) -> None:
        if self.mib <= 0:
            raise ValueError(f"{self.mib} is not a size in MiB")


def _size_under(params: SizeParams, seen: Seen) -> Outcome:
    expected = f"the disk image has less than {params.mib} MiB"
    answer = seen[SIZE]
    if answer.status != 0 or not answer.text.isdecimal():
        return not_seen(expected, answer)
    size_bytes = int(answer.text)
    return verdict(size_bytes < params.mib * MIB, expected, f"{size_bytes / MIB:.1f} MiB")


def _sbom_has(params: PackageParams, seen: Seen) -> Outcome:
    expected = f"{params.name} {params.version or ''}".strip() + " is among the components"
    answer = seen[COMPONENTS]
    if answer.status != 0:
        return not_seen(expected, answer)
    versions = [
        version for name, _, version in (line.partition("\t") for line in answer.text.splitlines())
        if name.partition(":")[0] == params.name
    ]  # fmt: skip
    good = any(has_version(version, params.version or "") for version in versions)
    return verdict(good, expected, f"version {', '.join(versions)}" if versions else "no such component")


TYPES: Final = (
    AssertionType("image_size_under", SizeParams, lambda _: (SIZE,), _size_under),
    AssertionType("sbom_has", PackageParams, lambda _: (COMPONENTS,), _sbom_has),
)
