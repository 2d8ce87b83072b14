"""What the stages' schemas take and refuse: name -> (good documents, bad documents), without the `type`."""

from __future__ import annotations

from typing import Any, Final

UUID: Final = "5d0e1c52-6a5f-5d1b-9c0e-1f0f6b1b7a11"
TREE: Final = {"inputs": {"tree": {"type": "org.osbuild.tree"}}}
FILE: Final = {"inputs": {"file": {"type": "org.osbuild.files"}}}
DEVICE: Final = {"devices": {"device": {"type": "org.osbuild.loopback"}}}

Documents = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def options(**values: Any) -> dict[str, Any]:
    """Return a document with options."""
    return {"options": values}


def unit(**config: Any) -> dict[str, Any]:
    """Return a document of systemd.unit.create."""
    return options(filename="a.service", config=config)


SERVICE: Final = {"Unit": {"Description": "d"}, "Service": {"ExecStart": ["/x"]}, "Install": {"WantedBy": ["y"]}}

CONFIGURATION: Final[dict[str, Documents]] = {
    "org.osbuild.ln": (
        [
            options(paths=[{"target": "../a", "link_name": "tree:///b", "symbolic": True}]),
            options(paths=[{"target": "/a", "link_name": "mount://root/b"}]),
        ],
        [
            options(paths=[]),
            options(paths=[{"target": "a", "link_name": "/b"}]),
            options(paths=[{"target": "a", "link_name": "input://x/b"}]),
            options(paths=[{"link_name": "tree:///b"}]),
        ],
    ),
    "org.osbuild.keymap": (
        [
            options(keymap="de-latin1"),
            options(keymap="us", font="eurlatgr", **{"x11-keymap": {"layouts": ["us", "de"]}}),
        ],
        [options(), options(keymap="us\nFONT=x"), options(keymap="us", **{"x11-keymap": {"layouts": []}})],
    ),
    "org.osbuild.sshd.config": (
        [options(config={"PasswordAuthentication": False, "ClientAliveInterval": 0, "PermitRootLogin": True})],
        [
            options(),
            options(config={"PermitRootLogin": "sometimes"}),
            options(config={"PasswordAuthentication": "no"}),
            options(config={"Subsystem": "x"}),
        ],
    ),
    "org.osbuild.systemd.unit": (
        [
            options(unit="a@.service", dropin="a.conf", config={"Service": {"Environment": "A=b"}}),
            options(
                unit="a.timer",
                dropin="a.conf",
                config={"Service": {"Environment": [{"key": "A", "value": "b c"}]}, "Unit": {}},
                **{"unit-type": "global"},
            ),
        ],
        [
            options(unit="a.socket", dropin="a.conf", config={}),
            options(unit="../a.service", dropin="a.conf", config={}),
            options(unit="a.service", dropin="a", config={}),
            options(unit="a.service", dropin="a.conf", config={"Unit": {"ConditionPathExists": "/a\nRequires=b"}}),
        ],
    ),
    "org.osbuild.systemd.unit.create": (
        [
            unit(**SERVICE),
            options(filename="x.mount", config={"Mount": {"What": "/dev/x", "Where": "/x"}}, **{"unit-path": "etc"}),
            options(filename="x.socket", config={"Socket": {"ListenFifo": "/run/x", "Accept": True}}),
            options(filename="x.swap", config={"Swap": {"What": "/swap", "Priority": 3}}),
        ],
        [
            unit(Service={}),
            unit(**SERVICE, Mount={"What": "/x", "Where": "/y"}),
            unit(**{**SERVICE, "Service": {"Type": "fast"}}),
            unit(**{**SERVICE, "Service": {"ExecStart": ["/x\nUser=root"]}}),
            options(filename="x.timer", config=SERVICE),
            options(filename="x.mount", config={"Mount": {"What": "/dev/x"}}),
        ],
    ),
    "org.osbuild.systemd.preset": (
        [options(presets=[{"name": "a.service", "state": "enable"}, {"name": "*", "state": "disable"}])],
        [
            options(presets=[]),
            options(presets=[{"name": "a.service"}]),
            options(presets=[{"name": "a b", "state": "enable"}]),
        ],
    ),
    "org.osbuild.systemd-sysusers": (
        [
            options(
                config={"filename": "a.conf", "entries": [{"type": "u", "name": "a", "id": "300", "gecos": "A b"}]},
                paths=["tree:///etc/x.conf"],
                apply=False,
            )
        ],
        [
            options(config={"filename": "a", "entries": []}),
            options(config={"filename": "../a.conf", "entries": []}),
            options(config={"filename": "a.conf", "entries": [{"type": "u", "name": "a", "gecos": 'x" - /bin/sh'}]}),
            options(paths=["/etc/x.conf"]),
        ],
    ),
    "org.osbuild.tmpfilesd": (
        [options(filename="a.conf", config=[{"type": "d!", "path": "/run/a b", "mode": "0755", "age": "10d"}])],
        [
            options(filename="a.conf", config=[]),
            options(filename="a/b.conf", config=[{"type": "d", "path": "/a"}]),
            options(filename="a.conf", config=[{"type": "y", "path": "/a"}]),
            options(filename="a.conf", config=[{"type": "d", "path": "/a", "user": "a b"}]),
        ],
    ),
    "org.osbuild.modprobe": (
        [
            options(
                filename="a.conf",
                commands=[
                    {"command": "blacklist", "modulename": "floppy"},
                    {"command": "install", "modulename": "x", "cmdline": "/bin/true"},
                ],
            )
        ],
        [
            options(filename="a.conf", commands=[{"command": "blacklist", "modulename": "a b"}]),
            options(filename="a.conf", commands=[{"command": "install", "modulename": "a"}]),
            options(filename="a.conf", commands=[{"command": "blacklist", "modulename": "a", "cmdline": "x"}]),
            options(filename="a", commands=[]),
        ],
    ),
    "org.osbuild.kernel-cmdline": (
        [options(), options(root_fs_uuid=UUID, kernel_opts="quiet ro"), options(root_fs_uuid="6699-AFB5")],
        [options(root_fs_uuid="x"), options(kernel_opts="a\nb"), options(kernel_opts=["quiet"])],
    ),
    "org.osbuild.chrony": (
        [
            options(timeservers=["a.example", "2001:db8::1"]),
            options(servers=[{"hostname": "a", "minpoll": -6, "prefer": True}], leapsectz=""),
            options(servers=[], refclocks=[{"driver": {"name": "PHC", "path": "/dev/ptp0"}, "poll": 3, "offset": 0.5}]),
        ],
        [
            options(),
            options(timeservers=["a"], servers=[{"hostname": "a"}]),
            options(timeservers=["a iburst"]),
            options(servers=[{"hostname": "a", "maxpoll": 25}]),
        ],
    ),
    "org.osbuild.nginx.conf": (
        [options(), options(path="/etc/n.conf", config={"listen": "*:8080", "daemon": False})],
        [options(path="n.conf"), options(path="/a/../b"), options(config={"root": "/x; include /y"})],
    ),
    "org.osbuild.cloud-init": (
        [
            options(filename="a.cfg", config={"ssh_pwauth": False, "system_info": {"default_user": {"name": "u"}}}),
            options(
                filename="a.cfg",
                config={
                    "datasource_list": ["NoCloud", "None"],
                    "datasource": {"Azure": {"apply_network_config": False}},
                    "reporting": {"telemetry": {"type": "hyperv"}},
                    "output": {"all": "| tee -a /var/log/x"},
                    "network": {"config": "disabled"},
                },
            ),
        ],
        [
            options(filename="a.cfg", config={}),
            options(filename="a.yaml", config={"ssh_pwauth": True}),
            options(filename="a.cfg", config={"reporting": {"logging": {"type": "mail"}}}),
            options(filename="a.cfg", config={"runcmd": ["x"]}),
        ],
    ),
    "org.kiln.nftables": (
        [
            options(),
            options(policy="reject", allow=[{"protocol": "tcp", "ports": ["22", "8000-8010", "ssh"], "comment": "c"}]),
            options(allow=[{"protocol": "udp", "ports": ["53"], "sources": ["10.0.0.0/8", "2001:db8::/32"]}]),
        ],
        [
            options(policy="accept"),
            options(allow=[{"protocol": "tcp", "ports": []}]),
            options(allow=[{"protocol": "tcp", "ports": ["22 } accept"]}]),
            options(allow=[{"protocol": "tcp", "ports": ["22"], "sources": ["@all"]}]),
            options(allow=[{"protocol": "tcp", "ports": ["22"], "comment": 'a" drop'}]),
        ],
    ),
    "org.osbuild.selinux.config": (
        [options(), options(state="permissive", type="mls")],
        [options(state="on"), options(type="strict"), options(state=True)],
    ),
    "org.osbuild.zipl": ([options(), options(timeout=5)], [options(timeout="5"), options(timeout=-1)]),
    "org.kiln.apparmor": (
        [options(profiles={"usr.bin.x": {"content": "profile x {}", "mode": "complain"}, "y": {"mode": "disable"}})],
        [
            options(),
            options(profiles={"../x": {"content": "a"}}),
            options(profiles={"disable/x": {"content": "a"}}),
            options(profiles={"x": {"mode": "audit"}}),
        ],
    ),
}

