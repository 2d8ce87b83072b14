"""From a package's copyright file to an SPDX licence expression. Pure.

The expression of a package is the conjunction of the licences of all its files, as the copyright file lists them. A
short name that the SPDX licence list does not have becomes a `LicenseRef-`, with the first eight digits of the
SHA-256 of its text where the file has one, so that one reference means one text everywhere.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from kiln.artifact.copyright import CopyrightFile
from kiln.artifact.licence_names import spdx_exception, spdx_name

PUBLIC_DOMAIN: Final = "LicenseRef-public-domain"
MAX_TEXT_CHARACTERS: Final = 64 * 1024
_COMMA: Final = re.compile(r"\s*,\s*(?:(and|or)\s+)?", re.IGNORECASE)
_TOKENS: Final = re.compile(r"\s+(and/or|and|or)\s+|\s+(with)\s+|([()])", re.IGNORECASE)
_NOT_IN_REF: Final = re.compile(r"[^A-Za-z0-9.-]+")
_COMMON: Final = re.compile(
    r"/usr/share/common-licenses/(A?L?GPL|GFDL|Apache|Artistic|BSD|MPL|CC0)(?:-([0-9.]*[0-9]))?"
)
_LATER: Final = re.compile(r"(?:or|and)\s+(?:\(?\s*at\s+your\s+option\s*\)?,?\s+)?any\s+later\s+version", re.IGNORECASE)
_PHRASES: Final = (
    ("MIT", "permission is hereby granted, free of charge, to any person obtaining"),
    ("ISC", "permission to use, copy, modify, and/or distribute this software for any purpose with or without fee"),
    ("BSD-3-Clause", "neither the name of"),
    ("Zlib", "this software is provided 'as-is', without any express or implied"),
)

Source = Literal["dep5", "text", "none"]


@dataclass(frozen=True, slots=True)
class Licence:
    """A package's licence. *source*: stated in a machine-readable file, concluded from free text, or unknown."""

    expression: str
    source: Source
    references: tuple[tuple[str, str], ...] = ()
    """`LicenseRef-` -> text, for those in the expression."""


UNKNOWN: Final = Licence("", "none")


def licence_of(file: CopyrightFile) -> Licence:
    """Return the licence that a copyright file states or lets conclude."""
    if file.form == "text":
        return _from_text(file.body)
    texts = dict(file.texts)
    references: dict[str, str] = {}
    parts = [_expression(synopsis, texts, references) for synopsis in file.synopses]
    return Licence(_conjunction(parts), "dep5", tuple(sorted(references.items())))


@functools.cache
def spdx_licensing() -> Any:
    """Return the parser of SPDX licence expressions; making one takes a while."""
    from license_expression import get_spdx_licensing  # noqa: PLC0415 - only images being built need it

    return get_spdx_licensing()


@functools.lru_cache(maxsize=4096)
def _conjunction_of(parts: tuple[str, ...]) -> str:
    text = " AND ".join(f"({part})" for part in parts)
    return str(spdx_licensing().parse(text).simplify())


def _conjunction(parts: list[str]) -> str:
    return _conjunction_of(tuple(sorted(set(parts))))


def _expression(synopsis: str, texts: dict[str, str], references: dict[str, str]) -> str:
    """Return one synopsis as an expression; what has another grammar becomes a reference as a whole.

    A comma binds less than `and` and `or` (copyright-format 1.0, "License specification").
    """
    pieces = _COMMA.split(synopsis.replace("|", " or "))
    text = _words(pieces[0], synopsis, texts, references)
    for operator, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        joined = "OR" if (operator or "and").lower() == "or" else "AND"
        text = f"({text}) {joined} ({_words(piece, synopsis, texts, references)})"
    return _parsed(text) or _reference(synopsis, texts, references)


