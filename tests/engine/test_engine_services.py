"""Host services: what the contract says they are told and answer, their order, and that nothing of them is left."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import add_service
from kiln.engine.execution.model import StageFailedError
from kiln.engine.execution.sources import SourceFailedError
from kiln.errors import KilnError
from kiln.events.model import Output

pytestmark = pytest.mark.root

DISK = (
    "import subprocess\n"
    "open(tree + '/disk.img', 'wb').truncate(8 << 20)\n"
    "subprocess.run(['mkfs.ext4', '-q', '-F', tree + '/disk.img'], check=True)"
)
LOOPBACK = {"disk": {"type": "org.osbuild.loopback", "options": {"filename": "disk.img"}}}
EXT4 = [{"name": "root", "type": "org.osbuild.ext4", "source": "disk", "target": "/"}]
INPUT = """
import os, sys
from osbuild import inputs
class Test(inputs.InputService):
    def map(self, store, origin, refs, target, options):
{body}
    def unmap(self):
        print("unmapped", self.id)
Test.from_args(sys.argv[1:]).main()
"""
DEVICE = """
import os, sys
from osbuild import devices
LOG = {log!r}
def log(*words):
    with open(LOG, "a") as file:
        print(*words, file=file)
class Test(devices.DeviceService):
    def open(self, devpath, parent, tree, options):
        log("open", self.id, parent)
        self.ensure_device_node(options["node"], 1, 3, os.open(devpath, os.O_DIRECTORY))
        return {{"path": options["node"], "node": {{"major": 1, "minor": 3}}}}
    def close(self):
        log("close", self.id)
Test.from_args(sys.argv[1:]).main()
"""
MOUNT = """
import os, sys
from osbuild import mounts
LOG = {log!r}
class Test(mounts.MountService):
    def mount(self, args):
        print("mount", self.id, args["source"], file=open(LOG, "a"))
        if args["options"].get("fail"):
            raise RuntimeError("no such luck")
        os.makedirs(args["root"] + "/" + self.id.split("/")[1])
        return args["root"] + "/" + self.id.split("/")[1]
    def umount(self):
        print("umount", self.id, file=open(LOG, "a"))
