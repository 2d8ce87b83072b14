"""Advisories in other formats than OSV: Debian's security tracker, NVD's API 2.0, and GitHub's advisory API.

Each function takes one entry of a stream. An NVD entry is filed under the ecosystem `CPE`; mostly it brings severities
and descriptions to the CVEs that other sources name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from kiln.vulnerabilities.ecosystems import CODENAMES, cpe_component, normal_name
from kiln.vulnerabilities.model import Advisory, Affected, Event, Severity
from kiln.vulnerabilities.osv import AdvisoryError, checked_id, checked_time, short
from kiln.vulnerabilities.severity import rating_word

TRACKER_TIME: Final = "1970-01-01T00:00:00Z"
"""The tracker's export has no times."""
_NEVER: Final = "0"
"""The tracker's fixed version of a release that was never affected."""
_GITHUB: Final = {
    "pip": "PyPI",
    "npm": "npm",
    "maven": "Maven",
    "go": "Go",
    "rust": "crates.io",
    "rubygems": "RubyGems",
    "nuget": "NuGet",
    "composer": "Packagist",
    "pub": "Pub",
    "swift": "SwiftURL",
    "erlang": "Hex",
}
_CONSTRAINT: Final = re.compile(r"(<=|>=|<|>|=)\s*(\S+)")


def read_tracker_package(package: str, entries: object) -> Iterator[Advisory]:
    """Yield the advisories of one source package of the security tracker's JSON. Raises AdvisoryError."""
    if not isinstance(entries, dict):
        raise AdvisoryError(f"$.{package}", "expected an object of CVEs")
    for name, entry in sorted(entries.items()):
        path = f"$.{package}.{name}"
        if not isinstance(entry, dict) or not isinstance(entry.get("releases"), dict):
            raise AdvisoryError(path, "an entry has `releases`")
        affected = tuple(
            item
            for codename, state in sorted(entry["releases"].items())
            if codename in CODENAMES
            for item in _release(package, CODENAMES[codename], state, f"{path}.releases.{codename}")
        )
        summary = short(str(entry.get("description", "")))
        # One CVE stands under several source packages; the pair is what is unique.
        identity = f"DEBIAN-{checked_id(name, path)}-{package}"
        aliases = (name,) if not name.startswith("TEMP-") else ()
        yield Advisory(identity, TRACKER_TIME, aliases, summary=summary, affected=affected)


def _release(package: str, ecosystem: str, state: Any, path: str) -> Iterator[Affected]:
    if not isinstance(state, dict) or state.get("status") not in ("open", "resolved", "undetermined"):
        raise AdvisoryError(path, "a release has a status: open, resolved or undetermined")
    events = [Event("introduced", "0")]
    if state["status"] == "resolved":
        fixed = state.get("fixed_version")
        if not isinstance(fixed, str) or not fixed:
            raise AdvisoryError(f"{path}.fixed_version", "a resolved release has a fixed version")
        if fixed == _NEVER:
            return
        events.append(Event("fixed", fixed))
    urgency = str(state.get("urgency", "")).rstrip("*")
    yield Affected(ecosystem, package, (tuple(events),), (), urgency)


def read_nvd(entry: object, path: str) -> Advisory:
    """Read one element of `vulnerabilities` of NVD's API 2.0. Raises AdvisoryError."""
    cve = entry.get("cve") if isinstance(entry, dict) else None
    if not isinstance(cve, dict):
        raise AdvisoryError(path, "an entry has a `cve`")
    name = checked_id(cve.get("id"), f"{path}.cve.id")
    modified = checked_time(f"{str(cve.get('lastModified'))[:19]}Z", f"{path}.cve.lastModified")
    descriptions = [item for item in cve.get("descriptions") or () if isinstance(item, dict)]
    summary = next((str(item.get("value", "")) for item in descriptions if item.get("lang") == "en"), "")
    rejected = cve.get("vulnStatus") == "Rejected"
    return Advisory(
        id=name,
        modified=modified,
        withdrawn=modified if rejected else "",
        summary=short(summary),
        severities=_nvd_severities(cve.get("metrics") or {}, f"{path}.cve.metrics"),
        affected=tuple(_nvd_affected(cve.get("configurations") or [], f"{path}.cve.configurations")),
    )


