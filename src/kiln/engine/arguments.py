"""The options of osbuild's command line, those of today and older spellings."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VERSION: Final = 191
"""The osbuild whose contract this is; consumers compare the number."""
MONITORS: Final = ("NullMonitor", "LogMonitor", "JSONSeqMonitor")
UNITS: Final = {
    "": 1,
    "kB": 1000,
    "KiB": 1024,
    "MB": 1000**2,
    "MiB": 1024**2,
    "GB": 1000**3,
    "GiB": 1024**3,
    "TB": 1000**4,
    "TiB": 1024**4,
}
LEAST_CPUS: Final = 0.01
"""The kernel takes no smaller share of a period."""
_SIZE: Final = re.compile(r"([0-9]+)\s*([A-Za-z]*)")


@dataclass(frozen=True, slots=True)
class CacheSize:
    """The largest size of a cache; *bytes* None means no limit."""

    bytes: int | None


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments; exits with status 2 for those that are wrong, as argparse does."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.manifest is None and not arguments.worker:
        parser.error("the following arguments are required: MANIFEST")
    return arguments


def parse_size(text: str) -> CacheSize:
    """Return a size such as `20GB`, `512MiB`, `1000` or `unlimited`. Raises argparse.ArgumentTypeError."""
    if text == "unlimited":
        return CacheSize(None)
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2] not in UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; known units: {', '.join(filter(None, UNITS))}")
    return CacheSize(int(match[1]) * UNITS[match[2]])


def parse_limit(text: str) -> int:
    """Return a size in bytes, which has an end. Raises argparse.ArgumentTypeError."""
    size = parse_size(text).bytes
    if not size:
        raise argparse.ArgumentTypeError(f"{text!r} is no limit; leave the option out for none")
    return size


def parse_count(text: str) -> int:
    """Return a number from 1. Raises argparse.ArgumentTypeError."""
    if not text.isascii() or not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes")
    return int(text)


def parse_processors(text: str) -> float:
    """Return a number of processors, which may be a part of one. Raises argparse.ArgumentTypeError."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) or float(text) < LEAST_CPUS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processors, such as 2 or 0.5")
    return float(text)


def _directory(text: str) -> Path:
    return Path(text).absolute()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kiln-osbuild", description="Build operating system artifacts")
    add = parser.add_argument
    add("manifest", metavar="MANIFEST", nargs="?", help="a manifest in JSON, or - for standard input")
    add("--cache", "--store", dest="store", type=_directory, metavar="DIR",
        help="where sources and trees are kept")  # fmt: skip
    add("-l", "--libdir", type=_directory, metavar="DIR", help="the programs of stages")
    add("--cache-max-size", type=parse_size, metavar="SIZE",
        help="keep the cache below this size from now on (bytes, kB, KiB, MB, ..., or unlimited)")  # fmt: skip
    add("--checkpoint", action="append", default=[], metavar="PATTERN",
        help="say whether these stages are kept (every stage is)")  # fmt: skip
    add("--export", action="append", default=[], metavar="NAME", help="build and export a pipeline, by name or id")
    add("--output-directory", type=_directory, metavar="DIR", help="where exports go")
    add("--in-vm", action="append", default=[], metavar="PIPELINE", help="refused: not supported")
    add("--define", action="append", default=[], metavar="NAME=VALUE",
        help="give a parameter of the manifest a value (NAME:=VALUE for JSON)")  # fmt: skip
    add("--json", action="store_true", help="print the result as JSON")
    add("--inspect", action="store_true", help="print the manifest with ids, and stop")
    add("--convert", action="store_true", help="print the manifest in format 2, and stop")
    add("--monitor", choices=MONITORS, help="how to tell what happens")
    add("--monitor-fd", type=int, default=sys.__stdout__.fileno() if sys.__stdout__ else 1, metavar="FD",
        help="the descriptor to tell it on (default: standard output)")  # fmt: skip
    add("--stage-timeout", type=float, metavar="SECONDS", help="wall time for each stage")
    add("--memory-max", type=parse_limit, metavar="SIZE", help="memory for each stage")
    add("--pids-max", type=parse_count, metavar="COUNT", help="processes and threads of each stage")
    add("--cpu-max", type=parse_processors, metavar="COUNT", help="processors for each stage, such as 1.5")
    add("--io-max", type=parse_limit, metavar="SIZE", help="bytes a second that each stage may read, and write")
    add("--break", dest="break_at", nargs="?", const="*", metavar="STAGE",
        help="open a shell before a stage, by type or id (default: before each)")  # fmt: skip
    add("--remote", action="append", default=[], metavar="[PATTERN=]ssh://HOST",
        help="run stages on another host, too, or those that match the pattern only there")  # fmt: skip
    add("--worker", action="store_true", help="run stages for a client on standard input and output")
    add("--rundir", type=_directory, metavar="DIR", help="accepted; nothing is kept outside the cache")
    add("-q", "--quiet", action="store_true", help="print nothing but errors")
    add("--version", action="version", version=f"osbuild {VERSION}")
    return parser
