"""A whole Debian installed by org.kiln.deb from the machine's own mirrors, and judged by dpkg."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Stage = Any
Tool = Callable[..., bytes]

# Moves a file of another package aside before its own is unpacked, and needs something installed first.
DIVERTER = """#!/bin/sh
set -e
dpkg-divert --package kiln-diverter --add --rename --divert /usr/bin/hostid.orig /usr/bin/hostid
"""
STARTER = """#!/bin/sh
set -e
[ "$1" = configure ]
! invoke-rc.d kiln-service start 2>/dev/null
start-stop-daemon --start --exec /bin/sleep -- 60
test ! -s /etc/kiln.conf.dpkg-new
[ "$(cat /etc/kiln.conf)" = setting ]
touch /var/lib/kiln-configured
"""


@pytest.fixture(scope="session")
def minbase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's essential packages and what they depend on, downloaded with an apt state of its own."""
    root = tmp_path_factory.mktemp("apt")
    for name in ("lists/partial", "archives/partial"):
        (root / name).mkdir(parents=True)
    (root / "status").touch()
    options = [
        f"Dir::State::lists={root}/lists",
        f"Dir::State::status={root}/status",
        f"Dir::State::extended_states={root}/extended",
        f"Dir::Cache={root}",
        f"Dir::Cache::archives={root}/archives",
        "APT::Install-Recommends=false",
        "APT::Sandbox::User=root",
        "Acquire::Retries=1",
        "Acquire::http::Timeout=10",
    ]
    apt = ["apt-get", "-qq", "-y", *(f"-o{option}" for option in options)]
    try:
        for words in (["update"], ["install", "--download-only", "?essential", "apt", "adduser"]):
            subprocess.run([*apt, *words], check=True, capture_output=True, timeout=300)
    except FileNotFoundError:
        pytest.skip("no apt-get on this machine")
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"apt-get could not download: {(error.stderr or b'').decode('utf-8', 'replace')[-300:]}")
    return root / "archives"


@pytest.mark.network
@pytest.mark.root
def test_a_whole_debian_is_installed_as_dpkg_would_have_done_it(
    stage: Stage, tree: Path, minbase: Path, deb: Any, tmp_path: Path, run_tool: Tool, needs: Any
) -> None:
    needs("dpkg", "dpkg-query", "unshare")
    packages = tmp_path / "packages"
    packages.mkdir()
    for number, path in enumerate(sorted(minbase.glob("*.deb"))):
        (packages / f"sha256:{number}").hardlink_to(path)
    diverter = deb(
        "kiln-diverter",
        {"/usr/bin/hostid": "mine"},
        control={"Pre-Depends": "dpkg, init-system-helpers"},
        scripts={"preinst": DIVERTER},
    )
    service = deb(
        "kiln-service",
        {"/etc/kiln.conf": "setting\n"},
        control={"Depends": "base-files, init-system-helpers, dpkg"},
        scripts={"conffiles": "/etc/kiln.conf\n", "postinst": STARTER},
    )
    for path in (diverter, service):
        path.rename(packages / path.name)
    stage.chroot = True
    architecture = run_tool("dpkg", "--print-architecture").decode().strip()
    stage.ok("org.kiln.deb", {"architecture": architecture}, inputs={"packages": {"path": str(packages)}}, umask=0o077)

    query = ["dpkg-query", f"--admindir={tree}/var/lib/dpkg", "-W", "-f"]
    states = run_tool(*query, "${Status}\n").decode().splitlines()
    assert set(states) == {"install ok installed"}
    assert len(states) == len(list(packages.iterdir()))
    assert run_tool("dpkg", f"--root={tree}", "--audit") == b""
    assert run_tool("chroot", tree, "dpkg", "--verify") == b"", "every file is as its package's checksums say"
    assert b"newconffile" not in run_tool(*query, "${Conffiles}\n")
    assert not list(tree.rglob("*.dpkg-new"))

    assert (tree / "usr/bin/hostid").read_text() == "mine"
    assert (tree / "usr/bin/hostid.orig").read_bytes().startswith(b"\x7fELF")
    assert (tree / "var/lib/kiln-configured").exists()
    assert not (tree / "usr/sbin/policy-rc.d").exists()
    assert [list((tree / name).iterdir()) for name in ("proc", "sys", "run", "tmp")] == [[], [], [], []]
    modes = {
        name: (tree / name).stat().st_mode & 0o7777 for name in (".", "etc", "root", "tmp", "usr/bin", "var/lib/dpkg")
    }
    assert modes == {".": 0o755, "etc": 0o755, "root": 0o700, "tmp": 0o1777, "usr/bin": 0o755, "var/lib/dpkg": 0o755}
    assert run_tool("chroot", tree, "sh", "-c", "id -un; ls /usr/sbin/start-stop-daemon; readlink /bin /var/run") == (
        b"root\n/usr/sbin/start-stop-daemon\nusr/bin\n/run\n"
    )
    assert run_tool("chroot", tree, "start-stop-daemon", "--version").startswith(b"start-stop-daemon")


def test_a_set_that_cannot_be_installed_is_refused_with_the_reason(
    stage: Stage, tree: Path, deb: Any, needs: Any
) -> None:
    needs("dpkg-deb")
    packages = stage.work / "packages"
    packages.mkdir()
    inputs = {"packages": {"path": str(packages)}}
    one = deb("one", {"/x": "x"})
    one.rename(packages / "a")
    assert "dpkg is not among the packages" in stage.refused("org.kiln.deb", {"architecture": "amd64"}, inputs=inputs)
    (packages / "b").hardlink_to(packages / "a")
    assert "given twice: one" in stage.refused("org.kiln.deb", {"architecture": "amd64"}, inputs=inputs)
    (packages / "b").unlink()
    (packages / "b").write_bytes(b"junk")
    assert "not a Debian package" in stage.refused("org.kiln.deb", {"architecture": "amd64"}, inputs=inputs)
    (packages / "b").unlink()
    (tree / "something").touch()
    assert "not empty, and dpkg is not installed" in stage.refused(
        "org.kiln.deb", {"architecture": "amd64"}, inputs=inputs
    )
