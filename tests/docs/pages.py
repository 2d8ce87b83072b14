"""Reading of the pages in docs/: sections by heading, and the rows of their tables."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    """Return heading -> what stands below it, up to the next heading of any level; headings are unique in a page."""
    found: dict[str, str] = {}
    heading = ""
    fenced = False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        match = None if fenced else re.fullmatch(r"#+ (.*)", line)
        if match:
            heading = match[1].replace("`", "")
            assert heading not in found, f"the heading {heading!r} stands twice"
            found[heading] = ""
        else:
            found[heading] = found.get(heading, "") + line + "\n"
    return found


def rows(section: str) -> list[list[str]]:
    """Return the cells of all table rows of a section, without headings and rules."""
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    rules = {number for number, row in enumerate(cells) if all(re.fullmatch(r":?-+:?", cell) for cell in row)}
    return [row for number, row in enumerate(cells) if number not in rules and number + 1 not in rules]


def words(cell: str) -> list[str]:
    """Return what stands in code spans."""
    return re.findall(r"`([^`]+)`", cell)
