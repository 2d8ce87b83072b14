"""The catalogue's own data files, and what is said of wrong ones."""

import shutil
import time
from pathlib import Path

import pytest

from kiln.authoring.catalog.data import catalog_folder, load_catalog
from kiln.authoring.catalog.entries import Catalog
from kiln.authoring.recipe.nodes import read_nodes
from kiln.errors import KilnError

FOLDER = catalog_folder({})


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(FOLDER)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "catalog"))


def test_the_data_files_are_right(catalog: Catalog):
    assert len(catalog.features) >= 20
    assert {entry.base.id for entry in catalog.bases} >= {"debian-12", "debian-13", "ubuntu-24.04"}
    assert [level.id for level in catalog.levels("strict")] == ["minimal", "standard", "strict"]
    assert catalog.levels("none") == ()


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: path.name)
def test_a_data_file_means_the_same_to_a_strict_reader(path: Path):
    read_nodes(path.read_bytes(), is_json=False)


def test_every_feature_says_what_it_is_and_proves_that_it_works(catalog: Catalog):
    for feature in catalog.features:
        assert feature.title, feature.id
        assert feature.description.endswith("."), feature.id
        assert feature.synonyms, feature.id
        assert feature.assertions or feature.requires, feature.id


def test_no_phrase_means_two_features(catalog: Catalog):
    seen: dict[str, str] = {}
    for feature in catalog.features:
        for text in (feature.id, *feature.synonyms, *feature.generic_synonyms):
            assert seen.setdefault(text, feature.id) == feature.id, text


def test_no_data_file_names_a_host_of_an_archive():
    for path in FOLDER.rglob("*.yaml"):
        for name in ("debian.org", "ubuntu.com", "pypi.", "docker.io/", "docker.com"):
            assert name not in path.read_text(encoding="utf-8"), path


def test_the_environment_names_another_catalogue(copy: Path):
    assert catalog_folder({"KILN_CATALOG": str(copy)}) == copy
    with pytest.raises(KilnError) as caught:
        catalog_folder({"KILN_CATALOG": str(copy / "missing")})
    assert caught.value.reason == "no-catalog"


@pytest.mark.parametrize(
    ("old", "new", "path", "line"),
    [
        ("packages:\n  common: [redis-server]", "packages:\n  common: ['redis server']", "packages.common", 14),
        ("{name: redis-server.service}", "{nam: redis-server.service}", "assertions[0]", 30),
        ("service_running:", "service_runing:", "assertions[0]", 30),
        ('"{{ port }}"', '"{{ prot }}"', "ports[0]", 28),
        ("default: 6379", "default: 70000", "options.port", 11),
        ("title: Redis", "titel: Redis", "titel", 3),
        ("order: 50", "requires: [nothing]", "requires", 8),
        ("path: /etc/systemd", "path: /etc/../systemd", "files[0].path", 17),
        ('vm.overcommit_memory: "1"', "vm.overcommit_memory: 1", "sysctls.vm.overcommit_memory", 26),
    ],
)
def test_a_wrong_data_file_is_refused_with_its_place(copy: Path, old: str, new: str, path: str, line: int):
    file = copy / "features" / "redis.yaml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(KilnError) as caught:
        load_catalog(copy)
    error = caught.value
    assert error.reason == "bad-catalog"
    assert error.place is not None
    assert error.place.file == str(file)
    assert error.place.path == path
    assert error.place.line is not None
    assert abs(error.place.line - line) <= 5


@pytest.mark.parametrize("text", ["a: [", "id: redis\nid: redis\n", "- a", "", "a: !!python/name:os.system x", "\x00"])
def test_a_broken_data_file_is_refused(copy: Path, text: str):
    (copy / "features" / "redis.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(KilnError) as caught:
        load_catalog(copy)
    assert caught.value.reason == "bad-catalog"


def test_a_file_must_have_the_name_of_its_id(copy: Path):
    (copy / "features" / "redis.yaml").rename(copy / "features" / "other.yaml")
    with pytest.raises(KilnError) as caught:
        load_catalog(copy)
    assert caught.value.reason == "bad-catalog"