def _parsed(text: str) -> str:
    """Return an expression in the library's spelling; empty if it is none."""
    from boolean import ParseError  # noqa: PLC0415 - license-expression is built on it
    from license_expression import ExpressionError  # noqa: PLC0415 - only images being built need it

    if not _balanced(text):
        return ""  # the library takes an open parenthesis for an operand, and only an assertion stops it
    try:
        found = spdx_licensing().parse(text)
    except (ExpressionError, ParseError, AssertionError, IndexError, TypeError, AttributeError):
        return ""  # the library's own errors, and those that it lets through where operators stand alone
    return "" if found is None else str(found)


def _balanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0


def _words(piece: str, synopsis: str, texts: dict[str, str], references: dict[str, str]) -> str:
    """Return a part without commas, in SPDX's words."""
    converted: list[str] = []
    position = 0
    for match in [*_TOKENS.finditer(piece), None]:
        words = piece[position : match.start() if match else None].strip()
        if words:
            converted.append(_name(words, texts, references) if converted[-1:] != ["WITH"] else words)
        if match is None:
            break
        position = match.end()
        operator = (match[1] or match[2] or match[3]).upper()
        converted.append({"AND/OR": "OR"}.get(operator, operator))
    return " ".join(_with_exceptions(converted, synopsis, texts, references))


def _with_exceptions(pieces: list[str], synopsis: str, texts: dict[str, str], references: dict[str, str]) -> list[str]:
    result: list[str] = []
    for piece in pieces:
        if result[-1:] == ["WITH"]:
            exception = spdx_exception(piece)
            if exception is None:
                # An exception without a name in the list: licence and exception together are one reference.
                result.pop()
                result.append(_reference(f"{result.pop()} with {piece}", texts, references, text_of=synopsis))
            else:
                result.append(exception)
        else:
            result.append(piece)
    return result


def _name(short: str, texts: dict[str, str], references: dict[str, str]) -> str:
    known = spdx_name(short)
    if known is not None:
        return f"({known})" if " " in known else known
    if short.lower().replace(" ", "-") in ("public-domain", "pd", "publicdomain"):
        references[PUBLIC_DOMAIN] = "The holders of the rights have placed the work in the public domain."
        return PUBLIC_DOMAIN
    listed = spdx_licensing().known_symbols.get(short) or _by_lower_case().get(short.lower())
    return str(listed) if listed is not None else _reference(short, texts, references)


@functools.cache
def _by_lower_case() -> dict[str, str]:
    return {key.lower(): key for key in spdx_licensing().known_symbols}


def _reference(short: str, texts: dict[str, str], references: dict[str, str], *, text_of: str = "") -> str:
    text = texts.get(short) or texts.get(text_of) or ""
    name = "LicenseRef-" + (
        _NOT_IN_REF.sub("-", short.removeprefix("LicenseRef-").replace("+", "-or-later")).strip("-.") or "unnamed"
    )
    if text:
        name += "-" + hashlib.sha256(" ".join(text.split()).encode("utf-8")).hexdigest()[:8]
    references[name] = text[:MAX_TEXT_CHARACTERS] or f"The licence that Debian's copyright file calls {short!r}."
    return name


def _from_text(body: str) -> Licence:
    """Conclude from the files of common licences that a free text points to, or from well-known phrases."""
    found: set[str] = set()
    flat = " ".join(body.split())
    later = bool(_LATER.search(flat))
    for match in _COMMON.finditer(flat):
        family, version = match[1], match[2]
        name = {"BSD": "BSD-3-clause", "MPL": f"MPL-{version}"}.get(family) or (
            f"{family}-{version}" if version else family
        )
        gnu = "GPL" in family or family == "GFDL"
        known = spdx_name(name + "+" if gnu and later and version else name)
        if known is not None:
            found.add(known)
    if not found:
        lower = flat.lower()
        found = {name for name, phrase in _PHRASES if phrase in lower}
    if not found:
        return UNKNOWN
    return Licence(_conjunction(sorted(found)), "text")
