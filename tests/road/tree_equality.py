"""A tree of org.kiln.deb beside mmdebstrap's tree of the same packages, and every difference between them."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kiln.authoring.catalog.data import load_catalog
from kiln.authoring.compose.packages import deb_stage, mirror_items
from kiln.authoring.lock.keyrings import Keyrings
from kiln.authoring.lock.model import LockedTree
from kiln.authoring.lock.reasons import Root
from kiln.authoring.lock.solver import AptSolver
from kiln.authoring.lock.trees import Offer, lock_tree, read_offer
from kiln.engine.execution.engine import Engine
from kiln.engine.execution.sources import MirrorSources
from kiln.engine.objects.store import ObjectStore
from kiln.events.model import NullSink
from kiln.fetch.client import Fetcher
from kiln.fetch.mirrors import Mirrors

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(os.environ.get("EQ_LIBDIR", ROOT / "libdir"))))

from osbuild.util.deb import repository  # noqa: E402

SETS: dict[str, tuple[str, ...]] = {
    "minbase": (),
    "server": ("openssh-server", "nginx", "curl", "ca-certificates", "systemd-sysv"),
    "docker": ("docker.io", "systemd-sysv", "iptables"),
    "postgresql": ("postgresql", "systemd-sysv"),
    "mariadb": ("mariadb-server",),
    "python": ("python3", "python3-pip", "python3-venv"),
    "java": ("openjdk-17-jre-headless", "ca-certificates-java"),
    "php": ("apache2", "libapache2-mod-php"),
    "build": ("build-essential", "git", "debhelper"),
    "kernel-grub": ("linux-image-cloud-amd64", "grub-efi-amd64", "initramfs-tools", "systemd-sysv"),
    "network": ("network-manager", "wireguard", "nftables", "fail2ban", "systemd-sysv"),
    "desktop": ("xfce4", "lightdm", "xserver-xorg", "fonts-dejavu"),
}
# What may differ, and why.
DOCUMENTED: dict[str, str] = {
    "/etc/apt/sources.list": "mmdebstrap names the archive it read",
    "/etc/apt/sources.list.d": "likewise",
    "/etc/hostname": "mmdebstrap copies the host's",
    "/etc/resolv.conf": "likewise",
    "/etc/machine-id": "mmdebstrap empties it, here a stage of its own does",
    "/var/lib/dbus/machine-id": "drawn by lot",
    "/etc/ssh/ssh_host_": "drawn by lot; org.kiln.reset-instance removes them",
    "/etc/ssl/certs/ssl-cert-snakeoil.pem": "drawn by lot",
    "/etc/ssl/private/ssl-cert-snakeoil.key": "drawn by lot",
    "/etc/ssl/certs/": "the names of snakeoil's links follow from its content",
    "/var/cache/apt": "apt was never run here",
    "/var/lib/apt": "likewise",
    "/var/log/": "logs tell the time and the way; dpkg's is not written",
    "/var/cache/ldconfig/aux-cache": "inode numbers",
    "/var/cache/debconf": "the order in which packages were asked",
    "/var/lib/dpkg/arch": "mmdebstrap names the host's architecture",
    "/var/lib/dpkg/lock": "taken and left by every run",
    "/var/lib/dpkg/triggers/Lock": "likewise",
    "/var/lib/dpkg/cmethopt": "dselect's own choice of a source",
    "/var/lib/dpkg/status-old": "the state before the last change",
    "/var/lib/dpkg/diversions-old": "likewise",
    "/etc/fstab": "mmdebstrap writes one that says that there is none",
    "/var/cache/man": "made by a booted system, when it is idle",
    "/boot/initrd.img": "made once, by org.kiln.initramfs, when the configuration is complete",
    "/initrd.img": "likewise",
    "/var/lib/initramfs-tools": "likewise",
    "/run": "empty when a system starts",
    "/tmp": "likewise",
    "/dev": "a running kernel makes them",
    "/proc": "likewise",
    "/sys": "likewise",
    "/var/lib/systemd/catalog/database": "its header has the time",
    "/etc/.pwd.lock": "taken and left",
    "/etc/passwd-": "the state before the last change",
    "/etc/group-": "likewise",
    "/etc/shadow-": "likewise",
    "/etc/gshadow-": "likewise",
    "/etc/subuid-": "likewise",
    "/etc/subgid-": "likewise",
    "/var/lib/mysql": "a database with times and keys of its own",
    "/var/lib/postgresql": "likewise",
    "/etc/ssl/certs/java/cacerts": "entries have the time at which they were added",
}

MERGED = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
Entry = tuple[Any, ...]


def offer(state: Path) -> Offer:
    """Return what the base's archives have now."""
    base = load_catalog().bases[0].base
    with Fetcher(Mirrors.of_this_machine({}), NullSink()) as fetcher:
        return read_offer(
            base.mirrors,
            "amd64",
            fetcher=fetcher,
            keyrings=Keyrings(()),
            cache=state / "cache",
            sink=NullSink(),
            now=datetime.now(UTC),
        )


