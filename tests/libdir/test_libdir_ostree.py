"""The stages of OSTree: what ostree is told, and a commit from the tree to its deployment."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stage_tools import put, tool, tree_input

Stage = Any
EPOCH = 1_700_000_000
UUID = "5d0e1c52-6a5f-5d1b-9c0e-1f0f6b1b7a11"
COMMIT = "c" * 64


def commits(repo: Path, /, **options: Any) -> dict[str, Any]:
    return {"path": str(repo), "data": {"refs": {COMMIT: options}}}


def test_ostree_is_told(stage: Stage, tmp_path: Path) -> None:
    stage.fakes.add("ostree", "rpm-ostree")
    tree = str(stage.tree)
    repo = f"--repo={tree}/repo"
    stage.ok("org.osbuild.ostree.init", {"mode": "bare"})
    stage.ok("org.osbuild.ostree.init-fs", {})
    stage.ok("org.osbuild.ostree.os-init", {"osname": "k"})
    inputs = {"commits": commits(tmp_path, ref="a/b")}
    stage.ok("org.osbuild.ostree.pull", {"repo": "/repo", "remote": "r"}, inputs=inputs)
    stage.ok("org.osbuild.ostree.pull", {"repo": "repo"}, inputs={"commits": commits(tmp_path)})
    sysroot = {"readonly": True, "bootloader": "none", "bootprefix": False, "bls-append-except-default": "x"}
    stage.ok("org.osbuild.ostree.config", {"repo": "/repo", "config": {"sysroot": sysroot}})
    stage.ok("org.osbuild.ostree.config", {"repo": "/repo"})
    assert stage.fakes.calls == [
        ["ostree", "init", "--mode=bare", repo],
        ["ostree", "admin", "init-fs", "--modern", tree, f"--sysroot={tree}"],
        ["ostree", "admin", "os-init", "k", f"--sysroot={tree}"],
        ["ostree", "pull-local", str(tmp_path), "a/b", "--remote=r", repo],
        ["ostree", "pull-local", str(tmp_path), COMMIT, repo],
        ["ostree", "config", "set", "sysroot.readonly", "true", repo],
        ["ostree", "config", "set", "sysroot.bootloader", "none", repo],
        ["ostree", "config", "set", "sysroot.bootprefix", "false", repo],
        ["ostree", "config", "set", "sysroot.bls-append-except-default", "x", repo],
    ]


def test_ostree_is_told_of_remotes(stage: Stage) -> None:
    stage.fakes.add("ostree")
    remotes = [
        {
            "name": "a",
            "url": "https://a",
            "contenturl": "https://c",
            "branches": ["x", "y"],
            "gpgkeypaths": ["/k", "/l"],
        },
        {"name": "c", "url": "https://c"},
        {"name": "b", "url": "https://b", "gpgkeys": ["KEY"]},
    ]
    stage.ok("org.osbuild.ostree.remotes", {"repo": "/repo", "remotes": remotes})
    repo = f"--repo={stage.tree}/repo"
    add = ["ostree", "remote", "add", "--force", repo]
    assert stage.fakes.calls == [
        [*add, "--contenturl=https://c", "--set=gpgkeypath=/k,/l", "a", "https://a", "x", "y"],
        [*add, "--no-gpg-verify", "c", "https://c"],
        [*add, "b", "https://b"],
        ["ostree", "remote", "gpg-import", repo, "--stdin", "b"],
    ]
    assert stage.fakes.stdin("ostree") == "KEY"


def test_ostree_is_told_what_to_commit(stage: Stage, tmp_path: Path) -> None:
    stage.fakes.add("ostree", does=f"echo {COMMIT}\n")
    options = {"ref": "a/b", "os_version": "7", "parent": "0" * 64}
    stage.ok("org.osbuild.ostree.commit", options, inputs={"tree": tree_input(tmp_path)})
    assert stage.fakes.calls == [
        [
            *("ostree", "commit", f"--repo={stage.tree}/repo", "--branch=a/b", f"--tree=dir={tmp_path}"),
            *("--add-metadata-string=version=7", f"--add-metadata-string=rpmostree.inputhash={'0' * 64}"),
            *(f"--parent={'0' * 64}", f"--timestamp=@{EPOCH}"),
        ]
    ]
    compose = json.loads(stage.read("compose.json"))
    assert stage.metadata() == {"compose": compose}
    assert (compose["ref"], compose["ostree-commit"], compose["ostree-version"]) == ("a/b", COMMIT, "7")
    options = {"ref": "a", "selinux-label-version": 1}
    assert "only version 0" in stage.refused("org.osbuild.ostree.commit", options, inputs={})


@pytest.mark.root
def test_ostree_is_told_what_to_deploy(stage: Stage, tmp_path: Path) -> None:
    stage.fakes.add("ostree")
    stage.chroot = True
    (stage.tree / "boot").mkdir()
    options = {
        "osname": "k",
        "remote": "r",
        "rootfs": {"label": "root"},
        "kernel_opts": ["rw", "a=b"],
        "mounts": ["/boot"],
    }
    stage.ok("org.osbuild.ostree.deploy", {**options, "ref": "a/b"})
    stage.ok("org.osbuild.ostree.deploy", {"osname": "k"}, inputs={"commits": commits(tmp_path)})
    stage.ok("org.osbuild.ostree.deploy", {"osname": "k"}, inputs={"commits": commits(tmp_path, ref="c/d")})
    end = [f"--sysroot={stage.tree}", "--os=k"]
    words = ["--karg=root=LABEL=root", "--karg-append=rw", "--karg-append=a=b"]
    assert stage.fakes.calls == [
        ["ostree", "admin", "deploy", "r:a/b", *words, *end],
        ["ostree", "admin", "deploy", COMMIT, *end],
        ["ostree", "admin", "deploy", "c/d", *end],
    ]
    assert "neither a ref nor" in stage.refused("org.osbuild.ostree.deploy", {"osname": "k"})


def test_rpm_ostree_is_told_what_to_wrap(stage: Stage, tmp_path: Path) -> None:
    stage.fakes.add("rpm-ostree")
    options = {"filename": "x.oci", "cmd": ["/a", "b"], "copymeta": ["v"], "labels": ["l=1"], "max_layers": 9}
    stage.ok("org.osbuild.ostree.encapsulate", options, inputs={"commit": commits(tmp_path)})
    target = f"oci-archive:{stage.tree}/x.oci"
    assert stage.fakes.calls == [
        [
            *("rpm-ostree", "compose", "container-encapsulate", COMMIT, target, "--repo", str(tmp_path)),
            *("--format-version", "1", "--cmd", "/a b", "--copymeta", "v", "--label", "l=1", "--max-layers", "9"),
        ]
    ]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ostree.init", {}),
        ("ostree.init-fs", {}),
        ("ostree.os-init", {"osname": "k"}),
        ("ostree.pull", {"repo": "/repo"}),
        ("ostree.commit", {"ref": "a"}),
        ("ostree.deploy", {"osname": "k", "ref": "a"}),
        ("ostree.config", {"repo": "/repo", "config": {"sysroot": {"readonly": True}}}),
        ("ostree.remotes", {"repo": "/repo", "remotes": [{"name": "a", "url": "x"}]}),
        ("ostree.encapsulate", {"filename": "x"}),
        ("ostree.fillvar", {"deployment": {"osname": "k", "ref": "r"}}),
    ],
)
def test_a_missing_ostree_is_named(stage: Stage, tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    stage.search = str(tmp_path)
    inputs = {"tree": tree_input(tmp_path), "commits": commits(tmp_path), "commit": commits(tmp_path)}
    said = stage.refused(f"org.osbuild.{name}", options, inputs=inputs)
    program = "rpm-ostree" if name.endswith("encapsulate") else "ostree"
    assert said == f"org.osbuild.{name}: the build root has no program `{program}`\n"


def test_accounts_are_taken_over(stage: Stage, tmp_path: Path) -> None:
    checkout = tmp_path / "in/checkout"
    put(checkout, "usr/etc/passwd", "root:x:0:0::/root:/bin/sh\n")
    put(checkout, "usr/lib/passwd", "root:x:9:9::/:/bin/no\nbin:x:1:1::/:/bin/no\n")
    put(checkout, "usr/lib/group", "bin:x:1:\n")
    put(checkout, "usr/etc/subuid", "anna:100000:65536\n")
    inputs = {"commits": commits(tmp_path / "in", path="/checkout")}
    stage.ok("org.osbuild.ostree.passwd", {}, inputs=inputs)
    assert stage.read("etc/passwd") == "root:x:0:0::/root:/bin/sh\nbin:x:1:1::/:/bin/no\n"
    assert stage.read("etc/group") == "bin:x:1:\n"
    assert stage.read("etc/subuid") == "anna:100000:65536\n"
    assert not (stage.tree / "etc/subgid").exists()
    (checkout / "usr/lib/group").unlink()
    assert "no /usr/lib/group" in stage.refused("org.osbuild.ostree.passwd", {}, inputs=inputs)


def test_two_commits_are_too_many(stage: Stage, tmp_path: Path) -> None:
    inputs = {"commits": {"path": str(tmp_path), "data": {"refs": {"a": {}, "b": {}}}}}
    assert "must hold one commit, not 2" in stage.refused("org.osbuild.ostree.passwd", {}, inputs=inputs)


def system(root: Path) -> Path:
    """Make a tree with the layout that OSTree wants."""
    put(root, "usr/lib/modules/6.1/vmlinuz", "kernel")
    put(root, "usr/lib/modules/6.1/initramfs.img", "initrd")
    put(root, "usr/lib/os-release", "ID=k\nVERSION_ID=1\n")
    put(root, "usr/etc/motd", "m")
    put(root, "usr/lib/tmpfiles.d/k.conf", "d /var/home 0755 root root -\nd /var/srv 0700 root root -\n")
    put(root, "usr/etc/passwd", "root:x:0:0::/root:/bin/sh\n")
    for name in ("boot", "dev", "proc", "run", "sys", "sysroot", "tmp", "var"):
        (root / name).mkdir()
    return root


@pytest.mark.root
def test_a_tree_is_committed_deployed_and_its_var_filled(
    stage: Stage, tmp_path: Path, needs: Callable[..., None]
) -> None:
    needs("ostree", "systemd-tmpfiles")
    ids = set()
    inputs = {"tree": tree_input(system(tmp_path / "system"))}
    for _ in range(2):
        subprocess.run(["rm", "-rf", stage.tree / "repo"], check=True)
        stage.ok("org.osbuild.ostree.init", {"mode": "archive"})
        stage.ok("org.osbuild.ostree.commit", {"ref": "k/1", "os_version": "1"}, inputs=inputs)
        ids.add(json.loads(stage.read("compose.json"))["ostree-commit"])
    (commit,) = ids
    source = stage.tree / "repo"
    assert tool("ostree", f"--repo={source}", "show", "--print-metadata-key=version", commit).strip() == b"'1'"
    stage.tree = tmp_path / "disk"
    stage.tree.mkdir()
    stage.chroot = True
    stage.ok("org.osbuild.ostree.init-fs", {})
    stage.ok("org.osbuild.ostree.os-init", {"osname": "k"})
    config = {"sysroot": {"bootloader": "none", "readonly": True}}
    stage.ok("org.osbuild.ostree.config", {"repo": "/ostree/repo", "config": config})
    taken = {"commits": {"path": str(source), "data": {"refs": {commit: {"ref": "k/1"}}}}}
    stage.ok("org.osbuild.ostree.pull", {"repo": "/ostree/repo"}, inputs=taken)
    remote = {"name": "origin", "url": "https://example.invalid/"}
    stage.ok("org.osbuild.ostree.remotes", {"repo": "/ostree/repo", "remotes": [remote]})
    options = {"osname": "k", "ref": "k/1", "rootfs": {"uuid": UUID}, "kernel_opts": ["rw"], "mounts": ["/boot"]}
    stage.ok("org.osbuild.ostree.deploy", options)
    deployed = stage.tree / f"ostree/deploy/k/deploy/{commit}.0"
    assert (deployed / "etc/motd").read_text() == "m"
    (entry,) = (stage.tree / "boot/loader/entries").iterdir()
    assert f"root=UUID={UUID}" in entry.read_text()
    settings = stage.read("ostree/repo/config")
    assert "readonly=true" in settings
    assert "example.invalid" in settings
    for deployment in ({"osname": "k", "ref": "k/1"}, {"default": True}):
        stage.ok("org.osbuild.ostree.fillvar", {"deployment": deployment})
    var = stage.tree / "ostree/deploy/k/var"
    assert {"lib", "log", "home", "srv"} <= {path.name for path in var.iterdir()}


def test_a_commit_is_signed_with_a_key_of_the_tree(stage: Stage) -> None:
    stage.fakes.add("ostree")
    stage.ok("org.osbuild.ostree.sign", {"repo": "/repo", "ref": "a/b", "key": "/etc/key"})
    repo, key = f"--repo={stage.tree}/repo", f"--keys-file={stage.tree}/etc/key"
    assert stage.fakes.calls == [["ostree", "sign", repo, "--sign-type=ed25519", key, "a/b"]]


def test_a_tree_gets_the_layout_of_ostree(stage: Stage) -> None:
    stage.fakes.add("rpm-ostree", does='cp "$4" "$3/treefile"')
    for path in ("etc/machine-id", "usr/bin/sh", "home/me/file", "boot/vmlinuz", "srv/gone", "var/lib/x"):
        put(stage.tree, path, path)
    stage.ok("org.osbuild.ostree.preptree", {"etc_group_members": ["wheel"], "tmp-is-dir": False})
    settings = json.loads((stage.tree / "treefile").read_text(encoding="utf-8"))
    assert (settings["boot-location"], settings["machineid-compat"]) == ("new", True)
    assert settings["etc-group-members"] == ["wheel"]
    names = {path.name: str(path.readlink()) if path.is_symlink() else "" for path in stage.tree.iterdir()}
    assert names == {
        **dict.fromkeys(["boot", "dev", "proc", "run", "sys", "sysroot", "treefile", "usr", "var"], ""),
        "home": "var/home",
        "media": "run/media",
        "mnt": "var/mnt",
        "opt": "var/opt",
        "ostree": "sysroot/ostree",
        "root": "var/roothome",
        "srv": "var/srv",
        "tmp": "sysroot/tmp",
    }
    assert (stage.tree / "usr/etc/machine-id").exists()
    assert (stage.tree / "var/home/me/file").exists()


@pytest.mark.root
def test_a_deployment_and_its_var_are_labelled(stage: Stage) -> None:
    stage.fakes.add("setfiles")
    deployment = stage.tree / "ostree/deploy/k/deploy/abc.0"
    put(deployment, "etc/selinux/config", "# x\nSELINUX=enforcing\nSELINUXTYPE=targeted\n")
    (deployment / "var").mkdir()
    (stage.tree / "ostree/deploy/k/var").mkdir()
    stage.ok("org.osbuild.ostree.selinux", {"deployment": {"default": True}})
    contexts = f"{deployment}/etc/selinux/targeted/contexts/files/file_contexts"
    assert stage.fakes.calls == [
        ["setfiles", "-F", "-r", str(deployment), contexts, str(deployment)],
        ["setfiles", "-F", "-r", str(deployment), contexts, f"{deployment}/var/"],
    ]
    put(deployment, "etc/selinux/config", "SELINUX=disabled\n")
    said = stage.refused("org.osbuild.ostree.selinux", {"deployment": {"default": True}})
    assert said == "org.osbuild.ostree.selinux: the deployment has no SELinux policy\n"
