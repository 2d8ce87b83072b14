"""The fork server: a stage sees and may what it sees and may under bubblewrap, and nothing leads to the server."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from kiln.engine.execution import fork_launch, forkserver
from kiln.engine.execution.launch import BubblewrapLauncher
from kiln.engine.execution.model import StageFailedError
from kiln.errors import KilnError

pytestmark = pytest.mark.root

ROADS = {"fork": fork_launch.ForkLauncher, "bubblewrap": BubblewrapLauncher}

LOOK = r"""
import fcntl, grp, json, locale, platform, re, resource, signal, socket, stat, struct, threading
def read(path):
    with open(path, errors="surrogateescape") as file:
        return file.read()
def mountinfo():
    result = []
    for line in read("/proc/self/mountinfo").splitlines():
        fields = line.split()
        dash = fields.index("-")
        # Numbers of mounts and of devices, and the store's directory for this run, are new each time.
        source = re.sub(r"working/[0-9a-f]+/[a-z]+-[0-9]+", "working", " ".join(fields[3:]))
        result.append(re.sub(r"/[^ ,]*?/(road-[a-z]+)/", "/", source))
    return sorted(result)
def status(pid):
    volatile = ("Vm", "Rss", "SigQ", "voluntary", "nonvoluntary", "Name", "Hugetlb")
    return [line for line in read("/proc/%s/status" % pid).splitlines() if not line.startswith(volatile)]
def descriptors(pid):
    found = {}
    for name in os.listdir("/proc/%s/fd" % pid):
        try:
            found[name] = re.sub(r"[0-9]+", "N", os.readlink("/proc/%s/fd/%s" % (pid, name)))
        except OSError:
            continue  # the one that reads the directory
    return found
def files():
    found = {}
    for top in ("/", "/run", "/run/osbuild", "/dev", "/etc", "/tmp", "/var", "/dev/shm", "/run/osbuild/bin"):
        for name in sorted(os.listdir(top)):
            state = os.lstat(os.path.join(top, name))
            found[os.path.join(top, name)] = [oct(state.st_mode), state.st_uid, state.st_gid, state.st_rdev]
    return found
with socket.socket() as sock:
    loopback = fcntl.ioctl(sock, 0x8913, struct.pack("16s24x", b"lo"))[16:18].hex()
