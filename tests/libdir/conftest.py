"""Running a stage as the engine does: its own process, its arguments as a document, nothing else of ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

LIBDIR: Final = Path(__file__).parents[2] / "libdir"
EPOCH: Final = 1_700_000_000
SYSTEM_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"

sys.path.insert(0, str(LIBDIR))

# argv: the stage, its arguments, and what shall stand in for its constants or be mounted.
LAUNCHER = """
import functools, json, sys
import osbuild.api
stage, arguments, changes = sys.argv[1:4]
changes = json.loads(changes)
if changes["binds"]:
    from osbuild.util import chroot
    for source, target in changes["binds"]:
        chroot.mount(source, target, None, chroot.MS_BIND)
osbuild.api.arguments = functools.partial(osbuild.api.arguments, arguments)
osbuild.api.metadata = functools.partial(osbuild.api.metadata, path=arguments + ".meta")
head, guard, tail = open(stage, encoding="utf-8").read().partition("\\nif __name__ ==")
sys.argv = [stage]
exec(compile(head, stage, "exec"))
globals().update(changes["constants"])
exec(compile("\\n" * head.count("\\n") + guard + tail, stage, "exec"))
"""

# Says what it was called with; a file `<name>.does` beside it is what it does then.
RECORDER = """#!/bin/sh
printf '%s\\0' "${0##*/}" "$@" >>"${0%/*}/calls"
printf '\\n' >>"${0%/*}/calls"
[ -t 0 ] || cat >"${0%/*}/${0##*/}.stdin"
[ ! -e "$0.does" ] || . "$0.does"
"""


@dataclass
class Fakes:
    """Programs that write down their arguments."""

    directory: Path

    def add(self, *names: str, does: str = "") -> None:
        """Put programs in; *does* is shell text that they run."""
        for name in names:
            path = self.directory / name
            path.write_text(RECORDER, encoding="ascii")
            path.chmod(0o755)
            if does:
                (self.directory / f"{name}.does").write_text(does, encoding="utf-8")

    @property
    def calls(self) -> list[list[str]]:
        """Return argv of each call."""
        text = (self.directory / "calls").read_text(encoding="utf-8") if (self.directory / "calls").exists() else ""
        return [line.rstrip("\0").split("\0") for line in text.split("\0\n") if line]

    def stdin(self, name: str) -> str:
        """Return what the last call of *name* read."""
        return (self.directory / f"{name}.stdin").read_text(encoding="utf-8")


@dataclass
class Stage:
    """Starts stages on one tree."""

    tree: Path
    work: Path
    fakes: Fakes
    binds: list[tuple[str, str]] = field(default_factory=list)
    chroot: bool = False
    search: str = SYSTEM_PATH

    def __call__(
        self,
        name: str,
        options: Mapping[str, Any],
        *,
        inputs: Mapping[str, Any] | None = None,
        devices: Mapping[str, Any] | None = None,
        mounts: Mapping[str, Any] | None = None,
        constants: Mapping[str, Any] | None = None,
        epoch: int | None = EPOCH,
        umask: int = 0o022,
        python: str = sys.executable,
    ) -> subprocess.CompletedProcess[str]:
        """Run a stage and return how it ended, with its output and errors together as `stdout`."""
        arguments = {
            "tree": str(self.tree),
            "paths": {"devices": "/dev", "inputs": str(self.work / "inputs"), "mounts": str(self.work / "mounts")},
            "devices": devices or {},
            "inputs": inputs or {},
            "mounts": mounts or {},
            "options": options,
            "meta": {"id": "0" * 64},
        }
        document = self.work / "arguments"
        document.write_text(json.dumps(arguments), encoding="utf-8")
        environment = {
            "PATH": f"{self.fakes.directory}:{self.search}",
            "PYTHONPATH": str(LIBDIR),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LC_CTYPE": "C.UTF-8",
            "TERM": "dumb",
        }
        if epoch is not None:
            environment["SOURCE_DATE_EPOCH"] = str(epoch)
        changes = json.dumps({"binds": self.binds, "constants": constants or {}})
        argv = [python, "-c", LAUNCHER, str(LIBDIR / "stages" / name), str(document), changes]
        if self.chroot:
            argv = ["unshare", "--mount", "--propagation", "private", *argv]
        return subprocess.run(
            argv,
            check=False,
            env=environment,
            umask=umask,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )

    def ok(self, name: str, options: Mapping[str, Any], **kwargs: Any) -> str:
        """Run a stage that must succeed; return what it printed."""
        done = self(name, options, **kwargs)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def refused(self, name: str, options: Mapping[str, Any], **kwargs: Any) -> str:
        """Run a stage that must fail; return what it printed."""
        done = self(name, options, **kwargs)
        assert done.returncode != 0, done.stdout
        return done.stdout

    def read(self, path: str) -> str:
        """Return a file of the tree."""
        return (self.tree / path).read_text(encoding="utf-8")

    def metadata(self) -> Any:
        """Return what the last stage that reported metadata said."""
        return json.loads((self.work / "arguments.meta").read_text(encoding="utf-8"))

    def mode(self, path: str) -> int:
        """Return the permission bits of a file of the tree."""
        return os.lstat(self.tree / path).st_mode & 0o7777


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Stages on an empty tree, and programs that can stand in for the system's."""
    for name in ("tree", "work", "fakes"):
        (tmp_path / name).mkdir()
    return Stage(tmp_path / "tree", tmp_path / "work", Fakes(tmp_path / "fakes"))


