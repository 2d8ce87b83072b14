"""docs/formats.md describes every kind of document, every field, the catalogue's keys, templates and assertions."""

from __future__ import annotations

import ast
import dataclasses
import re

import pytest
from pages import ROOT, page, rows, sections, words

from kiln.artifact.model import Artifact
from kiln.authoring.catalog import audit, entries
from kiln.authoring.catalog import model as resolution
from kiln.authoring.catalog.template import render
from kiln.authoring.lock.model import Lock, LockedIndex, LockedPackage, LockedTree
from kiln.authoring.recipe import model as recipe
from kiln.authoring.recipe.assertions import VOCABULARY
from kiln.control_plane.doctor import Finding as DoctorFinding
from kiln.control_plane.road.model import StepReport
from kiln.events import model as events
from kiln.records.model import FilePointer, Record, Run
from kiln.trial.assertions.registry import ASSERTION_TYPES
from kiln.trial.model import CheckResult, Machine, TestReport
from kiln_wire import layout
from kiln_wire.codec import camel
from kiln_wire.finding import Finding, StepResult, VerificationResult
from kiln_wire.verification import Bindings, BoundFile, TestSummary, Verification

PAGE = sections(page("formats.md"))
KIND = re.compile(r"kiln\.[a-z-]+/v[0-9]+")

DOCUMENTS = {
    "kiln.recipe/v1": (
        *(recipe.Recipe, recipe.FeatureChoice, recipe.ExtraRepository, recipe.CustomPackage, recipe.PackageOverride),
        *(recipe.ServiceConfig, recipe.User, recipe.Security, recipe.Networking, recipe.Interface, recipe.Desktop),
        *(recipe.StartupScript, recipe.Kernel, recipe.Disk, recipe.RecipeTest),
    ),
    "kiln.resolution/v1": (
        *(resolution.Resolution, resolution.Reason, resolution.ResolvedFeature, resolution.PackageWish),
        *(resolution.FileWish, resolution.RemovalWish, resolution.ServiceWish, resolution.SysctlWish),
        *(resolution.UserWish, resolution.PortWish, resolution.AssertionWish, recipe.Assertion),
    ),
    "kiln.lock/v1": (Lock, LockedIndex, LockedTree, LockedPackage),
    "kiln.test-report/v1": (TestReport, Machine, CheckResult),
    "kiln.verification/v1": (Verification, Bindings, BoundFile, TestSummary),
    "kiln.record/v1": (Record, Run, FilePointer, Artifact),
    "kiln.build/v1": (StepReport,),
    "kiln.doctor/v1": (DoctorFinding,),
    "Verification result": (VerificationResult, StepResult, Finding),
}
ENTRIES = {
    "Base file": (entries.BaseEntry,),
    "Base": (resolution.Base, resolution.Mirror),
    "Option": (entries.Option,),
    "Content": (entries.Content, entries.FileEntry, entries.Services, entries.UserEntry, entries.PortEntry),
    "Hardening level": (entries.HardeningLevel,),
}
CONTENT = {field.name for field in dataclasses.fields(entries.Content)}


def fields(*classes: type) -> set[str]:
    return {camel(field.name) for cls in classes for field in dataclasses.fields(cls)}


def first_cells(heading: str) -> set[str]:
    return {word for row in rows(PAGE[heading]) for word in words(row[0])}


