"""docs/features.md is what its program writes, and names nothing that is not there."""

from __future__ import annotations

import json
import runpy

from pages import ROOT, page

from kiln.authoring.catalog.data import catalog_folder, load_catalog

CATALOG = load_catalog(catalog_folder({}))
NOTED = json.loads((ROOT / "docs/features.booted.json").read_text(encoding="utf-8"))


def test_the_page_is_written_by_its_program() -> None:
    program = runpy.run_path(str(ROOT / "tools/features_doc.py"))
    assert page("features.md") == program["document"](CATALOG, NOTED), "run tools/features_doc.py"


def test_what_was_booted_is_in_the_catalogue() -> None:
    known = {feature.id for feature in CATALOG.features}
    for base, states in NOTED["booted"].items():
        assert CATALOG.base(base) is not None
        assert set(states) <= known
        assert set(states.values()) <= {"passed", "failed"}
        assert {name for name, state in states.items() if state == "failed"} <= NOTED["notes"].keys()
