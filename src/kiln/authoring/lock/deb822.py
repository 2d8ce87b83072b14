"""Stanzas of fields, as Release and Packages files have them (deb822(5))."""

from __future__ import annotations


class StanzaError(ValueError):
    """The text is not a stanza."""


def parse_stanza(text: str) -> dict[str, str]:
    """Return lower-case field name -> value of one stanza; further lines of a value follow a newline, stripped.

    Raises StanzaError for a line that belongs to no field, an empty line inside, and a field that stands twice,
    because two readers could take different ones.
    """
    fields: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in text.strip("\n").split("\n"):
        if line[:1] in (" ", "\t"):
            if current is None:
                raise StanzaError("it begins with a continuation line")
            current.append(line.strip())
            continue
        name, colon, value = line.partition(":")
        key = name.lower()
        if not colon or not key or key.strip() != key:
            raise StanzaError(f"{line[:60]!r} is not a field")
        if key in fields:
            raise StanzaError(f"the field {name} stands twice")
        current = fields[key] = [value.strip()]
    return {key: "\n".join(lines) for key, lines in fields.items()}
