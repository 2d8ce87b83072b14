"""The real apt in its private room: what it chooses, what it never touches, and how it says no."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from lock_archive import NOW, Archive, Bench, Signer, deb

from kiln.authoring.lock.apt_explanation import no_solution, parse_problems
from kiln.authoring.lock.apt_room import AptRoom
from kiln.authoring.lock.indexes import IndexReader, ReadIndex
from kiln.authoring.lock.packages import PackageRecord, PackagesFile, Universe
from kiln.authoring.lock.solver import AptSolver, SolveRequest
from kiln.errors import KilnError

SIGNER = Signer()
pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt-get")

STANZAS = [
    deb("base", Essential="yes", Depends="libc (>= 2)"),
    deb("libc", "2.0"),
    deb("libc", "2.1"),
    deb("server", Depends="engine | other-engine, shell", Recommends="docs"),
    deb("engine", "1:1.0~rc1-2+b1", Depends="libc"),
    deb("other-engine"),
    deb("docs", Architecture="all"),
    deb("bash-like", Provides="shell"),
    deb("mta-one", Provides="mta"),
    deb("mta-two", Provides="mta", Conflicts="mta-one"),
    deb("broken", Depends="nothing-has-this (>= 3)"),
    deb("g++"),
]


def universe_of(room: Path, stanzas: Sequence[Mapping[str, str]]) -> tuple[Universe, tuple[ReadIndex, ...]]:
    bench = Bench(Archive(SIGNER, stanzas), room)
    reader = IndexReader(bench.fetcher, bench.keyrings, bench.cache, bench.sink, NOW)
    indexes = reader.read(bench.mirrors(), "amd64")
    files = [
        PackagesFile(file.data, mirror="test", suite=index.signed.name.suite, path=file.path)
        for index in indexes
        for file in index.files
    ]
    return Universe(files), indexes


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Universe, tuple[ReadIndex, ...], Path]:
    room = tmp_path_factory.mktemp("solver")
    return *universe_of(room, STANZAS), room / "apt"


Shared = tuple[Universe, tuple[ReadIndex, ...], Path]


def solve(
    shared: Shared, *wanted: str, excluded: tuple[str, ...] = (), recommends: bool = False
) -> list[PackageRecord]:
    universe, indexes, rooms = shared
    return AptSolver(rooms, "amd64").solve(universe, indexes, SolveRequest("image", wanted, excluded, recommends))


def names(records: Sequence[PackageRecord]) -> list[str]:
    return sorted(record.name for record in records)


def refusal(shared: Shared, *wanted: str, excluded: tuple[str, ...] = ()) -> KilnError:
    with pytest.raises(KilnError) as caught:
        solve(shared, *wanted, excluded=excluded)
    assert caught.value.hint
    return caught.value


def test_dependencies_are_followed_and_the_newest_version_is_taken(shared: Shared) -> None:
    chosen = solve(shared, "base", "server")
    assert names(chosen) == ["base", "bash-like", "engine", "libc", "server"]
    versions = {record.name: record.version for record in chosen}
    assert versions["libc"] == "2.1"
    assert versions["engine"] == "1:1.0~rc1-2+b1"


def test_recommended_packages_come_only_when_asked_for(shared: Shared) -> None:
    assert "docs" in names(solve(shared, "server", recommends=True))
    assert "docs" not in names(solve(shared, "server"))
    assert "docs" not in names(solve(shared, "server", excluded=("docs",), recommends=True))


def test_an_excluded_alternative_is_replaced(shared: Shared) -> None:
    assert "other-engine" in names(solve(shared, "server", excluded=("engine",)))


def test_a_name_that_ends_with_a_plus_is_a_name(shared: Shared) -> None:
    assert names(solve(shared, "g++")) == ["g++"]


def test_a_virtual_package_with_one_provider_is_that_provider(shared: Shared) -> None:
    assert names(solve(shared, "shell")) == ["bash-like"]


def test_a_virtual_package_with_several_providers_is_not_guessed(shared: Shared) -> None:
    error = refusal(shared, "mta")
    assert error.reason == "no-solution"
    assert error.detail.split() == ["mta-one", "mta-two"]


def test_an_unknown_package_is_refused_with_the_nearest_name(shared: Shared) -> None:
    error = refusal(shared, "sever")
    assert error.reason == "unknown-package"
    assert "`server`" in error.hint


@pytest.mark.parametrize(
    "name",
    [
        "--simulate=false",
        "-oDir::Etc=/etc/apt",
        "-y",
        "server-",
        "server+",
        "server=1.0",
        "server/testing-suite",
        "server:arm64",
        "serv.*",
        "serv*",
        "^server$",
        "~nserver",
        "?essential",
        "task^",
        "./file.deb",
        "/etc/passwd",
        "",
        "a b",
        "server\n",
    ],
)
def test_a_name_is_never_an_option_a_pattern_a_version_or_a_file(shared: Shared, name: str) -> None:
    assert refusal(shared, name).reason == "unknown-package"
    assert refusal(shared, "base", excluded=(name,)).reason == "unknown-package"


def test_conflicting_packages_are_named(shared: Shared) -> None:
    error = refusal(shared, "mta-one", "mta-two")
    assert error.reason == "no-solution"
    assert "mta-two conflicts with mta-one" in error.message
    assert "unmet dependencies" in error.detail


def test_a_dependency_that_no_index_has_is_named(shared: Shared) -> None:
    error = refusal(shared, "broken")
    assert "broken needs nothing-has-this (>= 3), which no index has" in error.message


def test_an_excluded_package_that_is_needed_is_named_as_the_cause(shared: Shared) -> None:
    error = refusal(shared, "base", "server", excluded=("libc",))
    assert "libc is excluded, but" in error.message
    assert "base" in error.message


def test_the_same_question_has_the_same_answer_in_any_order_and_in_a_kept_room(shared: Shared, tmp_path: Path) -> None:
    first = solve(shared, "base", "server", "g++")
    assert solve(shared, "g++", "server", "base") == first
    universe, indexes, _ = shared
    again = AptSolver(tmp_path, "amd64").solve(universe, indexes, SolveRequest("image", ("g++", "server", "base")))
    assert again == first


def wrapped(tmp_path: Path, command: str) -> str:
    program = tmp_path / "apt-get"
    program.write_text(f'#!/bin/sh\nexec {command} {shutil.which("apt-get")} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_apt_opens_nothing_of_the_hosts_configuration_or_state_and_no_socket(shared: Shared, tmp_path: Path) -> None:
    universe, indexes, _ = shared
    trace = tmp_path / "trace"
    program = wrapped(tmp_path, f"strace -f -e trace=file,network -o {trace}")
    solver = AptSolver(tmp_path / "rooms", "amd64", program=program)
    assert solver.solve(universe, indexes, SolveRequest("image", ("base", "server")))
    text = trace.read_text()
    if "open" not in text:
        pytest.skip("this host does not allow tracing")
    assert str(tmp_path / "rooms") in text
    calls = [line for line in text.splitlines() if not line.rstrip().endswith("exited with 0 +++")]
    forbidden = re.compile(r'"/(?:etc/apt|var/lib/(?:dpkg|apt)|var/cache/apt|var/log/apt)|"/root/')
    assert [line for line in calls if forbidden.search(line)] == []
    assert [line for line in calls if re.search(r"\b(?:socket|connect|sendto)\(", line)] == []


@pytest.mark.root
@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
def test_a_host_with_poisoned_apt_and_dpkg_and_no_network_gives_the_same_answer(shared: Shared, tmp_path: Path) -> None:
    universe, indexes, _ = shared
    poison = tmp_path / "poison"
    poison.write_text('This is "neither configuration nor a list of packages\n')
    command = "bwrap --bind / / --dev /dev --unshare-net"
    for directory, file in (
        ("/etc/apt", "apt.conf"),
        ("/var/lib/dpkg", "status"),
        ("/var/lib/apt/lists", "x_InRelease"),
    ):
        command += f" --tmpfs {directory} --ro-bind {poison} {directory}/{file}"
    command += f" --ro-bind {poison} /etc/apt/sources.list --ro-bind {poison} /etc/apt/preferences"
    solver = AptSolver(tmp_path / "rooms", "amd64", program=wrapped(tmp_path, command))
    request = SolveRequest("image", ("base", "server"))
    if subprocess.run(["bwrap", "--bind", "/", "/", "--unshare-net", "true"], check=False).returncode != 0:
        pytest.skip("this host does not allow namespaces")
    assert solver.solve(universe, indexes, request) == solve(shared, "base", "server")


def test_a_missing_apt_is_the_hosts_matter(shared: Shared, tmp_path: Path) -> None:
    universe, indexes, _ = shared
    with pytest.raises(KilnError) as caught:
        AptSolver(tmp_path, "amd64", program="apt-get-that-is-not-there").solve(
            universe, indexes, SolveRequest("image", ("base",))
        )
    assert caught.value.reason == "missing-tool"


def test_old_rooms_are_removed(tmp_path: Path) -> None:
    _, indexes = universe_of(tmp_path, STANZAS)
    for number in range(6):
        AptRoom(tmp_path / "rooms", indexes, f"arch{number}").prepare()
    assert len([path for path in (tmp_path / "rooms").iterdir() if path.is_dir()]) == 4


def test_a_path_that_apts_configuration_cannot_spell_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KilnError) as caught:
        AptRoom(tmp_path / 'a"; APT::x "', (), "amd64")
    assert caught.value.reason == "bad-path"


def test_a_word_cannot_add_to_apts_configuration(tmp_path: Path) -> None:
    with pytest.raises(KilnError) as caught:
        AptRoom(tmp_path, (), 'amd64"; APT::x "')
    assert caught.value.reason == "bad-name"


UNMET = """\
Reading package lists...
The following packages have unmet dependencies:
 one : PreDepends: two (>= 1) but it is not going to be installed
       Depends: three but it is not installable
 four : Breaks: one (< 2) but 1.0 is to be installed
"""


def test_apts_list_of_problems_is_read() -> None:
    assert [str(problem) for problem in parse_problems(UNMET)] == [
        "one needs two (>= 1)",
        "one needs three, which no index has",
        "four breaks one (< 2)",
    ]


def test_without_a_list_apts_last_error_is_the_reason() -> None:
    error = no_solution("image", (), "", "E: First.\nE: Second thing.\n")
    assert error.message.endswith("Second thing")
