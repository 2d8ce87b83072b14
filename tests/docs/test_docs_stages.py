"""docs/stages.md is what tools/stages_doc.py writes from libdir."""

from __future__ import annotations

import runpy

from pages import ROOT, page, rows, sections, words

LIBDIR = ROOT / "libdir"


def test_the_page_is_up_to_date() -> None:
    tool = runpy.run_path(str(ROOT / "tools/stages_doc.py"))
    assert page("stages.md") == tool["render"](LIBDIR), "run tools/stages_doc.py"


def test_every_module_has_its_heading() -> None:
    headings = {heading.partition(" ")[0] for heading in sections(page("stages.md")) if heading.startswith("org.")}
    modules = {
        path.name.removesuffix(".meta.json")
        for folder in ("stages", "sources", "inputs", "devices", "mounts", "assemblers")
        for path in (LIBDIR / folder).glob("org.*")
    }
    assert headings == modules


def test_nested_options_have_their_rows() -> None:
    found = {word for row in rows(sections(page("stages.md"))["org.osbuild.fstab"]) for word in words(row[0])}
    assert {"filesystems", "filesystems[].path", "filesystems[].passno"} <= found
