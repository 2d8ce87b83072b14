"""What tests of stages do with real programs and files."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def tool(*argv: str | Path, stdin: bytes = b"") -> bytes:
    """Run a program of the system and return its output; its errors are in the exception's notes."""
    environment = {"PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8", "HOME": "/proc/no-home"}
    words = [str(word) for word in argv]
    done = subprocess.run(words, check=False, env=environment, input=stdin, capture_output=True)
    assert done.returncode == 0, f"{words}: {done.stderr.decode(errors='replace')}"
    return done.stdout


def put(tree: Path, path: str, text: str, mode: int = 0o644) -> Path:
    """Write a file of a tree."""
    target = tree / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    target.chmod(mode)
    return target


def files_input(*paths: Path) -> dict[str, Any]:
    """Return what org.osbuild.files replies for files of one directory."""
    return {"path": str(paths[0].parent), "data": {"files": {path.name: {} for path in paths}}}


def tree_input(path: Path) -> dict[str, Any]:
    """Return what org.osbuild.tree replies."""
    return {"path": str(path), "data": {}}


def device_file(path: Path, size_bytes: int) -> dict[str, Any]:
    """Make a regular file that stands for a device, and return what a device service replies."""
    with path.open("wb") as file:
        file.truncate(size_bytes)
    return {"path": str(path)}


def small_system(root: Path, *programs: str) -> None:
    """Put programs of the machine, with their libraries, into a tree with a merged /usr."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    for program in programs:
        path = Path(program if program.startswith("/") else str(shutil.which(program, path=SYSTEM_PATH)))
        libraries = re.findall(r"(/\S+) \(0x", tool("ldd", path).decode()) if path.name != "true" else []
        for file in (path, *map(Path, libraries)):
            target = root / "usr" / str(file).removeprefix("/usr").lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                shutil.copy(file, target)
