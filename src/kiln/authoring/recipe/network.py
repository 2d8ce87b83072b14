"""Reading of the networking section."""

from __future__ import annotations

from kiln.authoring.recipe import rules
from kiln.authoring.recipe.model import Interface, Networking
from kiln.authoring.recipe.sections import flag, listed, optional, required
from kiln.authoring.recipe.spellings import spellings
from kiln.authoring.recipe.values import Value


def networking(value: Value | None) -> Networking:
    """Read host name, interfaces, name servers and opened ports."""
    if value is None:
        return Networking()
    fields = value.fields(spellings(Networking))
    return Networking(
        hostname=optional(fields, "hostname", rules.HOST_NAME),
        interfaces=listed(fields.get("interfaces"), _interface, lambda entry: entry.name),
        dns=fields["dns"].texts(rules.ADDRESS) if "dns" in fields else (),
        firewall_ports=listed(fields.get("firewall_ports"), _firewall_port, lambda port: port),
    )


def _interface(value: Value) -> Interface | None:
    fields = value.fields(spellings(Interface))
    name = required(value, fields, "name", rules.INTERFACE)
    address = optional(fields, "address", rules.NETWORK_ADDRESS)
    gateway = optional(fields, "gateway", rules.ADDRESS)
    dhcp = flag(fields, "dhcp", not address)
    if dhcp and (address or gateway):
        value.problem("bad-value", "an interface with DHCP takes no `address` and no `gateway`", "write `dhcp: false`")
    elif not dhcp and not address and "address" not in fields:
        value.problem("missing-key", "an interface without DHCP needs an `address`", rules.NETWORK_ADDRESS.hint)
    return Interface(name, dhcp, address, gateway) if name else None


def _firewall_port(value: Value) -> str | None:
    if value.kind == "integer" and rules.PORT.accepts(f"{value.node.scalar}/tcp"):
        return f"{value.node.scalar}/tcp"
    if value.kind == "integer":
        value.problem("bad-value", f"{value.node.scalar} is not a port", "1 to 65535")
        return None
    if value.kind == "string" and rules.PORT.accepts(f"{value.node.scalar}/tcp"):
        return f"{value.node.scalar}/tcp"
    return value.text(rules.PORT)
