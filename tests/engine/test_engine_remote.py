"""Stages on other hosts: the same results, nothing sent twice, and a clear end whatever happens to the connection.

The other host here is a worker with a store of its own behind a stand-in for ssh that only starts the command.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from kiln.engine.execution.engine import Engine
from kiln.engine.execution.model import StageFailedError
from kiln.engine.execution.remote.address import parse_remote
from kiln.engine.execution.remote.documents import JobRequest, Need, read_as
from kiln.engine.execution.remote.worker_store import WorkerStore
from kiln.engine.execution.sources import NoFetcher
from kiln.engine.main import main
from kiln.engine.manifest.load import load
from kiln.engine.objects.store import ObjectStore
from kiln.errors import KilnError
from kiln.events.model import Notice, Output, StageFinished
from kiln_wire.codec import encode

pytestmark = pytest.mark.root

SOURCE = Path(__file__).parents[2] / "src"
STAND_IN = """#!/bin/sh
for last; do :; done
exec sh -c "$last"
"""


# Passes on so many bytes to or from the command, and then ends with both streams.
CUT = """import os, shlex, subprocess, sys
direction, left = sys.argv[1], int(sys.argv[2])
pipe = {"stdin": subprocess.PIPE} if direction == "to" else {"stdout": subprocess.PIPE}
child = subprocess.Popen(shlex.split(sys.argv[3]), **pipe)
reading, writing = (0, child.stdin.fileno()) if direction == "to" else (child.stdout.fileno(), 1)
while left:
    data = os.read(reading, min(left, 65536))
    if not data:
        break
    left -= os.write(writing, data)
if direction == "to":
    child.stdin.close()
    child.wait()
