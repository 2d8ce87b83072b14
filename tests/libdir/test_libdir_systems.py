"""Stages that install packages, boot loaders and initial RAM disks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stage_tools import files_input, put, small_system, tool, tree_input

Stage = Any
EPOCH = 1_700_000_000
UUID = "5d0e1c52-6a5f-5d1b-9c0e-1f0f6b1b7a11"
BOOT = "6699-AFB5"


@pytest.fixture
def system(stage: Stage) -> Stage:
    """Stages on a tree with a shell, whose /usr/local/sbin has the fakes."""
    small_system(stage.tree, "sh", "cat")
    stage.fakes.directory = stage.tree / "usr/local/sbin"
    stage.fakes.directory.mkdir(parents=True)
    stage.chroot = True
    return stage


def test_grub_for_bios_has_modules_and_finds_boot(stage: Stage, tmp_path: Path) -> None:
    put(tmp_path, "grub/i386-pc/ext2.mod", "m")
    put(tmp_path, "grub/i386-pc/fdt.lst", "")
    put(tmp_path, "grub/i386-pc/boot.img", "i")
    font = put(tmp_path, "unicode.pf2", "f")
    constants = {"MODULES": f"{tmp_path}/grub/", "FONT": str(font)}
    config = {"timeout": 5, "terminal": ["serial", "console"], "serial": "serial --unit=0", "distributor": "$(x)"}
    options = {"rootfs": {"uuid": UUID}, "bootfs": {"label": "boot"}, "kernel_opts": "ro quiet", "legacy": True}
    stage.ok("org.osbuild.grub2", {**options, "config": config, "saved_entry": "e-1"}, constants=constants)
    text = stage.read("boot/grub2/grub.cfg")
    for line in (
        "set timeout=5",
        "serial --unit=0",
        "terminal_input serial console",
        "search --no-floppy --set=root --label boot",
        '  set default="${saved_entry}"',
        "blscfg",
    ):
        assert line in text.splitlines()
    block = stage.read("boot/grub2/grubenv")
    assert len(block) == 1024
    assert block.startswith(f"# GRUB Environment Block\nkernelopts=root=UUID={UUID} ro quiet\nsaved_entry=e-1\n###")
    assert stage.read("etc/default/grub") == (
        'GRUB_TIMEOUT=5\nGRUB_DISTRIBUTOR="\\$(x)"\nGRUB_TERMINAL="serial console"\n'
        'GRUB_SERIAL_COMMAND="serial --unit=0"\nGRUB_CMDLINE_LINUX="ro quiet"\nGRUB_ENABLE_BLSCFG=true\n'
    )
    assert sorted(path.name for path in (stage.tree / "boot/grub2/i386-pc").iterdir()) == ["ext2.mod"]
    assert stage.read("boot/grub2/fonts/unicode.pf2") == "f"


def test_grub_for_uefi_keeps_everything_on_the_system_partition(stage: Stage, tmp_path: Path) -> None:
    for name in ("BOOT/BOOTX64.EFI", "k/grubx64.efi"):
        put(tmp_path, f"efi/{name}", name)
    uefi = {"vendor": "k", "install": True, "efi_src_dir": f"{tmp_path}/efi"}
    options = {"root_fs_uuid": UUID, "uefi": uefi, "write_defaults": False, "write_cmdline": False}
    stage.ok("org.osbuild.grub2", {**options, "config": {"default": "1"}, "greenboot": True, "ignition": True})
    text = stage.read("boot/efi/EFI/k/grub.cfg")
    assert f"search --no-floppy --set=root --fs-uuid {UUID}\n" in text
    assert 'set default="1"\n' in text
    assert "decrement boot_counter" in text
    assert 'source "/ignition.firstboot"' in text
    assert stage.read("boot/grub2/grubenv") == stage.read("boot/efi/EFI/k/grubenv")
    assert "kernelopts" not in stage.read("boot/grub2/grubenv")
    assert stage.read("boot/efi/EFI/BOOT/BOOTX64.EFI") == "BOOT/BOOTX64.EFI"
    assert not (stage.tree / "etc/default/grub").exists()
    assert not (stage.tree / "boot/grub2/grub.cfg").exists()


@pytest.mark.parametrize(("bootfs", "directory"), [({}, "/boot/grub2"), ({"bootfs": {"uuid": BOOT}}, "/grub2")])
def test_grub_for_both_leads_from_the_system_partition_to_boot(
    stage: Stage, bootfs: dict[str, Any], directory: str
) -> None:
    stage.ok("org.osbuild.grub2", {"rootfs": {"uuid": UUID}, **bootfs, "uefi": {"vendor": "k", "unified": True}})
    where = BOOT if bootfs else UUID
    assert stage.read("boot/efi/EFI/k/grub.cfg") == (
        f"search --no-floppy --set=prefix --fs-uuid {where}\n"
        f"set prefix=($prefix){directory}\nconfigfile $prefix/grub.cfg\n"
    )
    assert "blscfg\n" in stage.read("boot/grub2/grub.cfg")
    assert not (stage.tree / "boot/grub2/grubenv").is_symlink()


def test_grub_accepts_the_configurations(stage: Stage, needs: Callable[..., None]) -> None:
    needs("grub-script-check")
    stage.ok(
        "org.osbuild.grub2", {"rootfs": {"uuid": UUID}, "uefi": {"vendor": "k"}, "greenboot": True, "ignition": True}
    )
    tool("grub-script-check", stage.tree / "boot/efi/EFI/k/grub.cfg")


def test_grub_without_its_modules_or_room_is_an_error(stage: Stage, tmp_path: Path) -> None:
    constants = {"MODULES": f"{tmp_path}/"}
    said = stage.refused("org.osbuild.grub2", {"rootfs": {"uuid": UUID}, "legacy": "x"}, constants=constants)
    assert f"the build root has no {tmp_path}/x" in said
    said = stage.refused("org.osbuild.grub2", {"rootfs": {"uuid": UUID}, "kernel_opts": "x" * 1024})
    assert "1024 bytes of an environment block" in said


def test_the_files_of_a_bootable_medium(stage: Stage, tmp_path: Path, needs: Callable[..., None]) -> None:
    for name in ("shimx64.efi", "mmx64.efi", "gcdx64.efi"):
        put(tmp_path, f"efi/k/{name}", name)
    constants = {"PROGRAMS": f"{tmp_path}/efi", "FONT": str(put(tmp_path, "font", "f"))}
    options = {
        "product": {"name": "Kiln", "version": "1"},
        "kernel": {"dir": "/images", "opts": ["inst.stage2=x"]},
        "isolabel": "KILN",
        "vendor": "k",
        "fips": True,
        "custom": [{"name": "Own", "linux": "/k a", "initrd": "/i"}],
        "config": {"timeout": 3, "default": 1},
    }
    stage.ok("org.osbuild.grub2.iso", options, constants=constants)
    found = {path.name: path.read_text() for path in (stage.tree / "EFI/BOOT").glob("*.*")}
    config = found.pop("grub.cfg")
    assert found == {"BOOTX64.EFI": "shimx64.efi", "mmx64.efi": "mmx64.efi", "grubx64.efi": "gcdx64.efi"}
    for text in (
        "set default=1\nset timeout=3\nsearch --no-floppy --set=root -l 'KILN'\n",
        "menuentry 'Install Kiln 1' --class gnu-linux --class os {\n  linux /images/vmlinuz inst.stage2=x quiet\n",
        "  initrd /images/initrd.img\n}\n",
        "rd.live.check quiet\n",
        "fips=1\n",
        "menuentry 'Own' --class gnu-linux --class os {\n  linux /k a\n  initrd /i\n}\n",
        "inst.rescue quiet\n",
    ):
        assert text in config
    none = {"install": False, "test": False, "troubleshooting": False}
    stage.ok("org.osbuild.grub2.iso", {**options, **none, "fips": False}, constants=constants)
    assert stage.read("EFI/BOOT/grub.cfg").count("menuentry") == 1
    needs("grub-script-check")
    tool("grub-script-check", stage.tree / "EFI/BOOT/grub.cfg")


def test_a_medium_without_shim_is_an_error(stage: Stage, tmp_path: Path) -> None:
    options = {"product": {"name": "K", "version": "1"}, "kernel": {"dir": "/"}, "isolabel": "K"}
    said = stage.refused("org.osbuild.grub2.iso", options, constants={"PROGRAMS": str(tmp_path)})
    assert f"the build root has no {tmp_path}/BOOT/shimx64.efi" in said


@pytest.mark.root
def test_dracut_runs_in_the_tree_for_each_kernel(system: Stage) -> None:
    system.fakes.add("dracut")
    options = {
        "kernel": ["6.1", "6.2"],
        "compress": "zstd",
        "add_modules": ["a", "b"],
        "omit_drivers": ["c"],
        "include": [{"/x": "/y"}],
        "install": ["/z"],
        "early_microcode": True,
        "extra": ["--strip"],
    }
    system.ok("org.osbuild.dracut", options)
    rest = [
        *("--force", "--verbose", "--show-modules", "--early-microcode", "--reproducible", "--compress=zstd"),
        *("--add", "a b", "--omit-drivers", "c", "--include", "/x", "/y", "--install", "/z", "--strip"),
    ]
    assert system.fakes.calls == [["dracut", "--no-hostonly", "--kver", kernel, *rest] for kernel in ("6.1", "6.2")]


@pytest.mark.root
def test_firewalld_is_told_in_the_tree(system: Stage) -> None:
    system.fakes.add("firewall-offline-cmd")
    options = {
        "default_zone": "public",
        "ports": ["22:tcp"],
        "enabled_services": ["http"],
        "disabled_services": ["ssh"],
        "zones": [{"name": "trusted", "sources": ["10.0.0.0/8", "ipset:x"]}],
    }
    system.ok("org.osbuild.firewall", options)
    assert system.fakes.calls == [
        ["firewall-offline-cmd", "--set-default-zone=public"],
        ["firewall-offline-cmd", "--port=22:tcp", "--service=http", "--remove-service=ssh"],
        ["firewall-offline-cmd", "--zone=trusted", "--add-source=10.0.0.0/8", "--add-source=ipset:x"],
    ]


@pytest.mark.root
@pytest.mark.parametrize(
    ("name", "options", "program"),
    [
        ("org.osbuild.dracut", {"kernel": ["6.1"]}, "dracut"),
        ("org.osbuild.bootupd.gen-metadata", {}, "bootupctl"),
        ("org.osbuild.firewall", {"ports": ["22:tcp"]}, "firewall-offline-cmd"),
    ],
)
def test_a_program_that_the_tree_lacks_is_named(
    system: Stage, name: str, options: dict[str, Any], program: str
) -> None:
    assert system.refused(name, options).splitlines() == [f"{name}: the tree has no program `{program}`"]


@pytest.mark.root
def test_bootupd_collects_in_the_tree(system: Stage) -> None:
    system.fakes.add("bootupctl")
    system.ok("org.osbuild.bootupd.gen-metadata", {})
    assert system.fakes.calls == [["bootupctl", "backend", "generate-update-metadata", "/"]]


@pytest.mark.root
def test_bootupd_installs_from_the_mounted_system(system: Stage, tmp_path: Path) -> None:
    mounts = tmp_path / "work/mounts"
    mounts.parent.mkdir(exist_ok=True)
    shutil.move(system.tree, mounts)
    system.tree.mkdir()
    system.fakes.directory = mounts / "usr/local/sbin"
    system.fakes.add("bootupctl", does='[ -d "$4/usr" ] || [ -d "$5/usr" ] || [ -d "$6/usr" ] || exit 3\n')
    options = {"bios": {"device": "disk", "partition": 2}, "static-configs": True}
    system.ok("org.osbuild.bootupd", options, devices={"disk": {"path": "loop3"}})
    argv = ["bootupctl", "backend", "install", "--device=/dev/loop3p2", "--with-static-configs", str(mounts)]
    assert system.fakes.calls == [argv]


def test_objcopy_adds_the_sections_behind_the_stub(stage: Stage, tmp_path: Path) -> None:
    stage.fakes.add("objcopy")
    if not Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub").exists():
        pytest.skip("not on this machine: systemd's EFI stub")
    names = ("osrel", "kernel", "initrd")
    inputs = {name: files_input(put(tmp_path, f"in-{name}/{name}", name)) for name in names}
    stage.ok("org.osbuild.uki", {"filename": "k.efi"}, inputs=inputs)
    (argv,) = stage.fakes.calls
    added = [word.split("=")[0] for word in argv[2::4][:3]]
    assert added == [".osrel", ".linux", ".initrd"]  # no command line is no section
    addresses = [int(word.split("=")[1], 16) for word in argv[4::4][:3]]
    assert addresses == sorted(set(addresses))
    assert argv[-1] == str(stage.tree / "k.efi")


def test_a_unified_image_holds_its_parts(stage: Stage, tmp_path: Path, needs: Callable[..., None]) -> None:
    needs("objcopy", "objdump")
    if not Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub").exists():
        pytest.skip("not on this machine: systemd's EFI stub")
    parts = {"osrel": "ID=k\n", "kernel": "kernel" * 5000, "initrd": "initrd" * 9000}
    inputs = {name: files_input(put(tmp_path, f"in-{name}/{name}", text)) for name, text in parts.items()}
    results = []
    for _ in range(2):
        stage.ok("org.osbuild.uki", {"filename": "k.efi", "kernel": {"opts": ["a", "b=c"]}}, inputs=inputs)
        results.append((stage.tree / "k.efi").read_bytes())
    assert results[0] == results[1]
    parts["cmdline"] = "a b=c"
    parts["linux"] = parts.pop("kernel")
    for name, text in parts.items():
        tool("objcopy", "-O", "binary", f"--only-section=.{name}", stage.tree / "k.efi", tmp_path / name)
        assert (tmp_path / name).read_bytes().rstrip(b"\0") == text.encode()


def test_debootstrap_gets_an_archive_of_the_packages(stage: Stage, tmp_path: Path, deb: Callable[..., Path]) -> None:
    look = f'for word; do case $word in file://*) cp -r "${{word#file://}}" "{tmp_path}/seen";; esac; done\n'
    stage.fakes.add("debootstrap", does=look)
    pool = tmp_path / "pool"
    pool.mkdir()
    deb("kiln-a", {"opt/a": "a"}).rename(pool / "sha256:01")
    deb("kiln-b", {"opt/b": "b"}).rename(pool / "sha256:00")
    options = {
        "suite": "bookworm",
        "arch": "amd64",
        "variant": "minbase",
        "include": ["x", "y"],
        "mirror": "https://m/d",
    }
    stage.ok("org.kiln.debian.debootstrap", options, inputs={"packages": tree_input(pool)})
    (argv,) = stage.fakes.calls
    assert argv[:-1] == [
        *("debootstrap", "--no-check-gpg", "--arch=amd64", "--variant=minbase", "--include=x,y"),
        *("bookworm", str(stage.tree)),
    ]
    assert argv[-1].startswith("file:///")
    assert stage.read("etc/apt/sources.list") == "deb https://m/d bookworm main\n"
    index = (tmp_path / "seen/dists/bookworm/main/binary-amd64/Packages").read_text()
    assert [line for line in index.splitlines() if line.startswith("Filename")] == [
        "Filename: pool/kiln-b_all.deb",
        "Filename: pool/kiln-a_all.deb",
    ]
    assert "main/binary-amd64/Packages" in (tmp_path / "seen/dists/bookworm/Release").read_text()


def test_debootstrap_refuses_a_tree_with_something_in_it(stage: Stage, tmp_path: Path) -> None:
    put(stage.tree, "x", "")
    options = {"suite": "bookworm", "arch": "amd64"}
    said = stage.refused("org.kiln.debian.debootstrap", options, inputs={"packages": tree_input(tmp_path)})
    assert "the tree is not empty" in said


def test_debootstrap_itself_reads_the_archive(
    stage: Stage, tmp_path: Path, deb: Callable[..., Path], needs: Callable[..., None]
) -> None:
    needs("debootstrap")
    sys.path.insert(0, str(Path(__file__).parents[2] / "libdir"))
    from osbuild.util.deb import repository

    pool = tmp_path / "pool"
    pool.mkdir()
    control = {"Priority": "required", "Essential": "yes"}
    deb("kiln-a", {"opt/a": "a"}, control=control).rename(pool / "sha256:01")
    repository.write(str(pool), str(tmp_path / "archive"), "bookworm", "amd64")
    argv = ["debootstrap", "--no-check-gpg", "--arch=amd64", "--variant=minbase", "--print-debs", "bookworm"]
    done = subprocess.run(
        [*argv, tmp_path / "target", f"file://{tmp_path}/archive"], check=False, capture_output=True, encoding="utf-8"
    )
    assert "kiln-a" in done.stdout.split(), done.stdout + done.stderr


@pytest.mark.root
def test_apt_is_told_to_use_the_packages_alone(system: Stage, tmp_path: Path, deb: Callable[..., Path]) -> None:
    system.fakes.add("apt-get", does='cat /run/sources.list /run/archive/Packages >"/seen"\n')
    pool = tmp_path / "pool"
    pool.mkdir()
    deb("kiln-a", {"opt/a": "a"}).rename(pool / "sha256:01")
    put(system.tree, "usr/sbin/policy-rc.d", "own policy")
    system.ok("org.kiln.apt", {"packages": ["kiln-a", "b=1"]}, inputs={"packages": tree_input(pool)})
    update, install = system.fakes.calls
    assert update[-1] == "update"
    assert install[-4:] == ["install", "--no-install-recommends", "kiln-a", "b=1"]
    assert "Dir::Etc::sourceparts=/dev/null" in install
    seen = system.read("seen")
    assert seen.startswith("deb [trusted=yes] file:/run/archive ./\n")
    assert "Filename: pool/kiln-a_all.deb\n" in seen
    assert system.read("usr/sbin/policy-rc.d") == "own policy"
    assert list((system.tree / "run").iterdir()) == []


APT_PROGRAMS = ("sh", "cat", "apt-get", "dpkg", "dpkg-deb", "dpkg-split", "tar", "rm", "diff", "ldconfig", "true")


@pytest.mark.root
def test_apt_installs_what_is_named_and_what_that_needs(
    stage: Stage, tmp_path: Path, deb: Callable[..., Path], needs: Callable[..., None]
) -> None:
    needs("apt-get", "dpkg")
    stage.chroot = True
    small_system(stage.tree, *APT_PROGRAMS)
    methods = [f"/usr/lib/apt/methods/{name}" for name in ("file", "copy", "store", "gpgv")]
    small_system(stage.tree, *methods)
    shutil.copytree("/usr/share/dpkg", stage.tree / "usr/share/dpkg")
    put(stage.tree, "usr/sbin/start-stop-daemon", "#!/bin/sh\n", 0o755)
    put(stage.tree, "var/lib/dpkg/status", "")
    for name in ("var/lib/dpkg/info", "var/lib/dpkg/updates", "etc/apt", "var/lib/apt", "etc"):
        (stage.tree / name).mkdir(parents=True, exist_ok=True)
    put(stage.tree, "etc/passwd", "root:x:0:0::/root:/bin/sh\n")
    put(stage.tree, "etc/group", "root:x:0:\n")
    pool = tmp_path / "pool"
    pool.mkdir()
    script = {"postinst": "#!/bin/sh\ntest ! -x /usr/sbin/policy-rc.d || /usr/sbin/policy-rc.d; echo $? >/opt/policy\n"}
    deb("kiln-a", {"opt/a": "a"}, control={"Depends": "kiln-b"}, scripts=script).rename(pool / "sha256:01")
    deb("kiln-b", {"opt/b": "b"}, control={"Recommends": "kiln-c"}).rename(pool / "sha256:00")
    deb("kiln-c", {"opt/c": "c"}).rename(pool / "sha256:02")
    stage.ok("org.kiln.apt", {"packages": ["kiln-a"]}, inputs={"packages": tree_input(pool)})
    assert sorted(path.name for path in (stage.tree / "opt").iterdir()) == ["a", "b", "policy"]
    assert stage.read("opt/policy") == "101\n"
    said = stage.refused("org.kiln.apt", {"packages": ["kiln-x"]}, inputs={"packages": tree_input(pool)})
    assert "kiln-x" in said


SPEC = """Name: kiln-r
Version: 1
Release: 2
Summary: r
License: none
BuildArch: noarch
%description
r
%install
mkdir -p %{buildroot}/opt %{buildroot}/usr/share/doc/kiln-r
echo r > %{buildroot}/opt/r
echo d > %{buildroot}/usr/share/doc/kiln-r/d
%files
/opt/r
%doc /usr/share/doc/kiln-r/d
"""


def rpm_inputs(path: Path, **metadata: Any) -> dict[str, Any]:
    return {"packages": {"path": str(path.parent), "data": {"files": {path.name: {"metadata": metadata}}}}}


@pytest.mark.root
def test_rpm_is_told_what_to_leave_out(stage: Stage, tmp_path: Path) -> None:
    stage.fakes.add("rpm", does='[ "$5" != --query ] || echo \'{"name": "a", "version": "1"}\'\n')
    stage.fakes.add("rpmkeys")
    stage.chroot = True
    path = put(tmp_path, "in/sha256:00", "")
    options = {
        "dbpath": "/db",
        "gpgkeys": ["key"],
        "exclude": {"docs": True},
        "nodeps": True,
        "install_langs": ["en", "de"],
        "disable_dracut": True,
        "ostree_booted": True,
    }
    constants = {"QUERY": "q"}
    inputs = rpm_inputs(path, **{"rpm.check_gpg": True})
    stage.ok("org.osbuild.rpm", options, inputs=inputs, constants=constants)
    base = ["--root", str(stage.tree), "--dbpath", "/db"]
    calls = stage.fakes.calls
    assert calls[0][:-1] == ["rpmkeys", *base, "--import"]
    assert calls[1] == ["rpmkeys", *base, "--define", "_pkgverify_level signature", "--checksig", "sha256:00"]
    assert calls[2][:-1] == [
        *("rpm", "--verbose", *base, "--define", "_pkgverify_level none", "--excludedocs", "--nodeps"),
        *("--define", "_install_langs en:de", "--install"),
    ]
    assert not list((stage.tree / "etc/kernel/install.d").iterdir())
    assert not (stage.tree / "run/ostree-booted").exists()
    assert stage.read("etc/machine-id") == ""


@pytest.mark.root
def test_rpm_installs_packages(stage: Stage, tmp_path: Path, needs: Callable[..., None]) -> None:
    needs("rpm", "rpmbuild", "rpmkeys")
    spec = put(tmp_path, "k.spec", SPEC)
    defines = ["--define", f"_topdir {tmp_path}/rpm", "--define", "_build_id_links none"]
    tool("rpmbuild", "-bb", "--quiet", *defines, spec)
    (built,) = (tmp_path / "rpm/RPMS").rglob("*.rpm")
    path = built.rename(built.with_name("sha256:00"))
    stage.chroot = True
    (stage.tree / "run").mkdir()
    options = {"dbpath": "/usr/lib/sysimage/rpm", "exclude": {"docs": True}}
    stage.ok("org.osbuild.rpm", options, inputs=rpm_inputs(path))
    assert stage.read("opt/r") == "r\n"
    (package,) = stage.metadata()["packages"]
    assert (package["name"], package["version"], package["release"], package["epoch"]) == ("kiln-r", "1", "2", None)
    assert not (stage.tree / "usr/share/doc/kiln-r/d").exists()
    query = ["--root", stage.tree, "--dbpath", "/usr/lib/sysimage/rpm", "-qa"]
    assert tool("rpm", *query).decode().split() == ["kiln-r-1-2.noarch"]
    signed = rpm_inputs(path, **{"rpm.check_gpg": True})
    assert "rpmkeys ended with status" in stage.refused("org.osbuild.rpm", options, inputs=signed)


def test_setfiles_is_told_what_to_leave_alone(stage: Stage) -> None:
    stage.fakes.add("setfiles")
    put(stage.tree, "etc/c", "")
    options = {"file_contexts": "etc/c", "exclude_paths": ["/sysroot"], "force_autorelabel": True}
    stage.ok("org.osbuild.selinux", options)
    tree = str(stage.tree)
    assert stage.fakes.calls == [["setfiles", "-F", "-r", tree, "-e", f"{tree}/sysroot", f"{tree}/etc/c", tree]]
    assert stage.read(".autorelabel") == ""


@pytest.mark.root
def test_setfiles_labels_the_tree(stage: Stage, needs: Callable[..., None]) -> None:
    needs("setfiles")
    put(stage.tree, "etc/c", "/.*\tsystem_u:object_r:kiln_t:s0\n")
    put(stage.tree, "x/y", "")
    label = "system_u:object_r:own_t:s0"
    done = stage("org.osbuild.selinux", {"file_contexts": "/etc/c", "labels": {"/etc/c": label}})
    if "not supported" in done.stdout or "SELinux" in done.stdout:
        pytest.skip("setfiles needs a kernel with SELinux here")
    assert done.returncode == 0, done.stdout
    assert os.getxattr(stage.tree / "x/y", "security.selinux").rstrip(b"\0") == b"system_u:object_r:kiln_t:s0"
    assert os.getxattr(stage.tree / "etc/c", "security.selinux").rstrip(b"\0").decode() == label


@pytest.mark.root
def test_an_account_that_exists_gets_its_home(chroot_stage: Stage, needs: Callable[..., None]) -> None:
    needs("usermod")
    with (chroot_stage.tree / "etc/passwd").open("a") as file:
        file.write("anna:x:1234:100::/home/anna:/bin/sh\n")
    put(chroot_stage.tree, "etc/skel/.profile", "p")
    chroot_stage.ok("org.osbuild.users", {"users": {"anna": {"description": "Anna"}}})
    status = (chroot_stage.tree / "home/anna").stat()
    assert (status.st_uid, status.st_gid, chroot_stage.mode("home/anna")) == (1234, 100, 0o700)
    assert chroot_stage.read("home/anna/.profile") == "p"
