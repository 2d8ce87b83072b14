"""Two hosts: two network namespaces with a cable between them, and OpenSSH's own server on the far one.

The far host has its own host key, its own list of allowed keys and its own store; nothing else connects the two.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from kiln.engine.execution.engine import Engine
from kiln.engine.execution.remote.address import parse_remote
from kiln.engine.execution.sources import NoFetcher
from kiln.engine.objects.store import ObjectStore
from kiln.errors import KilnError
from kiln.events.model import Notice, Output

SSHD = Path("/usr/sbin/sshd")
PORT = 2222
SOURCE = Path(__file__).parents[2] / "src"

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not SSHD.exists(), reason="openssh-server is not installed (make test installs it)"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="iproute2 is not installed"),
]


def run(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def commands(namespace):
    """Return the processes of a namespace with their command lines."""
    found = []
    for number in run("ip", "netns", "pids", namespace).split():
        with suppress(OSError):  # it has just ended
            found.append((int(number), Path(f"/proc/{number}/cmdline").read_bytes()))
    return found


@dataclass
class Hosts:
    """The two namespaces *near* and *far*; *far* listens at *address*."""

    near: str
    far: str
    address: str
    directory: Path
    server: subprocess.Popen[bytes]

    @property
    def store(self):
        return self.directory / "far-store"

    def remote(self, pattern="*", **options):
        options = {
            "ssh": f"ip netns exec {self.near} ssh -F none",
            "identity": self.directory / "client-key",
            "known-hosts": self.directory / "known-hosts",
            "command": f"env PYTHONPATH={SOURCE} {sys.executable} -m kiln.engine.main --worker"
            f" --store {shlex.quote(str(self.store))}",
            **options,
        }
        query = "&".join(f"{key}={quote(str(value), safe='')}" for key, value in options.items())
        return parse_remote(f"{pattern}=ssh://root@{self.address}:{PORT}?{query}")

    def workers(self):
        """Return the processes of the far host that work on its store."""
        return [number for number, command in commands(self.far) if os.fsencode(self.store) in command]

    def cut(self):
        run("ip", "-n", self.far, "link", "set", "cable", "down")

    def repair(self):
        run("ip", "-n", self.far, "link", "set", "cable", "up")
        probe = ["ip", "netns", "exec", self.near, "bash", "-c", f": <>/dev/tcp/{self.address}/{PORT}"]
        await_(lambda: subprocess.run(probe, check=False, stderr=subprocess.DEVNULL).returncode == 0)


@pytest.fixture
def hosts(tmp_path):
    tag = os.urandom(3).hex()
    near, far = f"kiln-near-{tag}", f"kiln-far-{tag}"
    run("ip", "netns", "add", near)
    run("ip", "netns", "add", far)
    server = None
    try:
        run("ip", "-n", near, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", far)
        for name, address in ((near, "192.0.2.1/24"), (far, "192.0.2.2/24")):  # TEST-NET-1 (RFC 5737)
            run("ip", "-n", name, "address", "add", address, "dev", "cable")
            run("ip", "-n", name, "link", "set", "cable", "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
        server = start_server(far, tmp_path)
        yield Hosts(near, far, "192.0.2.2", tmp_path, server)
    finally:
        for number in run("ip", "netns", "pids", far).split():
            with_signal(int(number))
        if server is not None:
            server.wait()
        run("ip", "netns", "delete", near)
        run("ip", "netns", "delete", far)


def with_signal(number):
    with suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)


def start_server(namespace, directory):
    for name in ("host-key", "client-key", "other-key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name))
    (directory / "allowed").write_text("restrict " + (directory / "client-key.pub").read_text())
    host_key = " ".join((directory / "host-key.pub").read_text().split()[:2])
    (directory / "known-hosts").write_text(f"[192.0.2.2]:{PORT} {host_key}\n")
    configuration = {
        "ListenAddress": f"192.0.2.2:{PORT}",
        "HostKey": directory / "host-key",
        "AuthorizedKeysFile": directory / "allowed",
        "PidFile": "none",
        "StrictModes": "no",  # the directory is below /tmp
        "UsePAM": "no",
        "PermitRootLogin": "prohibit-password",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PermitUserEnvironment": "no",
        "X11Forwarding": "no",
        "LogLevel": "ERROR",
    }
    file = directory / "sshd_config"
    file.write_text("".join(f"{key} {value}\n" for key, value in configuration.items()))
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd separates its privileges
    log = (directory / "sshd.log").open("wb")
    argv = ["ip", "netns", "exec", namespace, str(SSHD), "-D", "-e", "-f", str(file)]
    server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    while f":{PORT}" not in run("ip", "netns", "exec", namespace, "ss", "-ltn"):
        assert server.poll() is None, (directory / "sshd.log").read_text()
        time.sleep(0.02)
    return server


def sent(sink):
    return [event.text for event in sink.events if isinstance(event, Notice) and event.text.startswith("sent ")]


def await_(condition):
    while not condition():
        time.sleep(0.02)


STAGES = [
    "os.makedirs(tree + '/usr/bin'); open(tree + '/usr/bin/tool', 'wb').write(bytes(range(256)) * 4096)",
    """
os.chmod(tree + "/usr/bin/tool", 0o4755)
os.chown(tree + "/usr", 7, 8)
os.setxattr(tree + "/usr", "user.k", b"v")
open(tree + "/gone", "w")
""",
    """