"""


def worker_command(store):
    return f"env PYTHONPATH={SOURCE} {sys.executable} -m kiln.engine.main --worker --store {shlex.quote(str(store))}"


@pytest.fixture
def ssh(tmp_path):
    path = tmp_path / "ssh"
    path.write_text(STAND_IN)
    path.chmod(0o755)
    return path


@pytest.fixture
def there(tmp_path):
    return tmp_path / "there"


@pytest.fixture
def remote(ssh, there):
    def make(pattern="*", host="there", *, command=None, **options):
        options = {"ssh": str(ssh), "command": command or worker_command(there), **options}
        query = "&".join(f"{key}={quote(str(value), safe='')}" for key, value in options.items())
        return parse_remote((f"{pattern}=" if pattern else "") + f"ssh://{host}?{query}")

    return make


def texts(sink):
    return [event.text for event in sink.events if isinstance(event, Notice)]


def sent(sink):
    return [text for text in texts(sink) if text.startswith("sent ")]


def processes(store):
    """Return the workers of a store, and what runs for them."""
    wanted = os.fsencode(store)
    found = []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and wanted in (path / "cmdline").read_bytes():
                found.append(path.name)
        except OSError:
            continue
    return found


def await_(condition):
    """Wait for what will become true; only a hang ends this from outside."""
    while not condition():
        time.sleep(0.02)


def is_clean(root):
    """Whether a store has nothing half-made: every object is complete, and no tree is being made."""
    with ObjectStore(root, background=False) as opened:
        assert all(opened.lookup(path.name) is not None for path in (root / "objects").iterdir())
    return not [path for path in (root / "working").glob("*/*") if path.name.startswith(("tree-", "received-"))]


PLAN = [
    "open(tree + '/a', 'w').write('a')",
    "os.unlink(tree + '/a'); os.mkdir(tree + '/d'); open(tree + '/d/b', 'w').write('b')",
    "print('hello from the last stage'); os.chmod(tree + '/d/b', 0o4755); api.metadata({'k': 'v'})",
]


@pytest.fixture
def local(tmp_path, libdir, sink):
    """An engine with another store and no other host."""
    with ObjectStore(tmp_path / "local", background=False) as opened:
        yield Engine(opened, libdir, NoFetcher(), sink), opened


def same(built, store, expected, other):
    assert built.objects == expected.objects
    assert [stage.id for stage in built.stages] == [stage.id for stage in expected.stages]
    assert built.metadata == expected.metadata
    for name, ref in built.objects.items():
        assert store.content_id(ref) == other.content_id(expected.objects[name])
        assert [store.layer_digest(key) for key in ref.layers] == [other.layer_digest(key) for key in ref.layers]
    return True


def test_the_result_is_that_of_a_build_here(make_engine, manifest, remote, sink, store, local):
    document = manifest(tree={"scripts": PLAN, "source-epoch": 1})
    engine = make_engine(remotes=[remote()])
    built = engine.build(engine.load(document), ["tree"])
    assert [stage.host for stage in built.stages] == ["ssh://there"] * 3
    assert built.metadata == {"tree": {"org.kiln.test.script": {"k": "v"}}}
    assert built.stages[2].output == "hello from the last stage\n"
    assert any(isinstance(event, Output) and "hello" in event.text for event in sink.events)
    assert [event.host for event in sink.events if isinstance(event, StageFinished)] == ["ssh://there"] * 3
    assert same(built, store, local[0].build(local[0].load(document), ["tree"]), local[1])
    again = engine.build(engine.load(document), ["tree"])
    assert [(stage.cached, stage.host) for stage in again.stages] == [(True, "ssh://there")] * 3


def test_build_root_trees_and_files_go_along(make_engine, manifest, remote, sink, store, local, files_source):
    sources, checksum = files_source(store, local[1])
    document = manifest(
        sources,
        root={"scripts": ["os.mkdir(tree + '/usr'); os.symlink('/usr', tree + '/host')"], "source-epoch": 1},
        data={"scripts": ["open(tree + '/given', 'w').write('given')"], "source-epoch": 1},
        tree={"scripts": [], "source-epoch": 1},
    )
    document["pipelines"][2]["stages"] = [
        {
            "type": "org.kiln.test.script",
            "options": {
                "script": "a = args['inputs']; p = a['files']['path'] + '/' + list(a['files']['data']['files'])[0]\n"
                "t = open(a['data']['path'] + '/given').read() + open(a['one']['path'] + '/given').read()\n"
                "open(tree + '/got', 'w').write(open(p).read() + t)"
            },
            "inputs": {
                "files": {"type": "org.osbuild.files", "origin": "org.osbuild.source", "references": [checksum]},
                "data": {"type": "org.osbuild.tree", "origin": "org.osbuild.pipeline", "references": ["name:data"]},
                "one": {
                    "type": "org.osbuild.files",
                    "origin": "org.osbuild.pipeline",
                    "references": {"name:data": {"file": "/given"}},
                },
            },
        }
    ]
    engine = make_engine(remotes=[remote("tree")])
    built = engine.build(engine.load(document), ["tree"])
    assert [stage.host for stage in built.stages] == ["", "ssh://there"]
    assert same(built, store, local[0].build(local[0].load(document), ["tree"]), local[1])
    (line,) = sent(sink)
    assert line.startswith("sent 2 layers and 1 files")


@pytest.fixture
def files_source():
    import base64
    import hashlib

    def make(*stores):
        data = b"a source file"
        checksum = f"sha256:{hashlib.sha256(data).hexdigest()}"
        encoded = {"encoding": "base64", "data": base64.b64encode(data).decode()}
        return {"org.osbuild.inline": {"items": {checksum: encoded}}}, checksum

    return make


def test_stages_that_change_nothing_have_equal_layers(make_engine, manifest, remote, store, local):
    document = manifest(tree={"scripts": [PLAN[0], *map(str, range(4))], "source-epoch": 1})
    engine = make_engine(remotes=[remote()])
    built = engine.build(engine.load(document), ["tree"])
    assert len({store.layer_digest(key) for key in built.objects["tree"].layers}) < 5
    assert same(built, store, local[0].build(local[0].load(document), ["tree"]), local[1])


def test_what_is_there_is_not_sent_again(make_engine, manifest, remote, sink, libdir, tmp_path):
    engine = make_engine(remotes=[remote()])
    engine.build(engine.load(manifest(tree=PLAN)), ["tree"])
    assert len(sent(sink)) == 1  # the libdir; every tree was made there
    sink.events.clear()
    with ObjectStore(tmp_path / "new", background=False) as store:
        other = Engine(store, libdir, NoFetcher(), sink, remotes=[remote()])
        built = other.build(other.load(manifest(tree=[*PLAN, "os.mkdir(tree + '/more')"])), ["tree"])
        assert sent(sink) == []
        assert built.stages[2].output == "hello from the last stage\n"
        assert (built.stages[2].metadata or {}) == {"k": "v"}


def test_a_failure_is_the_same_as_here(make_engine, manifest, remote, sink, store, tmp_path):
    document = manifest(tree=["open(tree + '/a', 'w')", "open(tree + '/b', 'w'); print('why'); sys.exit(7)"])
    engine = make_engine(remotes=[remote()], keep_failed=tmp_path / "kept")
    with pytest.raises(StageFailedError) as caught:
        engine.build(engine.load(document), ["tree"])
    assert caught.value.reason == "stage-failed"
    assert "status 7 on ssh://there" in caught.value.message
    assert (caught.value.run.output, caught.value.run.host) == ("why\n", "ssh://there")
    assert [run.type for run in caught.value.finished] == ["org.kiln.test.script"]
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["a", "b"]
    assert len(engine.stored(engine.load(document))) == 1
    assert is_clean(store.root)


def test_the_time_limit_holds_there(make_engine, manifest, remote):
    engine = make_engine(remotes=[remote()], stage_timeout_seconds=0.5)
    with pytest.raises(StageFailedError) as caught:
        engine.build(engine.load(manifest(tree=["import time; time.sleep(1000)"])), ["tree"])
    assert caught.value.reason == "stage-timeout"


def test_the_end_of_the_build_ends_the_stage_there(make_engine, manifest, remote, sink, there):
    long = "import time; print('begun', flush=True); time.sleep(1000)"
    document = manifest(far=[long], near=["import time; time.sleep(1); sys.exit(1)"])
    engine = make_engine(remotes=[remote("far")])
    with pytest.raises(StageFailedError, match="near"):
        engine.build(engine.load(document), ["far", "near"])
    await_(lambda: not processes(there))
    assert is_clean(there)


def test_a_worker_that_dies_is_a_retriable_error_and_nothing_is_lost(make_engine, manifest, remote, sink, there):
    document = manifest(tree=[*PLAN, "import time; print('begun', flush=True); time.sleep(1000)"])
    engine = make_engine(remotes=[remote()])

    def kill():
        await_(lambda: any(isinstance(event, Output) and "begun" in event.text for event in sink.events))
        for number in processes(there):
            os.kill(int(number), 9)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(KilnError) as caught:
        engine.build(engine.load(document), ["tree"])
    killer.join()
    assert (caught.value.reason, caught.value.retriable) == ("remote-lost", True)
    assert len(engine.stored(engine.load(document))) == 3
    await_(lambda: not processes(there))
    assert is_clean(there)


@pytest.mark.parametrize("direction", ["to", "from"])
def test_a_connection_that_is_cut_anywhere_leaves_nothing_half_made(
    direction, make_engine, manifest, remote, sink, store, there, tmp_path
):
    document = manifest(tree={"scripts": ["open(tree + '/large', 'wb').write(os.urandom(3 << 20))"]})
    (tmp_path / "cut").write_text(CUT)
    for count in (0, 5, 100, 5_000, 40_000, 300_000, 1_000_000, 2_500_000):
        command = f"exec {sys.executable} {tmp_path / 'cut'} {direction} {count} {shlex.quote(worker_command(there))}"
        engine = make_engine(remotes=[remote(command=command)])
        try:
            engine.build(engine.load(document), ["tree"])
        except KilnError as error:
            assert (error.reason, error.retriable) == ("remote-lost", True)
            assert engine.stored(engine.load(document)) == frozenset()
        else:
            assert direction == "to"  # all that there is to send is less
        await_(lambda: not processes(there))
        assert is_clean(store.root)
        assert not there.exists() or is_clean(there)
    sink.events.clear()
    engine = make_engine(remotes=[remote()])
    built = engine.build(engine.load(document), ["tree"])
    assert sent(sink) == []  # what had arrived before the cut was kept
    assert built.stages[0].host == "ssh://there"


def test_a_lost_host_is_replaced_by_another_one(make_engine, manifest, remote, sink):
    dead = remote(host="dead", command="echo gone >&2; exit 1")
    engine = make_engine(remotes=[dead, remote()])
    built = engine.build(engine.load(manifest(tree=PLAN)), ["tree"])
    assert [stage.host for stage in built.stages] == ["ssh://there"] * 3
    (warning,) = [event.text for event in sink.events if isinstance(event, Notice) and event.level == "warning"]
    assert "ssh://dead" in warning
    assert "elsewhere" in warning


def test_a_stage_of_a_pattern_runs_here_only_if_that_is_allowed(make_engine, manifest, remote, sink):
    document = manifest(tree=PLAN)
    engine = make_engine(remotes=[remote(command="exit 1")])
    with pytest.raises(KilnError) as caught:
        engine.build(engine.load(document), ["tree"])
    assert caught.value.reason == "remote-lost"
    engine = make_engine(remotes=[remote(command="exit 1", fallback="local")])
    built = engine.build(engine.load(document), ["tree"])
    assert [stage.host for stage in built.stages] == [""] * 3
    assert any(isinstance(event, Notice) and event.level == "warning" for event in sink.events)


def test_two_pipelines_use_this_machine_and_the_other_one(make_engine, manifest, remote, store):
    engine = make_engine(remotes=[remote(None)], jobs=1)
    slow = "import time; time.sleep(1)"
    built = engine.build(engine.load(manifest(a=[f"{slow}; 'a'"], b=[f"{slow}; 'b'"])), ["a", "b"])
    assert sorted(stage.host for stage in built.stages) == ["", "ssh://there"]


def test_stages_at_the_same_time_send_what_they_share_once(make_engine, manifest, remote, sink):
    engine = make_engine(remotes=[remote(slots=3)])
    slow = "import time; time.sleep(0.5)"
    names = {name: [f"{slow}; {name!r}"] for name in ("a", "b", "c")}
    built = engine.build(engine.load(manifest(**names)), list(names))
    assert {stage.host for stage in built.stages} == {"ssh://there"}
    assert len(sent(sink)) == 1


def test_what_cannot_be_sent_runs_here_or_is_refused(make_engine, manifest, remote, store):
    checksum = "md5:" + "0" * 32
    document = manifest({"org.osbuild.curl": {"items": {checksum: "file:///nowhere"}}}, tree=["1"])
    files = {"type": "org.osbuild.files", "origin": "org.osbuild.source", "references": [checksum]}
    document["pipelines"][0]["stages"][0]["inputs"] = {"f": files}
    (store.files / checksum).write_text("known")
    engine = make_engine(remotes=[remote()])
    with pytest.raises(KilnError) as caught:
        engine.build(engine.load(document), ["tree"])
    assert (caught.value.reason, "md5" in caught.value.message) == ("remote-unsuitable", True)
    engine = make_engine(remotes=[remote(None)])
    assert [stage.host for stage in engine.build(engine.load(document), ["tree"]).stages] == [""]


def test_a_pattern_must_mean_something_and_a_host_one_thing(make_engine, manifest, remote, libdir, tmp_path, capsys):
    engine = make_engine(remotes=[remote(slots=1), remote(slots=2)])
    with pytest.raises(KilnError) as caught:
        engine.build(engine.load(manifest(tree=PLAN)), ["tree"])
    assert caught.value.reason == "bad-remote"
    (tmp_path / "plan.json").write_text(json.dumps(manifest(tree=PLAN)))
    argv = [str(tmp_path / "plan.json"), "--libdir", str(libdir), "--store", str(tmp_path / "s"), "--export", "tree"]
    assert main([*argv, "--output-directory", str(tmp_path / "out"), "--remote", "tee=ssh://host"]) == 2
    assert "`tee`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "ssh://",
        "host",
        "http://host",
        "=ssh://host",
        "ssh://-oProxyCommand=x",
        "ssh://-l@host",
        "ssh://user:password@host",
        "ssh://host/path",
        "ssh://host:99999",
        "ssh://host:x",
        "ssh://host?slots=0",
        "ssh://host?slots=x",
        "ssh://host?silence=0",
        "ssh://host?silence=nan",
        "ssh://host?what=1",
        "ssh://host?slots=1&slots=2",
        "ssh://host?fallback=perhaps",
        "ssh://host?identity=",
        "ssh://host?ssh=%22",
        "ssh://ho%20st",
    ],
)
def test_what_names_no_host_is_refused(text):
    with pytest.raises(KilnError) as caught:
        parse_remote(text)
    assert caught.value.reason == "bad-remote"


def test_a_host_is_named_with_all_that_ssh_needs():
    found = parse_remote("image*=ssh://builder@[fe80::1%25eth0]:2222?slots=3&identity=/k&known-hosts=/h&ssh=ssh%20-v")
    host = found.host
    assert (found.pattern, host.user, host.host, host.port, host.slots) == (
        "image*",
        "builder",
        "fe80::1%eth0",
        2222,
        3,
    )
    assert (host.identity, host.known_hosts, host.ssh) == (Path("/k"), Path("/h"), ("ssh", "-v"))
    assert host.name == "ssh://builder@[fe80::1%eth0]:2222"


HOSTILE = """import io, os, sys, time
sys.path.insert(0, {source!r})
from kiln.engine.execution.keys import host_identity
from kiln.engine.execution.remote.documents import *
from kiln.engine.execution.remote.frames import *
from kiln_wire.codec import encode
import platform
channel = Channel(0, 1, 60)
def hello():
    channel.expect(Kind.HELLO)
    channel.send_document(Kind.HELLO, encode(WorkerHello(PROTOCOL, "0", platform.machine(), host_identity())))
    return read_as(JobRequest, channel.expect(Kind.JOB)[1])
