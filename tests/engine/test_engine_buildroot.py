"""A build root that is a tree: its programs, its accounts, its libraries, and nothing of the host's."""

from __future__ import annotations

import pytest

from kiln.engine.execution import buildroot
from kiln.linux.sandbox import Mount, Sandbox

COPY_PYTHON = """
import glob, shutil, subprocess
version = "python%d.%d" % sys.version_info[:2]
for name in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc/alternatives", "boot"):
    os.makedirs(tree + "/" + name)
shutil.copy(os.path.realpath(sys.executable), tree + "/usr/bin/python3")
ldd = subprocess.run(["ldd", os.path.realpath(sys.executable)], stdout=subprocess.PIPE, check=True)
for word in ldd.stdout.decode().split():
    if word.startswith("/") and os.path.exists(word):
        target = tree + "/usr" + word.replace("/usr/", "/")
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy(os.path.realpath(word), target)
shutil.copytree("/usr/lib/" + version, tree + "/usr/lib/" + version, symlinks=True, ignore=shutil.ignore_patterns(
    "test", "idlelib", "lib2to3", "ensurepip", "tkinter", "pydoc_data", "__pycache__", "config-*", "distutils",
    "unittest", "lib-dynload", "asyncio", "multiprocessing", "*.a", "dist-packages", "turtledemo", "xml", "email"))
open(tree + "/etc/passwd", "w").write("kiln:x:4711:4711::/:/bin/sh\\n")
open(tree + "/boot/vmlinuz", "w").write("kernel")
os.symlink("/etc/shadow", tree + "/etc/mke2fs.conf")
os.symlink("/etc", tree + "/etc/ssl")
"""
LOOK = """
import json
json.dump({
    "passwd": open("/etc/passwd").read(),
    "boot": os.listdir("/boot"),
    "usr": sorted(os.listdir("/usr")),
    "bin": os.listdir("/bin"),
    "etc": sorted(os.listdir("/etc")),
}, open(tree + "/seen", "w"))
"""


@pytest.mark.root
def test_stages_run_with_the_programs_of_the_build_root_and_no_others(make_engine, manifest, read):
    import json

    document = manifest(
        build={"runner": "org.osbuild.debian12", "scripts": [COPY_PYTHON]},
        os={"build": "name:build", "scripts": [LOOK]},
    )
    engine = make_engine()
    result = engine.build(engine.load(document), ["os"])
    seen = json.loads(read(result.objects["os"], "seen"))
    assert seen["passwd"] == "kiln:x:4711:4711::/:/bin/sh\n"
    assert seen["boot"] == ["vmlinuz"]
    assert seen["bin"] == ["python3"]
    assert seen["usr"] == ["bin", "lib", "lib64", "sbin"]
    # The symbolic links led out of the tree; they are neither read nor shown.
    assert "mke2fs.conf" not in seen["etc"]
    assert "ssl" not in seen["etc"]
    assert "alternatives" in seen["etc"]
    assert all(run.pipeline != "build" or not run.cached for run in result.stages)
    again = engine.build(engine.load(document), ["os"])
    assert all(run.cached for run in again.stages)


@pytest.mark.root
def test_another_build_root_makes_another_tree(make_engine, manifest, store):
    from kiln.engine.execution.keys import Keys
    from kiln.engine.manifest.load import load
    from kiln.engine.manifest.modules import Modules

    def key(libdir):
        document = manifest(build=["pass"], os={"build": "name:build", "scripts": ["pass"]})
        plan = load(document)
        return Keys(plan, Modules(libdir)).last("os")

    engine = make_engine()
    libdir = engine._modules.libdir
    before = key(libdir)
    (libdir / "osbuild/util/new.py").write_text("x = 1\n")
    assert key(libdir) != before


def test_a_build_root_without_a_library_cache_is_noticed(tmp_path):
    (tmp_path / "usr/sbin").mkdir(parents=True)
    (tmp_path / "usr/sbin/ldconfig").touch()
    (tmp_path / "etc").mkdir()
    skeleton = buildroot.examine(tmp_path, host=False)
    assert skeleton.needs_ldconfig
    assert skeleton.etc["passwd"].startswith(b"root:")
    (tmp_path / "etc/ld.so.cache").write_bytes(b"cache")
    assert not buildroot.examine(tmp_path, host=False).needs_ldconfig


def test_the_hosts_accounts_are_not_shown():
    skeleton = buildroot.examine(buildroot.HOST, host=True)
    assert skeleton.etc["passwd"] == buildroot.MINIMAL_PASSWD
    assert not skeleton.boot


def test_a_sandbox_is_planned_without_running_anything(tmp_path):
    sandbox = Sandbox(
        (
            Mount("ro", "/usr", "/x/usr"),
            Mount("symlink", "/lib", "usr/lib"),
            Mount("dev", "/dev", "/x/dev"),
            Mount("rw", "/var", "/x/var"),
            Mount("tmpfs", "/run"),
            Mount("dir", "/run/inputs"),
            Mount("proc", "/proc"),
        ),
        frozenset({"CAP_MKNOD", "CAP_CHOWN"}),
    )
    assert sandbox.argv(["true"], bwrap=tmp_path / "bwrap") == [
        *(str(tmp_path / "bwrap"), "--chdir", "/", "--die-with-parent", "--new-session"),
        *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-cgroup-try"),
        *("--cap-drop", "ALL", "--cap-add", "CAP_CHOWN", "--cap-add", "CAP_MKNOD"),
        *("--ro-bind", "/x/usr", "/usr", "--symlink", "usr/lib", "/lib", "--dev-bind", "/x/dev", "/dev"),
        *("--bind", "/x/var", "/var", "--tmpfs", "/run", "--dir", "/run/inputs", "--proc", "/proc"),
        *("--", "true"),
    ]
