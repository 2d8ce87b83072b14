"""An image directory made of a real resolution of the catalogue, without building anything."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from kiln.artifact.stock import Inventory, StockedPackage, TreeFile, inventory_bytes
from kiln.artifact.system_facts import Account, EnabledUnit, Group, Sysctl
from kiln.authoring.catalog.data import known, load_catalog
from kiln.authoring.catalog.document import resolution_bytes, resolution_digest
from kiln.authoring.catalog.model import Resolution
from kiln.authoring.catalog.resolve import resolve
from kiln.authoring.lock.document import lock_bytes
from kiln.authoring.lock.model import Lock, LockedIndex, LockedPackage, LockedTree
from kiln.authoring.recipe.canonical import recipe_bytes, recipe_digest
from kiln.authoring.recipe.load import read_recipe
from kiln_wire.digest import Digest

RECIPE = {"name": "box", "base": "debian-12", "features": ["ssh"]}


def package(
    name: str, version: str, reason: str, depends: tuple[str, ...] = (), essential: bool = False
) -> LockedPackage:
    return LockedPackage(
        name=name,
        version=version,
        architecture="amd64",
        mirror="debian",
        suite="bookworm",
        path=f"pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb",
        size_bytes=1000,
        digest=Digest.of(f"{name} {version}".encode()),
        source=name,
        source_version=version,
        installed_size_bytes=4000,
        essential=essential,
        depends=depends,
        reason=reason,
    )


PACKAGES = (
    package("libc6", "2.36-9", "essential > bash > libc6"),
    package("bash", "5.2-1", "essential", ("libc6",), essential=True),
    package("libwrap0", "7.6-1", "feature ssh > openssh-server > libwrap0", ("libc6",)),
    package("openssh-server", "9.2-1", "feature ssh", ("libc6", "libwrap0")),
)


def file(path: str, owner: str = "", mode: int = 0o644, content: str = "") -> TreeFile:
    data = (content or path).encode()
    owners = (f"{owner}:amd64",) if owner else ()
    return TreeFile(path, "file", mode, 0, 0, len(data), owners, Digest.of(data), hashlib.sha1(data).hexdigest())


INVENTORY = Inventory(
    packages=tuple(
        StockedPackage(item.name, "amd64", item.version, "MIT", "dep5")
        for item in sorted(PACKAGES, key=lambda p: p.name)
    ),
    files=(file("/etc/motd"), file("/usr/bin/su", "bash", 0o4755), file("/usr/sbin/sshd", "openssh-server", 0o755)),
    alterations=(),
    licence_texts=(),
    accounts=(
        Account("root", 0, 0, "/root", "/bin/bash", True),
        Account("sshd", 100, 65534, "/run/sshd", "/usr/sbin/nologin", True),
    ),
    groups=(Group("sudo", 27, ()),),
    units=(EnabledUnit("cron.service", "multi-user.target"),),
    sysctls=(Sysctl("kernel.kptr_restrict", "2"),),
)


def real_resolution(recipe: dict[str, object]) -> tuple[bytes, Resolution]:
    catalog = load_catalog()
    found = read_recipe(json.dumps(recipe).encode(), "recipe.json", known(catalog))
    return recipe_bytes(found), resolve(found, catalog, {"ssh": 'request "SSH"'})


def make_image(
    directory: Path,
    *,
    recipe: dict[str, object] | None = None,
    packages: tuple[LockedPackage, ...] = PACKAGES,
    inventory: Inventory = INVENTORY,
) -> Path:
    directory.mkdir(parents=True)
    written, resolution = real_resolution(recipe or RECIPE)
    index = LockedIndex("debian", "bookworm", ("main",), Digest.of(b"i"), "2023-11-14T22:13:20Z", "", ("a" * 40,))
    listed = tuple(sorted(packages, key=lambda item: item.name))
    lock = Lock(
        recipe_digest=Digest.of(written),
        resolution_digest=resolution_digest(resolution),
        base="debian-12",
        architecture="amd64",
        epoch=1_700_000_000,
        indexes=(replace(index, signed_by=("a" * 40,)),),
        trees=(LockedTree("image", listed),),
    )
    (directory / "evidence").mkdir()
    files = {
        "recipe.json": written,
        "resolution.json": resolution_bytes(resolution),
        "kiln.lock": lock_bytes(lock),
        "box.qcow2": b"disk" * 100,
        "box.squashfs": b"root" * 50,
        "evidence/inventory.json": inventory_bytes(inventory),
    }
    for name, data in files.items():
        (directory / name).write_bytes(data)
    assert str(recipe_digest(read_recipe(written, "r", known(load_catalog())))) == str(Digest.of(written))
    return directory
