"""Read a policy that a person wrote, as YAML or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kiln.authoring.recipe.nodes import Node, NodeError, read_nodes
from kiln.errors import Domain, ExitStatus, KilnError, Place
from kiln.linux.files import read_limited
from kiln_wire.codec import DocumentError, decode
from kiln_wire.policy import MAX_POLICY_BYTES, Policy


def read_policy(path: Path) -> Policy:
    """Return the policy in a file. Raises KilnError(ATTESTATION): `no-policy`, `bad-policy` with line and column."""
    try:
        node = read_nodes(read_limited(path, MAX_POLICY_BYTES))
        return decode(Policy, _plain(node))
    except OSError as error:
        raise KilnError(
            Domain.ATTESTATION,
            "no-policy",
            f"{path} can't be read: {error.strerror}",
            hint="give a file in the policy language of docs/verify.md",
            exit_status=ExitStatus.NOT_FOUND,
        ) from error
    except NodeError as error:
        raise _bad(error.problem, Place(str(path), error.line, error.column)) from error
    except DocumentError as error:
        raise _bad(error.problem, Place(str(path), path=error.path)) from error


def _plain(node: Node) -> Any:
    if node.kind == "array":
        return [_plain(item) for item in node.items]
    if node.kind != "object":
        return node.scalar
    result = {}
    for key, value in node.entries:
        if key.scalar in result:
            raise NodeError(f"the key {key.scalar!r} stands twice", key.line, key.column)
        result[key.scalar] = _plain(value)
    return result


def _bad(problem: str, place: Place) -> KilnError:
    return KilnError(
        Domain.ATTESTATION,
        "bad-policy",
        problem,
        place=place,
        hint="docs/verify.md describes the policy language",
        exit_status=ExitStatus.USAGE,
    )
