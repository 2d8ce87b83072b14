"""What the engine keeps in memory does not grow with the number of stages, nor with the size of trees."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.root

ENOUGH_KIB = 6 * 1024
"""What an allocator may keep or not from run to run; ten times as many stages, or a tree, would show as much more."""
COMMAND = """
import resource, sys
from kiln.engine import main
status = main.main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if status == 0 else "failed")
"""


@pytest.fixture
def peak_kib(tmp_path, libdir, manifest):
    """Build something in a process of its own; return the most memory that it had."""

    def run(name, scripts):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(manifest(os=scripts)))
        argv = [sys.executable, "-c", COMMAND, "--store", str(tmp_path / name), "--libdir", str(libdir), "--quiet"]
        argv += ["--export", "os", "--output-directory", str(tmp_path / f"{name}.out"), str(path)]
        return int(subprocess.run(argv, check=True, stdout=subprocess.PIPE, env=os.environ).stdout)

    return run


def test_ten_times_as_many_stages_take_no_more_memory(peak_kib):
    few, many = ([f"{{}} # {number}" for number in range(count)] for count in (8, 80))
    assert peak_kib("many", many) - peak_kib("few", few) < ENOUGH_KIB


def test_a_large_tree_takes_no_more_memory(peak_kib):
    script = """
for number in range({files}):
    open(tree + "/%d" % number, "wb").write(os.urandom({size}))
"""
    small = peak_kib("small", [script.format(files=1, size=1), "1"])
    large = peak_kib("large", [script.format(files=3000, size=1), "1"])
    heavy = peak_kib("heavy", [script.format(files=1, size=48 << 20), "1"])
    assert large - small < ENOUGH_KIB
    assert heavy - small < ENOUGH_KIB
