"""The same command again: answered from a note, and only where the answer would be the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

# Prints the output of the command, and whether the engine was loaded for it.
COMMAND = """
import contextlib, io, json, sys
from kiln.engine import main
out = io.StringIO()
with contextlib.redirect_stdout(out):
    status = main.main(sys.argv[1:])
print(json.dumps([status, out.getvalue(), "kiln.engine.command" in sys.modules]))
"""
SCRIPTS = [
    "os.mkdir(tree + '/d'); open(tree + '/d/gone', 'w').write('x'); open(tree + '/kept', 'w').write('1')",
    (
        "import shutil; shutil.rmtree(tree + '/d'); os.mkdir(tree + '/d')\n"
        "open(tree + '/d/new', 'w').write('y' * 5000); os.symlink('kept', tree + '/link')\n"
        "os.link(tree + '/kept', tree + '/hard'); os.chmod(tree + '/kept', 0o4711)\n"
        "os.mkfifo(tree + '/fifo'); os.chown(tree + '/d', 7, 8); os.setxattr(tree + '/d', 'user.kiln', b'z')\n"
        "api.metadata({'made': 1})"
    ),
]


class World:
    """A store, a libdir, a manifest, and a way to run the command on them."""

    def __init__(self, directory: Path, libdir: Path, document: dict) -> None:
        self.directory = directory
        self.libdir = libdir
        self.manifest = directory / "manifest.json"
        self.manifest.write_text(json.dumps(document))
        self.store = directory / "store"
        self.out = directory / "out"

    def run(self, *options: str, exports=("os",), manifest="manifest.json", data=None, **environment: str):
        argv = [sys.executable, "-c", COMMAND, "--store", "store", "--libdir", str(self.libdir)]
        argv += ["--output-directory", "out", *options, *(word for name in exports for word in ("--export", name))]
        done = subprocess.run(
            [*argv, manifest],
            cwd=self.directory,
            env={**os.environ, **environment},
            input=data,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        return json.loads(done.stdout.splitlines()[-1])

    def listing(self) -> dict[str, tuple]:
        found = {}
        for path in sorted([self.out, *self.out.rglob("*")]):
            state = path.lstat()
            attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in
                          os.listxattr(path, follow_symlinks=False)}  # fmt: skip
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            link = str(path.readlink()) if path.is_symlink() else ""
            key = (oct(state.st_mode), state.st_uid, state.st_gid, state.st_nlink, attributes, content, link)
            found[str(path.relative_to(self.out))] = (*key, 0 if path == self.out else state.st_mtime_ns)
        return found


@pytest.fixture
def world(tmp_path, libdir, manifest):
    return World(tmp_path, libdir, manifest(os=SCRIPTS, empty=["pass"]))


def test_the_same_command_again_is_answered_without_the_engine(world):
    first = world.run("--json")
    made = world.listing()
    cached = json.loads(first[1]) | {"log": {}}
    for _ in range(3):
        status, text, loaded = world.run("--json")
        assert (status, json.loads(text), loaded) == (0, cached, False)
        assert world.listing() == made
    assert cached["metadata"] == {"os": {"org.kiln.test.script": {"made": 1}}}
    (world.store / "reruns").rename(world.store / "away")
    assert world.run("--json") == [0, text, True]  # the engine says the same


def test_exports_are_made_again_where_they_are_missing_or_touched(world):
    world.run("-q", exports=("os", "empty"))
    made = world.listing()
    shutil.rmtree(world.out)
    assert world.run("-q", exports=("os", "empty")) == [0, "", False]
    assert world.listing() == made
    (world.out / "os/kept").write_text("2")
    (world.out / "os/link").unlink()
    assert world.run("-q", exports=("os", "empty")) == [0, "", False]
    assert world.listing() == made


def test_a_manifest_from_standard_input_is_compared_too(world):
    text = world.manifest.read_text()
    assert world.run("-q", manifest="-", data=text)[2]
    assert world.run("-q", manifest="-", data=text) == [0, "", False]
    other = text.replace("5000", "5001")
    assert world.run("-q", manifest="-", data=other) == [0, "", True]
    assert len((world.out / "os/d/new").read_text()) == 5001


def _edit(path: Path) -> None:
    path.write_text(path.read_text() + "\n")


def _replace_with_link(path: Path) -> None:
    copy = path.with_name("another")
    shutil.copytree(path, copy, symlinks=True)
    path.rename(path.with_name("old"))
    path.symlink_to(copy)


CHANGES = {
    "manifest": lambda world: _edit(world.manifest),
    "stage": lambda world: _edit(world.libdir / "stages/org.kiln.test.script"),
    "description": lambda world: _edit(world.libdir / "stages/org.kiln.test.script.meta.json"),
    "schema": lambda world: _edit(world.libdir / "schemas/osbuild2.json"),
    "runtime": lambda world: _edit(world.libdir / "osbuild/api.py"),
    "new runtime module": lambda world: (world.libdir / "osbuild/util/new.py").write_text(""),
    "new runner": lambda world: (world.libdir / "runners/org.osbuild.test9").write_text(""),
    "libdir": lambda world: _replace_with_link(world.libdir),
    "limit": lambda world: (world.store / "cache.info").write_text('{"version": 1, "maximum-size": "unlimited"}'),
    "record": lambda world: next(world.store.glob("objects/*/object.json")).unlink(),
    "layers": lambda world: [path.rename(f"{path}.away") for path in world.store.glob("objects/*/layer")],
    "note": lambda world: next(world.store.glob("reruns/*")).write_bytes(b"\xff" * 100),
    "half a note": lambda world: os.truncate(next(world.store.glob("reruns/*")), 60),
    "empty note": lambda world: os.truncate(next(world.store.glob("reruns/*")), 0),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_whatever_has_changed_is_a_matter_for_the_engine(world, change):
    world.run("-q")
    assert world.run("-q") == [0, "", False]
    CHANGES[change](world)
    assert world.run("-q") == [0, "", True]
    assert (world.out / "os/d/new").read_text() == "y" * 5000


def test_another_question_gets_its_own_answer(world):
    world.run("-q")
    assert world.run("-q", exports=("empty",))[2]
    assert world.run("-q", OSBUILD_EXPORT_FORCE_NO_PRESERVE_OWNER="1")[2]
    assert world.run("--json")[2]
    assert world.run()[2] is True
    assert world.run()[2] is True  # times are told: the engine says them
    assert world.run("--monitor", "JSONSeqMonitor", "-q")[2] is True
    assert world.run("--monitor", "JSONSeqMonitor", "-q")[2] is True


def test_only_the_newest_notes_are_kept(world):
    from kiln.engine import remember

    world.run("-q")
    for number in range(remember.MAX_NOTES + 5):
        note = world.store / f"reruns/{number:08x}"
        note.write_bytes(b"")
        os.utime(note, (number, number))
    world.run("--json")
    names = sorted(path.name for path in (world.store / "reruns").iterdir())
    assert len(names) == remember.MAX_NOTES
    assert "00000000" not in names
    assert world.run("-q")[2] is False
    assert world.run("--json")[2] is False


def test_a_failure_leaves_no_note(world, libdir, manifest):
    world.manifest.write_text(json.dumps(manifest(os=["sys.exit(1)"])))
    assert world.run("-q")[0] == 1
    assert world.run("-q")[0] == 1
    assert not (world.store / "reruns").exists()


def test_an_object_in_use_is_not_evicted_and_one_that_is_evicted_is_built_again(world):
    world.run("-q")
    shutil.rmtree(next(world.store.glob("objects/*")))
    assert world.run("-q") == [0, "", True]
    assert world.run("-q") == [0, "", False]