os.unlink(tree + "/gone")
os.link(tree + "/usr/bin/tool", tree + "/second")
with open(tree + "/sparse", "wb") as file:
    file.truncate(1 << 26)
    file.seek(1 << 25)
    file.write(b"x")
os.mknod(tree + "/null", 0o20666, os.makedev(1, 3))
""",
]


def test_a_build_on_another_host_is_a_build_here(hosts, make_engine, manifest, sink, store, libdir, tmp_path):
    document = manifest(
        base={"scripts": ["os.mkdir(tree + '/base')"], "source-epoch": 1},
        tree={"scripts": STAGES, "source-epoch": 1},
    )
    engine = make_engine(remotes=[hosts.remote("tree")])
    built = engine.build(engine.load(document), ["base", "tree"])
    assert [(stage.pipeline, bool(stage.host)) for stage in built.stages] == [("base", False), *[("tree", True)] * 3]
    with ObjectStore(tmp_path / "local", background=False) as local:
        own = Engine(local, libdir, NoFetcher(), sink)
        expected = own.build(own.load(document), ["base", "tree"])
        assert built.objects == expected.objects
        assert [stage.id for stage in built.stages] == [stage.id for stage in expected.stages]
        for name, ref in built.objects.items():
            assert store.content_id(ref) == local.content_id(expected.objects[name])
            assert [store.layer_digest(key) for key in ref.layers] == [local.layer_digest(key) for key in ref.layers]
    # Once more, from nothing: the far host has everything.
    sink.events.clear()
    with ObjectStore(tmp_path / "second", background=False) as second:
        again = Engine(second, libdir, NoFetcher(), sink, remotes=[hosts.remote("tree")])
        assert again.build(again.load(document), ["tree"]).objects["tree"] == built.objects["tree"]
        assert sent(sink) == []
    await_(lambda: not hosts.workers())


def test_a_cable_that_is_pulled_out_ends_both_sides(hosts, make_engine, manifest, sink, store):
    document = manifest(tree=[*STAGES[:2], "import time; print('begun', flush=True); time.sleep(1000)"])
    engine = make_engine(remotes=[hosts.remote(silence=10)])

    def pull():
        await_(lambda: any(isinstance(event, Output) and "begun" in event.text for event in sink.events))
        hosts.cut()

    puller = threading.Thread(target=pull)
    puller.start()
    with pytest.raises(KilnError) as caught:
        engine.build(engine.load(document), ["tree"])
    puller.join()
    assert (caught.value.reason, caught.value.retriable) == ("remote-lost", True)
    assert len(engine.stored(engine.load(document))) == 2
    await_(lambda: not hosts.workers())  # it hears nothing any more, and has ended its stage
    hosts.repair()
    sink.events.clear()
    document = manifest(tree=[*STAGES[:2], "open(tree + '/end', 'w')"])
    engine = make_engine(remotes=[hosts.remote()])
    built = engine.build(engine.load(document), ["tree"])
    assert [stage.cached for stage in built.stages] == [True, True, False]
    assert sent(sink) == []
    with ObjectStore(hosts.store, background=False) as far:
        assert all(far.lookup(path.name) is not None for path in (hosts.store / "objects").iterdir())


def test_a_session_that_is_killed_is_a_retriable_error(hosts, make_engine, manifest, sink):
    document = manifest(tree=["import time; print('begun', flush=True); time.sleep(1000)"])
    engine = make_engine(remotes=[hosts.remote()])

    def kill():
        await_(lambda: any(isinstance(event, Output) and "begun" in event.text for event in sink.events))
        for number, command in commands(hosts.far):
            if command.startswith(b"sshd: root"):
                with_signal(number)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(KilnError) as caught:
        engine.build(engine.load(document), ["tree"])
    killer.join()
    assert (caught.value.reason, caught.value.retriable) == ("remote-lost", True)
    await_(lambda: not hosts.workers())


@pytest.mark.parametrize("known", ["another key", "none"])
def test_a_host_that_does_not_prove_who_it_is_gets_nothing(known, hosts, make_engine, manifest, tmp_path):
    file = tmp_path / "known-hosts"
    key = " ".join((tmp_path / "other-key.pub").read_text().split()[:2])
    file.write_text(f"[192.0.2.2]:{PORT} {key}\n" if known == "another key" else "")
    engine = make_engine(remotes=[hosts.remote(fallback="local")])
    with pytest.raises(KilnError) as caught:
        engine.build(engine.load(manifest(tree=STAGES)), ["tree"])
    assert (caught.value.reason, caught.value.retriable) == ("remote-untrusted", False)
    assert not hosts.store.exists()


def test_an_unknown_client_and_an_unreachable_host_are_clear_errors(hosts, make_engine, manifest, tmp_path):
    document = manifest(tree=STAGES)
    engine = make_engine(remotes=[hosts.remote(identity=tmp_path / "other-key")])
    with pytest.raises(KilnError) as caught:
        engine.build(engine.load(document), ["tree"])
    assert caught.value.reason == "remote-lost"
    assert "Permission denied" in caught.value.detail
    assert "authorized_keys" in caught.value.hint
    engine = make_engine(remotes=[hosts.remote(command="kiln-that-is-not-there --worker")])
    with pytest.raises(KilnError) as caught:
        engine.build(engine.load(document), ["tree"])
    assert "must be installed" in caught.value.hint
    engine = make_engine(remotes=[hosts.remote(ssh=f"ip netns exec {hosts.near} ssh -F none -o Port=9")])
    with pytest.raises(KilnError) as caught:
        engine.build(engine.load(document), ["tree"])
    assert caught.value.reason == "remote-lost"