Test.from_args(sys.argv[1:]).main()
"""


def build(engine, document, *exports):
    return engine.build(engine.load(document), exports)


def script(text, **things):
    return {"type": "org.kiln.test.script", "options": {"script": text}, **things}


def body(text):
    return INPUT.format(body="\n".join(f"        {line}" for line in text.splitlines()))


def bound_loops():
    return {path.parent.parent.name for path in Path("/sys/block").glob("loop*/loop/backing_file")}


@pytest.fixture(autouse=True)
def no_loop_is_left(tmp_path):
    """Other tests use loop devices, too; only those over files of this test count."""
    yield
    deadline = time.monotonic() + 600
    while any(str(tmp_path) in path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")):
        assert time.monotonic() < deadline, "a loop device is left"
        time.sleep(0.05)


def test_a_file_system_in_a_file_is_mounted_written_and_whole_afterwards(make_engine, manifest, read):
    writing = (
        "m = args['mounts']['root']\n"
        "assert m == {'path': '/run/osbuild/mounts/.'}, m\n"
        "d = args['devices']['disk']\n"
        "assert d['path'] == '/dev/loop%d' % d['node']['minor'] and d['node']['major'] == 7, d\n"
        "assert open(d['path'], 'rb').read(2048)[1080:1082] == b'\\x53\\xef'\n"
        "assert [l for l in open('/proc/self/mountinfo') if ' /run/osbuild/mounts ' in l and ' ext4 ' in l]\n"
        "open(m['path'] + '/hello', 'w').write('x' * 100000)"
    )
    reading = "open(tree + '/seen', 'w').write(str(os.stat(args['mounts']['root']['path'] + '/hello').st_size))"
    document = manifest(
        os={
            "stages": [
                script(DISK),
                script(writing, devices=LOOPBACK, mounts=EXT4),
                script("import subprocess; subprocess.run(['e2fsck', '-fn', tree + '/disk.img'], check=True)"),
                script(reading, devices=LOOPBACK, mounts=[EXT4[0] | {"options": {"readonly": True}}]),
            ]
        }
    )
    assert read(build(make_engine(), document, "os").objects["os"], "seen") == "100000"


@pytest.mark.parametrize(
    ("text", "reason"), [("sys.exit(3)", "stage-failed"), ("import time; time.sleep(60)", "stage-timeout")]
)
def test_a_stage_that_fails_or_is_killed_leaves_no_device_and_no_mount(make_engine, manifest, store, text, reason):
    document = manifest(os={"stages": [script(DISK), script(text, devices=LOOPBACK, mounts=EXT4)]})
    with pytest.raises(StageFailedError) as caught:
        build(make_engine(stage_timeout_seconds=2.0), document, "os")
    assert caught.value.reason == reason
    assert str(store.root) not in Path("/proc/self/mountinfo").read_text()


def test_a_killed_engine_leaves_no_device(manifest, libdir, tmp_path):
    document = manifest(
        os={
            "stages": [script(DISK), script("print('here', flush=True); import time; time.sleep(60)", devices=LOOPBACK)]
        }
    )
    (tmp_path / "m.json").write_text(json.dumps(document))
    argv = [sys.executable, "-m", "kiln.engine.main", "--store", str(tmp_path / "store"), "--libdir", str(libdir)]
    argv += ["--export", "os", "--output-directory", str(tmp_path / "out"), str(tmp_path / "m.json")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if line.startswith("here"):
                break
        assert any(str(tmp_path) in path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file"))
        child.send_signal(signal.SIGKILL)
    # no_loop_is_left waits for the service


def test_services_start_in_the_order_of_the_contract_and_stop_in_the_reverse_one(
    make_engine, manifest, libdir, tmp_path
):
    log = tmp_path / "log"
    add_service(libdir, "devices", "org.kiln.test.device", DEVICE.format(log=str(log)))
    add_service(libdir, "mounts", "org.kiln.test.mount", MOUNT.format(log=str(log)))
    devices = {
        "child": {"type": "org.kiln.test.device", "parent": "parent", "options": {"node": "c"}},
        "parent": {"type": "org.kiln.test.device", "options": {"node": "p"}},
    }
    mounts = [
        {"name": "one", "type": "org.kiln.test.mount", "source": "child", "target": "/"},
        {"name": "two", "type": "org.kiln.test.mount", "source": "parent", "target": "/x", "partition": 2},
    ]
    text = (
        "assert args['mounts'] == {'one': {'path': '/run/osbuild/mounts/one'}, 'two': {'path': "
        "'/run/osbuild/mounts/two'}}\n"
        "assert args['devices']['child'] == {'path': '/dev/c', 'node': {'major': 1, 'minor': 3}}\n"
        "assert os.stat('/dev/c').st_rdev == os.makedev(1, 3)"
    )
    build(make_engine(), manifest(os={"stages": [script(text, devices=devices, mounts=mounts)]}), "os")
    lines = log.read_text().splitlines()
    source = lines[2].split()[2].removesuffix("/c")
    assert lines == [
        "open device/parent None",
        "open device/child p",
        f"mount mount/one {source}/c",
        f"mount mount/two {source}/pp2",
        "umount mount/two",
        "umount mount/one",
        "close device/child",
        "close device/parent",
    ]
    mounts[1]["options"] = {"fail": True}
    log.unlink()
    with pytest.raises(StageFailedError) as caught:
        build(make_engine(), manifest(os={"stages": [script(text, devices=devices, mounts=mounts)]}), "os")
    assert caught.value.reason == "service-failed"
    assert caught.value.error["data"]["type"] == "RuntimeError"
    assert caught.value.error["data"]["value"] == "no such luck"
    assert log.read_text().splitlines()[-4:] == lines[-4:]


def test_an_input_service_reads_trees_and_sources_through_the_store(make_engine, manifest, libdir, read, store, sink):
    add_service(
        libdir,
        "inputs",
        "org.kiln.test.input",
        body(
            "(id_, opts), = refs.items()\n"
            "assert origin == 'org.osbuild.pipeline' and opts == {'a': 1} and options == {'o': 2}\n"
            "tree = store.read_tree(id_)\n"
            "assert store.read_tree('0' * 64) is None\n"
            "open(target + '/name', 'w').write(open(tree + '/etc/name').read())\n"
            "os.mkdir(target + '/etc')\n"
            "assert store.read_tree_at(id_, target + '/etc', '/etc') == target + '/etc'\n"
            "tmp = store.mkdtemp(prefix='p', suffix='s')\n"
            "assert os.path.isdir(tmp) and os.path.basename(tmp).startswith('p')\n"
            "open(target + '/source', 'w').write(store.source('org.osbuild.files'))\n"
            "try: store.read_tree_at(id_, target + '/etc', '/nothing')\n"
            "except RuntimeError as error: print('refused', error)\n"
            "print('mapped', flush=True)\n"
            "return {'path': target, 'data': {'d': 3}}"
        ),
    )
    entry = {
        "type": "org.kiln.test.input",
        "origin": "org.osbuild.pipeline",
        "references": {"name:first": {"a": 1}},
        "options": {"o": 2},
    }
    text = (
        "i = args['inputs']['x']\n"
        "assert i == {'path': '/run/osbuild/inputs/x', 'data': {'d': 3}}, i\n"
        "assert open(i['path'] + '/name').read() == open(i['path'] + '/etc/name').read() == 'kiln'\n"
        "try: open(i['path'] + '/etc/new', 'w')\n"
        "except OSError as e: open(tree + '/out', 'w').write(e.strerror + open(i['path'] + '/source').read())\n"
    )
    first = "os.mkdir(tree + '/etc'); open(tree + '/etc/name', 'w').write('kiln')"
    document = manifest(first=[first], second={"stages": [script(text, inputs={"x": entry})]})
    result = build(make_engine(), document, "second")
    assert read(result.objects["second"], "out") == f"Read-only file system{store.files}"
    said = [event.text for event in sink.events if isinstance(event, Output) and event.source == "org.osbuild"]
    assert "input/x (org.kiln.test.input): mapped\n" in said
    assert "input/x (org.kiln.test.input): unmapped input/x\n" in said
    assert any("refused" in line for line in said)


def test_a_large_call_and_a_large_answer_travel_as_files(make_engine, manifest, libdir, read):
    add_service(
        libdir,
        "inputs",
        "org.kiln.test.input",
        body("return {'path': target, 'data': {'n': len(options['x']), **options}}"),
    )
    items = {"sha256:" + "0" * 64: {"encoding": "base64", "data": ""}}
    entry = {
        "type": "org.kiln.test.input",
        "origin": "org.osbuild.source",
        "references": [],
        "options": {"x": "y" * 2_000_000},
    }
    text = "open(tree + '/n', 'w').write(str(args['inputs']['x']['data']['n']))"
    document = manifest({"org.osbuild.inline": {"items": items}}, os={"stages": [script(text, inputs={"x": entry})]})
    assert read(build(make_engine(), document, "os").objects["os"], "n") == "2000000"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise KeyError('gone')", "KeyError: 'gone'"),
        ("return {'path': '/etc'}", "outside"),
        ("return {'path': target + '/../..'}", "outside"),
        ("return None", "outside"),
        ("os._exit(7)", "without an answer"),
        ("os.write(self.sock.fileno(), b'{')", "cannot be talked to"),
        ("self.sock.send({'type': 'nonsense', 'data': {'a': 1}})", "nonsense"),
    ],
)
def test_a_service_that_fails_is_the_failure_of_its_stage(make_engine, manifest, libdir, text, words):
    add_service(libdir, "inputs", "org.kiln.test.input", body(text))
    entry = {"type": "org.kiln.test.input", "origin": "org.osbuild.source", "references": []}
    with pytest.raises(StageFailedError) as caught:
        build(make_engine(), manifest(os={"stages": [script("pass", inputs={"x": entry})]}), "os")
    assert caught.value.reason == "service-failed"
    assert words in caught.value.message
    assert caught.value.error["type"] == "exception"


def test_signals_before_an_answer_are_allowed(make_engine, manifest, libdir):
    add_service(libdir, "inputs", "org.kiln.test.input", body("self.emit_signal({'n': 1})\nreturn {'path': target}"))
    entry = {"type": "org.kiln.test.input", "origin": "org.osbuild.source", "references": []}
    build(make_engine(), manifest(os={"stages": [script("pass", inputs={"x": entry})]}), "os")


def test_a_service_that_cannot_release_what_it_holds_fails_the_stage(make_engine, manifest, libdir):
    program = body("return {'path': target}").replace('print("unmapped", self.id)', "raise OSError('not written')")
    add_service(libdir, "inputs", "org.kiln.test.input", program)
    entry = {"type": "org.kiln.test.input", "origin": "org.osbuild.source", "references": []}
    stage = script("pass", inputs={"x": entry})
    with pytest.raises(StageFailedError) as caught:
        build(make_engine(), manifest(os={"stages": [stage]}), "os")
    assert "status 1" in caught.value.message
    assert "not written" in caught.value.detail
    with pytest.raises(StageFailedError) as caught:
        build(make_engine(), manifest(os={"stages": [stage | {"options": {"script": "sys.exit(5)"}}]}), "os")
    assert "status 5" in caught.value.message


def test_a_failing_neighbour_ends_the_wait_for_a_service(make_engine, manifest, libdir):
    add_service(libdir, "inputs", "org.kiln.test.input", body("import time\ntime.sleep(3)\nreturn {'path': target}"))
    entry = {"type": "org.kiln.test.input", "origin": "org.osbuild.source", "references": []}
    document = manifest(
        bad=["import time; time.sleep(0.5); sys.exit(1)"], slow={"stages": [script("pass", inputs={"x": entry})]}
    )
    with pytest.raises(StageFailedError) as caught:
        build(make_engine(jobs=2), document, "bad", "slow")
    assert caught.value.run.pipeline == "bad"


def test_a_stage_gets_loop_devices_from_the_engine(make_engine, manifest, read):
    text = (
        "from osbuild import remoteloop\n"
        "open(tree + '/f', 'wb').write(b'a' * 4096 + b'b' * 4096)\n"
        "c = remoteloop.LoopClient('/run/osbuild/api/remoteloop')\n"
        "with c.device(tree + '/f', offset=4096, sizelimit=4096) as path:\n"
        "    with open(path, 'r+b') as d:\n"
        "        assert d.read() == b'b' * 4096\n"
        "        d.seek(0); d.write(b'c' * 4096)\n"
        "try: c.create_device(os.open('/dev/null', os.O_RDONLY))\n"
        "except RuntimeError as e: print('refused', e)\n"
        "else: sys.exit(9)"
    )
    result = build(make_engine(), manifest(os=[text]), "os")
    assert read(result.objects["os"], "f") == "a" * 4096 + "c" * 4096


SOURCE = """
import os, sys
from osbuild import sources
class Test(sources.SourceService):
    content_type = "org.osbuild.files"
    def fetch_one(self, checksum, desc):
        result = sources.SourceItemResult(metadata={"checksum": checksum, "cached": self.exists(checksum, desc)})
        if desc.get("fail"):
            result.set_error("not there")
        else:
            open(os.path.join(self.cache, checksum), "w").write(desc["text"])
        return result
    def fetch_all(self, items):
        print("fetching", len(items), self.options)
        results = sources.SourceResults("org.kiln.test.source")
        for checksum, desc in items.items():
            results.add(self.fetch_one(checksum, desc))
        return results.as_dict()
