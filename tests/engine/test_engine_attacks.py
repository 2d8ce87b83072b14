"""What hostile code tries against the host from a stage, and what it gets.

Programs of a tree, such as the scripts of packages, have less than the program of the stage that starts them.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from kiln.engine.execution.model import StageFailedError
from kiln.errors import KilnError
from kiln.linux import cgroups
from kiln.linux.cgroup_hierarchies import Hierarchies, detect
from kiln.linux.cgroups import Limits

pytestmark = pytest.mark.root

PRELUDE = """
import ctypes, errno, json, stat
libc = ctypes.CDLL(None, use_errno=True)
def tried(action, *arguments):
    try:
        return ["done", repr(action(*arguments))]
    except OSError as error:
        return [errno.errorcode[error.errno], str(error)]
def mount(source, target, kind, flags=0, data=b""):
    os.makedirs(target, exist_ok=True)
    if libc.mount(source, target.encode(), kind, flags, data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
def note(**found):
    open(tree + "/found", "w").write(json.dumps(found))
"""


SCRIPT = """
import subprocess
from osbuild.util import chroot
prelude = "import os, sys; tree = sys.argv[1]" + {prelude!r}
subprocess.run([sys.executable, "-c", prelude + {script!r}, tree], check=True, preexec_fn=chroot.drop_powers)
"""


@pytest.fixture
def script_attack(attack):
    """Run a script as a program of the tree, as stages start those, and return what it found."""
    return lambda script: attack(SCRIPT.format(prelude=PRELUDE, script=script))


@pytest.fixture
def attack(make_engine, manifest, read):
    """Run a script as a stage and return what it found."""
    import json

    def run(script: str, **settings):
        engine = make_engine(**settings)
        plan = engine.load(manifest(os=[PRELUDE + script]))
        return json.loads(read(engine.build(plan, ["os"]).objects["os"], "found"))

    return run


def host_disk() -> tuple[int, int]:
    """A block device of this host that is not a loop device."""
    for path in sorted(Path("/sys/class/block").iterdir()):
        if not path.name.startswith(("loop", "ram")):
            major, minor = (path / "dev").read_text().split(":")
            return int(major), int(minor)
    pytest.skip("this host has no disk")


def test_a_stage_cannot_make_the_node_of_a_disk(attack):
    major, minor = host_disk()
    found = attack(f"""
results = {{}}
for place in (tree, "/dev", "/var/tmp", "/tmp", "/run"):
    results[place] = tried(os.mknod, place + "/disk", 0o600 | stat.S_IFBLK, os.makedev({major}, {minor}))
    results[place + "/mem"] = tried(os.mknod, place + "/mem", 0o600 | stat.S_IFCHR, os.makedev(1, 1))
    results[place + "/whiteout"] = tried(os.mknod, place + "/wh", 0o600 | stat.S_IFCHR, 0)
note(**results)
""")
    assert {kind for kind, _ in found.values()} == {"EPERM"}


def test_a_stage_makes_the_nodes_that_trees_have(attack, tmp_path):
    found = attack("""
os.mkdir(tree + "/dev")
names = {"null": (1, 3), "zero": (1, 5), "console": (5, 1), "ptmx": (5, 2), "kmsg": (1, 11)}
note(**{name: tried(os.mknod, tree + "/dev/" + name, 0o666 | stat.S_IFCHR, os.makedev(*number))
        for name, number in names.items()}, fifo=tried(os.mkfifo, tree + "/fifo"))
""")
    assert {kind for kind, _ in found.values()} == {"done"}


def test_a_stage_cannot_open_the_disk_that_devtmpfs_shows(attack):
    # Mounting is allowed, since osbuild's own stages do it; what can be opened is the control group's to say.
    found = attack("""
mounted = tried(mount, b"devtmpfs", "/run/all", b"devtmpfs")
nodes = []
for top, _, names in os.walk("/run/all"):
    for name in names:
        path = os.path.join(top, name)
        status = os.lstat(path)
        if stat.S_ISBLK(status.st_mode) or name in ("kmsg", "mem", "loop-control", "fuse", "null"):
            nodes.append([name, tried(os.open, path, os.O_RDONLY)[0], tried(os.open, path, os.O_RDWR)[0]])
note(mounted=mounted, nodes=nodes)
""")
    if found["mounted"][0] != "done":
        pytest.skip(f"no devtmpfs can be mounted here: {found['mounted']}")
    opened = {name: {reading, writing} for name, reading, writing in found["nodes"]}
    assert opened.pop("null") == {"done"}
    opened.pop("fuse", None)
    assert opened
    assert set().union(*opened.values()) == {"EPERM"}, opened


def test_a_script_cannot_mount_anything(script_attack):
    found = script_attack("""
kinds = (b"devtmpfs", b"proc", b"sysfs", b"cgroup2", b"tmpfs", b"debugfs", b"overlay", b"mqueue")
found = {kind.decode(): tried(mount, b"none", "/run/" + kind.decode(), kind)[0] for kind in kinds}
found["remount"] = tried(mount, None, "/proc/sys", None, 4096 | 32)[0]
found["bind"] = tried(mount, b"/", "/run/x", None, 4096)[0]
found["umount"] = "done" if libc.umount2(b"/proc/sys", 2) == 0 else errno.errorcode[ctypes.get_errno()]
found["unshare"] = "done" if libc.unshare(0x00020000) == 0 else errno.errorcode[ctypes.get_errno()]
found["core"] = tried(os.open, "/proc/sys/kernel/core_pattern", os.O_WRONLY)[0]
found["trigger"] = tried(os.open, "/proc/sysrq-trigger", os.O_WRONLY)[0]
note(**found)
""")
    assert found.pop("core") == "EROFS"
    assert found.pop("trigger") in ("EROFS", "ENOENT")
    assert set(found.values()) == {"EPERM"}, found


def test_a_stage_cannot_mount_a_disk_that_nobody_has_mounted(attack):
    found = attack("""
tried(mount, b"devtmpfs", "/run/all", b"devtmpfs")
results = []
for name in sorted(os.listdir("/run/all")) if os.path.isdir("/run/all") else []:
    path = os.path.join("/run/all", name)
    if stat.S_ISBLK(os.lstat(path).st_mode):
        for kind in (b"ext4", b"xfs", b"btrfs", b"vfat"):
            results.append(tried(mount, path.encode(), "/run/disk", kind, 1)[0])
note(results=results)
""")
    # EBUSY: the kernel finds it mounted, and does not open it again.
    assert set(found["results"]) <= {"EPERM", "ENODEV", "EACCES", "EBUSY"}


def test_control_groups_are_not_to_be_seen(attack):
    found = attack("""
result = {line.strip().rpartition(":")[2] for line in open("/proc/self/cgroup")}
below = [line for line in open("/proc/mounts") if "cgroup" in line]
note(own=sorted(result), sys=os.listdir("/sys/fs/cgroup"), below=below)
""")
    assert found["sys"] == found["below"] == []
    # Where it has a group of its own, that is the root of what it sees.
    assert "/" in found["own"]
    assert not any(path.startswith(("/kiln-", "/..")) for path in found["own"])


def test_the_hierarchy_that_refuses_devices_cannot_be_left_upwards(attack):
    found = attack("""
mounted = tried(mount, b"none", "/run/unified", b"cgroup2")
note(mounted=mounted[0], entries=os.listdir("/run/unified") if mounted[0] == "done" else [],
     new=tried(mount, b"none", "/run/named", b"cgroup", 0, b"none,name=kiln,release_agent=/run/x")[0])
""")
    assert not any(name.startswith("kiln-") or name == cgroups.INNER for name in found["entries"])
    assert found["new"] != "done"


def test_a_stage_cannot_reach_the_kernel(attack):
    found = attack("""
libc.syscall.restype = ctypes.c_long
def call(number, *arguments):
    if libc.syscall(ctypes.c_long(number), *(ctypes.c_long(value) for value in arguments)) == -1:
        return errno.errorcode[ctypes.get_errno()]
    return "done"
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
import socket
note(
    bpf=call(321, 0, 0, 0), keyctl=call(250, 0, -3, 0), module=call(313, -1, 0, 0), handle=call(304, -1, 0, 0),
    ptrace=call(101, 0, 0, 0, 0), ring=call(425, 1, 0), clock=call(227, 0, 0), reboot=call(169, 0, 0, 0, 0),
    vsock=tried(socket.socket, 40, socket.SOCK_STREAM)[0], unix=tried(socket.socket, socket.AF_UNIX)[0],
    seccomp=status["Seccomp"].strip(), effective=status["CapEff"].strip(), bounding=status["CapBnd"].strip(),
    privileges=status["NoNewPrivs"].strip(),
)
""")
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are those of x86_64")
    assert found["seccomp"] == "2"
    assert found["privileges"] == "1"
    assert found["bpf"] == found["module"] == found["handle"] == found["ptrace"] == found["clock"] == "EPERM"
    assert found["reboot"] == "EPERM"
    assert found["keyctl"] == found["ring"] == "ENOSYS"
    assert found["vsock"] == "EAFNOSUPPORT"
    assert found["unix"] == "done"


def test_capabilities_are_those_of_the_contract_and_no_others(attack):
    from kiln.engine.execution.sandbox import stage_capabilities
    from kiln.linux.capabilities import decode

    found = attack("""
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
note(**{name: status[name].strip() for name in ("CapEff", "CapPrm", "NoNewPrivs")})
""")
    expected = stage_capabilities(frozenset())
    assert decode(int(found["CapEff"], 16)) == expected
    assert decode(int(found["CapPrm"], 16)) == expected
    # Nothing can be had back from the bounding set: the process has no new privileges.
    assert found["NoNewPrivs"] == "1"


def test_a_script_has_no_power_over_the_machine(script_attack):
    from kiln.linux.capabilities import decode

    found = script_attack("""
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
note(held=status["CapEff"].strip(), allowed=status["CapPrm"].strip())
""")
    held = decode(int(found["held"], 16)) | decode(int(found["allowed"], 16))
    assert {"CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_SETUID"} <= held
    assert not held & {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE", "CAP_SYS_RESOURCE"}


def test_a_stage_that_wants_a_loop_device_gets_that_one_alone(attack):
    found = attack("""
import osbuild.loop
from osbuild.remoteloop import LoopClient
with open(tree + "/image", "wb") as file:
    file.truncate(1 << 20)
client = LoopClient("/run/osbuild/api/remoteloop")
os.mkdir("/tmp/nodes")
with open(tree + "/image", "rb+") as file, client.device(file.name, 0, 1 << 20) as path:
    with open(path, "rb+") as device:
        device.write(b"x" * 512)
    number = os.minor(os.stat(path).st_rdev)
    other = tried(os.mknod, "/tmp/nodes/other", 0o600 | stat.S_IFBLK, os.makedev(7, number + 1))
os.unlink(tree + "/image")
note(number=number, other=other)
""")
    assert found["other"][0] == "EPERM"


def limited(controller: str) -> None:
    if controller not in detect().available():
        pytest.skip(f"no control group here can limit {controller}")


def leftovers() -> list[str]:
    return [str(path) for base in Path("/sys/fs/cgroup").glob("**/") for path in base.glob(f"kiln-{os.getpid()}-*")]


def test_memory_over_the_limit_is_an_error_of_its_own(attack):
    limited("memory")
    limits = Limits(memory_bytes=96 * 1024 * 1024)
    with pytest.raises(StageFailedError) as caught:
        attack("data = bytearray(400 * 1024 * 1024)\nnote(x=1)", limits=limits)
    assert caught.value.reason == "memory-limit"
    assert "--memory-max" in caught.value.hint
    assert attack("data = bytearray(1024 * 1024)\nnote(x=1)", limits=limits) == {"x": 1}
    assert leftovers() == []


def test_processes_over_the_limit_are_an_error_of_their_own(attack):
    limited("pids")
    script = """
children = []
for _ in range(200):
    pid = os.fork()
    if pid == 0:
        import time
        time.sleep(1000)
    children.append(pid)
note(x=1)
"""
    with pytest.raises(StageFailedError) as caught:
        attack(script, limits=Limits(pids=50))
    assert caught.value.reason == "pids-limit"
    assert leftovers() == []


def test_processors_and_disk_traffic_are_limited_where_it_is_asked_for(attack, tmp_path):
    limited("cpu")
    limited("io")
    limits = Limits(cpus=0.5, io_bytes_per_second=50_000_000)
    assert attack("note(x=1)", limits=limits) == {"x": 1}
    group = cgroups.make(detect(), Limits(cpus=0.5, io_bytes_per_second=1000, disk=tmp_path.stat().st_dev), ())
    try:
        texts = {
            path.read_text().strip()
            for path in (group.outer["cpu"] / "cpu.cfs_quota_us", group.outer["cpu"] / "cpu.max")
            if path.exists()
        }
        assert texts & {"50000", "50000 100000"}
    finally:
        group.close()


def test_a_limit_that_the_host_cannot_hold_is_refused(attack, monkeypatch):
    from kiln.engine.execution import confine

    monkeypatch.setattr(confine, "detect", lambda: Hierarchies({}, None, frozenset()))
    with pytest.raises(KilnError) as caught:
        attack("note(x=1)", limits=Limits(memory_bytes=1 << 30, pids=4))
    assert caught.value.reason == "no-control-group"
    assert "memory, processes" in caught.value.message
    assert attack("note(x=1)") == {"x": 1}


def test_the_older_controller_of_devices_holds_too(attack, monkeypatch):
    from kiln.engine.execution import confine

    here = detect()
    if "devices" not in here.controllers:
        pytest.skip("this host has no hierarchy of version 1 for devices")
    monkeypatch.setattr(confine, "detect", lambda: Hierarchies(here.controllers, None, frozenset()))
    found = attack("""
tried(mount, b"devtmpfs", "/run/all", b"devtmpfs")
mounted = tried(mount, b"none", "/run/devices", b"cgroup", 0, b"devices")[0]
allow = "EPERM"
if mounted == "done":
    allow = tried(lambda: os.write(os.open("/run/devices/devices.allow", os.O_WRONLY), b"a"))[0]
nodes = [name for name in os.listdir("/run/all") if stat.S_ISBLK(os.lstat("/run/all/" + name).st_mode)]
note(allow=allow, null=tried(os.open, "/dev/null", os.O_RDWR)[0],
     blocks=[tried(os.open, "/run/all/" + name, os.O_RDONLY)[0] for name in nodes])
""")
    assert found["allow"] == "EPERM"
    assert found["null"] == "done"
    assert set(found["blocks"]) <= {"EPERM"}


def test_groups_of_dead_processes_are_removed(tmp_path):
    here = detect()
    if not here.controllers and here.unified is None:
        pytest.skip("no control groups here")
    group = cgroups.make(here, Limits(), ())
    dead = []
    for path in dict.fromkeys(group.outer.values()):
        other = path.with_name("kiln-999999999-0")
        (other / cgroups.INNER).mkdir(parents=True)
        dead.append(other)
    group.close()
    import time

    cgroups.clean(here, time.time())
    assert all(path.exists() for path in dead)  # it may just have been made
    assert cgroups.clean(here, time.time() + 3600) >= len(dead)  # other builds of this machine may leave some, too
    assert not any(path.exists() for path in dead)


def test_rules_become_a_program_that_says_the_same(tmp_path):
    from kiln.linux.device_policy import Rule, compile_rules, nodes

    assert len(compile_rules([])) == 8 * 8
    assert str(Rule("c", 136, None, "rw")) == "c 136:* rw"
    os.mknod(tmp_path / "loop", stat.S_IFBLK | 0o600, os.makedev(7, 3))
    (tmp_path / "sub").mkdir()
    os.mknod(tmp_path / "sub/null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (tmp_path / "link").symlink_to("loop")
    assert set(nodes(tmp_path)) == {Rule("b", 7, 3), Rule("c", 1, 3)}
    assert re.fullmatch(r"b 7:3 rwm", str(nodes(tmp_path)[0]))


def test_a_stage_finds_no_process_outside_itself_to_borrow_namespaces_from(attack):
    found = attack("""
others = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
mine = {name: os.readlink("/proc/self/ns/" + name) for name in ("cgroup", "mnt", "net", "ipc", "pid")}
joined = {}
for pid in others:
    for name in mine:
        try:
            if os.readlink("/proc/%d/ns/%s" % (pid, name)) != mine[name]:
                descriptor = os.open("/proc/%d/ns/%s" % (pid, name), os.O_RDONLY)
                joined["%d %s" % (pid, name)] = libc.setns(descriptor, 0)
        except OSError:
            pass
note(others=others, joined=joined)
""")
    assert found["joined"] == {}
    assert len(found["others"]) <= 3
