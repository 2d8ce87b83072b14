"""Give a manifest to an engine, and write down everything that can be seen of it, in a form that can be compared.

What no two runs share is left out or replaced: times, durations, digests of contexts, paths of the run. What osbuild's
engine and ours do differently on purpose (section 1.13 of the contract) is named here, and only here.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from differential_cases import Case

from kiln.engine.main import main

ESCAPES: Final = re.compile("\033\\[[0-9;]*m")


SHOW: Final = '''#!/usr/bin/python3
"""Write everything that a stage can see of its surroundings"""
import json, os, sys
import osbuild.api

SCHEMA_2 = '"options": {"type": "object"}, "inputs": {"type": "object"}, "mounts": {"type": "array"}'

args = osbuild.api.arguments()
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
places = ["/", "/dev", "/dev/shm", "/run/osbuild", "/run/osbuild/api", "/run/osbuild/inputs", "/tmp", "/var"]
# Ours has links to the standard streams, and starts no runner.
more = {"fd", "stdin", "stdout", "stderr", "runner"}
links = ["/bin", "/sbin", "/lib", "/lib64"]
modes = ["/", "/dev/null", "/dev/shm", "/run", "/tmp", "/var", "/var/tmp", "/etc", "/run/osbuild/tree"]
interfaces = [line.split(":")[0].strip() for line in open("/proc/net/dev").read().splitlines()[2:]]
kinds = {"b": "block", "c": "character"}
seen = {
    "arguments": args,
    "environment": {key: value for key, value in os.environ.items() if key != "TERM"},
    "listings": {place: sorted(set(os.listdir(place)) - more) for place in places},
    "links": {place: os.readlink(place) for place in links},
    "modes": {place: oct(os.stat(place).st_mode) for place in modes},
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:3],
    "stdin": os.readlink("/proc/self/fd/0"),
    "one pipe": os.readlink("/proc/self/fd/1") == os.readlink("/proc/self/fd/2"),
    "ids": [os.getuid(), os.getgid(), os.getgroups()],
    "directory": os.getcwd(),
    "cmdline": open("/proc/cmdline").read(),
    "passwd": open("/etc/passwd").read().splitlines()[0].split(":")[:4],
    "no new privileges": status["NoNewPrivs"].strip(),
    "umask": status["Umask"].strip(),
    "interfaces": interfaces,
    "argv": sys.argv,
    "writable": [place for place in modes if os.access(place, os.W_OK)],
}
osbuild.api.metadata({"seen": seen})
'''


def with_show(libdir: Path, directory: Path) -> Path:
    """Return a copy of a libdir that has a stage which shows its surroundings."""
    copied = directory / libdir.name
    for name in ("osbuild", "stages", "inputs", "sources", "devices", "mounts", "runners", "assemblers", "schemas"):
        shutil.copytree(libdir / name, copied / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    stage_ = copied / "stages/org.osbuild.testing.show"
    stage_.write_text(SHOW, encoding="utf-8")
    stage_.chmod(0o755)
    return copied


class Engine(Protocol):
    """Runs a command line in a directory; what it writes to the descriptor RECORDS is kept apart."""

    def __call__(self, arguments: Sequence[str], directory: Path) -> Ran: ...


@dataclass(frozen=True)
class Ran:
    """How a run ended, and what it said."""

    status: int
    stdout: str
    records: str


def ours(arguments: Sequence[str], directory: Path) -> Ran:
    """Run our engine in this process: the interpreter is started once for all cases."""
    with _captured() as (out, records), contextlib.chdir(directory):
        status = main([*arguments, "--monitor-fd", str(records.fileno())])
        sys.stdout.flush()
        out.seek(0)
        records.seek(0)
        return Ran(int(status), out.read().decode(), records.read().decode())


@dataclass(frozen=True)
class Theirs:
    """osbuild's engine of a checkout, by its own interpreter if there is one in `.venv`."""

    checkout: Path

    def __call__(self, arguments: Sequence[str], directory: Path) -> Ran:
        own = self.checkout / ".venv/bin/python"
        python = str(own) if own.exists() else "/usr/bin/python3"
        with tempfile.TemporaryFile() as records:
            number = records.fileno()
            argv = [python, "-m", "osbuild", *arguments, "--monitor-fd", str(number)]
            environment = {**os.environ, "PYTHONPATH": str(self.checkout), "LC_ALL": "C.UTF-8"}
            done = subprocess.run(
                argv, cwd=directory, env=environment, check=False, capture_output=True, text=True, pass_fds=[number]
            )
            records.seek(0)
            return Ran(done.returncode, done.stdout, records.read().decode())


