"""Every spelling of every key of a recipe, in snake_case; reading, the published schema and suggestions share it.

A key may be written in snake_case, in camelCase or with hyphens, by the name of its field or by one of the others here.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from kiln.authoring.recipe import model

SECTION: Final = "security."
"""Before the name of a field that may stand at the top of a recipe though it lies in that section."""

_OTHERS: Final[dict[type, dict[str, str]]] = {
    model.Recipe: {
        "kind": "kind",
        "base": "base_image",
        "security_level": f"{SECTION}hardening_level",
        "hardening_level": f"{SECTION}hardening_level",
        "hardening": f"{SECTION}hardening_level",
        "audit_logging": f"{SECTION}audit_logging",
        "automatic_updates": f"{SECTION}automatic_updates",
        "network": "networking",
        "time_zone": "timezone",
        "output": "outputs",
    },
    model.CustomPackage: {"url": "git_url"},
    model.User: {"name": "username", "ssh_authorized_keys": "ssh_keys"},
    model.Security: {"level": "hardening_level"},
    model.Networking: {"host_name": "hostname", "ports": "firewall_ports", "dns_servers": "dns"},
    model.Interface: {"ip": "address"},
    model.Kernel: {"flavor": "flavour"},
    model.Disk: {"size": "size_bytes"},
    model.Desktop: {"favourites": "favorites"},
}


def spellings(cls: type) -> dict[str, str]:
    """Return the spellings of the keys of *cls*: each to the name of its field."""
    return {field.name: field.name for field in dataclasses.fields(cls)} | _OTHERS.get(cls, {})