main = sys.modules["__main__"]
seen = {
    "mountinfo": mountinfo(),
    "status": status("self"),
    "init": [line for line in status("1") if line.startswith(("Cap", "NoNew", "Uid", "Gid", "PPid", "NSpid"))],
    "fds": descriptors("self"),
    "environment": dict(os.environ),
    "cwd": os.getcwd(),
    "umask": os.umask(0),
    "ids": [os.getpid(), os.getppid(), os.getsid(0), os.getpgid(0), os.getuid(), os.getgid(), os.getgroups()],
    "limits": read("/proc/self/limits"),
    "groups": read("/proc/self/cgroup"),
    "processes": sorted(name for name in os.listdir("/proc") if name.isdigit()),
    "name": read("/proc/self/comm"),
    "exe": os.readlink("/proc/self/exe"),
    "loopback": loopback,
    "addresses": [line.split()[0] for line in read("/proc/net/if_inet6").splitlines()],
    "sockets": read("/proc/net/unix").count("\n"),
    "signals": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "files": files(),
    "argv": [sys.argv, getattr(sys, "orig_argv", None), sys.path, str(sys.flags), sys.executable],
    "main": [main.__name__, main.__file__, sorted(main.__dict__), str(main.__spec__), str(main.__builtins__)],
    "streams": [[s.encoding, s.errors, s.isatty(), s.line_buffering, s.write_through, s.fileno()]
                for s in (sys.stdin, sys.stdout, sys.stderr)],
    "nodes": [platform.node(), locale.setlocale(locale.LC_CTYPE), sys.getrecursionlimit(), threading.active_count()],
    "priority": [os.nice(0), os.sched_getscheduler(0), sorted(os.sched_getaffinity(0))],
    "ours": sorted(name for name in sys.modules if "inside" in name or "kiln" in name),
    "writable": [path for path in ("/", "/usr", "/etc", "/proc/sys/kernel/hostname", "/sys", "/run", "/var",
                                   "/proc/sysrq-trigger", "/proc/irq", "/run/osbuild/lib", "/run/osbuild/api",
                                   "/run/osbuild/bin", "/run/osbuild/inputs") if os.access(path, os.W_OK)],
    "first root": os.access("/proc/1/root/run", os.R_OK),
}
json.dump(seen, open(tree + "/seen", "w"), default=str)
"""

KINDS = ("mnt", "pid", "net", "ipc")
NAMESPACES = f"""
import json
json.dump({{kind: os.readlink("/proc/self/ns/" + kind) for kind in {KINDS}}}, open(tree + "/namespaces", "w"))
"""

ENDS = {
    "nothing": "pass",
    "number": "sys.exit(3)",
    "large": "sys.exit(260)",
    "text": "print('out'); sys.exit('no good')",
    "none": "sys.exit(None)",
    "boolean": "sys.exit(True)",
    "exception": "def f():\n    raise ValueError('wrong')\nf()",
    "chain": "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise KeyError('x') from error",
    "interrupt": "raise KeyboardInterrupt",
    "killed": "import signal; os.kill(os.getpid(), signal.SIGKILL)",
    "hard": "print('lost?'); os._exit(7)",
    "atexit": "import atexit; atexit.register(print, 'late'); print('early')",
    "thread": "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()",
    "held": "import builtins; builtins.held = open(tree + '/held', 'w'); builtins.held.write('kept')",
    "global": "globals()['f'] = open(tree + '/held', 'w'); f.write('kept')",
    "streams": "print('a', end=''); sys.stderr.write('b'); print('c'); os.system('echo d')",
    "closed": "sys.stdout.close(); sys.stderr.write('still here')",
    "hook": "sys.excepthook = lambda *a: print('hooked', a[0].__name__, a[2] is not None); raise ValueError('x')",
    "orphan": "import subprocess; subprocess.Popen(['sh', '-c', 'sleep 100 & exit 0']); print('gone')",
    "warning": "import warnings; warnings.warn('careful')",
}


@pytest.fixture(params=sorted(ROADS))
def road(request, monkeypatch):
    """Both roads, one after another."""
    monkeypatch.setattr(fork_launch, "ForkLauncher", ROADS[request.param])
    return request.param


@pytest.fixture
def only_forks(monkeypatch):
    """No way back to bubblewrap."""

    def refuse(*arguments, **settings):
        raise AssertionError("the stage was not forked")

    monkeypatch.setattr(BubblewrapLauncher, "launch", refuse)


def build(engine, document, *exports):
    return engine.build(engine.load(document), exports)


def by_both_roads(make, manifest, document, monkeypatch):
    """Return what the same stages did on each road."""
    results = {}
    for name, launcher in ROADS.items():
        with monkeypatch.context() as patch:
            patch.setattr(fork_launch, "ForkLauncher", launcher)
            results[name] = make(name, document)
    return results


@pytest.fixture
def run_in(libdir, sink, tmp_path):
    """Run a plan in a store of its own; return the file `seen` of the pipeline `os`."""
    from kiln.engine.execution.engine import Engine
    from kiln.engine.execution.sources import NoFetcher
    from kiln.engine.objects.store import ObjectStore

    def run(name, document):
        with ObjectStore(tmp_path / f"road-{name}" / "store", background=False) as store:
            engine = Engine(store, libdir, NoFetcher(), sink)
            result = engine.build(engine.load(document), ["os"])
            with store.mounted(result.objects["os"]) as tree:
                return json.loads((tree / "seen").read_text())

    return run


@pytest.mark.parametrize("epoch", [None, 1_700_000_000])
def test_a_forked_stage_sees_exactly_what_it_sees_under_bubblewrap(run_in, manifest, monkeypatch, epoch):
    description = {"scripts": ["open(tree + '/before', 'w')", LOOK]}
    document = manifest(other=["pass"], os=description if epoch is None else {"source-epoch": epoch, **description})
    document["pipelines"][1]["stages"][1]["inputs"] = {
        "other": {"type": "org.osbuild.tree", "origin": "org.osbuild.pipeline", "references": ["name:other"]}
    }
    seen = by_both_roads(run_in, manifest, document, monkeypatch)
    for key, value in seen["bubblewrap"].items():
        assert seen["fork"][key] == value, key
    assert seen["fork"]["ids"][:4] == [2, 1, 1, 1]
    assert seen["fork"]["processes"] == ["1", "2"]
    assert {"NoNewPrivs:\t1", "Seccomp:\t2"} <= set(seen["fork"]["status"])
    assert "CapEff:\t0000000000000000" in seen["fork"]["init"]
    assert seen["fork"]["ours"] == []
    assert set(seen["fork"]["fds"]) == {"0", "1", "2"}


@pytest.mark.parametrize("name", sorted(ENDS))
def test_programs_end_in_the_same_way(make_engine, manifest, read, sink, libdir, monkeypatch, name):
    # As a program of its own, so that nothing stands between the interpreter and the text.
    program = libdir / "stages/org.kiln.test.script"
    prelude = "#!/usr/bin/python3\nimport os, sys\ntree = '/run/osbuild/tree'\n"
    outcomes = {}
    for kind, launcher in ROADS.items():
        program.write_text(f"{prelude}{ENDS[name]}\n# {kind}\n")
        with monkeypatch.context() as patch:
            patch.setattr(fork_launch, "ForkLauncher", launcher)
            try:
                result = build(make_engine(), manifest(os=["x"]), "os")
            except StageFailedError as error:
                outcomes[kind] = (error.message, error.run.output)
            else:
                held = read(result.objects["os"], "held") if name in ("held", "global") else ""
                outcomes[kind] = ("well", result.stages[0].output, held)
    assert outcomes["fork"] == outcomes["bubblewrap"]


def test_forked_stages_share_no_namespace_and_no_scratch(make_engine, manifest, read, only_forks, monkeypatch):
    servers = []
    run = forkserver.ForkServer.run

    def look_and_run(self, prepared, confinement, held):
        servers.extend({kind: str(Path(f"/proc/{pid}/ns/{kind}").readlink()) for kind in KINDS} for pid in _servers())
        return run(self, prepared, confinement, held)

    monkeypatch.setattr(forkserver.ForkServer, "run", look_and_run)
    write = "for d in ('', 'tmp', 'run', 'dev/shm', 'etc', 'var', 'dev'): open('/' + d + '/left', 'w').write('x')\n"
    look = (
        "import glob, socket\n"
        "left = [p for d in ('', 'tmp', 'run', 'dev/shm', 'etc', 'var', 'dev') for p in glob.glob('/' + d + '/left')]\n"
        "assert left == [], left\n"
        "assert not os.path.exists('/run/kiln')\n"
    )
    document = manifest(os=[write + NAMESPACES], other=[look + NAMESPACES])
    result = build(make_engine(jobs=1), document, "os", "other")
    ours = {kind: str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in KINDS}
    assert len(servers) == 2
    for name in ("os", "other"):
        stage = json.loads(read(result.objects[name], "namespaces"))
        for other in (ours, *servers):
            assert all(stage[kind] != other[kind] for kind in KINDS)


def test_a_forked_stage_cannot_reach_its_server(make_engine, manifest, only_forks):
    attack = """