@contextlib.contextmanager
def _captured() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Have descriptor 1 and sys.stdout in a file."""
    sys.stdout.flush()
    before, saved = sys.stdout, os.dup(1)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as records:
        os.dup2(out.fileno(), 1)
        try:
            with open(1, "w", encoding="utf-8", closefd=False) as sys.stdout:
                yield out, records
        finally:
            sys.stdout = before
            os.dup2(saved, 1)
            os.close(saved)


def observe(engine: Engine, libdir: Path, case: Case, directory: Path) -> dict[str, Any]:
    """Run a case in an empty *directory* and return what was seen: JSON, text, records, trees, and statuses."""
    directory.mkdir(parents=True)
    if "testing.show" in json.dumps(case.manifest):
        libdir = with_show(libdir, directory)
    (directory / "manifest.json").write_text(json.dumps(case.manifest), encoding="utf-8")

    def run(store: str, *options: str) -> Ran:
        # Each way of showing the result gets a store and an output of its own, so that everything is built again.
        places = ["--store", f"store-{store}", "--libdir", str(libdir), "--output-directory", f"out-{store}"]
        return engine([*places, *options, "manifest.json"], directory)

    seen: dict[str, Any] = {"inspect": _document(run("inspect", "--inspect"))}
    exports = [part for name in case.exports for part in ("--export", name)]
    options = (*exports, *case.options)
    first = run("json", *options, "--json", "--monitor", "JSONSeqMonitor")
    seen["json"] = _document(first)
    if case.twice:
        seen["json_again"] = _document(run("json", *options, "--json"))
    text = run("text", *options, "--monitor", "LogMonitor")
    seen["text"] = _text(text)
    if first.status == 0:
        if case.trees:
            seen["trees"] = {name: tree_of(directory / "out-json" / name) for name in case.exports}
        seen["exported"] = sorted(path.name for path in (directory / "out-json").glob("*"))
        seen["records"] = _records(first.records)
    return seen


def _document(result: Ran) -> dict[str, Any]:
    try:
        document = json.loads(result.stdout)
    except ValueError:
        document = {}
    if str(document.get("error", {}).get("type", "")).startswith("org.kiln"):
        # An unknown export and the like: osbuild prints a sentence even with --json, ours a document.
        document = {}
    return {"status": result.status, "document": _comparable(document)}


def _comparable(document: Any) -> Any:
    if isinstance(document, dict) and document.keys() == {"major", "minor"}:
        return {"major": document["major"]}
    if isinstance(document, dict):
        # The report on sources came into the result late; a checkout may be older.
        cleaned = {
            key: _comparable(value) for key, value in document.items() if key != "sources" or "log" not in document
        }
        if "output" in cleaned and isinstance(cleaned["output"], str):
            cleaned["output"] = _output(cleaned["output"])
        return cleaned
    if isinstance(document, list):
        items = [_comparable(item) for item in document]
        # Findings at the same place come in the order of a set.
        found = all(isinstance(item, dict) and item.keys() == {"message", "path"} for item in items)
        return sorted(items, key=lambda item: (item["path"], item["message"])) if items and found else items
    return re.sub(r"\bloop\d+\b", "loopN", document) if isinstance(document, str) else document


def _output(text: str) -> str:
    """What a stage has printed, without the runner's notes on the host, and of a traceback only the last line."""
    lines = [line for line in text.splitlines() if not line.startswith(("/usr/lib/tmpfiles.d/", "/etc/tmpfiles.d/"))]
    for number, line in enumerate(lines):
        if line.startswith("Traceback"):
            lines = [*lines[:number], lines[-1]]
            break
    return re.sub(r"\bloop\d+\b", "loopN", "\n".join(lines))


def _text(result: Ran) -> dict[str, Any]:
    log = ESCAPES.sub("", result.records).splitlines()
    lines = [line for line in ESCAPES.sub("", result.stdout).splitlines() if line.strip()]
    # Where the list of ids begins, and who says what before it, has changed between releases; the ids have not.
    ids = sorted(line.split()[-1] for line in lines if re.fullmatch(r"\s*[^ ]+:\s*\t.*", line))
    heads = [
        line[line.index("Pipeline ") :] for line in log if re.match(r"(starting .*)?Pipeline (?!source)\S+: ", line)
    ]
    stages = [line for line in log if re.match(r"org\.\S+: [0-9a-f]{64} ", line)]
    rest = [line for line in lines if not re.search(r"\t|^\s*(Pipelines|Checkpoints)$|: (not )?cached$", line)]
    # Pipelines run at the same time here.
    return {"status": result.status, "ids": ids, "pipelines": sorted(heads), "stages": sorted(stages), "said": rest}


def _records(text: str) -> dict[str, list[Any]]:
    """The messages of the monitor itself for each pipeline, with the progress in it, and the digests of contexts."""
    seen: dict[str, list[Any]] = {}
    contexts: dict[str, Any] = {}
    for part in text.split("\x1e")[1:]:
        record = json.loads(part)
        known = contexts.setdefault(record["context"]["id"], record["context"])
        name = known.get("pipeline", {}).get("name", "")
        if known.get("origin") == "osbuild.monitor" and name and not name.startswith("source "):
            # In the first record of a second pipeline osbuild still names the last stage of the first one.
            context = None if record["message"].startswith("Starting pipeline") else known["id"]
            seen.setdefault(name, []).append([record["message"], context, record["progress"].get("progress")])
    return seen


def tree_of(root: Path) -> dict[str, Any]:
    """Describe everything in a tree: kind, mode, owner, time where it was clamped, content, and extended attributes."""
    found: dict[str, Any] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        status = path.lstat()
        entry: dict[str, Any] = {"mode": oct(status.st_mode), "owner": [status.st_uid, status.st_gid]}
        if stat.S_ISREG(status.st_mode):
            entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
            entry["links"] = status.st_nlink
        elif stat.S_ISLNK(status.st_mode):
            entry["link"] = str(path.readlink())
        if path != root and status.st_mtime == int(status.st_mtime):
            entry["mtime"] = int(status.st_mtime)
        names = os.listxattr(path, follow_symlinks=False)
        if names:
            values = {name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(names)}
            entry["xattrs"] = {name: base64.b64encode(value).decode() for name, value in values.items()}
        found[str(path.relative_to(root))] = entry
    return found


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Say where two observations are not the same."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            line
            for key in sorted(one.keys() | other.keys())
            for line in differences(one.get(key), other.get(key), f"{path}.{key}")
        ]
    if isinstance(one, Sequence) and isinstance(other, Sequence) and not isinstance(one, str):
        if len(one) != len(other):
            return [f"{path}: {one!r} != {other!r}"]
        return [
            line for n, (a, b) in enumerate(zip(one, other, strict=True)) for line in differences(a, b, f"{path}[{n}]")
        ]
    return [] if one == other else [f"{path}: {one!r} != {other!r}"]
