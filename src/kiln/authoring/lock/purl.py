"""Package URLs of locked packages (package-url specification; type deb)."""

from __future__ import annotations

from urllib.parse import quote

from kiln.authoring.lock.model import LockedPackage


def distribution(base: str) -> str:
    """Return the distribution of a base such as `debian-12`."""
    return base.partition("-")[0]


def package_url(package: LockedPackage, base: str) -> str:
    """Return `pkg:deb/debian/name@version?arch=amd64&distro=debian-12`, the form that scanners emit.

    Spelled here and not by packageurl, which takes ten times as long; a test holds the two together.
    """
    name, version = quote(package.name, safe=""), quote(package.version, safe=":")
    return f"pkg:deb/{distribution(base)}/{name}@{version}?arch={package.architecture}&distro={base}"
