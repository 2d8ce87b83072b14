"""An OSV document (schema 1.7) as an Advisory. Strict about what decides a match, indifferent to the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from kiln.vulnerabilities.ecosystems import normal_ecosystem, normal_name
from kiln.vulnerabilities.model import Advisory, Affected, Event, Severity
from kiln.vulnerabilities.severity import rating_word
from kiln.vulnerabilities.versions import family, is_known

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{2,120}")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?Z")
_EVENTS: Final = ("introduced", "fixed", "last_affected", "limit")
MAX_SUMMARY: Final = 400


class AdvisoryError(ValueError):
    """A document is not an advisory; *path* says where."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


def read_osv(document: object) -> Advisory:
    """Read one OSV document. Raises AdvisoryError."""
    data = _object(document, "$")
    aliases = {*_texts(data, "aliases", "$"), *_texts(data, "upstream", "$")}
    name = checked_id(data.get("id"), "$.id")
    details = str(data.get("summary") or data.get("details") or "")
    specific = data.get("database_specific")
    word = str(specific.get("severity", "")) if isinstance(specific, dict) else ""
    return Advisory(
        id=name,
        modified=checked_time(data.get("modified"), "$.modified"),
        aliases=tuple(sorted(checked_id(item, "$.aliases") for item in aliases - {name})),
        withdrawn=checked_time(data["withdrawn"], "$.withdrawn") if data.get("withdrawn") else "",
        published=checked_time(data["published"], "$.published") if data.get("published") else "",
        summary=short(details),
        severities=_severities(data, "$"),
        rating=rating_word(word),
        affected=tuple(
            entry
            for number, item in enumerate(_array(data, "affected", "$"))
            for entry in _affected(item, f"$.affected[{number}]")
        ),
    )


def checked_id(value: object, path: str) -> str:
    """Return the name of an advisory. Raises AdvisoryError."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise AdvisoryError(path, f"{str(value)[:60]!r} is not the name of an advisory")
    return value


def checked_time(value: object, path: str) -> str:
    """Return a time in whole seconds. Raises AdvisoryError."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise AdvisoryError(path, f"{str(value)[:60]!r} is not a time in UTC as RFC 3339 spells it")
    return value[:19] + "Z"


def short(text: str) -> str:
    """Return the first sentence or so of a description, in one line of plain characters."""
    flat = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return flat if len(flat) <= MAX_SUMMARY else flat[: MAX_SUMMARY - 1] + "…"


def _affected(item: object, path: str) -> list[Affected]:
    data = _object(item, path)
    package = data.get("package")
    if package is None:
        return []  # the schema allows advisories about git commits alone
    package = _object(package, f"{path}.package")
    ecosystem, name = package.get("ecosystem"), package.get("name")
    if not isinstance(ecosystem, str) or not isinstance(name, str) or not name:
        raise AdvisoryError(f"{path}.package", "a package has an ecosystem and a name")
    if not is_known(ecosystem):
        return []
    ranges = []
    for number, entry in enumerate(_array(data, "ranges", path)):
        place = f"{path}.ranges[{number}]"
        found = _object(entry, place)
        if found.get("type") not in ("SEMVER", "ECOSYSTEM", "GIT"):
            raise AdvisoryError(f"{place}.type", f"{str(found.get('type'))[:40]!r} is not a type of range")
        if found["type"] != "GIT":
            ranges.append(_events(found, place))
    severity = [*_array(data, "severity", path)]
    specific = data.get("ecosystem_specific")
    urgency = str(specific.get("urgency", "")) if isinstance(specific, dict) else ""
    if severity:
        _severities(data, path)
    title = normal_ecosystem(ecosystem)
    return [
        Affected(title, normal_name(family(title), name), tuple(ranges), tuple(_texts(data, "versions", path)), urgency)
    ]


def _events(data: Mapping[str, Any], path: str) -> tuple[Event, ...]:
    events = []
    for number, item in enumerate(_array(data, "events", path)):
        place = f"{path}.events[{number}]"
        entry = _object(item, place)
        keys = [key for key in _EVENTS if key in entry]
        if len(keys) != 1 or not isinstance(entry[keys[0]], str) or not entry[keys[0]]:
            raise AdvisoryError(place, f"an event has one of {', '.join(_EVENTS)}, with a version")
        events.append(Event(keys[0], entry[keys[0]]))
    if not any(event.kind == "introduced" for event in events):
        raise AdvisoryError(f"{path}.events", "a range begins with an event `introduced`")
    return tuple(events)


def _severities(data: Mapping[str, Any], path: str) -> tuple[Severity, ...]:
    found = []
    for number, item in enumerate(_array(data, "severity", path)):
        place = f"{path}.severity[{number}]"
        entry = _object(item, place)
        kind, score = entry.get("type"), entry.get("score")
        if not isinstance(kind, str) or not isinstance(score, str):
            raise AdvisoryError(place, "a severity has a type and a score")
        if kind.startswith("CVSS"):
            found.append(Severity(kind, score))
    return tuple(sorted(found, key=lambda entry: (entry.type, entry.vector)))


def _object(value: object, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise AdvisoryError(path, "expected an object")
    return value


def _array(data: Mapping[str, Any], key: str, path: str) -> list[Any]:
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise AdvisoryError(f"{path}.{key}", "expected an array")
    return value


def _texts(data: Mapping[str, Any], key: str, path: str) -> list[str]:
    values = _array(data, key, path)
    for number, value in enumerate(values):
        if not isinstance(value, str):
            raise AdvisoryError(f"{path}.{key}[{number}]", "expected a text")
    return values
