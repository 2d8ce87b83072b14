"""Which packages must wait, because they move other packages' files aside before their own are unpacked."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

STAGE = Path(__file__).parents[2] / "libdir/stages/org.kiln.deb"
ASKER = 'truename=$(dpkg-divert --truename /bin/sh)\n[ "$(dpkg-divert --listpackage /bin/sh)" = x ] || exit 0\n'


@pytest.mark.parametrize(
    ("script", "essential", "waits"),
    [
        ("dpkg-divert --package a --add --rename --divert /x.orig /x\n", "no", True),
        ("dpkg-divert --package a \\\n  --divert /x.orig \\\n  --rename /x\n", "no", True),
        ("[ -e /x ] && dpkg-divert --quiet --local /x; true\n", "no", True),
        (ASKER, "no", False),
        (ASKER + "dpkg-divert --package a --divert /x.orig --rename /x\n", "no", True),
        ("# dpkg-divert --add /x\n", "no", False),
        ("dpkg-divert --package a --remove --rename /x\n", "no", False),
        ("dpkg-divert --add --divert /bin/sh.distrib /bin/sh\n", "yes", False),
        ("dpkg-divert --package a --no-rename --divert /lib/x.usr-is-merged --add /lib/x\n", "no", False),
        ("true\n", "no", False),
    ],
)
def test_a_package_waits_only_where_its_script_moves_files(script: str, essential: str, waits: bool) -> None:
    diverts = runpy.run_path(str(STAGE), run_name="stage")["diverts"]
    package = SimpleNamespace(stanza={"Essential": essential}, control_files={"preinst": (script.encode(), 0o755)})
    assert diverts(package) is waits