import ctypes, signal
libc = ctypes.CDLL(None, use_errno=True)
assert sorted(n for n in os.listdir("/proc") if n.isdigit()) == ["1", "2"]
# PTRACE_ATTACH to the first process holds nobody else's memory; the server has no number here.
for pid in range(3, 40):
    try:
        os.kill(pid, 0)
        raise AssertionError(pid)
    except ProcessLookupError:
        pass
# Not even with a new mount of /proc, which CAP_SYS_ADMIN allows.
os.mkdir("/proc2")
assert libc.mount(b"proc", b"/proc2", b"proc", 0, None) == 0
assert sorted(n for n in os.listdir("/proc2") if n.isdigit()) == ["1", "2"]
# The first process is in the same root, and the old root is gone from it.
assert os.stat("/").st_ino == os.stat("/proc/1/root/").st_ino
assert os.stat("/").st_dev == os.stat("/proc/1/root/").st_dev
assert os.readlink("/proc/1/ns/mnt") == os.readlink("/proc/self/ns/mnt")
assert os.readlink("/proc/1/ns/net") == os.readlink("/proc/self/ns/net")
assert os.listdir("/proc/1/fd") == []
os.chdir("/")
for _ in range(5):
    os.chdir("..")
assert not os.path.exists("run/kiln")
# Its end is the stage's end, and signals do not reach it.
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
    os.kill(1, number)