PARTITION: Final = {"name": "root", "start": 2048, "size": 2048, "type": UUID, "uuid": UUID, "attrs": [2, 63]}
PBKDF2: Final = {"method": "pbkdf2", "iterations": 1000}
LUKS: Final = {"passphrase": "p", "uuid": UUID, "pbkdf": PBKDF2}
IMAGE_PARTITION: Final = {"start": 1048576, "size": 1048576, "type": UUID, "uuid": UUID}
IMAGE: Final = {"filename": "d", "size": 4194304, "uuid": UUID}


def compressed(**more: Any) -> Documents:
    """Return the documents of a stage that compresses a file."""
    return (
        [{**options(filename="x", **more), **FILE}],
        [{**options(), **FILE}, {**options(filename="x"), "inputs": {}}, {**options(filename="x", level=10), **FILE}],
    )


ARCHIVES: Final[dict[str, Documents]] = {
    "org.osbuild.tar": (
        [
            {**options(filename="a.tar.xz", acls=False, **{"root-node": "omit"}), **TREE},
            {**options(filename="a", format="ustar", paths=["b", "a"], sparse=True, compression="zstd"), **TREE},
        ],
        [
            {**options(filename="a", paths=["a"], **{"root-node": "omit"}), **TREE},
            {**options(filename="a", format="zip"), **TREE},
            {**options(), **TREE},
            {**options(filename="a"), "inputs": {}},
        ],
    ),
    "org.osbuild.untar": (
        [{**options(prefix="/x"), **FILE}],
        [{**options(), "inputs": {}}, {**options(prefix=1), **FILE}],
    ),
    "org.osbuild.xz": compressed(),
    "org.osbuild.gzip": compressed(level=9),
    "org.osbuild.zstd": compressed(),
    "org.osbuild.zip": (
        [{**options(filename="a.zip", level=0, include=["a", "b/*"]), **TREE}],
        [
            {**options(filename="a", level=10), **TREE},
            {**options(filename=""), **TREE},
            {**options(filename="a"), "inputs": {}},
        ],
    ),
    "org.osbuild.oci-archive": (
        [
            {
                **options(
                    filename="a.oci",
                    architecture="amd64",
                    variant="v8",
                    config={"Cmd": ["/x"], "Volumes": ["/v"], "StopSiganl": "TERM", "Labels": {"a": "b"}},
                    annotations={"org.osbuild.ostree.ref": "x", "my.key": "y"},
                ),
                "inputs": {"base": {}, "layer.1": {}, "layer.12": {}},
            }
        ],
        [
            {**options(filename="a", architecture="amd64"), "inputs": {"layer.1": {}}},
            {**options(filename="a", architecture="amd64"), "inputs": {"base": {}, "layer.0": {}}},
            {**options(filename="a"), "inputs": {"base": {}}},
            {
                **options(filename="a", architecture="x", annotations={"org.opencontainer.x": "y"}),
                "inputs": {"base": {}},
            },
        ],
    ),
    "org.kiln.overlay": (
        [{**options(path="/opt"), **TREE}],
        [{**options(), "inputs": {}}, {**options(path="opt"), **TREE}],
    ),
    "org.kiln.files": (
        [
            {
                **options(files={"/etc/motd": {"from": "sha256:00", "mode": "4755", "user": 1, "group": 2}}),
                "inputs": {"files": {"type": "org.osbuild.files"}},
            }
        ],
        [
            {**options(files={"etc/motd": {"from": "sha256:00"}}), "inputs": {"files": {}}},
            {**options(files={"/a/../b": {"from": "sha256:00"}}), "inputs": {"files": {}}},
            {**options(files={"/a/": {"from": "sha256:00"}}), "inputs": {"files": {}}},
            {**options(files={"/a": {"from": "../x"}}), "inputs": {"files": {}}},
            {**options(files={"/a": {"from": "sha256:00", "mode": "u+x"}}), "inputs": {"files": {}}},
        ],
    ),
}
DISKS: Final[dict[str, Documents]] = {
    "org.osbuild.sfdisk": (
        [{**options(label=label, uuid=UUID, partitions=[PARTITION, {}]), **DEVICE} for label in ("gpt", "dos", "mbr")],
        [
            {**options(label="bsd", uuid=UUID), **DEVICE},
            {**options(label="gpt"), **DEVICE},
            {**options(label="gpt", uuid=UUID, partitions=[{"name": 'a", type="b'}]), **DEVICE},
            {**options(label="gpt", uuid=UUID, partitions=[{"attrs": [64]}]), **DEVICE},
            {**options(label="gpt", uuid=UUID), "devices": {}},
        ],
    ),
    "org.osbuild.sgdisk": (
        [{**options(uuid=UUID, label="gpt", quote_partition_name=False, partitions=[PARTITION]), **DEVICE}],
        [{**options(uuid=UUID, label="dos"), **DEVICE}, {**options(), **DEVICE}, {**options(uuid="x"), **DEVICE}],
    ),
    "org.osbuild.parted": (
        [{**options(label="gpt", partitions=[{"name": "a", "start": 1, "size": 2, "type": "esp"}]), **DEVICE}],
        [
            {**options(label="msdos"), **DEVICE},
            {**options(label="gpt", partitions=[{"name": "a", "start": 1}]), **DEVICE},
            {**options(label="gpt", partitions=[{"name": "a", "start": 1, "size": 2, "type": "a b"}]), **DEVICE},
        ],
    ),
    "org.osbuild.mkfs.ext4": (
        [{**options(uuid=UUID, label="l", lazy_init=False, verity=True, orphan_file=False), **DEVICE}],
        [
            {**options(uuid="u"), **DEVICE},
            {**options(uuid=UUID, label="x" * 17), **DEVICE},
            {**options(uuid=UUID), "devices": {}},
        ],
    ),
    "org.osbuild.mkfs.xfs": (
        [{**options(uuid=UUID, label="l", agcount=4), **DEVICE}],
        [{**options(uuid=UUID, label="x" * 13), **DEVICE}, {**options(uuid=UUID, agcount=0), **DEVICE}],
    ),
    "org.osbuild.mkfs.btrfs": (
        [{**options(uuid=UUID, label="l", metadata="dup"), **DEVICE}],
        [{**options(), **DEVICE}, {**options(uuid=UUID, metadata="raid1"), **DEVICE}],
    ),
    "org.osbuild.mkfs.fat": (
        [
            {
                **options(
                    volid="7B7795E7", label="ESP", geometry={"heads": 12, "sectors-per-track": 42}, **{"fat-size": 12}
                ),
                **DEVICE,
            }
        ],
        [
            {**options(volid="xyz"), **DEVICE},
            {**options(volid="1", **{"fat-size": 8}), **DEVICE},
            {**options(volid="1", geometry={"heads": 1}), **DEVICE},
        ],
    ),
    "org.osbuild.mkswap": (
        [{**options(uuid=UUID, label="swap"), **DEVICE}],
        [{**options(), **DEVICE}, {**options(uuid=UUID, label="x" * 16), **DEVICE}],
    ),
    "org.osbuild.dmverity": (
        [{**options(root_hash_file="h", blocksize=4096), "devices": {"data_device": {}, "hash_device": {}}}],
        [
            {**options(root_hash_file="h", blocksize=100), "devices": {"data_device": {}, "hash_device": {}}},
            {**options(root_hash_file="h"), "devices": {"data_device": {}}},
        ],
    ),
    "org.osbuild.erofs": (
        [{**options(filename="x", compression={"method": "lz4hc", "level": 9}, options=["dedupe"]), **TREE}],
        [
            {**options(filename="x", compression={"method": "gzip"}), **TREE},
            {**options(filename="x", options=[]), **TREE},
        ],
    ),
    "org.osbuild.write-device": (
        [{**options(**{"from": "input://file/x"}), **FILE, **DEVICE}],
        [
            {**options(**{"from": "tree:///x"}), **DEVICE},
            {**options(**{"from": "input://file/x"}), **FILE, "devices": {}},
        ],
    ),
    "org.osbuild.xorrisofs": (
        [
            {**options(filename="x", volid="A_B", isolevel=3, boot={"image": "i", "catalog": "c"}, efi="e"), **TREE},
            {**options(filename="x", volid="Fedora-S-dvd", grub2mbr="/m"), **TREE},
        ],
        [
            {**options(filename="x", volid="a\nb"), **TREE},
            {**options(filename="x", volid="A", boot={"image": "i"}), **TREE},
            {**options(filename="x", volid="A", isolevel=5), **TREE},
            {**options(filename="x", volid="A", grub2mbr="/m", isohybridmbr="/n"), **TREE},
        ],
    ),
    "org.osbuild.luks2.format": (
        [
            {**options(**LUKS, label="l", cipher="aes-xts-plain64", **{"sector-size": 512}), **DEVICE},
            {**options(**{**LUKS, "pbkdf": {"method": "argon2id", "iterations": 4, "memory": 32}}), **DEVICE},
        ],
        [
            {**options(**{**LUKS, "pbkdf": {"method": "pbkdf2", "iterations": 4}}), **DEVICE},
            {**options(**{**LUKS, "pbkdf": {"method": "argon2i", "iterations": 4, "parallelism": 5}}), **DEVICE},
            {**options(passphrase="p", uuid=UUID), **DEVICE},
        ],
    ),
    "org.osbuild.luks2.remove-key": (
        [{**options(passphrase="p"), **DEVICE}],
        [{**options(), **DEVICE}, {**options(passphrase="p"), "devices": {}}],
    ),
    "org.kiln.image": (
        [{**options(**IMAGE, partitions=[{**IMAGE_PARTITION, "content": "input://a/b"}]), "inputs": {"a": {}}}],
        [
            options(**IMAGE, partitions=[]),
            options(**IMAGE, partitions=[{**IMAGE_PARTITION, "start": 512}]),
            options(**IMAGE, partitions=[{**IMAGE_PARTITION, "content": "tree:///b"}]),
        ],
    ),
}

