"""Reading manifests: what is refused, with which words, and how the work grows."""

from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path

import pytest

from kiln.engine.manifest import runners
from kiln.engine.manifest.load import load
from kiln.engine.manifest.modules import Modules
from kiln.engine.manifest.validate import InvalidManifestError, validate
from kiln.errors import KilnError

REPOSITORY = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"


def refused(document, modules):
    with pytest.raises(InvalidManifestError) as caught:
        validate(document, modules)
    return [(finding.id, finding.message) for finding in caught.value.findings]


@pytest.fixture
def modules(libdir):
    return Modules(libdir)


def stages(*descriptions):
    return {"version": "2", "pipelines": [{"name": "p", "stages": list(descriptions)}]}


def test_every_finding_is_reported_sorted_by_its_path(modules):
    document = stages(
        {"type": "org.kiln.test.script"},
        {"type": "org.kiln.test.script", "options": {"script": 1}},
        {"type": "org.osbuild.unknown"},
    ) | {"extra": 1}
    assert refused(document, modules) == [
        (".", "Additional properties are not allowed ('extra' was unexpected)"),
        (".pipelines[0].stages[1].options.script", "1 is not of type 'string'"),
        (".pipelines[0].stages[2]", "could not find schema information for 'org.osbuild.unknown'"),
    ]


def test_inputs_are_refused_where_a_stage_does_not_declare_them(modules, libdir):
    meta = {"summary": "x", "description": [], "schema": {"type": "object"}}
    (libdir / "stages/org.kiln.test.plain.meta.json").write_text(json.dumps(meta))
    entry = {"type": "org.osbuild.tree", "origin": "org.osbuild.pipeline", "references": ["name:p"]}
    ok = stages({"type": "org.kiln.test.plain", "mounts": [], "devices": {}})
    validate(ok, modules)
    found = refused(stages({"type": "org.kiln.test.plain", "inputs": {"x": entry}}), modules)
    assert found[0][1] == "Additional properties are not allowed ('inputs' was unexpected)"


def test_definitions_inside_options_are_found(modules, libdir):
    schema = {"properties": {"a": {"$ref": "#/definitions/x"}}, "definitions": {"x": {"type": "integer"}}}
    meta = {"summary": "x", "description": [], "schema": schema}
    (libdir / "stages/org.kiln.test.defs.meta.json").write_text(json.dumps(meta))
    validate(stages({"type": "org.kiln.test.defs", "options": {"a": 1}}), modules)
    assert refused(stages({"type": "org.kiln.test.defs", "options": {"a": "1"}}), modules)


def test_a_schema_that_refers_elsewhere_is_a_finding_and_nothing_is_fetched(modules, libdir):
    meta = {"summary": "x", "description": [], "schema": {"$ref": "http://localhost:1/x.json"}}
    (libdir / "stages/org.kiln.test.remote.meta.json").write_text(json.dumps(meta))
    found = refused(stages({"type": "org.kiln.test.remote", "options": {}}), modules)
    assert "refers to what it does not define" in found[0][1]


def test_a_description_in_the_source_of_a_program_is_read_without_running_it(modules, libdir):
    program = (
        '"""Summary.\n\nMore."""\nSCHEMA = """"additionalProperties": false"""\nCAPABILITIES = {"CAP_MAC_ADMIN"}\n1/0\n'
    )
    (libdir / "stages/org.kiln.test.source").write_text(program)
    module = modules.find("Stage", "org.kiln.test.source")
    assert (module.summary, module.capabilities) == ("Summary.", {"CAP_MAC_ADMIN"})
    assert module.schema_1 == {"additionalProperties": False}


@pytest.mark.parametrize("name", ["../stages/org.osbuild.noop", "", ".", ".."])
def test_a_module_name_cannot_leave_the_libdir(modules, name):
    assert modules.find("Stage", name) is None


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"pipeline": {"assembler": {}}}, "invalid-manifest"),
        ({"version": "3"}, "unsupported-format"),
        ({"version": 2}, "unsupported-format"),
        ([], "invalid-manifest"),
        (None, "invalid-manifest"),
    ],
)
def test_other_formats_are_refused(modules, document, reason):
    with pytest.raises(KilnError) as caught:
        validate(document, modules)
    assert caught.value.reason == reason
    assert caught.value.exit_status == 2


def two(second, **first):
    return {"version": "2", "pipelines": [{"name": "a", "stages": [{"type": "org.osbuild.noop"}], **first}, second]}


