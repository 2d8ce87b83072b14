"""Links between the pages lead somewhere, and no page names a host."""

from __future__ import annotations

import re

import pytest
from pages import DOCS, page

PAGES = sorted(path.name for path in DOCS.glob("*.md"))
LINK = re.compile(r"\[[^\]]+\]\((?P<target>[^)]+)\)")
# The names of specifications are addresses that nothing is fetched from.
SPECIFICATIONS = (
    "https://slsa.dev/",
    "https://cyclonedx.org/",
    "https://spdx.dev/",
    "https://in-toto.io/",
    "https://openvex.dev/",
)


def anchors(name: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page(name), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_pages_and_headings_that_exist(name: str) -> None:
    for match in LINK.finditer(re.sub(r"`[^`]*`", "", page(name))):
        file, _, anchor = match["target"].partition("#")
        assert (DOCS / (file or name)).is_file(), match[0]
        assert not anchor or anchor in anchors(file or name), match[0]


@pytest.mark.parametrize("name", PAGES)
def test_no_page_names_a_host(name: str) -> None:
    addresses = re.findall(r"https?://[^\s`)\"]+", page(name))
    assert [address for address in addresses if not address.startswith(SPECIFICATIONS)] == []