COMMITS: Final = {"inputs": {"commits": {"type": "org.osbuild.ostree"}}}
PACKAGES: Final = {"inputs": {"packages": {"type": "org.osbuild.files"}}}
ISO: Final = {
    "product": {"name": "K", "version": "1"},
    "kernel": {"dir": "/images/pxeboot", "opts": ["a=b"]},
    "isolabel": "K-1",
}
KERNEL_INPUTS: Final = {"inputs": {name: {"type": "org.osbuild.files"} for name in ("kernel", "initrd", "osrel")}}

SYSTEMS: Final[dict[str, Documents]] = {
    "org.osbuild.users": (
        [options(), options(users={".a": {"uid": 1000, "keys": ["ssh-ed25519 x"], "expiredate": 20000}})],
        [options(users={"a b": {}}), options(users={"a": {"uid": "0"}}), options(users={"a": {"sudo": True}})],
    ),
    "org.osbuild.groups": (
        [options(), options(groups={"A": {"gid": 5}}, force=True)],
        [options(groups={"-a": {}}), options(groups={"a": {"gid": -1}}), options(groups={"a b": {}})],
    ),
    "org.osbuild.firewall": (
        [
            options(),
            options(ports=["22:tcp", "5000-5010:udp"], enabled_services=["ssh"], default_zone="drop"),
            options(zones=[{"name": "trusted", "sources": ["10.0.0.0/8", "ipset:x"]}]),
        ],
        [options(ports=["22"]), options(enabled_services=["a b"]), options(zones=[]), options(zones=[{"name": "a"}])],
    ),
    "org.osbuild.grub2": (
        [
            options(rootfs={"uuid": UUID}),
            options(root_fs_uuid=UUID, boot_fs_uuid="6699-AFB5", legacy=True, config={"terminal": ["serial"]}),
            options(rootfs={"label": "root"}, uefi={"vendor": "fedora", "install": True}, legacy="powerpc-ieee1275"),
        ],
        [
            options(),
            options(rootfs={"uuid": UUID}, root_fs_uuid=UUID),
            options(rootfs={"label": "a b"}),
            options(rootfs={"uuid": UUID}, uefi={"vendor": "../x"}),
            options(rootfs={"uuid": UUID}, config={"timeout_style": "fast"}),
            options(rootfs={"uuid": UUID}, legacy="../../etc"),
        ],
    ),
    "org.osbuild.grub2.iso": (
        [
            options(
                **ISO, architectures=["X64", "IA32"], vendor="fedora", fips=True, config={"timeout": 5, "default": 1}
            )
        ],
        [
            options(**{**ISO, "isolabel": "a'b"}),
            options(**{**ISO, "kernel": {"opts": []}}),
            options(**ISO, custom=[{"name": "x", "linux": "/k"}]),
        ],
    ),
    "org.osbuild.dracut": (
        [options(kernel=["6.1"], add_modules=["a"], include=[{"/a": "/b"}], reproducible=False, extra=["--x"])],
        [options(), options(kernel="6.1"), options(kernel=["6.1"], include=["/a"])],
    ),
    "org.osbuild.uki": (
        [{**options(filename="x.efi", kernel={"opts": ["quiet"]}), **KERNEL_INPUTS}],
        [{**options(), **KERNEL_INPUTS}, {**options(filename="x"), "inputs": {"kernel": {}}}],
    ),
    "org.kiln.debian.debootstrap": (
        [{**options(suite="bookworm", arch="amd64", variant="minbase", include=["vim"]), **PACKAGES}],
        [
            {**options(suite="bookworm"), **PACKAGES},
            {**options(suite="--help", arch="amd64"), **PACKAGES},
            {**options(suite="a", arch="amd64", include=["a,b"]), **PACKAGES},
            {**options(suite="a", arch="amd64"), "inputs": {}},
        ],
    ),
    "org.kiln.apt": (
        [{**options(packages=["vim", "g++=4:12.2.0-3"], recommends=True), **PACKAGES}],
        [{**options(packages=[]), **PACKAGES}, {**options(packages=["-y"]), **PACKAGES}],
    ),
    "org.osbuild.rpm": (
        [
            {
                **options(gpgkeys=["k"], exclude={"docs": True}, install_langs=["en"], **{"gpgkeys.fromtree": ["/k"]}),
                **PACKAGES,
            }
        ],
        [{**options(install_langs=[]), **PACKAGES}, {**options(packages=["sha256:00"]), **PACKAGES}],
    ),
    "org.osbuild.selinux": (
        [options(file_contexts="etc/c", labels={"/a": "system_u:object_r:a_t:s0"}, exclude_paths=["/sysroot"])],
        [options(), options(file_contexts="c", labels={"/a": "a b"})],
    ),
    "org.osbuild.ostree.init": ([options(), options(mode="bare", path="/r")], [options(mode="zip"), options(path="")]),
    "org.osbuild.ostree.init-fs": ([options()], [options(modern=True)]),
    "org.osbuild.ostree.os-init": ([options(osname="k")], [options(), options(osname="a/b")]),
    "org.osbuild.ostree.pull": (
        [{**options(repo="/repo", remote="origin"), **COMMITS}],
        [{**options(), **COMMITS}, {**options(repo="/repo"), "inputs": {}}],
    ),
    "org.osbuild.ostree.commit": (
        [{**options(ref="a/b", os_version="1", parent="0" * 64, **{"selinux-label-version": 0}), **TREE}],
        [{**options(), **TREE}, {**options(ref="a", parent="x"), **TREE}],
    ),
    "org.osbuild.ostree.deploy": (
        [
            options(osname="k", ref="a/b", remote="r", mounts=["/boot"], rootfs={"label": "root"}, kernel_opts=["rw"]),
            {**options(osname="k"), **COMMITS},
        ],
        [options(ref="a"), options(osname="k", rootfs={}), options(osname="k", mounts=["boot"])],
    ),
    "org.osbuild.ostree.config": (
        [options(repo="/repo", config={"sysroot": {"readonly": True, "bootloader": "none"}})],
        [
            options(),
            options(repo="/r", config={"core": {}}),
            options(repo="/r", config={"sysroot": {"bootloader": "lilo"}}),
        ],
    ),
    "org.osbuild.ostree.remotes": (
        [options(repo="/repo", remotes=[{"name": "a", "url": "x", "branches": ["b"], "gpgkeypaths": ["/k"]}])],
        [options(), options(repo="/repo", remotes=[{"name": "a"}])],
    ),
    "org.osbuild.ostree.preptree": (
        [options(), options(**{"etc_group_members": ["wheel"], "initramfs-args": ["--x"], "tmp-is-dir": False})],
        [options(etc_group_members="wheel"), options(tmp=True)],
    ),
    "org.osbuild.ostree.selinux": (
        [options(deployment={"osname": "o", "ref": "r", "serial": 1}), options(deployment={"default": True})],
        [options(), options(deployment={"osname": "o"}), options(deployment={"default": True, "ref": "r"})],
    ),
    "org.osbuild.ostree.sign": (
        [options(repo="/repo", ref="a/b", key="/etc/key")],
        [options(repo="/repo", ref="a/b"), options(repo="/repo", ref="a", key="/../key")],
    ),
    "org.osbuild.ostree.passwd": ([{**options(), **COMMITS}], [{**options(), "inputs": {}}]),
    "org.osbuild.ostree.encapsulate": (
        [{**options(filename="x", cmd=["/x"], labels=["a=b"], max_layers=4), "inputs": {"commit": {}}}],
        [{**options(filename="x"), **COMMITS}, {**options(), "inputs": {"commit": {}}}],
    ),
    "org.osbuild.ostree.fillvar": (
        [options(deployment={"osname": "k", "ref": "r", "serial": 0}), options(deployment={"default": True})],
        [options(), options(deployment={"osname": "k"}), options(deployment={"default": True, "ref": "r"})],
    ),
    "org.osbuild.bootupd": (
        [{**options(bios={"device": "disk", "partition": 1}, **{"static-configs": True}), "mounts": []}, options()],
        [options(bios={}), options(deployment={"osname": "k"})],
    ),
    "org.osbuild.bootupd.gen-metadata": ([options()], [options(path="/")]),
}

