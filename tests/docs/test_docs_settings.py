"""docs/settings.md and docs/exit-status.md say what the code reads, keeps and returns."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

from pages import ROOT, page, rows, sections, words

from kiln.authoring.lock.keyrings import KEYRING_DIRECTORIES
from kiln.control_plane.settings import Settings, load_settings
from kiln.control_plane.watching import WITNESS_ROLE
from kiln.errors import ExitStatus
from kiln.records.log import DIRECTORY as LOG
from kiln.records.store import FILE_NAME
from kiln.trial.accelerator import STATE_FILE
from kiln.vulnerabilities.database import FILE_NAME as ADVISORIES

PAGE = sections(page("settings.md"))


def example() -> str:
    lines = [line[4:] for line in PAGE["Settings"].splitlines() if line.startswith("    ")]
    return "\n".join(lines)


def test_the_example_has_every_key_and_can_be_read(tmp_path: Path) -> None:
    assert tomllib.loads(example()).keys() == {field.name for field in dataclasses.fields(Settings)}
    (tmp_path / "kiln.toml").write_text(example(), encoding="utf-8")
    environment = {"XDG_STATE_HOME": str(tmp_path), "KILN_BASE": "ubuntu-24.04"}
    read = load_settings(tmp_path, environment)
    assert read.state == Path("/var/lib/kiln")
    assert read.base == "ubuntu-24.04"


def test_every_variable_has_its_row() -> None:
    read = {
        name
        for path in (ROOT / "src").rglob("*.py")
        for name in re.findall(r'"(KILN_[A-Z]+)"', path.read_text("utf-8"))
    }
    assert {words(row[0])[0] for row in rows(PAGE["Settings"])} == read


def test_the_state_and_the_keyrings_are_where_the_page_says() -> None:
    state = Settings(Path("state"))
    folders = {
        f"{path.name}/"
        for path in (state.store, state.cache, state.keys, state.runs, state.trust, Path(LOG), Path(WITNESS_ROLE))
    }
    assert {words(row[0])[0] for row in rows(PAGE["State"])} == folders | {FILE_NAME, STATE_FILE, ADVISORIES}
    assert {str(path) for path in KEYRING_DIRECTORIES} <= set(words(PAGE["Mirrors"]))


def test_every_exit_status_has_its_row() -> None:
    listed = [int(row[0]) for row in rows(sections(page("exit-status.md"))["Exit statuses"])]
    assert listed == [int(status) for status in ExitStatus]