def ready():
    job = hello()
    channel.send_document(Kind.NEED, encode(Need((), ())))
    channel.send(Kind.READY)
    return job
def outcome(layer):
    channel.send_document(Kind.OUTCOME, encode(Outcome(True, layer, 0.0, "")))
{what}
channel.expect(Kind.HELLO)
"""


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("os.write(1, b'Welcome to this host!\\n' * 9)", "is no frame"),
        ("os.write(1, HEADER.pack(ord('H'), 2**32 - 1, 0))", "a frame of 4294967295 bytes"),
        ("os._exit(3)", "closed"),
        ("hello(); channel.send_document(Kind.NEED, {'layers': ['../../../etc'], 'files': []})", "does not name"),
        (
            "hello(); channel.send_document(Kind.NEED, {'layers': [], 'files': ['../../../etc/shadow']})",
            "does not name",
        ),
        ("job = hello(); channel.send_document(Kind.NEED, {'layers': [job.bundle] * 2, 'files': []})", "does not name"),
        ("ready(); channel.send(Kind.JOB, b'{}')", "JOB came where"),
        ('ready(); channel.send(Kind.EVENT, b\'{"event": "StageFinished", "value": {}}\')', "an event"),
        ("ready(); outcome('0' * 64); w = DataWriter(channel); w.write(b'kiln-layer/1\\n'); w.finish()", "too early"),
        ("ready(); outcome('../x'); w = DataWriter(channel); w.write(b'tar'); w.finish()", "too early"),
        ("ready(); outcome('0' * 64); os._exit(0)", "closed"),
    ],
)
def test_a_hostile_worker_gets_and_leaves_nothing(what, words, make_engine, manifest, remote, store, tmp_path):
    (tmp_path / "hostile").write_text(HOSTILE.format(source=str(SOURCE), what=what))
    command = f"exec {sys.executable} {tmp_path / 'hostile'}"
    engine = make_engine(remotes=[remote(command=command)])
    document = manifest(tree=["os.mkdir(tree + '/a')"])
    with pytest.raises(KilnError) as caught:
        engine.build(engine.load(document), ["tree"])
    assert caught.value.reason == "remote-lost"
    assert words in caught.value.message
    assert engine.stored(engine.load(document)) == frozenset()
    assert is_clean(store.root)


def test_another_version_is_told_apart_from_everything_else(make_engine, manifest, remote, monkeypatch):
    monkeypatch.setattr("kiln.engine.execution.remote.connection.PROTOCOL", 2)
    engine = make_engine(remotes=[remote()])
    with pytest.raises(KilnError) as caught:
        engine.build(engine.load(manifest(tree=PLAN)), ["tree"])
    assert (caught.value.reason, caught.value.exit_status) == ("remote-refused", 5)
    assert "remote-version" in caught.value.message


def test_the_worker_takes_no_path_for_a_digest(tmp_path, manifest):
    digest, checksum = "0" * 64, "sha256:" + "0" * 64
    plan = load(manifest(tree=PLAN))
    stage = plan.pipelines[0].stages[0]

    def request(bundle=digest, base=(), trees=(), files=(checksum,)):
        return JobRequest("p", None, None, stage, None, bundle, base, None, trees, files, (), None, False)

    with ObjectStore(tmp_path / "store", background=False) as opened:
        worker = WorkerStore(opened)
        assert worker.lacking(request()) == Need((digest,), (checksum,))
        for bad in (
            request(bundle="../../x"),
            request(base=("..",)),
            request(trees=(("t", (digest[:-1],)),)),
            request(files=("sha256:../../../../etc/shadow",)),
            request(files=("md5:" + "0" * 32,)),
        ):
            with pytest.raises(KilnError) as caught:
                worker.lacking(bad)
            assert caught.value.reason == "remote-protocol"
        with pytest.raises(KilnError) as caught:
            worker.receive_file(checksum, io.BytesIO(b"another file").read)
        assert caught.value.reason == "damaged-stream"
        assert list(opened.files.iterdir()) == []


def test_the_digest_of_a_job_is_that_of_its_result(manifest):
    plan = load(manifest(tree=PLAN))
    first, second = plan.pipelines[0].stages[:2]
    job = JobRequest("p", None, None, first, None, "b", (), None, (), (), (), None, False)
    assert job.digest() == replace(job, timeout_seconds=5.0, keep_failed=True).digest()
    changes = ({"stage": second}, {"bundle": "c"}, {"base": ("d",)}, {"root": ()}, {"source_epoch": 1}, {"runner": "r"})
    assert len({job.digest(), *(replace(job, **change).digest() for change in changes)}) == 1 + len(changes)
    assert read_as(JobRequest, json.dumps(encode(job)).encode()) == job