IMAGE: Final = {"inputs": {"image": {"type": "org.osbuild.files"}}}
LIVE: Final = {"inputs": {"tree": {"type": "org.osbuild.tree"}, "squashfs": {"type": "org.osbuild.files"}}}
ENTRY: Final = {"title": "Live", "cmdline": "quiet"}
ESP: Final = {"filename": "e", "size": 8388608, "volid": "0123abcd", "label": "ESP"}
VOLUME: Final = {"filename": "x.iso", "volid": "KILN", "fat-volid": "0123abcd", "vendor": "debian"}
OUTPUTS: Final[dict[str, Documents]] = {
    "org.kiln.disk-image": (
        [{**options(filename="d.vmdk", format="vmdk", uuid=UUID), **IMAGE}],
        [
            {**options(filename="d", format="qcow2", uuid=UUID), **IMAGE},
            {**options(filename="d", format="vdi"), **IMAGE},
            {**options(filename="../d", format="vdi", uuid=UUID), **IMAGE},
        ],
    ),
    "org.kiln.appliance": (
        [{**options(filename="a.ova", kind="ova", name="a", uuid=UUID, cpus=1, **{"memory-mib": 64}), **IMAGE}],
        [
            {**options(filename="a", kind="x", name="a", uuid=UUID), **IMAGE},
            {**options(filename="a", kind="ova", name="<a>", uuid=UUID), **IMAGE},
        ],
    ),
    "org.kiln.verity": (
        [{**options(filename="v", salt="00ff", **{"root-hash-file": "/h"}), "inputs": {"data": {}}}],
        [
            {**options(filename="v"), "inputs": {"data": {}}},
            {**options(filename="v", salt="0", **{"root-hash-file": "/h"}), "inputs": {"data": {}}},
        ],
    ),
    "org.kiln.esp": (
        [
            options(**ESP, files=[{"to": "/EFI/A", "from": "/usr/a"}, {"to": "/b", "text": ""}]),
            {**options(**ESP, start=1048576, files=[{"to": "/u", "from": "input://uki/k"}]), "inputs": {"uki": {}}},
        ],
        [
            options(**ESP, files=[{"to": "/EFI/../A", "from": "/usr/a"}]),
            options(**ESP, files=[{"to": "/a", "from": "a"}]),
            options(**ESP, files=[{"to": "/a"}]),
            options(**ESP, files=[{"to": "/a", "from": "/b", "text": "c"}]),
        ],
    ),
    "org.kiln.uki": (
        [{**options(filename="k.efi", cmdline="root=x ro"), **TREE}],
        [
            {**options(filename="k.efi"), **TREE},
            {**options(filename="k", cmdline="a\nb"), **TREE},
            options(filename="k"),
        ],
    ),
    "org.kiln.iso": (
        [{**options(**VOLUME, entries=[ENTRY]), **LIVE}],
        [
            {**options(**VOLUME, entries=[]), **LIVE},
            {**options(**VOLUME, entries=[{**ENTRY, "title": 'a" {'}]), **LIVE},
            {**options(**{**VOLUME, "volid": "lower"}, entries=[ENTRY]), **LIVE},
            {**options(**VOLUME, entries=[ENTRY]), **TREE},
        ],
    ),
    "org.kiln.pxe": (
        [{**options(cmdline="quiet"), **LIVE}],
        [{**options(), **LIVE}, {**options(cmdline="a\nb"), **LIVE}, {**options(cmdline="a"), **TREE}],
    ),
    "org.kiln.oci": (
        [
            {
                **options(filename="i.tar", architecture="amd64", layers=3, compression="zstd", config={"User": "a"}),
                **TREE,
            }
        ],
        [
            {**options(filename="i.tar"), **TREE},
            {**options(filename="i.tar", architecture="amd64", layers=2), **TREE},
            {**options(filename="i.tar", architecture="amd64", compression="xz"), **TREE},
        ],
    ),
}

DOCUMENTS: Final[dict[str, Documents]] = {**CONFIGURATION, **ARCHIVES, **DISKS, **SYSTEMS, **OUTPUTS}
