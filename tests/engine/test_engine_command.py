"""`kiln-osbuild` as a process: statuses, documents, and what a kill leaves."""

from __future__ import annotations

import hashlib
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
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=900, **kwargs)


def with_source(manifest):
    name = f"sha256:{hashlib.sha256(b'xyz').hexdigest()}"
    items = {name: {"encoding": "base64", "data": "eHl6"}}
    entry = {"type": "org.osbuild.files", "origin": "org.osbuild.source", "references": list(items)}
    stage = {"type": "org.kiln.test.script", "options": {"script": "print('x')"}, "inputs": {"f": entry}}
    return manifest({"org.osbuild.inline": {"items": items}}, os={"stages": [stage]}), list(items)


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


# A shell makes its background jobs deaf for SIGINT, and these tests may run in one.
HEAR_INTERRUPTS = ("env", "--default-signal=INT")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_build_leaves_no_process_no_mount_and_a_whole_store(command, manifest, tmp_path, number):
    marker = f"{os.getpid()}.{time.monotonic_ns()}"
    script = f"import subprocess; print('running', flush=True); subprocess.run(['sleep', '6{marker}'])"
    document = manifest(os=["open(tree + '/a', 'w').write('1')", script])
    argv = command(document, "--export", "os")
    with subprocess.Popen([*HEAR_INTERRUPTS, *argv], stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if line.startswith("running"):
                break
        child.send_signal(number)
        child.wait(600)
    assert child.returncode == (130 if number == signal.SIGINT else -number)
    deadline = time.monotonic() + 600
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
    outputs = [child.communicate(timeout=600) for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    results = [json.loads(output) for output, _ in outputs]
    assert sum(len(result["log"].get("os", [])) for result in results) == 3
    assert sorted(path.name for path in (tmp_path / "out/os").iterdir()) == ["a", "b", "c"]


def test_the_result_says_which_source_files_were_there(command, manifest):
    document, names = with_source(manifest)
    first = json.loads(run(command(document, "--export", "os", "--json")).stdout)
    assert first["sources"] == {"success": True, "org.osbuild.inline": [{"cached": False, "checksum": names[0]}]}
    document["pipelines"][0]["stages"][0]["options"]["script"] += "; sys.exit(1)"
    second = json.loads(run(command(document, "--export", "os", "--json")).stdout)
    assert second["sources"] == {"success": True, "org.osbuild.inline": [{"cached": True, "checksum": names[0]}]}
    assert list(second) == ["type", "success", "error", "sources", "log"]


def test_a_source_that_fails_is_a_source_error(command, manifest):
    document, names = with_source(manifest)
    document["sources"]["org.osbuild.inline"]["items"][names[0]]["data"] = "AAAA"
    document["sources"]["org.osbuild.curl"] = {"items": {names[0][:-1] + "z": "http://x.invalid/"}}
    done = run(command(document, "--export", "os", "--json"))
    assert done.returncode == 2  # the name of the second file is no digest
    document["sources"] = {"org.osbuild.curl": {"items": {"sha1:" + "0" * 40: "http://x.invalid/"}}}
    document["pipelines"][0]["stages"][0]["inputs"]["f"]["references"] = ["sha1:" + "0" * 40]
    done = run(command(document, "--export", "os", "--json"))
    result = json.loads(done.stdout)
    assert (done.returncode, result["error"]["type"]) == (1, "org.osbuild.error.source")
    assert result["error"]["details"]["source"]["type"] == "org.osbuild.curl"
    assert result["sources"]["success"] is False
    assert result["sources"]["org.osbuild.curl"][0]["error"]
    assert result["log"] == {}


def test_a_timeout_is_a_stage_error_in_the_document(command, manifest):
    document = manifest(os=["import time; print('hm', flush=True); time.sleep(60)"])
    done = run(command(document, "--export", "os", "--json", "--stage-timeout", "1"))
    stage = json.loads(done.stdout)["error"]["details"]["stage"]
    assert (done.returncode, stage["error"]["data"]["type"], stage["output"]) == (1, "stage-timeout", "hm\n")


def test_a_result_of_format_1_is_nested(command):
    script = {"name": "org.kiln.test.script", "options": {"script": "print('hi'); api.metadata({'a': 1})"}}
    empty = {
        "name": "org.kiln.test.script",
        "options": {"script": "os.makedirs(tree + '/usr/bin'); os.mkdir(tree + '/etc')"},
    }
    build = {"pipeline": {"stages": [{"name": "org.osbuild.noop"}, empty]}, "runner": "org.osbuild.linux"}
    document = {"pipeline": {"stages": [script], "assembler": {"name": "org.osbuild.noop"}}}
    result = json.loads(run(command(document, "--export", "assembler", "--json")).stdout)
    assert result["success"] is True
    assert result["stages"][0].pop("id")
    assert result["stages"] == [
        {"type": "org.kiln.test.script", "success": True, "error": None, "output": "hi\n", "metadata": {"a": 1}}
    ]
    assert result["assembler"]["type"] == "org.osbuild.noop"
    document["pipeline"] |= {"build": build, "assembler": {"name": "org.osbuild.error"}}
    # The build root has no Python: the stage cannot start, and the failure stands where the tree is.
    result = json.loads(run(command(document, "--export", "assembler", "--json")).stdout)
    assert (result["success"], result["build"]["success"]) == (False, True)
    assert result["stages"][0]["success"] is False
    inspected = json.loads(run(command(document, "--inspect")).stdout)
    assert inspected["pipeline"]["build"]["pipeline"]["stages"][0] == {"name": "org.osbuild.noop", "id": NOOP}
    assert inspected["pipeline"]["build"]["runner"] == "org.osbuild.linux"
    converted = json.loads(run(command(document, "--convert")).stdout)
    assert converted["version"] == "2"
    assert [pipeline["name"] for pipeline in converted["pipelines"]] == ["build", "tree"]
    again = json.loads(run(command(converted, "--inspect")).stdout)
    assert again["pipelines"][1]["stages"][0]["id"] == inspected["pipeline"]["stages"][0]["id"]
    assert again["pipelines"][2]["stages"][0]["id"] == inspected["pipeline"]["assembler"]["id"]


def test_the_text_of_findings_is_osbuilds(command, tmp_path):
    done = run(command({"version": "2", "x": 1}))
    assert done.returncode == 2
    assert done.stdout == (
        f"{tmp_path / 'manifest.json'} has errors:\n\n"
        ".:\n  Additional properties are not allowed ('x' was unexpected)\n\n"
    )
    inspected = json.loads(run(command({"version": "2", "x": 1}, "--inspect")).stdout)
    assert inspected["title"] == "JSON Schema validation failed"


def test_the_log_monitor_shows_one_stage_after_the_other(command, manifest, tmp_path):
    slow = "import time\nfor n in range(4): print('{0}', n, flush=True); time.sleep(0.1)"
    document = manifest(one=[slow.format("a")], two=[slow.format("b")])
    done = run(command(document, "--export", "one", "--export", "two", "--checkpoint", "*script"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"starting {tmp_path / 'manifest.json'}Pipeline ")
    assert lines[1:3] == ["Build", "  root: <host>"]
    said = [line for line in lines if line[:2] in ("a ", "b ")]
    assert said in ([f"{x} {n}" for x in order for n in range(4)] for order in ("ab", "ba"))
    assert sum(line.startswith("⏱  Duration: 0.") for line in lines) == 2
    ids = [line.split("\t")[1] for line in lines if line.startswith(("  one:", "  two:"))]
    assert f"manifest {tmp_path / 'manifest.json'} finished successfully" in lines
    assert lines[-2:] == [f"  {id_}: cached" for id_ in ids]
    assert "\033" not in done.stdout


def test_the_records_of_the_sequence_monitor(command, manifest, tmp_path):
    document, _ = with_source(manifest)
    document["pipelines"][0]["stages"].append(
        {"type": "org.kiln.test.script", "options": {"script": "api.metadata({'m': 1}); print('y' * 40000)"}}
    )
    log = tmp_path / "log"
    with log.open("wb") as file:
        argv = command(
            document, "--export", "os", "--json", "--monitor=JSONSeqMonitor", f"--monitor-fd={file.fileno()}"
        )
        done = run(argv, pass_fds=[file.fileno()])
    assert done.returncode == 0, done.stderr
    # What a consumer of records cuts is not cut in the result.
    assert len(json.loads(done.stdout)["log"]["os"][1]["output"]) == 40001
    pieces = log.read_text().split("\x1e")
    assert pieces[0] == ""
    assert all(piece.endswith("\n") and piece.count("\n") == 1 for piece in pieces[1:])
    records = [json.loads(piece) for piece in pieces[1:]]
    contexts = {}
    for record in records:
        context = record["context"]
        if context.keys() == {"id"}:
            context = contexts[context["id"]]
        else:
            assert context["id"] not in contexts
            contexts[context["id"]] = context
        record["context"] = context
        assert isinstance(record["timestamp"], float)
    name = "source org.osbuild.inline"
    chunks = [record for record in records if record["context"]["origin"] == "stages/org.kiln.test.script"]
    assert "".join(record["message"] for record in chunks) == "x\n" + "y" * 40000 + "\n"
    assert [record["message"] for record in records if record not in chunks] == [
        f"starting {tmp_path / 'manifest.json'}",
        f"Starting pipeline {name}",
        f"Finished module {name}",
        f"Finished pipeline {name}",
        "Starting pipeline os",
        "Starting module org.kiln.test.script",
        "Finished module org.kiln.test.script",
        "Starting module org.kiln.test.script",
        "Finished module org.kiln.test.script",
        "Finished pipeline os",
        f"manifest {tmp_path / 'manifest.json'} finished successfully\n",
    ]
    first, last = records[0], records[-2]
    assert first["context"]["origin"] == "osbuild.main_cli"
    assert first["context"]["pipeline"] == {"stage": {}}
    empty = {"origin": "osbuild.main_cli", "pipeline": {"name": None, "id": None, "stage": {"name": None, "id": None}}}
    assert first["context"]["id"] == hashlib.sha256(json.dumps(empty, sort_keys=True).encode()).hexdigest()
    assert last["progress"] == {"name": "pipelines/sources", "total": 2, "done": 2}
    finished = [record for record in records if "result" in record][-1]
    assert list(finished) == [
        *("message", "result", "context", "progress", "options", "timestamp", "duration", "metadata")
    ]
    assert finished["metadata"] == {"m": 1}
    assert finished["result"]["output"].startswith("[...9001 bytes hidden...]\nyyy")
    assert finished["result"]["success"] is True
    started = next(record for record in records if record["message"].startswith("Starting module"))
    assert started["progress"]["progress"] == {"name": "pipeline: os", "total": 2, "done": 0}
    assert started["context"]["pipeline"]["stage"]["name"] == "org.kiln.test.script"


def test_a_failure_is_in_the_records(command, manifest):
    document = manifest(os=["with api.exception_handler(): raise ValueError('oh')"])
    done = run(command(document, "--export", "os", "--monitor=JSONSeqMonitor", "-q"))
    assert done.returncode == 1
    records = [json.loads(piece) for piece in done.stdout.removesuffix("Failed\n").split("\x1e")[1:]]
    (result,) = [record["result"] for record in records if "result" in record]
    assert (result["success"], result["error"]["data"]["value"]) == (False, "oh")
    assert records[-1]["message"].endswith(" failed\n")


def test_a_shell_can_be_had_before_a_stage(command, manifest, tmp_path):
    document = manifest(os=["print('ran')"])
    argv = command(document, "--export", "os", "--break=org.kiln.test.script")
    done = run(
        argv, input="echo in-the-shell > /run/osbuild/tree/made; test -e /run/osbuild/api/arguments && echo ok\n"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/os/made").read_text() == "in-the-shell\n"
    assert "break before os: org.kiln.test.script" in done.stderr
    other = run(command(manifest(os=["print('other')"]), "--export", "os", "--break", "nobody", "-q"), input="exit 9\n")
    assert (other.returncode, "break before" in other.stderr) == (0, False)


def test_parameters_are_filled_before_anything_is_read(command, tmp_path):
    script = "open(tree + '/out', 'w').write('${size} $${size} ${HOME} ${count}')"
    options = {"script": script}
    document = {
        "version": "2",
        "parameters": {"size": "1G", "count": 3, "name": None},
        "pipelines": [{"name": "${name}", "stages": [{"type": "org.kiln.test.script", "options": options}]}],
    }
    done = run(command(document, "--define", "size=10G", "--define", "name=os", "--export", "os"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/os/out").read_text() == "10G ${size} ${HOME} 3"
    for more, words in ([], "no value"), (["--define", "name=os", "--define", "x=1"], "no parameter `x`"):
        done = run(command(document, *more, "--inspect"))
        assert done.returncode == 2
        assert words in done.stderr


def test_the_cache_stays_below_its_size_and_remembers_it(command, manifest, tmp_path):
    def big(letter):
        return manifest(os=[f"open(tree + '/{letter}', 'wb').write(os.urandom(3_000_000))"])

    def runs(letter, *options):
        done = run(command(big(letter), "--export", "os", "--json", *options))
        assert done.returncode == 0, done.stderr
        return bool(json.loads(done.stdout)["log"])

    assert runs("a", "--cache-max-size", "8MB")
    assert json.loads((tmp_path / "store/cache.info").read_text()) == {"version": 1, "maximum-size": 8_000_000}
    assert runs("b")
    assert not runs("a")
    assert runs("c")  # `b` was used longest ago and goes
    assert not runs("a")
    assert runs("b")
    assert runs("d", "--cache-max-size", "unlimited")
    assert not runs("d")
    assert run(command(big("a"), "--cache-max-size", "8 pounds")).returncode == 2
    assert run(command(big("a"), "--export", "os", "--cache-max-size", "0", "-q")).returncode == 0
    assert list((tmp_path / "store/objects").iterdir()) == []


def test_older_spellings_and_abbreviations_are_taken(command, manifest, tmp_path):
    document = manifest(os=["pass"])
    argv = command(document, "--output-dir", str(tmp_path / "other"), "--export", "os", "--rundir", "/run/x", "-q")
    argv[argv.index("--store")] = "--cache"
    assert run(argv).returncode == 0
    assert (tmp_path / "other/os").is_dir()
    assert run(command(document, "--in-vm", "os")).returncode == 1
    assert run(command(document, "--export", "os", "--monitor", "NoMonitor")).returncode == 2


def test_owners_are_left_out_of_an_export_on_request(command, manifest, tmp_path):
    document = manifest(os=["open(tree + '/a', 'w'); os.chown(tree + '/a', 7, 7)"])
    environment = {**os.environ, "OSBUILD_EXPORT_FORCE_NO_PRESERVE_OWNER": "1"}
    assert run(command(document, "--export", "os", "-q"), env=environment).returncode == 0
    assert (tmp_path / "out/os/a").stat().st_uid == os.getuid()
