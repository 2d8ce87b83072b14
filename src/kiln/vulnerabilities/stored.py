"""Advisories as rows of the database: JSON arrays by position, because a scan reads thousands of them."""

from __future__ import annotations

import json
from collections.abc import Iterable

from kiln.vulnerabilities.model import Advisory, Affected, Event, Severity


def pack_advisory(advisory: Advisory) -> str:
    """Return an advisory without what it is about."""
    severities = [[item.type, item.vector] for item in advisory.severities]
    return _text(
        [
            advisory.id,
            advisory.modified,
            advisory.aliases,
            advisory.withdrawn,
            advisory.published,
            advisory.summary,
            severities,
            advisory.rating,
        ]
    )


def unpack_advisory(text: str) -> Advisory:
    """Return what pack_advisory was given, without what it is about."""
    name, modified, aliases, withdrawn, published, summary, severities, rating = json.loads(text)
    return Advisory(
        name,
        modified,
        tuple(aliases),
        withdrawn,
        published,
        summary,
        tuple(Severity(kind, vector) for kind, vector in severities),
        rating,
    )


def pack_affected(items: Iterable[Affected]) -> str:
    """Return what an advisory says about one package of one ecosystem."""
    return _text(
        [
            [[[[event.kind, event.version] for event in events] for events in item.ranges], item.versions, item.urgency]
            for item in items
        ]
    )


def unpack_affected(ecosystem: str, package: str, text: str) -> tuple[Affected, ...]:
    """Return what pack_affected was given."""
    return tuple(
        Affected(
            ecosystem,
            package,
            tuple(tuple(Event(kind, version) for kind, version in events) for events in ranges),
            tuple(versions),
            urgency,
        )
        for ranges, versions, urgency in json.loads(text)
    )


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