def kinds_in_source() -> set[str]:
    found: set[str] = set()
    for path in [*(ROOT / "src").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and KIND.fullmatch(node.value):
                found.add(node.value)
    return found


def test_every_kind_of_document_has_its_heading_and_no_other_has_one() -> None:
    assert {heading for heading in PAGE if KIND.fullmatch(heading)} == kinds_in_source()


@pytest.mark.parametrize("heading", [heading for heading in PAGE if KIND.fullmatch(heading)])
def test_the_kind_is_the_first_field(heading: str) -> None:
    assert words(rows(PAGE[heading])[0][0]) == ["kind"]


@pytest.mark.parametrize("heading", DOCUMENTS)
def test_every_field_of_a_document_is_named(heading: str) -> None:
    named = set(words(PAGE[heading]))
    assert fields(*DOCUMENTS[heading]) <= named


@pytest.mark.parametrize("heading", DOCUMENTS)
def test_no_row_is_about_a_field_that_is_not_there(heading: str) -> None:
    known = {"kind", "verdict", "usable", "findings", *fields(*DOCUMENTS[heading])}
    if heading != "kiln.build/v1":  # put together from several values
        assert {word.rpartition(".")[2] for word in first_cells(heading)} - {"run"} <= known


def test_every_file_of_an_image_directory_has_its_row() -> None:
    listed = first_cells("Image directory")
    directories = {layout.EVIDENCE + "/", layout.ATTESTATIONS + "/*" + layout.BUNDLE_SUFFIX}
    names = {value for name, value in vars(layout).items() if name.isupper() and isinstance(value, str)}
    files = {name for name in names if "/" not in name and ":" not in name}
    files -= {layout.EVIDENCE, layout.ATTESTATIONS, layout.BUNDLE_SUFFIX}
    evidence = {layout.REPORT, layout.INVENTORY, layout.SCAN}
    assert listed == files | directories | evidence | {"<name>.qcow2", "<name>.squashfs"}


def test_every_statement_has_its_row_with_its_predicate_type() -> None:
    listed = {words(row[0])[0]: words(row[1])[0] for row in rows(PAGE["Statements"])}
    assert {f"{layout.ATTESTATIONS}/{name}": kind for name, kind in listed.items()} == dict(layout.KNOWN_STATEMENTS)


@pytest.mark.parametrize("heading", ENTRIES)
def test_every_key_of_a_catalogue_entry_is_named(heading: str) -> None:
    named = {word for row in rows(PAGE[heading]) for cell in row for word in words(cell)}
    known = fields(*ENTRIES[heading])
    assert known <= named
    assert first_cells(heading) <= known


@pytest.mark.parametrize(("heading", "cls"), [("Feature", entries.Feature), ("Part", entries.Part)])
def test_features_and_parts_name_the_keys_that_content_does_not_have(heading: str, cls: type) -> None:
    own = {camel(field.name) for field in dataclasses.fields(cls) if field.name not in CONTENT}
    assert first_cells(heading) == own


def test_every_condition_and_every_value_of_templates_is_named() -> None:
    assert {condition.split()[0] for condition in first_cells("Conditions")} == {
        "feature",
        "option",
        "base",
        "level",
        "given",
    }
    assert set(audit.GIVEN) <= set(words(PAGE["Conditions"]))
    assert set(audit.COMMON_VALUES) <= set(words(PAGE["Templates"]))


@pytest.mark.parametrize("row", rows(PAGE["Templates"]), ids=lambda row: row[0])
def test_templates_give_what_the_page_says(row: list[str]) -> None:
    template, result = ("".join(words(cell)).replace("\\n", "\n").replace("\\|", "|") for cell in row)
    assert render(template, {"port": 22, "expose": True, "servers": ("a", "b")}) == result


def test_every_assertion_has_its_row_with_its_parameters() -> None:
    listed = {}
    for name, parameters, meaning in rows(PAGE["Assertions"]):
        assert meaning
        required = re.findall(r"(?<!\[)`(\w+)`", parameters)
        listed[words(name)[0]] = ([*required], re.findall(r"\[`(\w+)`\]", parameters))
    assert listed == {
        name: (
            [param.name for param in entry.params if param.required],
            [param.name for param in entry.params if not param.required],
        )
        for name, entry in sorted(VOCABULARY.items())
    }
    carried_out = {
        name: {field.name for field in dataclasses.fields(kind.params)} for name, kind in ASSERTION_TYPES.items()
    }
    assert {name: {*required, *optional} for name, (required, optional) in listed.items()} == carried_out


def test_every_event_has_its_row_with_its_fields() -> None:
    listed = {words(row[0])[0]: words(row[1]) for row in rows(PAGE["Progress events"])}
    known = {
        re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower(): [field.name for field in dataclasses.fields(cls)]
        for cls in events.Event.__args__
    }
    assert listed == known


def test_the_page_says_whether_removals_are_carried_out() -> None:
    composed = any("removals" in path.read_text("utf-8") for path in (ROOT / "src/kiln/authoring/compose").glob("*.py"))
    assert ("does not carry them out yet" in PAGE["Content"]) is not composed
