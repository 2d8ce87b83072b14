"""Two images against each other: each difference with its reason and how grave it is. Pure.

Grave is what lets more people in or gives them more power: a listener, a setuid program, an account that can log in,
a file of a package that changed although the package did not. What follows from a newer package is information.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, cast, get_args

from kiln.authoring.lock.versions import compare_versions
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.explain.model import SEVERITIES, Change, Difference, Facts, Section, Severity, Value

REASONS: Final[Mapping[str, Section]] = {
    "recipe-changed": "recipe",
    "weaker-hardening": "recipe",
    "new-feature": "features",
    "removed-feature": "features",
    "changed-feature": "features",
    "new-package": "packages",
    "removed-package": "packages",
    "upgraded-package": "packages",
    "downgraded-package": "packages",
    "new-file": "files",
    "removed-file": "files",
    "changed-file": "files",
    "changed-behind-package": "files",
    "new-world-writable": "files",
    "new-setuid": "setuid",
    "removed-setuid": "setuid",
    "changed-setuid": "setuid",
    "new-root-account": "users",
    "new-login": "users",
    "new-user": "users",
    "removed-user": "users",
    "changed-user": "users",
    "new-privileged-member": "groups",
    "changed-group": "groups",
    "new-listener": "ports",
    "exposed-listener": "ports",
    "removed-listener": "ports",
    "new-service": "services",
    "removed-service": "services",
    "changed-service": "services",
    "changed-sysctl": "sysctls",
    "new-sysctl": "sysctls",
    "removed-sysctl": "sysctls",
    "new-licence": "licences",
    "changed-licence": "licences",
    "new-vulnerability": "vulnerabilities",
    "fixed-vulnerability": "vulnerabilities",
    "larger": "sizes",
    "smaller": "sizes",
}
"""Reason -> the section that must be there on both sides for a gate to say anything about it."""
PRIVILEGED_GROUPS: Final = frozenset(
    {"root", "sudo", "wheel", "admin", "adm", "docker", "lxd", "libvirt", "disk", "shadow", "kvm"}
)
HARDENING: Final = ("none", "minimal", "standard", "strict")
WORLD_WRITABLE: Final = 0o002
STICKY: Final = 0o1000
_LARGER_SHARE: Final = 0.1
"""Beyond this share a size is worth more than a note."""

Found = Iterator[Change]


def compare(before: Facts, after: Facts) -> Difference:
    """Return every difference between two sides, worst first."""
    changes: list[Change] = []
    missing: list[tuple[Section, str]] = []
    for section in get_args(Section):
        if section in before.sections and section in after.sections:
            changes += _SECTIONS[section](before, after)
        else:
            lacking = [side.name for side in (before, after) if section not in side.sections]
            missing.append((section, " and ".join(lacking)))
    changes.sort(key=lambda item: (SEVERITIES.index(item.severity), item.section, item.subject, item.reason))
    return Difference(before.name, after.name, tuple(changes), tuple(missing))


def gate(difference: Difference, words: Sequence[str]) -> tuple[Change, ...]:
    """Return the changes that a gate refuses; *words* are reasons, or severities that stand for all that bad or worse.

    Raises KilnError(SETTINGS, "bad-option") for an unknown word, and (ATTESTATION, "not-comparable") if a section that
    a reason is about is missing on one side: what was not looked at is not passed.
    """
    for word in words:
        if word not in REASONS and word not in SEVERITIES:
            raise KilnError(
                Domain.SETTINGS,
                "bad-option",
                f"`{word}` is neither a reason nor a severity of a difference",
                hint=f"severities: {', '.join(SEVERITIES)}; reasons: {', '.join(sorted(REASONS))}",
                exit_status=ExitStatus.USAGE,
            )
    missing = dict(difference.not_compared)
    for word in words:
        if word in REASONS and REASONS[word] in missing:
            section = REASONS[word]
            raise KilnError(
                Domain.ATTESTATION,
                "not-comparable",
                f"`{word}` cannot be decided: {missing[section]} says nothing about {section}",
                hint="compare image directories that `kiln build` has made",
                exit_status=ExitStatus.REFUSED,
            )
    levels = [SEVERITIES.index(word) for word in words if word in SEVERITIES]
    worst = max(levels, default=-1)
    return tuple(
        item for item in difference.changes if item.reason in words or SEVERITIES.index(item.severity) <= worst
    )


def _pairs(before: Facts, after: Facts, section: Section) -> Iterator[tuple[str, Value | None, Value | None]]:
    old, new = before.sections[section], after.sections[section]
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield name, old.get(name), new.get(name)


def _show(value: Value | None) -> str:
    if value is None:
        return ""
    if set(value) == {"value"}:
        return str(value["value"])
    return " ".join(f"{key}={item}" for key, item in sorted(value.items()))


def _recipe(before: Facts, after: Facts) -> Found:
    for name, old, new in _pairs(before, after, "recipe"):
        weaker = name == "security.hardeningLevel" and _level(new) < _level(old)
        reason, severity = ("weaker-hardening", "high") if weaker else ("recipe-changed", "low")
        yield Change(cast(Severity, severity), reason, "recipe", name, _show(old), _show(new))


def _level(value: Value | None) -> int:
    text = str((value or {}).get("value", "standard"))
    return HARDENING.index(text) if text in HARDENING else len(HARDENING)


def _plain(
    section: Section, new: Severity, removed: Severity, changed: Severity, words: tuple[str, str, str]
) -> Callable[[Facts, Facts], Found]:
    """Return a comparison in which only being there, not being there and being different count."""

    def compare_section(before: Facts, after: Facts) -> Found:
        for name, old, now in _pairs(before, after, section):
            if old is None:
                yield Change(new, words[0], section, name, "", _show(now))
            elif now is None:
                yield Change(removed, words[1], section, name, _show(old), "")
            else:
                yield Change(changed, words[2], section, name, _show(old), _show(now))

    return compare_section


def _packages(before: Facts, after: Facts) -> Found:
    for name, old, new in _pairs(before, after, "packages"):
        if old is None or new is None:
            reason = "new-package" if old is None else "removed-package"
            yield Change("low", reason, "packages", name, _show(old), _show(new))
            continue
        down = compare_versions(str(new["value"]), str(old["value"])) < 0
        reason, severity = ("downgraded-package", "medium") if down else ("upgraded-package", "info")
        yield Change(cast(Severity, severity), reason, "packages", name, _show(old), _show(new))


def _files(before: Facts, after: Facts) -> Found:
    old_packages, new_packages = before.sections["packages"], after.sections["packages"]
    for path, old, new in _pairs(before, after, "files"):
        if new is not None and _world_writable(new) and not (old is not None and _world_writable(old)):
            yield Change("high", "new-world-writable", "files", path, _show(old), _show(new))
        elif old is None:
            yield Change("info", "new-file", "files", path, "", _show(new))
        elif new is None:
            yield Change("info", "removed-file", "files", path, _show(old), "")
        else:
            owner = str(new.get("package", ""))
            same = bool(owner) and owner in old_packages and old_packages[owner] == new_packages.get(owner)
            content = old.get("digest") != new.get("digest") or old.get("target") != new.get("target")
            behind = same and content and not path.startswith("/etc/")
            reason, severity = (
                ("changed-behind-package", "high") if behind else ("changed-file", "info" if owner else "low")
            )
            yield Change(cast(Severity, severity), reason, "files", path, _show(old), _show(new))


def _world_writable(value: Value) -> bool:
    mode = int(str(value.get("mode", "0")), 8)
    return value.get("type") in ("file", "directory") and bool(mode & WORLD_WRITABLE) and not mode & STICKY


def _users(before: Facts, after: Facts) -> Found:
    for name, old, new in _pairs(before, after, "users"):
        if new is None:
            yield Change("low", "removed-user", "users", name, _show(old), "")
            continue
        reason: str
        severity: Severity
        if new["uid"] == 0 and (old is None or old["uid"] != 0):
            reason, severity = "new-root-account", "critical"
        elif new["login"] and not (old is not None and old["login"]):
            reason, severity = "new-login", "high"
        else:
            reason, severity = ("new-user", "low") if old is None else ("changed-user", "medium")
        yield Change(severity, reason, "users", name, _show(old), _show(new))


def _groups(before: Facts, after: Facts) -> Found:
    for name, old, new in _pairs(before, after, "groups"):
        members = set(str((new or {}).get("members", "")).split(",")) - set(
            str((old or {}).get("members", "")).split(",")
        )
        grave = name in PRIVILEGED_GROUPS and bool(members - {""})
        reason, severity = ("new-privileged-member", "high") if grave else ("changed-group", "info")
        yield Change(cast(Severity, severity), reason, "groups", name, _show(old), _show(new))


def _ports(before: Facts, after: Facts) -> Found:
    for name, old, new in _pairs(before, after, "ports"):
        if new is None:
            yield Change("low", "removed-listener", "ports", name, _show(old), "")
        elif old is None:
            severity: Severity = "high" if new["value"] == "exposed" else "medium"
            yield Change(severity, "new-listener", "ports", name, "", _show(new))
        elif new["value"] == "exposed":
            yield Change("high", "exposed-listener", "ports", name, _show(old), _show(new))
        else:
            yield Change("low", "removed-listener", "ports", name, _show(old), _show(new))


def _licences(before: Facts, after: Facts) -> Found:
    known = {word for value in before.sections["licences"].values() for word in _identifiers(value)}
    for name, old, new in _pairs(before, after, "licences"):
        fresh = [word for word in _identifiers(new or {}) if word not in known]
        if fresh:
            yield Change("medium", "new-licence", "licences", name, _show(old), ", ".join(fresh))
        elif old is not None and new is not None:
            yield Change("low", "changed-licence", "licences", name, _show(old), _show(new))


def _identifiers(value: Value) -> list[str]:
    words = str(value.get("value", "")).replace("(", " ").replace(")", " ").split()
    return [word for word in words if word not in ("AND", "OR", "WITH")]


_RATINGS: Final[Mapping[str, Severity]] = {
    "critical": "critical",
    "high": "high",
    "medium": "medium",
    "unknown": "medium",
}


def _vulnerabilities(before: Facts, after: Facts) -> Found:
    for name, old, new in _pairs(before, after, "vulnerabilities"):
        if old is None and new is not None:
            severity = _RATINGS.get(str(new["value"]), "low")
            yield Change(severity, "new-vulnerability", "vulnerabilities", name, "", _show(new))
        elif new is None:
            yield Change("info", "fixed-vulnerability", "vulnerabilities", name, _show(old), "")


def _sizes(before: Facts, after: Facts) -> Found:
    for name, old, new in _pairs(before, after, "sizes"):
        first, second = int(str((old or {}).get("value", 0))), int(str((new or {}).get("value", 0)))
        reason = "larger" if second > first else "smaller"
        severity: Severity = "low" if first and second > first * (1 + _LARGER_SHARE) else "info"
        yield Change(severity, reason, "sizes", name, str(first), str(second))


_SECTIONS: Final[Mapping[Section, Callable[[Facts, Facts], Found]]] = {
    "recipe": _recipe,
    "features": _plain("features", "low", "low", "low", ("new-feature", "removed-feature", "changed-feature")),
    "packages": _packages,
    "files": _files,
    "setuid": _plain("setuid", "high", "info", "medium", ("new-setuid", "removed-setuid", "changed-setuid")),
    "users": _users,
    "groups": _groups,
    "ports": _ports,
    "services": _plain("services", "medium", "medium", "medium", ("new-service", "removed-service", "changed-service")),
    "sysctls": _plain("sysctls", "low", "medium", "medium", ("new-sysctl", "removed-sysctl", "changed-sysctl")),
    "licences": _licences,
    "vulnerabilities": _vulnerabilities,
    "sizes": _sizes,
}
