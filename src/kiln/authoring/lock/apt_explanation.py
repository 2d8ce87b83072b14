"""Why apt found no solution, in a sentence that a person can act on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from kiln.errors import Domain, KilnError

PROBLEMS_NAMED: Final = 3
DETAIL_LINES: Final = 60
_HEADING: Final = "unmet dependencies:"
# ` a : Depends: b (>= 1) but it is not going to be installed`, the name only on a package's first line.
_PROBLEM: Final = re.compile(
    r"^ (?P<package>\S+)? *:? *(?P<kind>PreDepends|Depends|Conflicts|Breaks|Recommends): "
    r"(?P<target>\S+)(?P<version> \([^)]*\))?(?: but (?P<why>.*))?$"
)
_VERBS: Final = {
    "PreDepends": "needs",
    "Depends": "needs",
    "Recommends": "recommends",
    "Conflicts": "conflicts with",
    "Breaks": "breaks",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One relation that cannot be met."""

    package: str
    kind: str
    target: str
    version: str
    why: str

    def __str__(self) -> str:
        text = f"{self.package} {_VERBS[self.kind]} {self.target}{self.version}"
        if self.kind in ("Conflicts", "Breaks"):
            return text
        return f"{text}, which no index has" if "not installable" in self.why else text


def no_solution(tree: str, excluded: Sequence[str], output: str, errors: str) -> KilnError:
    """Return the refusal for what apt-get printed."""
    problems = list(parse_problems(output))
    complaints = [line for line in errors.splitlines() if line.startswith("E: ")]
    removed = next((problem for problem in problems if problem.target in excluded), None)
    if removed is not None:
        needy = sorted({problem.package for problem in problems if problem.target == removed.target})
        reason = f"{removed.target} is excluded, but {_some(needy)} {'needs' if len(needy) == 1 else 'need'} it"
        hint = f"do not exclude {removed.target}, or drop what needs it"
    elif problems:
        conflicts = [problem for problem in problems if problem.kind in ("Conflicts", "Breaks")]
        reason = _some([str(problem) for problem in dict.fromkeys(conflicts or problems)], separator="; ")
        hint = (
            "the two cannot be in one image: drop one of them"
            if conflicts
            else "drop the package, or add the archive that has what it needs"
        )
    else:
        reason = complaints[-1].removeprefix("E: ").rstrip(".") if complaints else "apt gave no reason"
        hint = "the detail holds what apt said"
    said = [line for line in (*output.splitlines(), *complaints) if line.strip() and not line.startswith("'")]
    return KilnError(
        Domain.LOCK,
        "no-solution",
        f"the packages of the {tree} tree cannot be installed together: {reason}",
        detail="\n".join(said[-DETAIL_LINES:]),
        hint=hint,
    )


def parse_problems(output: str) -> Iterator[Problem]:
    """Read the list that follows apt's heading "unmet dependencies"."""
    inside, package = False, ""
    for line in output.splitlines():
        if line.endswith(_HEADING):
            inside = True
        elif inside and (match := _PROBLEM.match(line)):
            package = match["package"] or package
            if package:
                version = match["version"] or ""
                yield Problem(package, match["kind"], match["target"], version, match["why"] or "")


def _some(items: Sequence[str], separator: str = ", ") -> str:
    named = separator.join(items[:PROBLEMS_NAMED])
    more = len(items) - PROBLEMS_NAMED
    return f"{named} and {more} more" if more > 0 else named
