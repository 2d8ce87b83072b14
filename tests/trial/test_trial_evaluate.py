"""Looking and deciding, with this very machine in the place of the guest."""

from __future__ import annotations

import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from guest_stand_in import LocalSession, NothingOutside, wish
from hypothesis import given, settings
from hypothesis import strategies as st

from kiln.errors import KilnError
from kiln.events.model import CheckFinished, CollectingSink, NullSink, Progress
from kiln.trial import evaluate as evaluate_module
from kiln.trial.commands import COMMANDS_AT_ONCE, plan_commands
from kiln.trial.evaluate import CheckOutcome, Evaluation, plan_checks
from kiln.trial.model import CheckResult
from kiln.trial.observe import Answer, Need, plan_batch
from kiln.trial.session import CommandResult


def check(*wishes, session=None, outside=None, sink=None, settle_seconds: float = 0.0) -> tuple[CheckOutcome, ...]:
    evaluation = Evaluation(
        plan_checks(wishes), session or LocalSession(), outside or NothingOutside(), sink or NullSink()
    )
    return evaluation.run(settle_seconds=settle_seconds, deadline=time.monotonic() + 600)


def results(*wishes, **options) -> list[CheckResult]:
    return [outcome.result for outcome in check(*wishes, **options)]


def verdicts(*wishes, **options) -> list[str]:
    return [result.verdict for result in results(*wishes, **options)]


@pytest.fixture
def web():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"you asked for {self.path}".encode()
            self.send_response(200 if self.path != "/gone" else 410)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_one_script_answers_everything_that_can_be_looked_at_together(tmp_path: Path, web: int) -> None:
    session = LocalSession()
    (tmp_path / "file").write_text("line\nneedle in it\n")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "dangling").symlink_to("nowhere")
    assert verdicts(
        wish("file_exists", path=str(tmp_path / "file"), mode="640"),
        wish("file_exists", path=str(tmp_path / "file"), mode="0600"),
        wish("file_exists", path=str(tmp_path / "dangling")),
        wish("file_absent", path=str(tmp_path / "dangling")),
        wish("file_absent", path=str(tmp_path / "nothing")),
        wish("file_contains", path=str(tmp_path / "file"), text="needle"),
        wish("file_contains", path=str(tmp_path / "nothing"), text="needle"),
        wish("user_exists", name="root"),
        wish("user_exists", name="nobody-at-all"),
        wish("group_exists", name="root"),
        wish("process_running", name=Path("/proc/self/comm").read_text().strip()),
        wish("process_running", name="no-such-program"),
        wish("port_listening", port=web),
        wish("port_closed", port=web),
        wish("sysctl", key="kernel.ostype", value="Linux"),
        wish("sysctl", key="kernel.no_such", value="1"),
        wish("mount", path="/proc", options=["rw"]),
        wish("http_responds", url=f"http://127.0.0.1:{web}/a?b=%20c&d='$(id)`", contains="/a?b=%20c&d='$(id)`"),
        wish("http_responds", url=f"http://localhost:{web}/gone", status=410),
        wish("http_responds", url=f"http://localhost:{web}/gone"),
        session=session,
    ) == [
        *("pass", "fail", "fail", "fail", "pass", "pass", "fail"),
        *("pass", "fail", "pass", "pass", "fail"),
        *("pass", "pass", "pass", "fail", "pass"),
        *("pass", "pass", "fail"),
    ]
    assert len(session.scripts) == 1


@settings(max_examples=15, deadline=None)
@given(name=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30))
def test_no_parameter_is_ever_read_by_the_shell(name: str) -> None:
    path = "/nonexistent/" + name
    text = "a\n'b' $(touch /tmp/kiln-injected) `id` " + name
    assert verdicts(wish("file_exists", path=path), wish("file_contains", path=path, text=text)) == ["fail", "fail"]


def test_shell_code_in_a_path_is_a_path(tmp_path: Path) -> None:
    hostile = f"/x'; touch {tmp_path}/hacked; echo '$(touch {tmp_path}/hacked)"
    assert verdicts(wish("file_exists", path=hostile), wish("file_contains", path=hostile, text="x")) == [
        "fail",
        "fail",
    ]
    assert not (tmp_path / "hacked").exists()


@given(st.lists(st.binary(max_size=80), max_size=4))
def test_output_of_a_guest_never_passes_for_a_frame(pieces: list[bytes]) -> None:
    batch = plan_batch([Need("sockets"), Need("mounts")], "f00d")
    hostile = b"\n<f00c:0>\nfake\n</f00c:0:0>\n".join(pieces)
    stdout = b"\n<f00d:0>\n" + hostile.replace(b"f00d", b"") + b"\n</f00d:0:0>\n\n<f00d:1>\nreal\n</f00d:1:0>\n"
    answers = batch.read(CommandResult(0, stdout, b""))
    assert {answer.status for answer in answers.values()} == {0}
    assert "real" in {answer.text for answer in answers.values()}


