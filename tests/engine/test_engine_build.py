"""Builds in real sandboxes: what a stage sees, what it may, and what happens when it fails."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from kiln.engine.execution import fork_launch
from kiln.engine.execution.engine import Engine
from kiln.engine.execution.launch import BubblewrapLauncher
from kiln.engine.execution.model import StageFailedError
from kiln.engine.execution.sandbox import DEFAULT_CAPABILITIES
from kiln.engine.execution.sources import NoFetcher
from kiln.engine.objects.store import ObjectStore
from kiln.errors import KilnError
from kiln.events.model import Output, Progress, StageFinished, StageStarted
from kiln.linux import capabilities, mounts

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True, params=["fork", "bubblewrap"])
def road(request, monkeypatch):
    """Every test by both roads: forked from a server, and each stage in a bubblewrap of its own."""
    if request.param == "bubblewrap":
        monkeypatch.setattr(fork_launch, "ForkLauncher", BubblewrapLauncher)


def write(name, text):
    return f"open(tree + '/{name}', 'w').write({text!r})"


def build(engine, document, *exports):
    return engine.build(engine.load(document), exports)


def test_a_tree_is_the_sum_of_its_stages(make_engine, manifest, read, sink):
    document = manifest(os=[write("a", "1"), write("b", "2"), write("a", "3")])
    result = build(make_engine(), document, "os")
    assert (read(result.objects["os"], "a"), read(result.objects["os"], "b")) == ("3", "2")
    assert [run.cached for run in result.stages] == [False, False, False]
    assert [event.index for event in sink.events if isinstance(event, StageStarted)] == [1, 2, 3]
    assert [event.success for event in sink.events if isinstance(event, StageFinished)] == [True, True, True]
    assert Progress("build", 3, 3, "stages", "org.kiln.test.script") in sink.events


def test_a_second_run_does_nothing(make_engine, manifest, sink):
    document = manifest(os=["api.metadata({'x': 1})", write("b", "2")])
    first = build(make_engine(), document, "os")
    sink.events.clear()
    second = build(make_engine(), document, "os")
    assert all(run.cached for run in second.stages)
    assert sink.events == []
    assert second.objects == first.objects
    assert second.metadata == first.metadata == {"os": {"org.kiln.test.script": {"x": 1}}}


def test_the_next_run_goes_on_from_the_last_good_stage(make_engine, manifest, store):
    broken = manifest(os=[write("a", "1"), write("b", "2"), "print('about to'); sys.exit(3)"])
    with pytest.raises(StageFailedError) as caught:
        build(make_engine(), broken, "os")
    error = caught.value
    assert (error.reason, error.run.pipeline, error.run.type) == ("stage-failed", "os", "org.kiln.test.script")
    assert "status 3" in error.message
    assert error.detail == "about to"
    assert [run.pipeline for run in error.finished] == ["os", "os"]
    repaired = manifest(os=[write("a", "1"), write("b", "2"), write("c", "3")])
    result = build(make_engine(), repaired, "os")
    assert [run.cached for run in result.stages] == [True, True, False]


def test_the_tree_of_a_failed_stage_can_be_kept(make_engine, manifest, tmp_path):
    engine = make_engine(keep_failed=tmp_path / "failed")
    with pytest.raises(StageFailedError):
        build(engine, manifest(os=[write("a", "1"), write("b", "2") + "; sys.exit(1)"]), "os")
    assert sorted(path.name for path in (tmp_path / "failed").iterdir()) == ["a", "b"]


def test_a_changed_stage_program_is_not_taken_from_the_cache(make_engine, manifest, libdir):
    document = manifest(os=[write("a", "1")])
    first = build(make_engine(), document, "os")
    program = libdir / "stages/org.kiln.test.script"
    program.write_text(program.read_text() + "# changed\n")
    second = build(make_engine(), document, "os")
    assert not second.stages[0].cached
    assert second.stages[0].id == first.stages[0].id


def test_a_stage_sees_no_host_files_and_no_network(make_engine, manifest, read):
    script = """