NOOP = {"type": "org.osbuild.noop"}
TREE = {"type": "org.osbuild.tree", "origin": "org.osbuild.pipeline"}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (two({"name": "a"}), "two pipelines have the name"),
        (two({"name": "b", "build": "name:c"}), "no earlier pipeline has the name `c`"),
        (two({"name": "b", "build": "feed"}), "no earlier pipeline has the id"),
        (two({"name": "b"}, build="name:b"), "no earlier pipeline has the name `b`"),
        (two({"stages": []}), "no name"),
        (two({"name": "b", "stages": [NOOP | {"inputs": {"x": TREE | {"references": ["name:x"]}}}]}), "`x`"),
        (two({"name": "b", "stages": [NOOP | {"inputs": {"x": TREE | {"references": ["a"]}}}]}), "does not name"),
        (
            two(
                {
                    "name": "b",
                    "stages": [
                        NOOP
                        | {
                            "inputs": {
                                "x": {
                                    "type": "org.osbuild.files",
                                    "origin": "org.osbuild.source",
                                    "references": ["sha256:00"],
                                }
                            }
                        }
                    ],
                }
            ),
            "no source provides",
        ),
        (two({"name": "b", "stages": [NOOP | {"devices": {"x": {"type": "t", "parent": "y"}}}]}), "`y` does not exist"),
        (
            two({"name": "b", "stages": [NOOP | {"devices": {n: {"type": "t", "parent": n} for n in "x"}}]}),
            "its own ancestor",
        ),
        (two({"name": "b", "stages": [NOOP | {"mounts": [{"name": "m", "type": "t", "source": "d"}]}]}), "`d`"),
        (two({"name": "b", "stages": [NOOP | {"mounts": [{"name": "m", "type": "t"}] * 2}]}), "two mounts"),
    ],
)
def test_what_no_schema_can_say_is_refused_by_place(document, words):
    with pytest.raises(KilnError) as caught:
        load(document)
    assert caught.value.reason == "invalid-manifest"
    assert words in caught.value.message
    assert caught.value.place.path.startswith(".pipelines[1]") or words.endswith("`b`")


def test_loading_is_linear_in_the_number_of_references():
    def seconds(count):
        names = [f"sha256:{number:064x}" for number in range(count)]
        entry = {"type": "org.osbuild.files", "origin": "org.osbuild.source", "references": names}
        document = stages(NOOP | {"inputs": {"x": entry}}) | {
            "sources": {"org.osbuild.inline": {"items": {key: {} for key in names}}}
        }
        best = 1e9
        for _ in range(3):
            started = time.process_time()
            load(document)
            best = min(best, time.process_time() - started)
        return best

    # A ratio of one run, halfway between linear (8) and quadratic (64), so that a busy machine does not decide it.
    assert seconds(16000) < 32 * max(seconds(2000), 0.0005)


def test_five_hundred_broken_manifests_never_give_a_traceback(modules):
    original = json.loads((GOLDEN / "manifest.json").read_text(encoding="utf-8"))
    random_ = random.Random(5)
    values = [None, 1, -1.5, "", "name:os", [], {}, [None], {"x": None}, True, "\udcff", [[]], {"type": []}]

    def mutate(value):
        if isinstance(value, dict) and value and random_.random() < 0.8:
            key = random_.choice(list(value))
            result = dict(value)
            if random_.random() < 0.15:
                del result[key]
            else:
                result[key] = mutate(value[key])
            return result
        if isinstance(value, list) and value and random_.random() < 0.8:
            index = random_.randrange(len(value))
            return [*value[:index], mutate(value[index]), *value[index + 1 :]]
        return random_.choice(values)

    accepted = 0
    for _ in range(500):
        document = mutate(original)
        try:
            validate(document, modules)
            load(document)
            accepted += 1
        except KilnError:
            continue
    assert accepted < 500


def test_deep_nesting_is_refused(modules):
    deep = current = {}
    for _ in range(5000):
        current["a"] = {}
        current = current["a"]
    assert refused(stages({"type": "org.osbuild.noop", "options": deep}), modules)[0][1].startswith("nested deeper")


def test_the_runner_is_the_newest_that_is_not_newer_than_asked_for():
    names = ["org.osbuild.fedora30", "org.osbuild.fedora38", "org.osbuild.fedora40", "org.osbuild.linux"]
    assert runners.choose("org.osbuild.fedora39", names) == "org.osbuild.fedora38"
    assert runners.choose("org.osbuild.fedora29", names) is None
    assert runners.choose("org.osbuild.linux", names) == "org.osbuild.linux"
    assert runners.host_runner('ID=ubuntu\nVERSION_ID="24.04"\n') == "org.osbuild.ubuntu2404"
    assert runners.is_native("org.osbuild.debian12")
    assert not runners.is_native("org.osbuild.fedora40")


def test_the_repositorys_own_descriptions_are_valid():
    modules = Modules(REPOSITORY / "libdir")
    from jsonschema import Draft4Validator

    Draft4Validator.check_schema(modules.manifest_schema())
    for path in sorted((REPOSITORY / "libdir/stages").glob("*.meta.json")):
        module = modules.find("Stage", path.name.removesuffix(".meta.json"))
        assert module is not None, path.name
        Draft4Validator.check_schema(module.validation_schema())
        assert shutil.which(str(module.path)), f"{module.path} is not executable"