def locked(found: Offer, state: Path, names: Sequence[str]) -> LockedTree:
    """Return a minbase system with further packages."""
    roots = [Root(name, "essential") for name in found.universe.essential_names()]
    roots += [Root(name, "required") for name in found.universe.with_priority("required")]
    roots += [Root(name, "asked for") for name in ("apt", "usr-is-merged", "debian-archive-keyring", *names)]
    return lock_tree(found, AptSolver(state / "cache/apt", "amd64"), "image", roots)


def ours(tree: LockedTree, state: Path, target: Path) -> None:
    """Build a tree with org.kiln.deb and export it."""
    plan = {
        "version": "2",
        "pipelines": [{"name": "os", "runner": "org.osbuild.linux", "stages": [deb_stage("amd64", tree)]}],
        "sources": {"org.kiln.mirror": {"items": mirror_items([tree])}},
    }
    with ObjectStore(state / "store") as store:
        sources = MirrorSources(lambda: Fetcher(Mirrors.of_this_machine({}), NullSink()))
        engine = Engine(store, Path(os.environ.get("EQ_LIBDIR", ROOT / "libdir")), sources, NullSink())
        result = engine.build(engine.load(plan), ["os"])
        engine.export(result.objects["os"], target)


def archive(tree: LockedTree, state: Path, target: Path) -> None:
    """Make an archive for apt of the packages that the store holds."""
    packages = target / "packages"
    packages.mkdir(parents=True)
    for package in tree.packages:
        source = state / "store/sources/org.osbuild.files" / str(package.digest)
        os.link(source, packages / f"{package.name}_{package.digest.hex}.deb")
    repository.write(str(packages), str(target / "archive"))


def theirs(tree: LockedTree, place: Path, target: Path) -> list[str]:
    """Build the tree with mmdebstrap from the same files, and return the command."""
    names = ",".join(package.name for package in tree.packages)
    source = f"deb [trusted=yes] copy://{place}/archive ./"
    command = [
        "mmdebstrap",
        "--quiet",
        "--variant=apt",
        f"--include={names}",
        "--mode=root",
        MERGED,
        "kiln",
        str(target),
        source,
    ]
    subprocess.run(command, check=True, capture_output=True)
    return command


def entries(root: Path) -> dict[str, Entry]:
    """Return what every path of a tree is."""
    found: dict[str, Entry] = {}
    for directory, folders, names in os.walk(root):
        for name in [*folders, *names]:
            path = Path(directory, name)
            status = path.lstat()
            kind = stat.S_IFMT(status.st_mode)
            content: Any = None
            if stat.S_ISLNK(status.st_mode):
                content = path.readlink()
            elif stat.S_ISREG(status.st_mode):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            xattrs = tuple(
                (key, os.getxattr(path, key, follow_symlinks=False))
                for key in os.listxattr(path, follow_symlinks=False)
            )
            found[f"/{path.relative_to(root)}"] = (
                kind,
                stat.S_IMODE(status.st_mode),
                status.st_uid,
                status.st_gid,
                content,
                xattrs,
            )
    return found


def differences(first: Path, second: Path) -> Iterator[str]:
    """Yield a line for each path that differs and is not documented."""
    one, other = entries(first), entries(second)
    for path in sorted(one.keys() | other.keys()):
        if any(path.startswith(prefix) for prefix in DOCUMENTED):
            continue
        a, b = one.get(path), other.get(path)
        if a != b:
            told = "only ours" if b is None else "only theirs" if a is None else f"{shown(a)} | {shown(b)}"
            yield f"{path}: {told}"


def shown(entry: Entry) -> str:
    kind, mode, uid, gid, content, xattrs = entry
    return f"{kind:o} {mode:04o} {uid}:{gid} {str(content)[:12]} {len(xattrs)}"


__all__ = ["SETS", "archive", "differences", "locked", "offer", "ours", "theirs"]