import json, socket
sights = {
    "root": sorted(os.listdir("/")),
    "etc": sorted(os.listdir("/etc")),
    "interfaces": sorted(name for _, name in socket.if_nameindex()),
    "descriptors": [fd for fd in os.listdir("/proc/self/fd") if fd not in "012"],
    "processes": sum(name.isdigit() for name in os.listdir("/proc")),
    "cmdline": open("/proc/cmdline").read(),
    "environment": dict(os.environ),
    "cwd": os.getcwd(),
    "stdin": os.readlink("/proc/self/fd/0"),
    "devices": sorted(os.listdir("/dev")),
}
try:
    socket.create_connection(("127.0.0.1", 80), 1)
except OSError as error:
    sights["connect"] = type(error).__name__
try:
    open("/usr/kiln-was-here", "w")
except OSError as error:
    sights["write"] = error.strerror
json.dump(sights, open(tree + "/sights", "w"))
"""
    import json

    result = build(make_engine(), manifest(os={"source-epoch": 77, "scripts": [script]}), "os")
    sights = json.loads(read(result.objects["os"], "sights"))
    assert set(sights["root"]) <= {
        *("bin", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "tmp", "usr", "var", "ostree")
    }
    assert {"shadow", "hostname", "resolv.conf", "ssh"}.isdisjoint(sights["etc"])
    assert sights["interfaces"] in ([], ["lo"])
    assert sights["connect"] in ("OSError", "ConnectionRefusedError", "TimeoutError")
    assert sights["write"] == "Read-only file system"
    assert len(sights["descriptors"]) <= 1  # the directory that was being listed
    assert sights["processes"] == 2
    assert sights["cmdline"] == "root=/dev/osbuild\n"
    assert sights["cwd"] == "/"
    assert sights["stdin"] == "/dev/null"
    assert {"null", "zero", "full", "random", "urandom", "tty", "shm"} <= set(sights["devices"])
    environment = sights["environment"]
    environment.pop("TERM")
    assert environment == {
        "container": "bwrap-osbuild",
        "LC_CTYPE": "C.UTF-8",
        "PATH": "/usr/sbin:/usr/bin",
        "PYTHONPATH": "/run/osbuild/lib",
        "PYTHONUNBUFFERED": "1",
        "PWD": "/",
        "SOURCE_DATE_EPOCH": "77",
    }


def test_capabilities_inside_are_what_was_wanted_and_held(make_engine, manifest, read):
    # Not the stage itself: a program that it starts must not get anything back either.
    script = "os.system('cat /proc/self/status > ' + tree + '/status')"
    result = build(make_engine(), manifest(os=[script]), "os")
    status = dict(line.split(":", 1) for line in read(result.objects["os"], "status").splitlines() if ":" in line)
    effective = capabilities.decode(int(status["CapEff"], 16))
    assert effective == DEFAULT_CAPABILITIES & capabilities.permitted()
    assert capabilities.decode(int(status["CapPrm"], 16)) == effective
    assert "CAP_NET_ADMIN" not in effective
    assert int(status["NoNewPrivs"]) == 1


def test_a_capability_that_this_process_lacks_does_not_open_the_sandbox(make_engine, manifest, read, monkeypatch):
    # The security finding: bubblewrap 0.8 then keeps everything, silently.
    held = capabilities.permitted() - {"CAP_SYS_RESOURCE", "CAP_MKNOD"}
    monkeypatch.setattr(capabilities, "permitted", lambda: held)
    script = "open(tree + '/status', 'w').write(open('/proc/self/status').read())"
    result = build(make_engine(), manifest(os=[script]), "os")
    line = next(line for line in read(result.objects["os"], "status").splitlines() if line.startswith("CapEff"))
    assert capabilities.decode(int(line.split()[1], 16)) == DEFAULT_CAPABILITIES & held


def test_hostile_output_does_not_stop_a_build(make_engine, manifest, sink):
    script = (
        "out = sys.stdout.buffer\n"
        "out.write('\\u20ac'.encode()[:2]); out.flush(); out.write('\\u20ac'.encode()[2:])\n"
        "out.write(b'\\xff\\xfe\\x00\\x1b[2J\\r' + b'x' * 70000 + '\\u20ac'.encode() * 30000); out.flush()\n"
        "out.write(b'\\xe2\\x82'); out.flush()"
    )
    result = build(make_engine(), manifest(os=[script]), "os")
    text = "".join(event.text for event in sink.events if isinstance(event, Output))
    assert text.startswith("\u20ac\ufffd\ufffd\x00")
    assert text.count("\u20ac") == 30001
    assert text.endswith("\ufffd")
    assert result.stages[0].output == text


def test_a_stage_that_takes_too_long_is_ended_with_all_its_children(make_engine, manifest):
    marker = f"{os.getpid()}.{time.monotonic_ns()}"
    script = (
        "import subprocess, time\n"
        f"subprocess.Popen(['sleep', '1{marker}'], start_new_session=True)\n"
        "while True:\n print('still here', flush=True); time.sleep(0.05)"
    )
    with pytest.raises(StageFailedError) as caught:
        build(make_engine(stage_timeout_seconds=0.7), manifest(os=[script]), "os")
    assert caught.value.reason == "stage-timeout"
    assert "still here" in caught.value.detail
    assert not _processes_with(marker)


def test_what_a_stage_leaves_running_is_ended_before_its_tree_is_stored(make_engine, manifest, read):
    marker = f"{os.getpid()}.{time.monotonic_ns()}"
    script = (
        "import subprocess\n"
        "subprocess.Popen(['sh', '-c', 'while :; do echo x >> /run/osbuild/tree/late; done', "
        f"'{marker}'], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "while not os.path.exists(tree + '/late'): pass"
    )
    result = build(make_engine(), manifest(os=[script, "assert True"]), "os")
    assert not _processes_with(marker)
    assert len(set(read(result.objects["os"], "late").splitlines())) <= 1


def _processes_with(marker):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes() and path.parent.name != str(os.getpid()):
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_a_missing_tool_is_named(make_engine, manifest):
    for script in (
        "import subprocess; subprocess.run(['mkfs.nothing', '-x'], check=True)",
        "sys.exit(os.system('mkfs.nothing') >> 8)",
    ):
        with pytest.raises(StageFailedError) as caught:
            build(make_engine(), manifest(os=[script]), "os")
        assert "`mkfs.nothing` is missing in its build root, the host" in caught.value.hint


def test_messages_of_a_stage_become_events_and_errors(make_engine, manifest, sink):
    script = (
        "import time\n"
        "for n in range(3): api.progress(n + 1, 3, 'packages', 'bash'); time.sleep(0.06)\n"
        "import socket\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(api.SOCKET)\n"
        's.send(b\'no json\'); s.send(b\'[1]\'); s.send(b\'{"method": "progress", "progress": {"done": -1}}\')\n'
        "s.send(b'[' * 100000)\n"
        "with api.exception_handler(): raise ValueError('too bad')"
    )
    with pytest.raises(StageFailedError) as caught:
        build(make_engine(), manifest(os=[script]), "os")
    assert caught.value.error["type"] == "exception"
    assert caught.value.error["data"]["type"] == "ValueError"
    assert caught.value.error["data"]["value"] == "too bad"
    assert "status 2" in caught.value.message
    packages = [event for event in sink.events if isinstance(event, Progress) and event.unit == "packages"]
    assert packages == [Progress("build", done, 3, "packages", "bash") for done in (1, 2, 3)]


def test_a_large_exception_arrives(make_engine, manifest):
    script = "with api.exception_handler(): raise ValueError('x' * 600000)"
    with pytest.raises(StageFailedError) as caught:
        build(make_engine(), manifest(os=[script]), "os")
    assert len(caught.value.error["data"]["value"]) == 600000


def test_independent_pipelines_overlap(make_engine, manifest, sink):
    # Each waits until it has seen the other's time: only two that run at the same time have overlapping intervals.
    script = "import time; open(tree + '/t0', 'w').write(str(time.monotonic())); time.sleep(0.4)"
    script += "; open(tree + '/t1', 'w').write(str(time.monotonic()))"
    result = build(make_engine(jobs=2), manifest(one=[script], two=[script + "  "]), "one", "two")
    kinds = [type(event) for event in sink.events if isinstance(event, StageStarted | StageFinished)]
    assert kinds == [StageStarted, StageStarted, StageFinished, StageFinished]
    assert set(result.objects) == {"one", "two"}


def test_equal_pipelines_are_built_once(make_engine, manifest, sink):
    script = "import time; time.sleep(0.2)"
    result = build(make_engine(jobs=2), manifest(one=[script], two=[script]), "one", "two")
    assert result.objects["one"] == result.objects["two"]
    assert sum(isinstance(event, StageStarted) for event in sink.events) == 1


def test_a_failure_ends_its_neighbours(make_engine, manifest):
    # Nobody waits for the slow one: its hour would be the end of this suite.
    document = manifest(slow=["import time; time.sleep(3600)"], bad=["import time; time.sleep(0.3); sys.exit(1)"])
    with pytest.raises(StageFailedError) as caught:
        build(make_engine(jobs=2), document, "slow", "bad")
    assert caught.value.run.pipeline == "bad"


def test_an_interrupt_ends_the_build_and_keeps_the_store(make_engine, manifest, monkeypatch, store):
    import kiln.engine.execution.build as module

    document = manifest(os=[write("a", "1"), "import time; time.sleep(60)"])
    real, calls = module.wait, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(module, "wait", interrupted)
    engine = make_engine(jobs=1)
    with pytest.raises(KeyboardInterrupt):
        build(engine, document, "os")
    monkeypatch.undo()
    result = build(make_engine(), manifest(os=[write("a", "1")]), "os")
    assert result.stages[0].cached


def test_trees_and_files_of_other_pipelines_are_inputs(make_engine, manifest, read):
    reading = (
        "i = args['inputs']\n"
        "t = open(i['tree']['path'] + '/etc/name').read()\n"
        "f = open(i['files']['path'] + '/etc/name').read()\n"
        "assert i['files']['data']['files'] == {'etc/name': {'kiln.x': 1}}, i\n"
        "try: open(i['tree']['path'] + '/x', 'w')\n"
        "except OSError as e: t += ' ' + e.strerror\n"
        "open(tree + '/copy', 'w').write(t + ' ' + f)"
    )
    stage = {
        "type": "org.kiln.test.script",
        "options": {"script": reading},
        "inputs": {
            "tree": {"type": "org.osbuild.tree", "origin": "org.osbuild.pipeline", "references": ["name:first"]},
            "files": {
                "type": "org.osbuild.files",
                "origin": "org.osbuild.pipeline",
                "references": {"name:first": {"file": "/etc/name", "metadata": {"kiln.x": 1}}},
            },
        },
    }
    document = manifest(first=["os.mkdir(tree + '/etc')", write("etc/name", "kiln")], second={"stages": [stage]})
    result = build(make_engine(), document, "second")
    assert read(result.objects["second"], "copy") == "kiln Read-only file system kiln"


def test_a_symbolic_link_in_a_tree_does_not_lead_an_input_to_the_host(make_engine, manifest):
    stage = {
        "type": "org.kiln.test.script",
        "options": {"script": "print(open(args['inputs']['f']['path'] + '/evil').read())"},
        "inputs": {
            "f": {
                "type": "org.osbuild.files",
                "origin": "org.osbuild.pipeline",
                "references": {"name:first": {"file": "/evil"}},
            }
        },
    }
    document = manifest(first=["os.symlink('/etc/shadow', tree + '/evil')"], second={"stages": [stage]})
    with pytest.raises(KilnError) as caught:
        build(make_engine(), document, "second")
    assert caught.value.reason == "missing-input-file"


def test_a_missing_interpreter_is_named(make_engine, manifest, read):
    root = ["os.makedirs(tree + '/usr/bin'); os.makedirs(tree + '/etc')"]
    # A build root without any programs: the stage cannot even start, and the message says what is missing where.
    document = manifest(
        build={"runner": "org.osbuild.debian12", "scripts": root},
        os={"build": "name:build", "scripts": [write("a", "1")]},
    )
    with pytest.raises(StageFailedError) as caught:
        build(make_engine(), document, "os")
    assert "`/usr/bin/python3` is missing in its build root, the tree of the pipeline `build`" in caught.value.hint


def test_times_are_clamped_to_the_source_epoch(make_engine, manifest, store):
    script = (
        "os.mkdir(tree + '/d'); open(tree + '/d/new', 'w'); open(tree + '/old', 'w'); os.utime(tree + '/old', (5, 5))"
    )
    script += "; os.symlink('x', tree + '/d/link')"
    result = build(make_engine(), manifest(os={"source-epoch": 1000, "scripts": [script, "pass"]}), "os")
    with store.mounted(result.objects["os"]) as tree:
        times = {name: os.lstat(tree / name).st_mtime for name in (".", "d", "d/new", "d/link", "old")}
    assert times == {".": 1000, "d": 1000, "d/new": 1000, "d/link": 1000, "old": 5}


def test_a_build_in_an_epoch_gives_the_same_content_in_another_store(
    make_engine, manifest, store, libdir, sink, tmp_path
):
    script = "os.makedirs(tree + '/a/b'); open(tree + '/a/b/c', 'w').write('x'); os.link(tree + '/a/b/c', tree + '/d')"
    document = manifest(os={"source-epoch": 1000, "scripts": [script, "os.unlink(tree + '/a/b/c')", write("e", "2")]})
    first = store.content_id(build(make_engine(), document, "os").objects["os"])
    with ObjectStore(tmp_path / "other", backend="copy", background=False) as other:
        engine = Engine(other, libdir, NoFetcher(), sink)
        second = other.content_id(build(engine, document, "os").objects["os"])
    assert first == second


def test_a_service_without_a_program_is_refused_before_anything_runs(make_engine, manifest, libdir, sink):
    stage = {"type": "org.osbuild.noop", "devices": {"disk": {"type": "org.kiln.test.nothing", "options": {}}}}
    (libdir / "devices/org.kiln.test.nothing.meta.json").write_text(
        '{"summary": "", "description": [], "schema": {"type": "object"}}'
    )
    document = manifest(first=["pass"], second={"stages": [stage]})
    with pytest.raises(KilnError) as caught:
        build(make_engine(), document, "first", "second")
    assert caught.value.reason == "unknown-service"
    assert not any(isinstance(event, StageStarted) for event in sink.events)


def test_an_unknown_export_names_the_known_ones(make_engine, manifest):
    with pytest.raises(KilnError) as caught:
        build(make_engine(), manifest(os=["pass"]), "so")
    assert caught.value.reason == "unknown-export"
    assert "os" in caught.value.hint


def test_mounts_of_a_build_are_not_seen_outside(make_engine, manifest, store):
    seen, stop = [], threading.Event()

    def watch():
        while not stop.wait(0.01):
            seen.append(Path("/proc/self/mountinfo").read_text())

    thread = threading.Thread(target=watch)
    thread.start()
    build(make_engine(), manifest(os=["import time; time.sleep(0.2)"]), "os")
    stop.set()
    thread.join()
    assert seen
    assert not any(str(store.root) in text for text in seen)


def test_a_host_that_allows_no_mounts_is_named(make_engine, manifest, monkeypatch):
    def denied():
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(mounts, "private_namespace", denied)
    with pytest.raises(KilnError) as caught:
        build(make_engine(), manifest(os=["pass"]), "os")
    assert caught.value.reason == "no-mount-namespace"


def test_a_store_without_space_stops_the_build_with_a_hint(manifest, libdir, sink, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    script = "open(tree + '/big', 'wb').write(b'x' * 20_000_000)"
    with mounts.tmpfs(disk, size="8m"), ObjectStore(disk / "s", background=False) as store:
        engine = Engine(store, libdir, NoFetcher(), sink)
        with pytest.raises(KilnError) as caught:
            build(engine, manifest(os=[write("a", "1"), script]), "os")
        assert caught.value.reason == "no-space"
        store.gc()
        assert [run.cached for run in build(engine, manifest(os=[write("a", "1"), write("b", "2")]), "os").stages] == [
            True,
            False,
        ]
