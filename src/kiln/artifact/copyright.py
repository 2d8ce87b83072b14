"""A package's `copyright` file: the machine-readable form (DEP-5, copyright-format 1.0), or free text. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

_FIELD: Final = re.compile(r"([A-Za-z][A-Za-z0-9-]*):[ \t]*(.*)")
_FORMAT: Final = re.compile(r"copyright-format/1\.0|dep.?5|dep\.debian\.net", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CopyrightFile:
    """What a copyright file states. *synopses*: the short licence of each paragraph about files, in order, once."""

    form: Literal["dep5", "text"]
    synopses: tuple[str, ...]
    texts: tuple[tuple[str, str], ...]
    """Short name -> the licence's text where the file has it."""
    body: str
    """All of it."""


def read_copyright(data: bytes) -> CopyrightFile:
    """Read a copyright file; what is not machine-readable, or wrongly so, is free text."""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    paragraphs = _paragraphs(text)
    if not paragraphs or not _FORMAT.search(
        paragraphs[0].get("format", "") + paragraphs[0].get("format-specification", "")
    ):
        return CopyrightFile("text", (), (), text)
    synopses: list[str] = []
    texts: dict[str, str] = {}
    # The header's licence is that of the whole where no paragraph about files says more.
    for number, paragraph in enumerate(paragraphs):
        synopsis, _, body = paragraph.get("license", "").partition("\n")
        synopsis = " ".join(synopsis.split())
        if body.strip():
            texts.setdefault(synopsis, "\n".join(line.strip() for line in body.strip().splitlines()))
        if synopsis and ("files" in paragraph or number == 0) and synopsis not in synopses:
            synopses.append(synopsis)
    if not synopses:
        return CopyrightFile("text", (), (), text)
    return CopyrightFile("dep5", tuple(synopses), tuple(sorted(texts.items())), text)


def _paragraphs(text: str) -> list[dict[str, str]]:
    """Return paragraphs as lower-case field -> value. Tolerant: a wrong line is left out, as readers of dpkg do."""
    result: list[dict[str, str]] = []
    current: dict[str, str] = {}
    field = ""
    for line in [*text.splitlines(), ""]:
        if not line.strip():
            if current:
                result.append(current)
            current, field = {}, ""
        elif line[0] in " \t":
            if field:
                piece = line.strip()
                current[field] += "\n" + ("" if piece == "." else piece)
        elif (match := _FIELD.fullmatch(line)) and match[1].lower() not in current:
            field = match[1].lower()
            current[field] = match[2].strip()
        else:
            field = ""
    return result
