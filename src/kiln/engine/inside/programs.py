"""Running a program in this process as if the interpreter had just been started for it."""

from __future__ import annotations

import ast
import atexit
import builtins
import gc
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from types import CodeType, ModuleType
from typing import Any

MAX_PROGRAM_BYTES = 4 * 1024 * 1024
PRELOADED = frozenset({
    "argparse", "base64", "collections", "configparser", "contextlib", "copy", "csv", "dataclasses", "datetime", "enum",
    "errno", "fcntl", "fnmatch", "functools", "glob", "gzip", "hashlib", "io", "itertools", "json", "operator", "os",
    "pathlib", "platform", "posixpath", "pwd", "grp", "re", "shlex", "shutil", "signal", "socket", "stat", "string",
    "struct", "subprocess", "sys", "tarfile", "textwrap", "time", "types", "typing", "urllib", "urllib.parse", "uuid",
    "zipfile", "zlib",
})  # fmt: skip
"""Modules of the standard library that may be loaded before it is known who needs them: loading them does nothing."""
RUNTIME = "osbuild"
"""The package of the libdir, which its stages import too."""


class Programs:
    """Compiled programs, by the file that they were read from; *interpreter* is what may stand in their first line."""

    def __init__(self, interpreter: str) -> None:
        self._interpreter = interpreter.encode()
        self._known: dict[tuple[str, int, int, int, int, int], CodeType | None] = {}

    def load(self, descriptor: int, path: str) -> CodeType | None:
        """Return the code of the program in an open file, or None for one that must be started as a program."""
        status = os.fstat(descriptor)
        key = (path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if key not in self._known:
            self._known[key] = self._compile(descriptor, path, status)
        return self._known[key]

    def _compile(self, descriptor: int, path: str, status: os.stat_result) -> CodeType | None:
        if status.st_size > MAX_PROGRAM_BYTES or not status.st_mode & 0o111:
            return None
        source = os.pread(descriptor, MAX_PROGRAM_BYTES, 0)
        first, _, _ = source.partition(b"\n")
        if first[:2] != b"#!" or first[2:].strip() != self._interpreter:
            return None
        try:
            with warnings.catch_warnings():
                # A warning belongs into the output of the stage: its own interpreter gives it.
                warnings.simplefilter("error")
                tree = ast.parse(source, path)
                code = compile(source, path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError, Warning, RecursionError, MemoryError):
            return None
        _preload(tree)
        gc.collect()
        gc.freeze()
        return code


def _preload(tree: ast.Module) -> None:
    """Load what a program is going to import, as far as that has no effect of its own."""
    names = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
            if node.module.split(".")[0] == RUNTIME:
                names += [node.module + "." + alias.name for alias in node.names]
    for name in names:
        if name not in sys.modules and (name in PRELOADED or name.split(".")[0] == RUNTIME):
            preload(name)


def preload(name: str) -> None:
    """Load a module if it loads in silence; whoever needs it finds out about its problems. Never fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            __import__(name)
    except BaseException:
        sys.modules.pop(name, None)


def run(code: CodeType, argv: list[str]) -> int:
    """Run *code* as `__main__` with these arguments to the end of the interpreter; returns the exit status."""
    _after_fork()
    main = ModuleType("__main__")
    main.__dict__.update(__file__=argv[0], __builtins__=builtins, __cached__=None, __annotations__={})
    sys.modules["__main__"] = main
    sys.argv = list(argv)
    sys.path[0] = os.path.dirname(argv[0])
    if hasattr(sys, "orig_argv"):
        sys.orig_argv = [sys.executable, *argv]
    status = _execute(code, main.__dict__)
    threading._shutdown()  # type: ignore[attr-defined]  # what the interpreter itself does first
    atexit._run_exitfuncs()
    status = _flush(status)
    main.__dict__.clear()
    gc.collect()
    for thing in gc.get_objects():
        # Files that somebody still holds: the end of an interpreter would write what is in their buffers.
        if type(thing) in (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom) and not thing.closed:
            try:
                thing.flush()
            except (OSError, ValueError):
                continue
    return status


def _after_fork() -> None:
    """Do what `os.fork` would have had the loaded modules do (see `kernel.fork`)."""
    generator = sys.modules.get("random")
    if generator is not None:
        generator.seed()
    threading.main_thread()._set_native_id()  # type: ignore[attr-defined]


def _execute(code: CodeType, namespace: dict[str, Any]) -> int:
    try:
        exec(code, namespace)
    except SystemExit as error:
        if error.code is None:
            return 0
        if isinstance(error.code, int):
            return error.code & 0xFF
        _flush(0)
        sys.stderr.write(f"{error.code}\n")
        return 1
    except BaseException as error:
        # The frame of this function is not the program's.
        error.__traceback__ = error.__traceback__.tb_next if error.__traceback__ else None
        _flush(0)
        _report(error)
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        return 1
    return 0


def _report(error: BaseException) -> None:
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except BaseException:
        traceback.print_exception(type(error), error, error.__traceback__)


def _flush(status: int) -> int:
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except (OSError, ValueError):
            return 120  # as the interpreter has it
    return status
