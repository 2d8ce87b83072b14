"""docs/testing.md states the limits and the files that the code has."""

from __future__ import annotations

from pages import page, rows, sections, words

from kiln.control_plane.road.author import INTERPRETATION
from kiln.trial import run
from kiln.trial.assertions.content import COMMAND_SECONDS
from kiln.trial.assertions.network import CONTAINER_SECONDS
from kiln_wire.layout import BUILD_LOG

PAGE = sections(page("testing.md"))


def test_every_file_of_the_evidence_has_its_row() -> None:
    built = [name.rpartition("/")[2] for name in (INTERPRETATION, BUILD_LOG)]
    tested = [
        run.SERIAL_LOG,
        run.EMULATOR_LOG,
        run.REPORT_JSON,
        run.REPORT_JUNIT,
        run.REPORT_HTML,
        "check-<number>-<type>.txt",
    ]
    assert [words(row[0])[0] for row in rows(PAGE["Evidence"])] == [*built, *tested]


def test_limits_are_those_of_the_code() -> None:
    limits = run.TrialLimits()
    said = " ".join(PAGE["Checks"].split())
    for sentence in (
        f"Limit: {limits.boot_seconds:g} s from power on",
        f"up to {limits.settle_seconds:g} s for systemd",
        f"again for up to {limits.retry_seconds:g} s",
        f"After {limits.timeout_seconds:g} s altogether",
        f"(limit {COMMAND_SECONDS:g} s each)",
        f"as well ({CONTAINER_SECONDS:g} s)",
    ):
        assert sentence in said
