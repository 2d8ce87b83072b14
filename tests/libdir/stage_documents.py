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

DOCUMENTS: Final[dict[str, Documents]] = {**CONFIGURATION}
