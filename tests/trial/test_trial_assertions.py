"""The vocabulary: reading parameters, and verdicts as a pure function of what was seen."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiln.authoring.recipe.assertions import VOCABULARY
from kiln.errors import KilnError
from kiln.trial.assertions.registry import ASSERTION_TYPES, validate_params
from kiln.trial.evaluate import describe
from kiln.trial.observe import ALONE, JOINT, OUTSIDE, SINGLE, Answer, Need, Seen

EXAMPLES: dict[str, dict[str, object]] = {
    "apparmor_state": {"profile": "/usr/sbin/chronyd", "mode": "enforce"},
    "boot_time_under": {"seconds": 60},
    "command": {"run": "true"},
    "container_runs": {},
    "cis_benchmark": {"level": 2},
    "dns_resolves": {"name": "localhost"},
    "file_absent": {"path": "/etc/nologin"},
    "file_contains": {"path": "/etc/hosts", "text": "localhost"},
    "file_exists": {"path": "/etc/shadow", "mode": "0640", "owner": "root", "group": "shadow"},
    "group_exists": {"name": "docker"},
    "http_responds": {"url": "http://localhost:9100/metrics", "status": 200, "contains": "node_"},
    "image_size_under": {"mib": 2048},
    "kernel_module": {"name": "overlay"},
    "login_prompt": {},
    "mount": {"path": "/tmp", "options": ("nodev", "nosuid")},
    "package_installed": {"name": "openssh-server", "version": "1:9.2"},
    "package_not_installed": {"name": "telnetd"},
    "port_closed": {"port": 23},
    "port_listening": {"port": 53, "protocol": "udp"},
    "process_running": {"name": "dockerd"},
    "sbom_has": {"name": "docker.io", "version": "20"},
    "service_enabled": {"name": "ssh"},
    "service_running": {"name": "docker.socket"},
    "ssh_answers": {"port": 22},
    "ssh_refuses_passwords": {},
    "sshd_setting": {"key": "PermitRootLogin", "value": False},
    "sysctl": {"key": "net.ipv4.ip_forward", "value": 1},
    "systemd_no_failed": {},
    "user_exists": {"name": "root"},
}


def verdict(type_name: str, answer: Answer, /, **params: object) -> str:
    """The verdict where every look gave *answer*."""
    ready = validate_params(type_name, params)
    return ready.decide(Seen(dict.fromkeys(ready.needs, answer))).verdict


def test_every_type_has_an_example_and_the_other_way_round() -> None:
    assert set(EXAMPLES) == set(ASSERTION_TYPES)


@pytest.mark.parametrize("type_name", sorted(EXAMPLES))
def test_parameters_are_read_from_pairs_and_from_mappings(type_name: str) -> None:
    params = EXAMPLES[type_name]
    ready = validate_params(type_name, params)
    assert ready == validate_params(type_name, tuple(params.items()))
    assert ready.needs
    assert all(need.kind in {*JOINT, *SINGLE, *ALONE, *OUTSIDE} for need in ready.needs)
    assert describe(ready).startswith(type_name)


@pytest.mark.parametrize("type_name", sorted(EXAMPLES))
def test_what_was_not_seen_is_an_error_and_never_a_pass(type_name: str) -> None:
    assert validate_params(type_name, EXAMPLES[type_name]).decide(Seen({})).verdict == "error"


@pytest.mark.parametrize("type_name", sorted(EXAMPLES))
@given(status=st.integers(0, 255), text=st.text(max_size=200))
def test_no_answer_of_a_guest_makes_a_verdict_fail_to_come(type_name: str, status: int, text: str) -> None:
    assert verdict(type_name, Answer(status, text, text), **EXAMPLES[type_name]) in ("pass", "fail", "error", "skip")


@pytest.mark.parametrize(
    ("type_name", "params", "word"),
    [
        ("service_runing", {}, "service_running"),
        ("port_listening", {"prt": 22}, "port"),
        ("port_listening", {}, "port"),
        ("port_listening", {"port": 70000}, "70000"),
        ("port_listening", {"port": "22"}, "int"),
        ("port_listening", {"port": 22, "protocol": "sctp"}, "sctp"),
        ("service_running", {"name": "-H evil"}, "unit"),
        ("user_exists", {"name": "--help"}, "user"),
        ("package_installed", {"name": "a b"}, "package"),
        ("file_exists", {"path": "etc/passwd"}, "absolute"),
        ("file_exists", {"path": "/a\nb"}, "absolute"),
        ("file_exists", {"path": "/a", "mode": "rw"}, "octal"),
        ("http_responds", {"url": "file:///etc/passwd"}, "HTTP"),
        ("http_responds", {"url": "http://a/b c"}, "HTTP"),
        ("command", {"run": " "}, "command"),
        ("command", {"run": "true", "stdout": "("}, "regular"),
        ("sysctl", {"key": "../../etc/passwd", "value": 1}, "setting"),
        ("sysctl", {"key": "kernel.x", "value": {"a": 1}}, "value"),
        ("mount", {"path": "/", "options": ["a,b"]}, "option"),
        ("systemd_no_failed", {"x": 1}, "no param"),
        ("container_runs", {"engine": "lxc"}, "lxc"),
    ],
)
def test_bad_parameters_are_refused_with_the_word_that_is_wrong(type_name: str, params: dict, word: str) -> None:
    with pytest.raises(KilnError) as caught:
        validate_params(type_name, params)
    assert caught.value.reason in ("unknown-assertion", "bad-assertion")
    assert word in caught.value.message + caught.value.hint
    assert caught.value.hint


def unit(active: str, sub: str, *, type_: str = "simple", file_state: str = "enabled", load: str = "loaded") -> Answer:
    return Answer(
        0,
        f"Id=x.service\nNames=x.service\nLoadState={load}\nActiveState={active}\nSubState={sub}\n"
        f"UnitFileState={file_state}\nType={type_}\nResult=success\n",
    )


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (unit("active", "running"), "pass"),
        (unit("active", "exited", type_="oneshot"), "pass"),
        (unit("active", "exited"), "fail"),
        (unit("activating", "start"), "fail"),
        (unit("failed", "failed"), "fail"),
        (unit("inactive", "dead", load="not-found"), "fail"),
    ],
)
def test_a_service_runs_only_if_its_process_does(answer: Answer, expected: str) -> None:
    assert verdict("service_running", answer, name="x") == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (unit("inactive", "dead"), "pass"),
        (unit("active", "running", file_state="static"), "pass"),
        (unit("inactive", "dead", file_state="static"), "fail"),
        (unit("active", "running", file_state="disabled"), "fail"),
        (unit("inactive", "dead", file_state="masked", load="masked"), "fail"),
    ],
)
def test_enabled_means_that_it_starts_at_boot(answer: Answer, expected: str) -> None:
    assert verdict("service_enabled", answer, name="x") == expected


def test_a_unit_that_does_not_exist_is_not_waited_for() -> None:
    ready = validate_params("service_running", {"name": "x"})
    outcome = ready.decide(Seen({ready.needs[0]: unit("inactive", "dead", load="not-found")}))
    assert outcome.final


LISTENING = "tcp\n  sl\n   0: 0100007F:1F90 00000000:0000 0A 0\n   1: 00000000:0016 00000000:0000 0A 0\nudp\n"


@pytest.mark.parametrize(
    ("type_name", "port", "expected"),
    [
        ("port_listening", 22, "pass"),
        ("port_listening", 8080, "pass"),
        ("port_listening", 80, "fail"),
        ("port_closed", 22, "fail"),
        ("port_closed", 8080, "pass"),
        ("port_closed", 80, "pass"),
    ],
)
def test_a_port_is_closed_if_only_loopback_has_it(type_name: str, port: int, expected: str) -> None:
    assert verdict(type_name, Answer(0, LISTENING), port=port) == expected


@pytest.mark.parametrize(
    ("version", "wanted", "expected"),
    [
        ("1:9.2p1-2", "9.2", "pass"),
        ("1:9.2p1-2", "1:9", "pass"),
        ("1.20-1", "1.2", "fail"),
        ("1.2-1", "1.2", "pass"),
        ("15.3", "16", "fail"),
    ],
)
def test_a_version_is_a_prefix_up_to_the_end_of_a_number(version: str, wanted: str, expected: str) -> None:
    answer = Answer(0, f"installed\tp\t{version}\n")
    assert verdict("package_installed", answer, name="p", version=wanted) == expected


@pytest.mark.parametrize(
    ("said", "value", "expected"),
    [
        ("permitrootlogin no\n", "no", "pass"),
        ("permitrootlogin no\n", False, "pass"),
        ("permitrootlogin without-password\n", "prohibit-password", "pass"),
        ("permitrootlogin yes\n", "no", "fail"),
        ("port 22\n", "no", "fail"),
    ],
)
def test_settings_of_sshd(said: str, value: object, expected: str) -> None:
    assert verdict("sshd_setting", Answer(0, said), key="PermitRootLogin", value=value) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("k@127.0.0.1: Permission denied (publickey).", "pass"),
        ("k@127.0.0.1: Permission denied (publickey,password).", "fail"),
        ("k@127.0.0.1: Permission denied (publickey,keyboard-interactive).", "fail"),
        ("ssh: connect to host: Connection refused", "error"),
    ],
)
def test_keyboard_interactive_is_a_password_too(said: str, expected: str) -> None:
    assert verdict("ssh_refuses_passwords", Answer(255, "", said)) == expected


@pytest.mark.parametrize(
    ("text", "status", "expected"),
    [
        ("expected a-b\ncontainer a-b\n", 0, "pass"),
        ("expected a-b\ncontainer c-d\n", 0, "fail"),
        ("expected a-b\n", 1, "fail"),
        ("", 0, "fail"),
    ],
)
def test_a_container_must_give_the_word_back(text: str, status: int, expected: str) -> None:
    assert verdict("container_runs", Answer(status, text)) == expected


def boot_time(seconds: float, accelerator: str) -> str:
    ready = validate_params("boot_time_under", {"seconds": 30})
    time, kind = ready.needs
    answers = {
        time: Answer(0, f"FinishTimestampMonotonic={int(seconds * 1e6)}\n"),
        kind: Answer(0, accelerator),
    }
    return ready.decide(Seen(answers)).verdict


def test_a_slow_boot_counts_only_on_a_real_processor() -> None:
    assert boot_time(20, "tcg") == "pass"
    assert boot_time(40, "tcg") == "skip"
    assert boot_time(40, "kvm") == "fail"
    assert boot_time(0, "kvm") == "fail"


def test_a_login_prompt_on_the_serial_console_is_enough() -> None:
    ready = validate_params("login_prompt", {})
    assert ready.decide(Seen({Need("login-prompt"): Answer(0, "")})).verdict == "pass"


@given(st.text(max_size=200), st.one_of(st.none(), st.integers(0, 255)))
def test_a_command_passes_only_with_its_status_and_output(text: str, status: int | None) -> None:
    good = status == 0 and "needle" in text.split("\n")
    expected = "error" if status is None else "pass" if good else "fail"
    assert verdict("command", Answer(status, text), run="x", stdout="^needle$") == expected


def test_parameters_cannot_change_after_they_were_checked() -> None:
    for kind in ASSERTION_TYPES.values():
        assert dataclasses.is_dataclass(kind.params)
        assert kind.params.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_what_is_left_out_is_what_the_vocabulary_says() -> None:
    for name, entry in VOCABULARY.items():
        required = EXAMPLES[name].keys() & {param.name for param in entry.params if param.required}
        ready = validate_params(name, {key: EXAMPLES[name][key] for key in required})
        for param in entry.params:
            if not param.required:
                assert getattr(ready.params, param.name) == param.default, (name, param.name)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, "fail"),
        ({"mode": "complain"}, "fail"),
        ({"profile": "/usr/sbin/chronyd"}, "pass"),
        ({"profile": "lsb_release", "mode": "complain"}, "pass"),
        ({"profile": "absent"}, "fail"),
    ],
)
def test_apparmor_profiles_are_in_their_modes(params: dict[str, object], expected: str) -> None:
    text = "/usr/sbin/chronyd (enforce)\nlsb_release (complain)\n"
    assert verdict("apparmor_state", Answer(0, text), **params) == expected


@pytest.mark.parametrize(("mib", "expected"), [(3, "pass"), (2, "fail")])
def test_the_size_of_the_image_is_its_files(mib: int, expected: str) -> None:
    assert verdict("image_size_under", Answer(0, str(2 * 1024 * 1024)), mib=mib) == expected


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [("bash", None, "pass"), ("bash", "5.2", "pass"), ("bash", "5.20", "fail"), ("libc", None, "fail")],
)
def test_a_component_is_one_of_the_image_directory(name: str, version: str | None, expected: str) -> None:
    text = "bash:amd64\t5.2.15-2\nlibc6:amd64\t2.36\n"
    params = {"name": name} | ({"version": version} if version else {})
    ready = validate_params("sbom_has", params)
    assert ready.decide(Seen(dict.fromkeys(ready.needs, Answer(0, text)))).verdict == expected


def test_a_name_with_an_address_resolves() -> None:
    assert verdict("dns_resolves", Answer(0, "127.0.0.1 STREAM localhost\n"), name="localhost") == "pass"
    assert verdict("dns_resolves", Answer(0, ""), name="nowhere") == "fail"
