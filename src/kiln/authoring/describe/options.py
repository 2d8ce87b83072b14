"""Which feature a value of the request belongs to: `SSH on port 2222`, `a kiosk that shows https://...`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kiln.authoring.catalog.entries import Catalog
from kiln.authoring.catalog.settle import fault
from kiln.authoring.describe.mentions import Mention
from kiln.authoring.describe.model import Note
from kiln.authoring.describe.slots import Found
from kiln.authoring.describe.words import cut

_SENTENCE_ENDS: Final = frozenset(".;!?\n")
_OPTIONS: Final = {"port": "port", "url": "url"}
"""Kind of value -> name of the option that it can set."""


def assign_options(
    text: str, found: Sequence[Found], mentions: Sequence[Mention], catalog: Catalog
) -> tuple[dict[str, dict[str, object]], list[Note]]:
    """Return feature -> option -> value, and a note for each value that belongs to nothing.

    A value belongs to the feature named last before it in its sentence, else to the next one behind it.
    """
    result: dict[str, dict[str, object]] = {}
    notes: list[Note] = []
    for item in found:
        option_name = _OPTIONS.get(item.kind)
        if option_name is None:
            continue
        words = cut(text, item.start, item.end)
        owner = _owner(text, item, mentions, catalog, option_name)
        if owner is None:
            notes.append(Note("belongs to no feature of the request", words))
            continue
        feature = catalog.feature(owner)
        option = dict(feature.options)[option_name] if feature is not None else None
        value: object = int(item.value.partition("/")[0]) if item.kind == "port" else item.value
        problem = fault(option, value) if option is not None else "no such option"
        if problem:
            notes.append(Note(f"not usable for `{owner}`: {problem}", words))
        else:
            result.setdefault(owner, {})[option_name] = value
    return result, notes


def _owner(text: str, item: Found, mentions: Sequence[Mention], catalog: Catalog, option: str) -> str | None:
    able = [mention for mention in mentions if _has(catalog, mention.meaning.id, option)]
    before = [m for m in able if m.end <= item.start and not set(text[m.end : item.start]) & _SENTENCE_ENDS]
    behind = [m for m in able if m.start >= item.end and not set(text[item.end : m.start]) & _SENTENCE_ENDS]
    # "port 2222 for SSH": what is said to be for something belongs to that.
    if behind and text[item.end : behind[0].start].strip().lower() in ("for", "for the", "to", "is for"):
        return behind[0].meaning.id
    if before:
        return before[-1].meaning.id
    return behind[0].meaning.id if behind else None


def _has(catalog: Catalog, feature_id: str, option: str) -> bool:
    feature = catalog.feature(feature_id)
    return feature is not None and option in dict(feature.options)