@pytest.fixture
def tree(stage: Stage) -> Path:
    """The tree that stages change."""
    return stage.tree


@pytest.fixture
def chroot_stage(stage: Stage) -> Stage:
    """Stages on a small system: the machine's own /usr, an /etc of its own, and fakes in /usr/local/sbin."""
    for name in ("usr", "etc", "var/log", "root", "home"):
        (stage.tree / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (stage.tree / name).symlink_to(f"usr/{name}")
    (stage.tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n", encoding="ascii")
    (stage.tree / "etc/shadow").write_text("root:*:19000:0:99999:7:::\n", encoding="ascii")
    (stage.tree / "etc/group").write_text("root:x:0:\nusers:x:100:\n", encoding="ascii")
    (stage.tree / "etc/gshadow").write_text("root:*::\nusers:!::\n", encoding="ascii")
    stage.binds = [("/usr", f"{stage.tree}/usr"), (str(stage.fakes.directory), f"{stage.tree}/usr/local/sbin")]
    stage.chroot = True
    return stage


@pytest.fixture
def needs() -> Callable[..., None]:
    """Skip a test on a machine that lacks a program."""

    def check(*programs: str) -> None:
        missing = [name for name in programs if shutil.which(name, path=SYSTEM_PATH) is None]
        if missing:
            pytest.skip(f"not on this machine: {', '.join(missing)}")

    return check


def tool(*argv: str | Path, stdin: bytes = b"") -> bytes:
    """Run a program of the system and return its output."""
    environment = {"PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        [str(word) for word in argv], check=True, env=environment, input=stdin, capture_output=True
    ).stdout


@pytest.fixture
def run_tool() -> Callable[..., bytes]:
    """Return `tool`, for looking at results with the real programs."""
    return tool


def build_deb(
    directory: Path,
    name: str,
    files: Mapping[str, Any],
    *,
    control: Mapping[str, str] | None = None,
    scripts: Mapping[str, str] | None = None,
    options: Sequence[str] = ("-Zgzip",),
) -> Path:
    """Make a package. *files*: path -> text; None is a directory; ("link", to), ("hard", to), ("mode", text, bits)."""
    root = Path(tempfile.mkdtemp(dir=directory))
    root.chmod(0o755)
    fields = {
        "Package": name,
        "Version": "1",
        "Architecture": "all",
        "Maintainer": "T <t@t.invalid>",
        "Description": "t",
    }
    (root / "DEBIAN").mkdir(parents=True)
    text = "".join(f"{key}: {value}\n" for key, value in {**fields, **(control or {})}.items())
    (root / "DEBIAN/control").write_text(text, encoding="utf-8")
    for script, content in (scripts or {}).items():
        (root / "DEBIAN" / script).write_text(content, encoding="utf-8")
        (root / "DEBIAN" / script).chmod(0o644 if script in ("conffiles", "triggers") else 0o755)
    for path, content in files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        match content:
            case None:
                target.mkdir(exist_ok=True)
            case ("link", to):
                target.symlink_to(to)
            case ("hard", to):
                target.hardlink_to(root / to.lstrip("/"))
            case ("mode", None, bits):
                target.mkdir(exist_ok=True)
                target.chmod(bits)
            case ("mode", inner, bits):
                target.write_text(inner, encoding="utf-8")
                target.chmod(bits)
            case _:
                target.write_text(content, encoding="utf-8")
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, (EPOCH - 1000, EPOCH - 1000), follow_symlinks=False)
    result = directory / f"{name}.deb"
    tool("dpkg-deb", *options, "--root-owner-group", "--build", root, result)
    return result


@pytest.fixture
def deb(tmp_path: Path) -> Callable[..., Path]:
    """Make small packages."""

    def make(name: str, files: Mapping[str, Any], **kwargs: Any) -> Path:
        return build_deb(tmp_path, name, files, **kwargs)

    return make