print("alive")
"""
    result = build(make_engine(), manifest(os=[attack, "print('next')"]), "os")
    assert [run.output for run in result.stages] == ["alive\n", "next\n"]


def test_a_server_ends_with_its_build(make_engine, manifest, only_forks):
    build(make_engine(), manifest(os=["pass"]), "os")
    assert not _servers()


def test_a_server_that_dies_is_a_clear_error_and_the_next_run_goes_on(make_engine, manifest, monkeypatch):
    run = forkserver.ForkServer.run

    def run_and_kill(self, prepared, confinement, held):
        result = run(self, prepared, confinement, held)
        for pid in _servers():
            os.kill(pid, signal.SIGKILL)
        return result

    document = manifest(os=["open(tree + '/a', 'w')", "import time; time.sleep(1000)"])
    engine = make_engine()
    with monkeypatch.context() as patch:
        patch.setattr(forkserver.ForkServer, "run", run_and_kill)
        with pytest.raises(KilnError) as caught:
            build(engine, document, "os")
    assert (caught.value.reason, caught.value.retriable) == ("sandbox-failed", True)


def _servers():
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
            # Of the processes with this command line, only the server itself is Python.
            if b"-c" in words and any(b"inside.server" in word for word in words) and b"python3" in words[0]:
                status = (path.parent / "status").read_text()
                if f"\nPPid:\t{os.getpid()}\n" in status or _descends(path.parent):
                    found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def _descends(process):
    while (parent := re.search(r"\nPPid:\t(\d+)\n", (process / "status").read_text())) is not None:
        if parent[1] == str(os.getpid()):
            return True
        if parent[1] in ("0", "1"):
            return False
        process = process.with_name(parent[1])
    return False


def test_a_time_limit_ends_a_forked_stage(make_engine, manifest, only_forks):
    with pytest.raises(StageFailedError) as caught:
        build(make_engine(stage_timeout_seconds=0.5), manifest(os=["print('x'); os.system('sleep 1000')"]), "os")
    assert (caught.value.reason, caught.value.detail) == ("stage-timeout", "x")
    assert not _servers()


def test_a_program_that_is_not_python_is_started(make_engine, manifest, libdir, only_forks):
    program = libdir / "stages/org.kiln.test.script"
    program.write_text("#!/bin/sh\ntrap : PIPE\ncat /proc/self/status | grep -E 'CapEff|NoNew'; echo $0 $#; exit 5\n")
    with pytest.raises(StageFailedError, match="status 5") as caught:
        build(make_engine(), manifest(os=["x"]), "os")
    assert "/run/osbuild/bin/org.kiln.test.script 0" in caught.value.run.output
    assert "NoNewPrivs:\t1" in caught.value.run.output


@pytest.mark.parametrize("broken", ["def f(:\n", "x = '\\d'\n", "#!/usr/bin/python3 -I\n", "#!/usr/bin/env python3\n"])
def test_what_cannot_be_compiled_in_silence_is_started(make_engine, manifest, libdir, monkeypatch, broken):
    program = libdir / "stages/org.kiln.test.script"
    program.write_text(broken + "print(1)\n" if broken.startswith("#!") else "#!/usr/bin/python3\n" + broken)
    outputs = set()
    for launcher in ROADS.values():
        with monkeypatch.context() as patch:
            patch.setattr(fork_launch, "ForkLauncher", launcher)
            engine = make_engine()
            try:
                outputs.add(build(engine, manifest(os=["x"]), "os").stages[0].output)
            except StageFailedError as error:
                outputs.add(error.run.output)
        program.write_text(program.read_text() + "\n")
    assert len(outputs) == 1


@pytest.mark.parametrize(
    "text",
    [
        "file = open('/dev/null')\n",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n",
        "raise SystemExit\n",
        "print('loaded')\n",
    ],
)
def test_a_runtime_that_does_something_when_it_is_loaded_does_it_for_each_stage(
    make_engine, manifest, libdir, sink, text
):
    module = libdir / "osbuild/api.py"
    module.write_text(text + module.read_text())
    script = "print(sorted(os.listdir('/proc/self/fd')))"
    outputs = []
    for index in range(2):
        try:
            result = build(make_engine(), manifest(os=[f"{script} # {index}"]), "os")
        except StageFailedError as error:
            outputs.append(error.run.output)
        else:
            outputs.append(result.stages[0].output)
    assert outputs[0] == outputs[1]


def test_without_new_system_calls_stages_run_under_bubblewrap(make_engine, manifest, read, monkeypatch):
    def missing(*arguments, **settings):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(forkserver.detached, "clone", missing)
    result = build(make_engine(), manifest(os=["open(tree + '/a', 'w').write('1')"] * 2), "os")
    assert read(result.objects["os"], "a") == "1"


def test_a_sandbox_that_the_server_cannot_make_is_made_by_bubblewrap(make_engine, manifest, read, monkeypatch):
    clone = forkserver._clone

    def wrong(mounts, sent):
        described, trees = clone(mounts, sent)
        return [*described, ("tmpfs", "/usr/is-read-only", "")], trees

    monkeypatch.setattr(forkserver, "_clone", wrong)
    result = build(make_engine(), manifest(os=["open(tree + '/a', 'w').write('1')"] * 2), "os")
    assert read(result.objects["os"], "a") == "1"


def test_a_forked_stage_is_made_in_its_control_group(make_engine, manifest, only_forks, monkeypatch):
    from kiln.linux import cgroup_hierarchies
    from kiln.linux.confinement import Confinement

    if cgroup_hierarchies.detect().unified is None:
        pytest.skip("for hosts with control groups of version 2")

    def moved(self, pid):
        raise AssertionError("it was moved, for which a machine waits for all its processors")

    monkeypatch.setattr(Confinement, "enter", moved)
    script = "assert set(line.split(':', 2)[2] for line in open('/proc/self/cgroup')) == {'/\\n'}"
    build(make_engine(), manifest(os=[script]), "os")


def test_each_stage_has_its_own_random_numbers(make_engine, manifest, only_forks):
    script = "import random, tempfile; print(random.random(), tempfile.mktemp())"
    result = build(make_engine(), manifest(os=[script + "#1", script + "#2", script + "#3"]), "os")
    assert len({run.output for run in result.stages}) == 3


def test_a_runner_starts_its_stage_in_the_forked_sandbox(make_engine, manifest, libdir, only_forks, monkeypatch):
    from kiln.engine.execution import runners

    runner = libdir / "runners/org.osbuild.test1"
    runner.write_text(
        "#!/usr/bin/python3\nimport subprocess, sys\nprint('runner', sys.argv, flush=True)\n"
        "sys.exit(subprocess.run(sys.argv[1:]).returncode)\n"
    )
    runner.chmod(0o755)
    # No runner of ours has this name, so that the engine has to start it.
    monkeypatch.setattr(runners, "_host", lambda: "org.osbuild.test1")
    result = build(make_engine(), manifest(os=["print('stage')"]), "os")
    inside = ["/run/osbuild/runner/org.osbuild.test1", "/run/osbuild/bin/org.kiln.test.script"]
    assert result.stages[0].output == f"runner {inside}\nstage\n"
