"""From a package URL to the ecosystems and the name under which advisories about it are filed. Pure.

Debian and Ubuntu file advisories under the source package; the purl of a binary does not say which that is, so it
comes from the lock or from the SBOM's own properties, and from the binary's name where neither knows.
"""

from __future__ import annotations

import functools
import re
from typing import Final
from urllib.parse import unquote

from kiln.vulnerabilities.model import Component

_PURL: Final = re.compile(
    r"pkg:(?P<type>[A-Za-z0-9.+-]+)/(?P<path>[^@?#]+)(?:@(?P<version>[^?#]*))?(?:\?(?P<qualifiers>[^#]*))?"
)
_LANGUAGES: Final = {
    "cargo": "crates.io",
    "composer": "Packagist",
    "conan": "ConanCenter",
    "gem": "RubyGems",
    "golang": "Go",
    "hex": "Hex",
    "maven": "Maven",
    "npm": "npm",
    "nuget": "NuGet",
    "pub": "Pub",
    "pypi": "PyPI",
    "swift": "SwiftURL",
}
_RPM: Final = {
    "almalinux": "AlmaLinux",
    "rocky": "Rocky Linux",
    "rockylinux": "Rocky Linux",
    "redhat": "Red Hat",
    "rhel": "Red Hat",
    "opensuse": "openSUSE",
    "suse": "SUSE",
    "openeuler": "openEuler",
    "mageia": "Mageia",
    "fedora": "Fedora",
}
CODENAMES: Final = {
    "buster": "Debian:10",
    "bullseye": "Debian:11",
    "bookworm": "Debian:12",
    "trixie": "Debian:13",
    "forky": "Debian:14",
    "sid": "Debian:sid",
    "experimental": "Debian:experimental",
}
"""Of Debian's releases, as the security tracker names them."""


def normal_name(ecosystem: str, name: str) -> str:
    """Return a package's name as it is looked up: PyPI folds case and separators (PEP 503), others keep theirs."""
    if ecosystem == "PyPI":
        return re.sub(r"[-_.]+", "-", name).lower()
    if ecosystem in ("Packagist", "NuGet"):
        return name.lower()
    return name


def normal_ecosystem(ecosystem: str) -> str:
    """Return an ecosystem without what does not tell releases apart: `Ubuntu:24.04` of `Ubuntu:24.04:LTS`."""
    return ecosystem.removesuffix(":LTS") if ecosystem.startswith("Ubuntu:") else ecosystem


def component_of(
    purl: str,
    *,
    source: str = "",
    source_version: str = "",
    locations: tuple[str, ...] = (),
) -> Component | None:
    """Return the component that a package URL names, None where it is not one with a version."""
    match = _PURL.fullmatch(purl)
    if match is None or not match["version"]:
        return None
    kind, version = match["type"].lower(), unquote(match["version"])
    pieces = [unquote(piece) for piece in match["path"].split("/")]
    qualifiers = _qualifiers(match["qualifiers"] or "")
    name, namespace = pieces[-1], "/".join(pieces[:-1])
    if kind == "deb":
        ecosystems = _deb_ecosystems(namespace, qualifiers.get("distro", ""))
        return Component(purl, name, version, ecosystems, source or name, source_version or version, locations)
    if kind == "rpm":
        version = f"{qualifiers['epoch']}:{version}" if qualifiers.get("epoch") else version
        return Component(
            purl, name, version, _rpm_ecosystems(namespace, qualifiers.get("distro", "")), name, version, locations
        )
    if kind == "apk":
        release = re.search(r"([0-9]+\.[0-9]+)", qualifiers.get("distro", ""))
        ecosystems = (f"Alpine:v{release[1]}",) if release else ()
        return Component(purl, name, version, ecosystems, source or name, version, locations)
    ecosystem = _LANGUAGES.get(kind)
    if ecosystem is None:
        return Component(purl, name, version, (), name, version, locations)
    lookup = {"Maven": f"{namespace}:{name}"}.get(ecosystem, f"{namespace}/{name}" if namespace else name)
    plain = version.removeprefix("v") if ecosystem == "Go" else version
    return Component(purl, name, version, (ecosystem,), normal_name(ecosystem, lookup), plain, locations)


def cpe_component(cpe: str) -> tuple[str, str] | None:
    """Return `vendor:product` and version of a CPE 2.3 name that has both, else None."""
    parts = re.split(r"(?<!\\):", cpe)
    if len(parts) < 6 or parts[:2] != ["cpe", "2.3"] or parts[5] in ("*", "-", ""):
        return None
    return f"{parts[3]}:{parts[4]}", parts[5].replace("\\", "")


def _qualifiers(text: str) -> dict[str, str]:
    return {key: unquote(value) for key, _, value in (item.partition("=") for item in text.split("&"))}


@functools.lru_cache(maxsize=64)
def _deb_ecosystems(namespace: str, distro: str) -> tuple[str, ...]:
    distribution, _, release = distro.partition("-")
    if distro in CODENAMES:
        return (CODENAMES[distro], "Debian")
    title = {"debian": "Debian", "ubuntu": "Ubuntu"}.get(distribution or namespace)
    if title is None or (distribution and namespace and distribution != namespace):
        return ()
    if title == "Debian":
        release = release.partition(".")[0]
    return (f"{title}:{CODENAMES.get(release, release).removeprefix('Debian:')}", title) if release else (title,)


@functools.lru_cache(maxsize=64)
def _rpm_ecosystems(namespace: str, distro: str) -> tuple[str, ...]:
    title = _RPM.get(namespace.lower())
    if title is None:
        return ()
    release = distro.rpartition("-")[2].partition(".")[0] if distro else ""
    return (f"{title}:{release}", title) if release else (title,)
