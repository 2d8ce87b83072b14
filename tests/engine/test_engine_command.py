"""`kiln-osbuild` as a process: statuses, documents, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from kiln.engine.objects.store import ObjectStore
from kiln.linux import mounts

pytestmark = pytest.mark.root

NOOP = "beda46704765a47e6d4f44aff22168ae36866c9c0e6e11552b775b77776b2969"


@pytest.fixture
def command(tmp_path, libdir):
    base = [sys.executable, "-m", "kiln.engine.main", "--store", str(tmp_path / "store"), "--libdir", str(libdir)]

    def arguments(document, *options):
        path = tmp_path / "manifest.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return [*base, "--output-directory", str(tmp_path / "out"), *options, str(path)]

    return arguments


def run(argv, **kwargs):
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120, **kwargs)


def test_the_version_can_be_compared():
    assert run([sys.executable, "-m", "kiln.engine.main", "--version"]).stdout == "osbuild 191\n"


def test_a_good_build_exports_and_prints_the_result(command, manifest, tmp_path):
    document = manifest(os=["open(tree + '/a', 'w').write('1'); print('hello'); api.metadata({'x': 1})"])
    done = run(command(document, "--export", "os", "--json"))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    stage = result["log"]["os"][0]
    assert stage.pop("id")
    assert result == {
        "type": "result",
        "success": True,
        "metadata": {"os": {"org.kiln.test.script": {"x": 1}}},
        "sources": {"success": True},
        "log": {"os": [{"type": "org.kiln.test.script", "output": "hello\n"}]},
    }
    assert (tmp_path / "out/os/a").read_text() == "1"
    again = json.loads(run(command(document, "--export", "os", "--json", "--checkpoint", "o*")).stdout)
    assert again["log"] == {}
    assert again["metadata"] == result["metadata"]


def test_a_failed_stage_is_status_1_and_in_the_document(command, manifest):
    document = manifest(os=["print('first')", "print('oh'); sys.exit(9)"])
    done = run(command(document, "--export", "os", "--json"))
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert (result["type"], result["success"]) == ("error", False)
    assert result["error"]["type"] == "org.osbuild.error.stage"
    assert result["error"]["details"]["stage"]["output"] == "oh\n"
    assert result["error"]["details"]["stage"]["error"] is None
    assert [entry.get("success", True) for entry in result["log"]["os"]] == [True, False]
    text = run(command(document, "--export", "os"))
    assert text.returncode == 1
    assert "status 9" in text.stderr


def test_a_wrong_manifest_is_status_2_with_every_finding(command):
    done = run(command({"version": "2", "x": 1, "pipelines": [{"name": "p", "stages": [{"type": "no"}]}]}, "--json"))
    assert done.returncode == 2
    document = json.loads(done.stdout)
    assert document["type"] == "https://osbuild.org/validation-error"
    assert document["success"] is False
    assert [error["path"] for error in document["errors"]] == [[], ["pipelines", 0, "stages", 0]]


@pytest.mark.parametrize("text", ["{", "[]", '{"version": "7"}', "\x00"])
def test_what_is_no_manifest_is_status_2_without_a_traceback(command, text):
    done = run(command(text))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--export", "nobody"], "nobody"), (["--checkpoint", "no*"], "no*")],
)
def test_unknown_names_are_status_1(command, options, words):
    done = run(command({"version": "2", "pipelines": []}, *options))
    assert done.returncode == 1
    assert words in done.stderr


def test_inspect_prints_ids_and_needs_no_store(command, tmp_path):
    document = {"version": "2", "pipelines": [{"name": "p", "stages": [{"type": "org.osbuild.noop"}]}]}
    done = run(command(document, "--inspect"))
    assert json.loads(done.stdout)["pipelines"][0]["stages"][0]["id"] == NOOP
    assert not (tmp_path / "store").exists()


def hear_interrupts() -> None:
    """Undo what a shell does to its background jobs, in which these tests may run: they inherit a deaf SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_build_leaves_no_process_no_mount_and_a_whole_store(command, manifest, tmp_path, number):
    marker = f"{os.getpid()}.{time.monotonic_ns()}"
    script = f"import subprocess; print('running', flush=True); subprocess.run(['sleep', '6{marker}'])"
    document = manifest(os=["open(tree + '/a', 'w').write('1')", script])
    argv = command(document, "--export", "os")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, preexec_fn=hear_interrupts) as child:
        for line in child.stdout:
            if line.startswith("running"):
                break
        child.send_signal(number)
        child.wait(30)
    assert child.returncode == (130 if number == signal.SIGINT else -number)
    deadline = time.monotonic() + 10
    while run(["pgrep", "-f", marker]).returncode == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert mounts.mounted_below(tmp_path / "store") == []
    with ObjectStore(tmp_path / "store", background=False) as store:
        store.gc()
        assert list((store.root / "working").iterdir()) == []
    assert not (tmp_path / "out").exists()
    repaired = manifest(os=["open(tree + '/a', 'w').write('1')", "open(tree + '/b', 'w').write('2')"])
    result = json.loads(run(command(repaired, "--export", "os", "--json")).stdout)
    assert len(result["log"]["os"]) == 1
    assert (tmp_path / "out/os/b").read_text() == "2"


def test_two_processes_on_one_store_build_everything_once(command, manifest, tmp_path):
    script = "import time; time.sleep(0.15); open(tree + '/{}', 'w').write('x'); print('made')"
    document = manifest(os=[script.format("a"), script.format("b"), script.format("c")])
    children = [
        subprocess.Popen(
            command(document, "--export", "os", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    results = [json.loads(output) for output, _ in outputs]
    assert sum(len(result["log"].get("os", [])) for result in results) == 3
    assert sorted(path.name for path in (tmp_path / "out/os").iterdir()) == ["a", "b", "c"]
