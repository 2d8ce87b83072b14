"""Relations between packages as control fields spell them: `a (>= 1) | b, c:any` (Debian Policy 7.1)."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Final

from kiln.authoring.lock.versions import satisfies

# Architecture lists and build profiles, which only source packages have, are accepted and ignored.
_ALTERNATIVE: Final = re.compile(
    r"\s*(?P<name>[A-Za-z0-9][A-Za-z0-9+.-]*)(?::(?P<arch>[a-z0-9-]+))?"
    r"\s*(?:\(\s*(?P<relation><<|<=|=|>=|>>|<|>)\s*(?P<version>[^\s)]+)\s*\))?"
    r"\s*(?:\[[^\]]*\])?\s*(?:<[^>]*>\s*)*"
)
# Policy 7.1: `<` and `>` are obsolete spellings of `<=` and `>=`.
_OBSOLETE: Final = {"<": "<=", ">": ">="}


class RelationError(ValueError):
    """The text is not a list of relations."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """A package that would do; without *relation*, in any version."""

    name: str
    architecture: str = ""
    """The qualifier after the colon: `any`, `native`, an architecture, or empty."""
    relation: str = ""
    version: str = ""

    def accepts(self, version: str) -> bool:
        """Whether a package of that name in *version* does."""
        return not self.relation or satisfies(version, self.relation, self.version)


Clause = tuple[Alternative, ...]


@functools.lru_cache(maxsize=16384)
def parse_relations(text: str) -> tuple[Clause, ...]:
    """Return the clauses of a field; each is satisfied by any one of its alternatives. Raises RelationError."""
    return tuple(
        tuple(_alternative(piece) for piece in clause.split("|")) for clause in text.split(",") if clause.strip()
    )


def _alternative(text: str) -> Alternative:
    match = _ALTERNATIVE.fullmatch(text)
    if match is None:
        raise RelationError(f"{text.strip()!r} is not a relation to a package")
    relation = match["relation"] or ""
    return Alternative(match["name"], match["arch"] or "", _OBSOLETE.get(relation, relation), match["version"] or "")
