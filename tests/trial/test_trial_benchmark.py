"""The benchmark's script runs here as it runs in an image, and its report says everything."""

from __future__ import annotations

import subprocess

import pytest

from kiln.authoring.catalog.data import catalog_folder, load_catalog
from kiln.authoring.catalog.entries import BenchmarkControl, Exemption
from kiln.trial.assertions.benchmark import HELPERS, report, results, script
from kiln.trial.assertions.registry import validate_params
from kiln.trial.observe import Answer, Need, Seen

CIS = next(item for item in load_catalog(catalog_folder({})).benchmarks if item.id == "cis")


def run(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/bin/sh", "-c", text], capture_output=True, text=True, check=False)


def made_up(check: str, **fields: object) -> BenchmarkControl:
    return BenchmarkControl(id="made-up", level=1, title="T", check=check, **fields)  # type: ignore[arg-type]


def test_every_control_says_how_it_is_checked_or_why_it_is_not() -> None:
    assert len(CIS.controls) > 200
    for control in CIS.controls:
        assert control.title, control.id
        assert bool(control.check) != bool(control.never), control.id


def test_every_check_is_a_shell_script() -> None:
    for control in CIS.controls:
        unless = control.unless.test if control.unless else ":"
        done = run(f"set -n\n{HELPERS}\n( {control.check or ':'}\n)\n( {unless}\n)\n")
        assert (done.returncode, done.stderr) == (0, ""), control.id


@pytest.mark.parametrize(
    ("control", "status", "got"),
    [
        (made_up("echo six"), "pass", "six"),
        (made_up("printf 'a\\nb\\tc'; false"), "fail", "a b c"),
        (made_up("exit 3"), "fail", ""),
        (made_up("false", unless=Exemption(test="true", why="because")), "not applicable", "because"),
        (made_up("echo x", unless=Exemption(test="exit 1", why="because")), "pass", "x"),
        (BenchmarkControl(id="made-up", level=1, title="T", never="no disk"), "not applicable", "no disk"),
        (made_up("echo x # comment"), "pass", "x"),
    ],
)
def test_a_control_becomes_pass_fail_or_not_applicable(control: BenchmarkControl, status: str, got: str) -> None:
    other = BenchmarkControl(id="other", level=1, title="T", check="echo last")
    done = run(script([control, other]))
    first, second = results([control, other], done.stdout)
    assert (first.status, first.got) == (status, got)
    assert (second.status, second.got) == ("pass", "last")
    assert "made-up" in report([first])


@pytest.mark.parametrize(
    ("call", "status"),
    [
        ("mode_within /dev/null 0666 root root", 0),
        ("mode_within /dev/null 0644 root root", 1),
        ("mode_within /nowhere 0644 root root", 1),
        ("mode_within /etc/shadow 0640 root shadow", 0),
        ("sysctl_is kernel.ostype Linux", 0),
        ("sysctl_is kernel.ostype Minix Linux", 0),
        ("sysctl_is kernel.ostype Minix", 1),
        ("package_there bash", 0),
        ("package_there no-such-package", 1),
        ("package_absent no-such-package other", 0),
        ("package_absent no-such-package bash", 1),
    ],
)
def test_the_helpers_tell_good_from_bad(call: str, status: int) -> None:
    assert run(f"{HELPERS}\n{call}").returncode == status


def test_the_verdict_names_what_failed_and_keeps_the_report() -> None:
    ready = validate_params("cis_benchmark", {"level": 2})
    (need,) = ready.needs
    assert need.kind == "script"
    lines = [f"{control.id}\tpass\tok" for control in CIS.controls if control.check]
    good = ready.decide(Seen({need: Answer(0, "\n".join(lines))}))
    assert (good.verdict, good.keep) == ("pass", True)
    assert good.evidence.count("\n") == len(CIS.controls)
    bad = ready.decide(Seen({need: Answer(0, "\n".join(lines).replace("aslr\tpass", "aslr\tfail"))}))
    assert bad.verdict == "fail"
    assert "aslr" in bad.got
    cut = ready.decide(Seen({need: Answer(0, "\n".join(lines[:-1]))}))
    assert cut.verdict == "fail"
    assert ready.decide(Seen({Need("x"): Answer(0, "")})).verdict == "error"


def test_level_one_asks_for_less() -> None:
    one, two = (validate_params("cis_benchmark", {"level": level}).params.controls for level in (1, 2))
    assert set(one) < set(two)
    assert {control.level for control in one} == {1}
