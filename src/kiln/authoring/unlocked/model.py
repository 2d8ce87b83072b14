"""An unlocked manifest, what is wrong with it, and what would put it right."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kiln.authoring.recipe.nodes import Node
from kiln.errors import Domain, ExitStatus, KilnError, Place

BASE_STAGES: Final = ("org.osbuild.debian.debootstrap", "org.kiln.debian.debootstrap")
APT_STAGES: Final = ("org.osbuild.apt", "org.kiln.apt")
OSTREE_STAGE: Final = "org.osbuild.ostree"
GRUB_STAGE: Final = "org.osbuild.grub2"
USERS_STAGE: Final = "org.osbuild.users"
DISK_ASSEMBLER: Final = "org.osbuild.qemu"

Path = tuple[str | int, ...]
Json = dict[str, Any]


def path_text(path: Path) -> str:
    """Return a path as it is written in messages: `.pipelines[0].stages[1]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path) or "."


@dataclass(frozen=True, slots=True)
class Change:
    """What to write where: *value* at *path*; one past the end of a list appends."""

    path: Path
    value: Any


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake: where, what should be there, what is. *change* puts it right; None where only a person can."""

    reason: str
    path: Path
    expected: str
    got: str
    change: Change | None = None
    advice: str = ""

    @property
    def where(self) -> str:
        """The place inside the document: `.pipelines[0].stages[1]`."""
        return path_text(self.path)

    def to_document(self) -> dict[str, object]:
        """Return the finding as JSON."""
        return {
            "reason": self.reason,
            "path": list(self.path),
            "expected": self.expected,
            "got": self.got,
            "change": None if self.change is None else {"path": list(self.change.path), "value": self.change.value},
            "advice": self.advice,
        }


@dataclass(frozen=True, slots=True)
class Unlocked:
    """A manifest with `type` in every stage, and the text that it was read from."""

    document: Json
    node: Node
    file: str

    def place(self, path: Path) -> Place:
        """Return where *path* was written, or the nearest thing around it that was."""
        node = self.node
        for part in path:
            found = _child(node, part)
            if found is None:
                break
            node = found
        return Place(self.file, node.line, node.column, path_text(path))

    def with_changes(self, changes: Iterable[Change]) -> Unlocked:
        """Return the manifest with *changes* made; places stay those of the text."""
        document = copy.deepcopy(self.document)
        for change in changes:
            _set(document, change.path, change.value)
        return Unlocked(document, self.node, self.file)


def refuse(unlocked: Unlocked, findings: Sequence[Finding], *, fixing: bool) -> KilnError:
    """Return the error for *findings*: the first in the message, all of them in the detail."""
    ordered = sorted(findings, key=lambda finding: _position(unlocked.place(finding.path)))
    first = next((item for item in ordered if item.change is None), ordered[0]) if fixing else ordered[0]
    more = f" (and {len(ordered) - 1} more)" if len(ordered) > 1 else ""
    if fixing:
        hint = "this is for a person to decide: correct the manifest"
    elif all(finding.change is not None for finding in ordered):
        hint = "correct the manifest, or run the command again with --fix to make the proposed changes"
    else:
        hint = "correct the manifest"
    return KilnError(
        Domain.MANIFEST,
        first.reason,
        f"expected {first.expected}; got {first.got}{more}",
        place=unlocked.place(first.path),
        detail="\n".join(line for finding in ordered for line in lines(unlocked, finding)),
        hint=hint,
        exit_status=ExitStatus.USAGE,
    )


def lines(unlocked: Unlocked, finding: Finding) -> list[str]:
    """Return a finding as text: place, expected, got, proposed change."""
    text = [
        f"{unlocked.place(finding.path)}: {finding.reason}",
        f"    expected: {finding.expected}",
        f"    got:      {finding.got}",
    ]
    if finding.change is not None:
        text.append(f"    change:   {path_text(finding.change.path)} = {finding.change.value!r}")
    if finding.advice:
        text.append(f"    note:     {finding.advice}")
    return text


def stages(document: Mapping[str, Any], types: Iterable[str]) -> Iterator[tuple[Path, Json]]:
    """Yield the stages of some types with their paths."""
    wanted = frozenset(types)
    for number, pipeline in enumerate(document["pipelines"]):
        for index, stage in enumerate(pipeline.get("stages", [])):
            if stage.get("type") in wanted:
                yield ("pipelines", number, "stages", index), stage


def _position(place: Place) -> tuple[int, int]:
    return place.line or 0, place.column or 0


def _child(node: Node, part: str | int) -> Node | None:
    if isinstance(part, int):
        return node.items[part] if node.kind == "array" and part < len(node.items) else None
    names = (part, "name") if part == "type" else (part,)
    return next((value for key, value in node.entries if key.scalar in names), None)


def _set(document: Any, path: Path, value: Any) -> None:
    for part in path[:-1]:
        document = document[part]
    last = path[-1]
    if isinstance(last, int) and last == len(document):
        document.append(value)
    else:
        document[last] = value
