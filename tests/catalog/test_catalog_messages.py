"""What people read when features do not go together: golden messages, word for word."""

from dataclasses import replace

import pytest

from kiln.authoring.catalog.data import catalog_folder, load_catalog
from kiln.authoring.catalog.entries import Catalog, Feature, PortEntry
from kiln.authoring.catalog.resolve import resolve
from kiln.authoring.catalog.why import things, why, without
from kiln.authoring.recipe.load import read_recipe
from kiln.authoring.recipe.model import FeatureChoice, Recipe
from kiln.cli.failure import render
from kiln.errors import KilnError

CATALOG = load_catalog(catalog_folder({}))


def made_up(feature_id: str, **fields: object) -> Feature:
    return Feature(id=feature_id, version="1", title="T", description="D.", category="c", **fields)  # type: ignore[arg-type]


def message(catalog: Catalog, *features: str, level: str = "none") -> str:
    recipe = Recipe("x", "debian-12", tuple(FeatureChoice(name) for name in features))
    recipe = replace(recipe, security=replace(recipe.security, hardening_level=level))  # type: ignore[arg-type]
    with pytest.raises(KilnError) as caught:
        resolve(recipe, catalog, {features[0]: f'request "{features[0].upper()}"'})
    return render(caught.value, colour=False)


def small(*features: Feature) -> Catalog:
    return replace(CATALOG, features=tuple(sorted(features, key=lambda feature: feature.id)))


def test_conflict() -> None:
    assert message(CATALOG, "desktop-gnome", "kiosk") == (
        "error[catalog/feature-conflict]: the features `desktop-gnome` and `kiosk` exclude each other "
        "(both are `graphical-session`)\n"
        '  | request "DESKTOP-GNOME" > feature desktop-gnome\n'
        "  | recipe > feature kiosk\n"
        "  hint: leave out `desktop-gnome` or `kiosk`"
    )


def test_conflict_behind_requirements_shows_both_chains_whole() -> None:
    catalog = small(
        made_up("app", requires=("engine",)),
        made_up("engine", requires=("driver",)),
        made_up("driver", provides=("screen",)),
        made_up("quiet", requires=("dark",)),
        made_up("dark", conflicts=("screen",)),
        made_up("other"),
    )
    assert message(catalog, "app", "other", "quiet") == (
        "error[catalog/feature-conflict]: the features `dark` and `driver` exclude each other (both are `screen`)\n"
        "  | recipe > feature quiet > feature dark\n"
        '  | request "APP" > feature app > feature engine > feature driver\n'
        "  hint: leave out `dark` or `driver`"
    )


def test_conflict_over_a_name_that_several_could_serve_names_the_first() -> None:
    assert "`desktop-xfce` and `kiosk`" in message(CATALOG, "kiosk", "remote-desktop").replace(
        "`kiosk` and `desktop-xfce`", "`desktop-xfce` and `kiosk`"
    )


def test_a_name_is_served_by_what_excludes_nothing() -> None:
    catalog = small(
        made_up("app", requires=("store",)),
        made_up("fast", provides=("store",), conflicts=("safe",), order=1),
        made_up("slow", provides=("store",), order=2),
        made_up("safe"),
    )
    recipe = Recipe("x", "debian-12", (FeatureChoice("app"), FeatureChoice("safe")))
    recipe = replace(recipe, security=replace(recipe.security, hardening_level="none"))
    assert {feature.id for feature in resolve(recipe, catalog).features} == {"app", "safe", "slow"}


def test_cycle() -> None:
    catalog = small(made_up("a", requires=("b",)), made_up("b", requires=("c",)), made_up("c", requires=("a",)))
    assert message(catalog, "b") == (
        "error[catalog/feature-cycle]: features require each other in a circle: a > b > c > a\n"
        "  hint: one of them must not require the next; this is a mistake in the catalogue"
    )


def test_missing_feature() -> None:
    catalog = small(made_up("app", requires=("databse",)), made_up("database"))
    assert message(catalog, "app") == (
        "error[catalog/unknown-feature]: unknown feature 'databse' "
        '(asked for by request "APP" > feature app)\n'
        "  hint: did you mean `database`?"
    )


def test_port_clash() -> None:
    assert message(CATALOG, "dns", "dns-authoritative") == (
        "error[catalog/port-clash]: two features listen on port 53/tcp\n"
        '  | request "DNS" > feature dns > part local\n'
        "  | recipe > feature dns-authoritative\n"
        "  hint: give one of them another port in its options"
    )


def test_port_clash_of_made_up_features() -> None:
    catalog = small(made_up("a", ports=(PortEntry(port="80"),)), made_up("b", ports=(PortEntry(port="80"),)))
    assert message(catalog, "a", "b") == (
        "error[catalog/port-clash]: two features listen on port 80/tcp\n"
        '  | request "A" > feature a\n'
        "  | recipe > feature b\n"
        "  hint: give one of them another port in its options"
    )


def test_why_gives_the_chain_of_each_thing_of_that_name() -> None:
    recipe = read_recipe(b"base: debian-12\nfeatures: [docker, sftp]\nsecurity_level: none", "a.yaml")
    found = resolve(recipe, CATALOG, {"docker": 'request "Docker"'})
    assert [(thing.kind, thing.reason.chain) for thing in why(found, "docker.io")] == [
        ("package", ('request "Docker"', "feature docker"))
    ]
    assert [thing.reason.chain for thing in why(found, "22")] == [("recipe", "feature sftp", "feature ssh")]
    assert {thing.kind for thing in why(found, "ssh")} == {"feature", "service"}
    assert why(found, "nothing") == ()
    assert len({(thing.kind, thing.name) for thing in things(found)}) == len(list(things(found)))


def test_what_would_go_without_a_feature() -> None:
    recipe = read_recipe(b"base: debian-12\nfeatures: [docker, ssh, sftp]\nsecurity_level: none", "a.yaml")
    gone = without(recipe, CATALOG, "docker")
    assert gone.kept_by == ()
    assert {("feature", "docker"), ("package", "docker.io"), ("file", "/etc/docker/daemon.json")} <= {
        (thing.kind, thing.name) for thing in gone.gone
    }
    assert "openssh-server" not in {thing.name for thing in gone.gone}
    kept = without(recipe, CATALOG, "ssh")
    assert kept.kept_by == ("recipe", "feature sftp")
    assert kept.gone == ()
