"""Building as a user that is not root, in a user namespace."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kiln.linux import mounts

pytestmark = pytest.mark.root

REPOSITORY = Path(__file__).parents[2]
USER = 41234
RANGE = 500_000
SCRIPT = "org.kiln.test.script"


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of that user, where it can go."""
    path = Path(tempfile.mkdtemp(prefix="kiln-rootless-"))
    path.chmod(0o755)
    os.chown(path, USER, USER)
    yield path
    subprocess.run(["chattr", "-R", "-i", path], check=False, capture_output=True)
    while path.exists():  # the collector of a store may still be deleting beside this
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def build(home: Path, libdir: Path) -> Any:
    """Run kiln-osbuild as the user."""
    shutil.copytree(libdir, home / "libdir", symlinks=True)
    for name in ("mkdir", "copy", "users", "chown"):
        for path in (REPOSITORY / "libdir/stages").glob(f"org.osbuild.{name}*"):
            shutil.copy(path, home / "libdir/stages" / path.name)
    (home / "checkout").mkdir()

    def reachable(path: str) -> str:
        """Return where the user finds it: the checkout may lie in root's home."""
        return (
            str(home / "checkout" / Path(path).relative_to(REPOSITORY)) if path.startswith(f"{REPOSITORY}/") else path
        )

    def run(document: dict[str, Any], *options: str, ranges: bool = False) -> subprocess.CompletedProcess[str]:
        (home / "manifest.json").write_text(json.dumps(document))
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": os.pathsep.join(map(reachable, sys.path)),
        }
        command = [
            *("setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", reachable(sys.executable)),
            *("-m", "kiln.engine.main", "--store", str(home / "store"), "--libdir", str(home / "libdir")),
            *("--output-directory", str(home / "out"), *options, str(home / "manifest.json")),
        ]
        binds = [(REPOSITORY, home / "checkout")]
        if ranges:
            (home / "subuid").write_text(f"{USER}:{RANGE}:65536\n")
            (home / "subgid").write_text(f"{USER}:{RANGE}:65536\n")
            accounts = Path("/etc/passwd").read_text()
            (home / "passwd").write_text(f"{accounts}kilntest:x:{USER}:{USER}::{home}:/bin/sh\n")
            binds += [(home / name, Path("/etc", name)) for name in ("subuid", "subgid", "passwd")]
        mounting = "".join(f"mount --bind {source} {target} && " for source, target in binds)
        command = ["unshare", "--mount", "sh", "-c", f'{mounting} exec "$@"', "sh", *command]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=home)

    probe = subprocess.run(
        ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", "unshare", "-Urmpf",
         "mount", "-t", "proc", "proc", "/proc"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if probe.returncode != 0:
        pytest.skip(f"no user can make a sandbox here, as in a container that covers parts of /proc: {probe.stderr}")
    return run


def plan(*stages: dict[str, Any]) -> dict[str, Any]:
    return {"version": "2", "pipelines": [{"name": "os", "source-epoch": 1000, "stages": list(stages)}]}


def script(text: str) -> dict[str, Any]:
    return {"type": SCRIPT, "options": {"script": text}}


def test_a_user_builds_and_exports(build, home: Path) -> None:
    document = plan(
        {"type": "org.osbuild.noop"},
        {"type": "org.osbuild.mkdir", "options": {"paths": [{"path": "/etc"}, {"path": "/srv", "mode": 0o700}]}},
        script("open(tree + '/etc/file', 'w').write('text'); os.link(tree + '/etc/file', tree + '/srv/other')"),
        script("os.unlink(tree + '/etc/file'); os.symlink('x', tree + '/l'); print(os.getuid(), os.listdir('/dev'))"),
    )
    done = build(document, "--export", "os", "--json")
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    out = home / "out/os"
    assert (out / "srv/other").read_text() == "text"
    assert not (out / "etc/file").exists()
    assert (out / "srv").stat().st_uid == USER
    again = build(document, "--export", "os", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["log"] == {}
    assert mounts.mounted_below(home) == []


def test_a_user_builds_in_a_build_root_of_its_own(build, home: Path) -> None:
    copy = (
        "import shutil, subprocess\n"
        "subprocess.run(['cp', '-a', '--no-preserve=ownership', '--parents',"
        " '/usr/bin/python3', os.path.realpath('/usr/bin/python3'),"
        " '/usr/lib/python3.11', tree], check=True)\n"
        "for top in ('/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64'):\n"
        "    for name in os.listdir(top) if os.path.isdir(top) else []:\n"
        "        if name.startswith(('libc.', 'libm.', 'libz.', 'libexpat', 'ld-linux')):\n"
        "            os.makedirs(tree + top, exist_ok=True); shutil.copy2(top + '/' + name, tree + top)\n"
    )
    if not Path("/usr/lib/python3.11").is_dir():
        pytest.skip("the host's Python is another one")
    document = plan(script("open(tree + '/made', 'w').write(','.join(sorted(os.listdir('/usr'))))"))
    document["pipelines"][0]["build"] = "name:build"
    document["pipelines"].insert(0, {"name": "build", "runner": "org.osbuild.linux", "stages": [script(copy)]})
    done = build(document, "--export", "os", "--json")
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    assert (home / "out/os/made").read_text() in ("bin,lib", "bin,lib,lib64")


def test_what_needs_the_hosts_root_is_refused_clearly(build) -> None:
    loop = {"type": "org.osbuild.loopback", "options": {"filename": "x"}}
    done = build(plan({"type": SCRIPT, "options": {"script": "pass"}, "devices": {"d": loop}}), "--export", "os")
    assert done.returncode in (1, 2)
    if done.returncode == 1:
        assert "needs devices or mounts of the host" in done.stderr
    one = build(plan(script("os.mkdir(tree + '/home'); os.chown(tree + '/home', 1000, 1000)")), "--export", "os")
    assert one.returncode == 1
    assert "/etc/subuid" in one.stderr
    node = build(plan(script("os.mknod(tree + '/null', 0o20666, os.makedev(1, 3))")), "--export", "os")
    assert node.returncode == 1
    assert "Traceback" not in node.stderr.replace('Traceback (most recent call last):\n  File "/run/osbuild', "")


def test_with_ranges_of_numbers_files_belong_to_others(build, home: Path) -> None:
    if shutil.which("newuidmap") is None:
        pytest.skip("no newuidmap on this host (uidmap)")
    done = build(
        plan(script("os.mkdir(tree + '/home'); os.chown(tree + '/home', 1000, 1000)")),
        *("--export", "os", "--json"),
        ranges=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    assert (home / "out/os/home").stat().st_uid == RANGE + 999
    assert (home / "out/os").stat().st_uid == USER


def test_without_user_namespaces_the_refusal_says_what_to_do(build, monkeypatch) -> None:
    from kiln.engine.execution import rootless
    from kiln.errors import KilnError

    def refuse() -> int:
        raise PermissionError(1, "Operation not permitted", "unshare")

    monkeypatch.setattr(rootless.userns, "enter", refuse)
    with pytest.raises(KilnError) as caught:
        rootless.become_root()
    assert caught.value.reason == "not-root"
    assert "max_user_namespaces" in caught.value.hint
