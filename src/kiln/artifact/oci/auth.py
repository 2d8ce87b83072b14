"""Logging in to a registry: the credentials of docker's configuration file, and bearer tokens.

Reference: distribution specification, "Token Authentication Specification"; RFC 9110, section 11.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from kiln.artifact.oci.model import refused
from kiln.errors import ExitStatus

_PARAMETER: Final = re.compile(r'([a-zA-Z]+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password."""

    user: str
    password: str


def stored_credentials(host: str, config: Path) -> Credentials | None:
    """Return what docker's `config.json` has for *host*; None where it has nothing, or only a helper program."""
    try:
        entry = json.loads(config.read_bytes()).get("auths", {}).get(host, {}).get("auth", "")
        user, colon, password = base64.b64decode(entry).decode("utf-8").partition(":")
    except (OSError, ValueError, AttributeError):
        return None
    return Credentials(user, password) if colon else None


def authorize(client: httpx.Client, answer: httpx.Response, credentials: Credentials | None) -> dict[str, str]:
    """Return the header that a refused request needs. Raises KilnError(ARTIFACT, "registry-login")."""
    challenge = answer.headers.get("WWW-Authenticate", "")
    scheme, _, rest = challenge.partition(" ")
    basic = None if credentials is None else (credentials.user, credentials.password)
    if scheme.lower() == "basic" and basic is not None:
        text = base64.b64encode(":".join(basic).encode()).decode("ascii")
        return {"Authorization": f"Basic {text}"}
    parameters = dict(_PARAMETER.findall(rest))
    if scheme.lower() != "bearer" or "realm" not in parameters:
        raise _login("the registry asks for a login; there is none for it in docker's configuration")
    realm = parameters.pop("realm")
    if httpx.URL(realm).scheme != "https" and httpx.URL(realm).host != client.base_url.host:
        raise _login("the registry sends passwords to another host without encryption")
    try:
        token = client.get(realm, params=parameters, auth=basic).raise_for_status().json()
        return {"Authorization": f"Bearer {token.get('token') or token['access_token']}"}
    except (httpx.HTTPError, ValueError, KeyError, AttributeError) as error:
        raise _login(f"the registry gives no token: {error}") from error


def _login(message: str) -> Exception:
    return refused("registry-login", message, status=ExitStatus.INFRASTRUCTURE)
