"""The inventory of a tree: owners, altered files, licences, accounts, units, settings."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from kiln.artifact.stock import Alteration, inventory_bytes, read_inventory, take_stock
from kiln.artifact.system_facts import Account, EnabledUnit, Group, Sysctl
from kiln.errors import KilnError
from kiln.events.model import CollectingSink, Progress
from kiln_wire.digest import Digest

STATUS = """Package: tool
Status: install ok installed
Architecture: amd64
Version: 1.0-1

Package: other
Status: install ok installed
Architecture: all
Version: 2

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 3
"""
DEP5 = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: somebody
License: GPL-2+

Files: debian/*
License: Expat
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    files = {
        "usr/bin/tool": "tool",
        "usr/bin/diverted.real": "of the tool",
        "usr/bin/diverted": "of the other",
        "etc/tool.conf": "changed by hand",
        "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000::/home/alice:/bin/bash\nbad line\n",
        "etc/shadow": "root:!:1::::::\nalice:$y$hash:1::::::\n",
        "etc/group": "sudo:x:27:alice,\n",
        "usr/lib/sysctl.d/50-default.conf": "kernel.a = 1\n-net/ipv4/x=2\n# no.thing = 3\n",
        "etc/sysctl.d/50-default.conf": "kernel.a = 9\n",
        "etc/sysctl.d/99-last.conf": "net.ipv4.x = 7\n",
        "var/lib/dpkg/status": STATUS,
        "var/lib/dpkg/info/tool.list": "/.\n/bin\n/bin/tool\n/usr/bin/diverted\n/etc/tool.conf\n",
        "var/lib/dpkg/info/other.list": "/.\n/usr\n/usr/bin\n/usr/bin/diverted\n",
        "var/lib/dpkg/diversions": "/usr/bin/diverted\n/usr/bin/diverted.real\nother\n",
        "usr/share/doc/tool/copyright": DEP5,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/share/doc/other").symlink_to("tool")
    (root / "usr/bin/tool").chmod(0o4755)
    md5 = {
        name: hashlib.md5((root / name).read_bytes()).hexdigest() for name in ("usr/bin/tool", "usr/bin/diverted.real")
    }
    lines = f"{md5['usr/bin/tool']}  bin/tool\n{md5['usr/bin/diverted.real']}  usr/bin/diverted\n"
    (root / "var/lib/dpkg/info/tool.md5sums").write_text(lines)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "tool.service").symlink_to("/usr/lib/systemd/system/tool.service")
    (wants / "masked.service").symlink_to("/dev/null")
    return root


def test_every_file_has_its_owner_its_digests_and_its_rights(tree: Path) -> None:
    sink = CollectingSink()
    inventory = take_stock(tree, sink)
    files = {file.path: file for file in inventory.files}
    tool = files["/usr/bin/tool"]  # the package lists it as /bin/tool
    assert (tool.packages, tool.mode, tool.digest) == (("tool:amd64",), 0o4755, Digest.of(b"tool"))
    assert tool.sha1 == hashlib.sha1(b"tool").hexdigest()
    assert files["/usr/bin/diverted"].packages == ("other:all",)
    assert files["/usr/bin/diverted.real"].packages == ("tool:amd64",)
    assert files["/etc/passwd"].packages == ()
    assert (files["/bin"].type, files["/bin"].target) == ("link", "usr/bin")
    assert files["/usr/bin"].packages == ()
    assert inventory.alterations == ()
    last = sink.events[-1]
    assert isinstance(last, Progress) and last.done == last.total == len(inventory.files)


def test_packages_have_their_licences_also_over_a_link(tree: Path) -> None:
    packages = {item.name: item for item in take_stock(tree).packages}
    assert packages.keys() == {"tool", "other"}
    assert (packages["tool"].licence, packages["tool"].licence_source) == ("GPL-2.0-or-later AND MIT", "dep5")
    assert packages["other"].licence == packages["tool"].licence


def test_a_changed_and_a_missing_file_of_a_package_are_alterations(tree: Path) -> None:
    (tree / "usr/bin/tool").write_text("backdoor")
    (tree / "usr/bin/diverted.real").unlink()
    assert take_stock(tree).alterations == (
        Alteration("/usr/bin/diverted.real", "tool:amd64", "missing"),
        Alteration("/usr/bin/tool", "tool:amd64", "changed"),
    )


def test_accounts_units_and_settings_are_those_in_force(tree: Path) -> None:
    inventory = take_stock(tree)
    assert inventory.accounts == (
        Account("alice", 1000, 1000, "/home/alice", "/bin/bash", False),
        Account("root", 0, 0, "/root", "/bin/bash", True),
    )
    assert inventory.groups == (Group("sudo", 27, ("alice",)),)
    assert inventory.units == (EnabledUnit("tool.service", "multi-user.target"),)
    # the file in /etc takes the place of the one in /usr/lib; of two files the later name wins
    assert inventory.sysctls == (Sysctl("kernel.a", "9"), Sysctl("net.ipv4.x", "7"))


def test_links_lead_nowhere_out_of_the_tree(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(DEP5.replace("GPL-2+", "MPL-2.0"))
    copyright_file = tree / "usr/share/doc/tool/copyright"
    copyright_file.unlink()
    copyright_file.symlink_to("../../../../../../secret")
    (tree / "loop").symlink_to("loop")
    packages = {item.name: item for item in take_stock(tree).packages}
    assert (packages["tool"].licence, packages["tool"].licence_source) == ("", "none")


def test_names_that_are_no_utf8_and_special_files_are_listed(tree: Path) -> None:
    (tree / os.fsdecode(b"\xff\xfe")).write_text("x")
    os.mkfifo(tree / "pipe")
    kinds = {file.path: file.type for file in take_stock(tree).files}
    assert (kinds["/\\xff\\xfe"], kinds["/pipe"]) == ("file", "pipe")


def test_the_document_is_the_same_for_the_same_tree_and_is_read_back(tree: Path) -> None:
    inventory = take_stock(tree)
    data = inventory_bytes(inventory)
    assert data == inventory_bytes(take_stock(tree, threads=1))
    assert read_inventory(data, "inventory.json") == inventory


@pytest.mark.parametrize("data", [b"", b"{}", b'{"kind":"kiln.inventory/v1"}', b"[]"])
def test_a_document_that_is_no_inventory_is_refused(data: bytes) -> None:
    with pytest.raises(KilnError) as caught:
        read_inventory(data, "inventory.json")
    assert caught.value.reason == "bad-inventory"
