"""The engine against osbuild's, whose checkout OSBUILD_UPSTREAM names: the same manifests, in the same run."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from bench import objects
from bench.engines import Engine, checkout, kiln, osbuild
from bench.manifests import compressions, debian_image, files_of_this_machine, noops, noops_with_input
from bench.measure import Cost, Row, best, compare

OURS_STAGES: Final = 60
THEIRS_STAGES: Final = 10
"""One of theirs takes as long as thirty of ours."""
CACHED: Final = ("--checkpoint", "*", "--cache-max-size", "unlimited")
IMAGES: Final = ("disk", "qcow2", "tar", "oci", "squashfs")


def rows(directory: Path) -> Iterator[Row]:
    """Every row of the engine, as soon as it is measured."""
    theirs = osbuild()
    if theirs is None:
        sys.stdout.write("osbuild was not measured: OSBUILD_UPSTREAM does not name a checkout of its source\n")
    yield from _stages(directory, theirs)
    yield from objects.rows(directory)
    yield _parallel(directory)
    yield _cached(directory, theirs)
    yield _image(directory, theirs)


def _stages(directory: Path, theirs: Engine | None) -> list[Row]:
    own = _per_stage(kiln(), directory, OURS_STAGES, noops)
    their = None if theirs is None else _per_stage(theirs, directory, THEIRS_STAGES, noops)
    unit = "s of CPU for one stage"
    rows_ = [compare("engine.noop_stage", own, their, unit, kiln().command("--export a <60 stages that do nothing>"))]
    place = checkout()
    if place is not None:
        unmodified = kiln(place, "kiln-with-their-modules")
        cost = _per_stage(unmodified, directory, OURS_STAGES, noops)
        command = unmodified.command("--export a <60 stages that do nothing>")
        rows_.append(compare("engine.noop_stage_upstream_module", cost, their, unit, command))
    with_input = _per_stage(kiln(), directory, OURS_STAGES, noops_with_input)
    their_input = None if theirs is None else _per_stage(theirs, directory, THEIRS_STAGES, noops_with_input)
    difference = None if their is None or their_input is None else their_input - their
    command = kiln().command("--export a <60 stages that do nothing, each with a file>")
    rows_.append(compare("engine.input", max(with_input - own, 0.0), difference, "s of CPU for one input", command))
    return rows_


def _per_stage(engine: Engine, directory: Path, count: int, manifest: Callable[[int], dict[str, Any]]) -> float:
    few = best(lambda _: engine.build(manifest(1), ["a"], directory), 3)
    many = best(lambda _: engine.build(manifest(count + 1), ["a"], directory), 3)
    return (many.cpu_seconds - few.cpu_seconds) / count


def _parallel(directory: Path) -> Row:
    names = [f"gzip-{number}" for number in range(4)]
    manifest = compressions(4)
    pairs = []
    for _ in range(3):
        together = kiln().build(manifest, names, directory)
        kiln().forget(directory, "serial")
        alone = sum(kiln().build(manifest, [name], directory, store="serial").wall_seconds for name in names)
        pairs.append((together.wall_seconds, alone))
    together_wall, alone_wall = min(pairs, key=lambda pair: pair[0] / pair[1])
    command = kiln().command(" ".join(f"--export {name}" for name in names))
    return compare("engine.parallel_4", together_wall, alone_wall, "s (theirs: one after the other)", command)


def _cached(directory: Path, theirs: Engine | None) -> Row:
    def again(engine: Engine) -> Cost:
        engine.build(noops(5), ["a"], directory, *CACHED, store="cached")
        return best(lambda _: engine.build(noops(5), ["a"], directory, *CACHED, store="cached"), 5)

    their = None if theirs is None else again(theirs).cpu_seconds
    command = kiln().command(f"{' '.join(CACHED)} --export a <5 stages, built before>")
    return compare("engine.cached_rerun", again(kiln()).cpu_seconds, their, "s of CPU", command)


def _image(directory: Path, theirs: Engine | None) -> Row:
    archive = directory / "tree.tar"
    names = "\n".join(str(path).lstrip("/") for path in files_of_this_machine())
    words = ["tar", "--create", "--file", str(archive), "--directory", "/", "--no-recursion", "--files-from", "-"]
    subprocess.run(words, input=names, text=True, check=True)
    with archive.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"

    def once(engine: Engine) -> Cost:
        engine.forget(directory, "image")
        place = engine.store(directory, "image") / "sources/org.osbuild.files"
        place.mkdir(parents=True)
        shutil.copyfile(archive, place / digest)
        return engine.build(debian_image(digest), list(IMAGES), directory, store="image")

    # Turn about, so that what else the machine does meets both.
    costs = [(once(kiln()), None if theirs is None else once(theirs)) for _ in range(2)]
    own = min(own.wall_seconds for own, _ in costs)
    walls = [their.wall_seconds for _, their in costs if their is not None]
    command = kiln().command(" ".join(f"--export {name}" for name in IMAGES))
    return compare("engine.debian_image", own, min(walls, default=None), "s", command)
