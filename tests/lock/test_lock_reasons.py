"""Why a package is in: the shortest chain, the same whatever the order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lock_archive import deb, packages_text

from kiln.authoring.lock.packages import PackageRecord, PackagesFile
from kiln.authoring.lock.reasons import Root, UnmetRootError, explain


def records(*stanzas: dict[str, str]) -> list[PackageRecord]:
    return list(PackagesFile(packages_text(stanzas), mirror="test", suite="s", path="p"))


def reasons(packages: list[PackageRecord], *roots: tuple[str, str]) -> dict[str, str]:
    found = explain(packages, [Root(name, reason) for name, reason in roots])
    return {name: explanation.reason for name, explanation in found.items()}


def test_the_shortest_chain_is_told() -> None:
    tree = records(deb("docker", Depends="containerd, long"), deb("containerd", Depends="runc"),
                   deb("long", Depends="longer"), deb("longer", Depends="runc"), deb("runc"))  # fmt: skip
    assert reasons(tree, ("docker", "feature docker")) == {
        "docker": "feature docker",
        "containerd": "feature docker > docker > containerd",
        "long": "feature docker > docker > long",
        "longer": "feature docker > docker > long > longer",
        "runc": "feature docker > docker > containerd > runc",
    }


def test_the_first_of_equal_roots_wins_and_a_root_keeps_its_own_reason() -> None:
    tree = records(deb("bb", Depends="cc"), deb("aa", Depends="cc, bb"), deb("cc"))
    roots = (("bb", "essential"), ("aa", "feature x"), ("bb", "feature y"))
    assert reasons(tree, *roots) == {"aa": "feature x", "bb": "essential", "cc": "essential > bb > cc"}


def test_a_virtual_root_and_a_virtual_dependency_are_explained() -> None:
    tree = records(deb("exim", Provides="mta"), deb("app", Depends="nothing | mta"))
    assert reasons(tree, ("mta", "feature mail"))["exim"] == "feature mail > mta > exim"
    found = explain(tree, [Root("app", "feature app")])
    assert found["app"].depends == ("exim",)
    assert found["exim"].reason == "feature app > app > exim"


def test_a_recommended_package_is_marked_and_told_only_where_nothing_depends_on_it() -> None:
    tree = records(deb("app", Recommends="doc, lib", Depends="mid"), deb("mid", Depends="lib"), deb("lib"),
                   deb("doc", Depends="viewer"), deb("viewer"))  # fmt: skip
    found = reasons(tree, ("app", "feature app"))
    assert found["lib"] == "feature app > app > mid > lib"
    assert found["doc"] == "feature app > app > doc (recommended)"
    assert found["viewer"] == "feature app > app > doc (recommended) > viewer"


def test_versions_decide_which_alternative_is_meant() -> None:
    tree = records(deb("app", Depends="lib (>= 2) | other, virt (= 1), virt2"), deb("lib", "1.0"), deb("other"),
                   deb("provider", "9", Provides="virt (= 1), virt2"))  # fmt: skip
    explanation = explain(tree, [Root("app", "r")])["app"]
    assert explanation.depends == ("other", "provider")
    assert explanation.unmet == ()


def test_an_unversioned_provision_does_not_meet_a_versioned_dependency() -> None:
    tree = records(deb("app", Depends="virt (>= 1)"), deb("provider", "9", Provides="virt"))
    assert [clause[0].name for clause in explain(tree, [Root("app", "r")])["app"].unmet] == ["virt"]


def test_a_package_that_nothing_led_to_is_the_solvers_choice() -> None:
    assert reasons(records(deb("app"), deb("stray")), ("app", "r"))["stray"] == "solver"


def test_a_root_that_is_missing_is_not_passed_over() -> None:
    with pytest.raises(UnmetRootError):
        explain(records(deb("app")), [Root("other", "r")])


GRAPHS = st.dictionaries(st.integers(0, 7), st.sets(st.integers(0, 7), max_size=4), min_size=8, max_size=8)


@given(GRAPHS, st.randoms())
def test_any_graph_is_explained_the_same_in_any_order(graph: dict[int, set[int]], random: object) -> None:
    stanzas = [
        deb(f"p{node}", Depends=", ".join(f"p{target}" for target in sorted(targets)))
        for node, targets in graph.items()
    ]
    first = reasons(records(*stanzas), ("p0", "root"))
    random.shuffle(stanzas)  # type: ignore[attr-defined]
    assert reasons(records(*stanzas), ("p0", "root")) == first
    distance = {0: 0}
    level = [0]
    while level:
        level = [far for near in level for far in sorted(graph[near])]
        level = [far for far in dict.fromkeys(level) if far not in distance]
        distance |= dict.fromkeys(level, max(distance.values()) + 1)
    for node in graph:
        reason = first[f"p{node}"]
        assert (reason == "solver") == (node not in distance)
        if distance.get(node, 0):
            assert reason.count(" > ") == distance[node] + 1
            assert reason.endswith(f" > p{node}")