def _nvd_severities(metrics: Any, path: str) -> tuple[Severity, ...]:
    found = set()
    try:
        for key, scheme in (
            ("cvssMetricV40", "CVSS_V4"),
            ("cvssMetricV31", "CVSS_V3"),
            ("cvssMetricV30", "CVSS_V3"),
            ("cvssMetricV2", "CVSS_V2"),
        ):
            for metric in metrics.get(key) or ():
                found.add((scheme, str(metric["cvssData"]["vectorString"])))
    except (KeyError, TypeError, AttributeError) as error:
        raise AdvisoryError(path, f"a metric has `cvssData.vectorString`: {error!r}") from None
    return tuple(Severity(*item) for item in sorted(found))


def _nvd_affected(configurations: Any, path: str) -> Iterator[Affected]:
    try:
        matches = [
            match
            for configuration in configurations
            for node in configuration["nodes"]
            for match in node.get("cpeMatch") or ()
            if match["vulnerable"]
        ]
        for match in matches:
            parts = re.split(r"(?<!\\):", match["criteria"])
            exact = cpe_component(match["criteria"])
            name = f"{parts[3]}:{parts[4]}"
            bounds = {key: value for key, value in match.items() if key.startswith("version")}
            if exact is not None and not bounds:
                yield Affected("CPE", name, (), (exact[1],))
                continue
            events = [
                Event("introduced", str(bounds.get("versionStartIncluding", bounds.get("versionStartExcluding", "0"))))
            ]
            if "versionEndExcluding" in bounds:
                events.append(Event("fixed", str(bounds["versionEndExcluding"])))
            elif "versionEndIncluding" in bounds:
                events.append(Event("last_affected", str(bounds["versionEndIncluding"])))
            yield Affected("CPE", name, (tuple(events),))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise AdvisoryError(path, f"a configuration has nodes with CPE names: {error!r}") from None


def read_github(entry: object, path: str) -> Advisory:
    """Read one element of GitHub's advisory API. Raises AdvisoryError."""
    if not isinstance(entry, dict):
        raise AdvisoryError(path, "expected an object")
    aliases = {item.get("value") for item in entry.get("identifiers") or () if isinstance(item, dict)}
    aliases |= {entry.get("cve_id")}
    name = checked_id(entry.get("ghsa_id"), f"{path}.ghsa_id")
    vectors = {entry.get("cvss_vector_string")}
    for scheme in ("cvss_v3", "cvss_v4"):
        vectors.add(((entry.get("cvss_severities") or {}).get(scheme) or {}).get("vector_string"))
    vectors.add((entry.get("cvss") or {}).get("vector_string"))
    return Advisory(
        id=name,
        modified=checked_time(entry.get("updated_at"), f"{path}.updated_at"),
        aliases=tuple(sorted(checked_id(item, f"{path}.identifiers") for item in aliases - {None, name})),
        withdrawn=checked_time(entry["withdrawn_at"], f"{path}.withdrawn_at") if entry.get("withdrawn_at") else "",
        summary=short(str(entry.get("summary") or "")),
        severities=tuple(
            Severity("CVSS_V4" if vector.startswith("CVSS:4") else "CVSS_V3", vector)
            for vector in sorted(item for item in vectors if isinstance(item, str) and item)
        ),
        rating=rating_word(str(entry.get("severity") or "")),
        affected=tuple(
            item
            for number, value in enumerate(entry.get("vulnerabilities") or ())
            for item in _github_affected(value, f"{path}.vulnerabilities[{number}]")
        ),
    )


def _github_affected(value: Any, path: str) -> Iterator[Affected]:
    try:
        ecosystem, name = _GITHUB.get(value["package"]["ecosystem"]), value["package"]["name"]
        text = value["vulnerable_version_range"] or ""
    except (KeyError, TypeError) as error:
        raise AdvisoryError(path, f"a vulnerability has a package and a range: {error!r}") from None
    if ecosystem is None:
        return
    package = normal_name(ecosystem, str(name))
    start, end = Event("introduced", "0"), None
    for operator, bound in _CONSTRAINT.findall(str(text)):
        version = bound.rstrip(",")
        if operator == "=":
            yield Affected(ecosystem, package, (), (version,))
            return
        if operator in (">=", ">"):
            start = Event("introduced", version)
        else:
            end = Event("fixed" if operator == "<" else "last_affected", version)
    if not text:
        raise AdvisoryError(f"{path}.vulnerable_version_range", "empty")
    events = (start,) if end is None else (start, end)
    yield Affected(ecosystem, package, (events,))
