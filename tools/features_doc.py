"""Writes docs/features.md from the catalogue and docs/features.booted.json: run `python tools/features_doc.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from kiln.authoring.catalog.data import catalog_folder, load_catalog
from kiln.authoring.catalog.entries import Catalog, Feature

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs/features.md"
BOOTED: Final = ROOT / "docs/features.booted.json"
BASES: Final = ("debian-12", "debian-13")
TAIL: Final = """
## Hardening

An image of Debian 12 with `ssh` and `nginx` at the level `strict` was booted: of the 205 controls of the
[benchmark](formats.md#benchmark) 188 passed, 17 do not apply, none failed. The report of each control is kept as
evidence of the check `cis_benchmark`. `standard` differs from CIS level 1 in what the recipe decides there: a
firewall is a feature, and SSH allows six attempts in two minutes.
"""
HEAD: Final = """\
# Features

What `kiln feature list` shows, and what was proved: *passed* means that an image with the feature was built, booted and
that all of its assertions passed, on an emulated processor; *failed* that one did not, with the reason below;
*packaged* that every package exists on that base and nothing was booted; *not offered* that the base does not have it.
Written by `tools/features_doc.py` from the catalogue and `docs/features.booted.json`, where the runs are noted.

| feature | what | Debian 12 | Debian 13 |
|---|---|---|---|
"""


def state(feature: Feature, base: str, booted: dict[str, dict[str, str]]) -> str:
    """Return what is known of *feature* on *base*."""
    if feature.bases and not {base, base.split("-", maxsplit=1)[0]} & set(feature.bases):
        return "not offered"
    return booted.get(base, {}).get(feature.id, "packaged")


def document(catalog: Catalog, noted: dict[str, dict[str, dict[str, str]]]) -> str:
    """Return the page."""
    rows = [
        f"| `{feature.id}` | {feature.title} | {' | '.join(state(feature, base, noted['booted']) for base in BASES)} |"
        for feature in catalog.features
    ]
    notes = [f"- `{name}`: {text}" for name, text in sorted(noted["notes"].items())]
    return HEAD + "\n".join(rows) + "\n\n## Notes\n\n" + "\n".join(notes) + "\n" + TAIL


if __name__ == "__main__":
    noted = json.loads(BOOTED.read_text(encoding="utf-8"))
    PAGE.write_text(document(load_catalog(catalog_folder({})), noted), encoding="utf-8")