Test.from_args(sys.argv[1:]).main()
"""


def test_a_source_of_the_libdir_fetches_what_is_missing_and_needed(make_engine, manifest, libdir, read, sink):
    add_service(libdir, "sources", "org.kiln.test.source", SOURCE)
    names = [f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" for text in ("one", "two", "three")]
    items = dict(zip(names, [{"text": "one"}, {"text": "two"}, {"fail": True}], strict=True))
    source = {"org.kiln.test.source": {"items": items, "options": {"o": 1}}}

    def document(*references):
        entry = {"type": "org.osbuild.files", "origin": "org.osbuild.source", "references": list(references)}
        text = (
            "i = args['inputs']['f']['path']\nopen(tree + '/o', 'w').write(''.join(open(i + '/' + n).read() for n in "
        )
        return manifest(source, os={"stages": [script(text + "sorted(os.listdir(i))))", inputs={"f": entry})]})

    result = build(make_engine(), document(names[0]), "os")
    assert read(result.objects["os"], "o") == "one"
    assert [(item.checksum, item.cached) for item in result.sources["org.kiln.test.source"]] == [(names[0], False)]
    result = build(make_engine(), document(names[0], names[1]), "os")
    cached = {item.checksum: item.cached for item in result.sources["org.kiln.test.source"]}
    assert cached == {names[0]: True, names[1]: False}
    assert [event.text for event in sink.events if isinstance(event, Output)].count(
        "source/org.kiln.test.source (org.kiln.test.source): fetching 1 {'o': 1}\n"
    ) == 2
    with pytest.raises(SourceFailedError) as caught:
        build(make_engine(), document(names[2]), "os")
    assert (caught.value.type, caught.value.failed) == ("org.kiln.test.source", {names[2]: "not there"})
    assert caught.value.reason == "source-failed"


def test_a_source_without_a_program_says_what_works_without_one(make_engine, manifest, libdir):
    (libdir / "sources/org.osbuild.curl").unlink()
    with pytest.raises(KilnError) as caught:
        build(make_engine(), with_secrets(manifest, "s"), "os")
    assert caught.value.reason == "unknown-service"


def test_secrets_that_nobody_provides_are_named(make_engine, manifest):
    with pytest.raises(SourceFailedError) as caught:
        build(make_engine(), with_secrets(manifest, "s"), "os")
    assert caught.value.failed == {"sha256:" + "1" * 64: "nobody provides the secrets `s`"}


def with_secrets(manifest, secrets):
    name = "sha256:" + "1" * 64
    entry = {"type": "org.osbuild.files", "origin": "org.osbuild.source", "references": [name]}
    source = {"org.osbuild.curl": {"items": {name: {"url": "http://x.invalid/", "secrets": {"name": secrets}}}}}
    return manifest(source, os={"stages": [script("pass", inputs={"f": entry})]})


def test_a_bind_mount_shows_a_directory_of_the_mounts_in_the_tree(make_engine, manifest, read):
    mounts = [
        *EXT4,
        {
            "name": "b",
            "type": "org.osbuild.bind",
            "target": "mount:///lost+found",
            "options": {"source": "tree:///here", "readonly": True},
        },
    ]
    text = (
        "p = args['mounts']['b']['path']\n"
        "assert p == '/run/osbuild/mounts/lost+found', p\n"
        "try: open(p + '/new', 'w')\n"
        "except OSError as e: open(tree + '/out', 'w').write(open(p + '/f').read() + e.strerror)"
    )
    first = DISK + "\nos.mkdir(tree + '/here'); open(tree + '/here/f', 'w').write('f')"
    document = manifest(os={"stages": [script(first), script(text, devices=LOOPBACK, mounts=mounts)]})
    assert read(build(make_engine(), document, "os").objects["os"], "out") == "fRead-only file system"


def test_a_libdir_with_an_empty_package_gets_kilns(make_engine, manifest, libdir, read):
    for path in sorted((libdir / "osbuild").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    document = manifest(os={"stages": [script(DISK), script("pass", devices=LOOPBACK, mounts=EXT4)]})
    build(make_engine(), document, "os")


def test_a_changed_device_is_not_taken_from_the_cache_though_the_public_id_is_the_same(make_engine, manifest):
    def document(size):
        disk = {"disk": {"type": "org.osbuild.loopback", "options": {"filename": "f", "size": size}}}
        text = "open(tree + '/n', 'w').write(str(open(args['devices']['disk']['path'], 'rb').seek(0, 2)))"
        return manifest(os={"stages": [script("open(tree + '/f', 'w').truncate(8192)"), script(text, devices=disk)]})

    first, second = (build(make_engine(), document(size), "os") for size in (8, 16))
    assert first.stages[1].id == second.stages[1].id
    assert not second.stages[1].cached
    assert first.objects["os"] != second.objects["os"]


def test_an_encrypted_device_is_opened_on_its_parent_and_closed_before_it(make_engine, manifest, tmp_path, monkeypatch):
    # The kernels of most build machines have no dm-crypt: the programs that would speak to it write down what they do.
    programs, log = tmp_path / "programs", tmp_path / "log"
    programs.mkdir()
    for name, text in (("cryptsetup", "cat; echo"), ("dmsetup", "echo 1:3 >&3")):
        (programs / name).write_text(f"#!/bin/sh\nexec 3>&1 >>{log}\necho {name} $1 $2 $3\n{text}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/sbin:/usr/bin")
    inner = {"type": "org.osbuild.luks2", "parent": "disk", "options": {"passphrase": "secret"}}
    seeing = "d = args['devices']['inner']\nassert d['path'] == '/dev/mapper/' + d['name'], d\nos.stat(d['path'])"
    stages = [script(DISK), script(seeing, devices={**LOOPBACK, "inner": inner})]
    build(make_engine(), manifest(os={"stages": stages}), "os")
    said = log.read_text(encoding="utf-8").split()
    assert [word for word in said if word in ("open", "secret", "info", "close")] == ["open", "secret", "info", "close"]