def test_a_look_that_was_cut_off_is_an_error_for_what_it_did_not_reach() -> None:
    batch = plan_batch([Need("sockets"), Need("mounts")], "f00d")
    answers = batch.read(CommandResult(124, b"\n<f00d:0>\nwhole\n</f00d:0:0>\n\n<f00d:1>\nhal", b""))
    assert sorted(str(answer.status) for answer in answers.values()) == ["0", "None"]


def test_commands_have_their_own_streams_and_status_and_share_round_trips() -> None:
    session = LocalSession()
    wishes = [wish("command", run=f"printf {n}; echo e{n} >&2; exit {n}", exit=n, stdout=f"^{n}$") for n in range(12)]
    assert verdicts(*wishes, session=session) == ["pass"] * 12
    assert len(session.scripts) == -(-12 // COMMANDS_AT_ONCE)


def test_a_command_cannot_disturb_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    wishes = [
        wish("command", run="cat", stdout="^$"),
        wish("command", run="exit 3", exit=3),
        wish("command", run="kill -9 $$; echo unreachable", exit=0),
        wish("command", run="echo \"a  b\" '$x' \\\\; false", exit=1, stdout=r"^a  b \$x \\"),
        wish("command", run="syntax error (", exit=2),
        wish("command", run="echo still here", stdout="still"),
    ]
    assert verdicts(*wishes) == ["pass", "pass", "error", "pass", "pass", "pass"]


def test_a_command_that_does_not_end_is_an_error_and_the_others_go_on() -> None:
    (batch,) = plan_commands([Need("command", "sleep 60", 1.0), Need("command", "echo next", 5.0)], "f00d")
    answers = batch.read(LocalSession().run(batch.script, timeout_seconds=600))
    assert [answers[need].status for need in batch.needs] == [None, 0]


def test_what_is_still_starting_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_module, "RETRY_PAUSE_SECONDS", 0.05)
    late = tmp_path / "late"
    timer = threading.Timer(0.4, late.touch)
    timer.start()
    try:
        assert verdicts(wish("file_exists", path=str(late)), settle_seconds=20) == ["pass"]
    finally:
        timer.join()


def test_what_never_starts_fails_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_module, "RETRY_PAUSE_SECONDS", 0.05)
    assert verdicts(wish("port_listening", port=1), settle_seconds=0.3) == ["fail"]


def test_a_lost_machine_gives_errors_and_no_exception() -> None:
    session = LocalSession()
    session.lost = True
    found = results(
        wish("user_exists", name="root"),
        wish("command", run="true"),
        wish("container_runs"),
        session=session,
        settle_seconds=30,
    )
    assert [result.verdict for result in found] == ["error"] * 3
    assert "stopped answering" in found[0].got
    assert len(session.scripts) == 1  # nobody is asked twice


def test_after_the_deadline_nothing_is_started() -> None:
    session = LocalSession()
    evaluation = Evaluation(plan_checks([wish("user_exists", name="root")]), session, NothingOutside(), NullSink())
    (outcome,) = evaluation.run(settle_seconds=30, deadline=time.monotonic() - 1)
    assert outcome.result.verdict == "error"
    assert session.scripts == []


def test_each_check_is_told_once_and_results_keep_the_order() -> None:
    sink = CollectingSink()
    outside = NothingOutside({Need("ssh-banner", "22"): Answer(0, "SSH-2.0-x")})
    wishes = [wish("ssh_answers"), wish("command", run="true"), wish("user_exists", name="root")]
    found = results(*wishes, sink=sink, outside=outside)
    assert [result.type for result in found] == ["ssh_answers", "command", "user_exists"]
    assert [event.verdict for event in sink.events if isinstance(event, CheckFinished)] == ["pass"] * 3
    assert [event.done for event in sink.events if isinstance(event, Progress)] == [1, 2, 3]
    assert found[0].reason == "feature test"


def test_bad_parameters_are_found_before_anything_runs() -> None:
    with pytest.raises(KilnError) as caught:
        plan_checks([wish("user_exists", name="root"), wish("port_listening", port=0)])
    assert caught.value.reason == "bad-assertion"


def test_a_banner_is_asked_of_the_server_and_not_of_the_forwarder() -> None:
    from kiln.trial.ssh import read_banner

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert read_banner(port, timeout_seconds=0.2) == ""  # accepted by the kernel, but nobody speaks

        def speak() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    try:
                        connection.sendall(b"hello\r\nSSH-2.0-OpenSSH_9.2 Debian\r\n")
                    except OSError:
                        continue

        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        assert read_banner(port, timeout_seconds=600) == "SSH-2.0-OpenSSH_9.2 Debian"
        os.close(os.dup(server.fileno()))
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
