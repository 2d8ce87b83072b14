"""What each stage says about itself, and which options it takes."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import stage_documents

from kiln.engine.manifest.modules import Modules

LIBDIR: Final = Path(__file__).parents[2] / "libdir"
STAGES: Final = sorted(path.name for path in (LIBDIR / "stages").iterdir() if path.suffix != ".json")
PROGRAMS: Final = [LIBDIR / "stages" / name for name in STAGES] + sorted((LIBDIR / "osbuild").rglob("*.py"))
META_KEYS: Final = {"summary", "description", "capabilities", "schema", "schema_2"}
UUID: Final = "5d0e1c52-6a5f-5d1b-9c0e-1f0f6b1b7a11"
PARTITION: Final = {"name": "root", "start": 1048576, "size": 4194304, "type": UUID, "uuid": UUID}
EXT4: Final = {"filename": "d", "start": 0, "size": 4194304, "uuid": UUID, "hash-seed": UUID}
ESP: Final = {
    "filename": "d",
    "start": 512,
    "size": 34603008,
    "volid": "0123abcd",
    "label": "ESP",
    "vendor": "debian",
    "root-uuid": UUID,
    "prefix": "/boot/grub",
}
CORE: Final = {"type": "mkimage", "partlabel": "gpt", "filesystem": "ext4"}
PREFIX: Final = {"type": "partition", "partlabel": "gpt", "number": 0, "path": "/boot/grub"}
GRUB: Final = {"filename": "d", "platform": "i386-pc", "location": 2048, "core": CORE, "prefix": PREFIX}
TREE: Final = {"inputs": {"tree": {"type": "org.osbuild.tree"}}}


def options(**values: Any) -> dict[str, Any]:
    return {"options": values}


def without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != key}


# stage -> (documents that it takes, documents that it refuses), without the `type`.
DOCUMENTS: Final[dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]]] = {
    "org.kiln.deb": (
        [{"options": {"architecture": "amd64"}, "inputs": {"packages": {"type": "org.osbuild.files"}}}],
        [
            {"options": {}, "inputs": {"packages": {}}},
            {"options": {"architecture": "a b"}, "inputs": {"packages": {}}},
            {"options": {"architecture": "amd64"}, "inputs": {}},
            {"options": {"architecture": "amd64"}, "inputs": {"packages": {}, "more": {}}},
        ],
    ),
    "org.kiln.ext4": (
        [{**options(**EXT4), **TREE}, {**options(**EXT4, label="root", **{"reserved-percent": 0}), **TREE}],
        [
            {**options(**{**EXT4, "start": 100}), **TREE},
            {**options(**{**EXT4, "uuid": "x"}), **TREE},
            {**options(**EXT4, label="seventeen-letters"), **TREE},
            {**options(**without(EXT4, "hash-seed")), **TREE},
        ],
    ),
    "org.kiln.gpt": (
        [options(filename="d", uuid=UUID, partitions=[PARTITION, {**PARTITION, "legacy-boot": True}])],
        [
            options(filename="d", uuid=UUID, partitions=[]),
            options(filename="d", uuid="1", partitions=[PARTITION]),
            options(filename="d", uuid=UUID, partitions=[{**PARTITION, "name": 'a", type="x'}]),
            options(filename="d", uuid=UUID, partitions=[{**PARTITION, "name": "a\\x22"}]),
            options(filename="d", uuid=UUID, partitions=[{**PARTITION, "name": "a\nlabel: dos"}]),
            options(filename="d", uuid=UUID, partitions=[without(PARTITION, "uuid")]),
        ],
    ),
    "org.kiln.grub-efi": (
        [options(**ESP)],
        [
            options(**{**ESP, "volid": "0123ABCD"}),
            options(**{**ESP, "label": "lower"}),
            options(**{**ESP, "vendor": "../x"}),
            options(**{**ESP, "size": 1048576}),
            options(**{**ESP, "prefix": "/boot\nmalicious"}),
        ],
    ),
    "org.kiln.initramfs": (
        [options(), options(modules="most", compression="zstd", level=19)],
        # "dep" asks the machine that builds which drivers it uses.
        [options(modules="dep"), options(level=20), options(compression="none")],
    ),
    "org.kiln.remove": (
        [options(paths=["/usr/share/man", "/.hidden"])],
        [options(paths=[path]) for path in ("/", "//", "/.", "usr", "/usr/../..", "/usr/")] + [options(paths=[])],
    ),
    "org.kiln.reset-instance": ([options()], [options(keep=True)]),
    "org.osbuild.chmod": (
        [options(items={"/etc/a": {"mode": "0600"}, "/b": {"mode": "u+x,go=", "recursive": True}})],
        [
            options(items={"etc/a": {"mode": "0600"}}),
            options(items={"/etc/../../a": {"mode": "0600"}}),
            options(items={"/a": {"mode": "--reference=/x"}}),
            options(items={"/a": {}}),
        ],
    ),
    "org.osbuild.chown": (
        [options(items={"/a": {"user": "x", "group": 5, "recursive": True}})],
        [options(items={"/a": {}}), options(items={"/..": {"user": 0}}), options(items={"/a": {"user": None}})],
    ),
    "org.osbuild.copy": (
        [
            {
                **options(paths=[{"from": "input://files/x", "to": "tree:///a/", "remove_destination": True}]),
                "inputs": {"files": {"type": "org.osbuild.files"}},
            }
        ],
        [
            options(paths=[]),
            options(paths=[{"from": "/x", "to": "tree:///a"}]),
            options(paths=[{"from": "input://files/x", "to": "input://files/y"}]),
            options(paths=[{"from": "file:///etc/shadow", "to": "tree:///a"}]),
        ],
    ),
    "org.osbuild.fstab": (
        [
            options(filesystems=[{"uuid": UUID, "path": "/", "vfs_type": "ext4", "options": "ro", "passno": 1}]),
            options(filesystems=[{"label": "a b", "path": "none"}, {"device": "/dev/x", "path": "swap"}]),
            options(filesystems=[], ostree={"deployment": {"default": True}}),
        ],
        [
            options(filesystems=[{"path": "/"}]),
            options(filesystems=[], ostree={"deployment": {"osname": "o"}}),
            options(filesystems=[{"uuid": UUID, "label": "two", "path": "/"}]),
            options(filesystems=[{"uuid": UUID, "path": "relative"}]),
            options(filesystems=[{"uuid": UUID, "path": "/", "options": "a b"}]),
        ],
    ),
    "org.osbuild.groups": (
        [options(groups={"a": {}, "b": {"gid": 5}})],
        [options(groups={"-a": {}}), options(groups={"a": {"gid": -1}}), options(groups={"A B": {}})],
    ),
    "org.osbuild.grub2.inst": (
        [
            options(**GRUB),
            options(**{**GRUB, "prefix": {"type": "path", "path": "/grub"}}),
            options(**{**without(GRUB, "location"), "prefix": {"path": "/grub"}}),
            options(**{**GRUB, "core": {**CORE, "filesystem": "iso9660", "binary": "grub2-mkimage"}}),
        ],
        [
            options(**{**GRUB, "platform": "x86_64-efi"}),
            options(**{**GRUB, "location": 0}),
            options(**{**GRUB, "core": {**CORE, "modules": ["--x"]}}),
            options(**{**GRUB, "prefix": without(PREFIX, "number")}),
            options(**{**GRUB, "prefix": {**PREFIX, "path": "(hd0)/x"}}),
        ],
    ),
    "org.osbuild.hostname": (
        [options(hostname="a"), options(hostname="host-1.example")],
        [options(hostname="-a"), options(hostname=""), options(hostname="a b"), options(hostname="x" * 65)],
    ),
    "org.osbuild.locale": (
        [options(language="C.UTF-8"), options(language="de_DE@euro")],
        [options(language="$(id)"), options()],
    ),
    "org.osbuild.machine-id": (
        [options(**{"first-boot": word}) for word in ("yes", "no", "preserve")],
        [options(**{"first-boot": True}), options()],
    ),
    "org.osbuild.mkdir": (
        [options(paths=[{"path": "/a", "mode": 448, "parents": True, "exist_ok": True}, {"path": "a/b"}])],
        [
            options(paths=[{"path": ""}]),
            options(paths=[{"path": "/a/../../b"}]),
            options(paths=[{"path": "../b"}]),
            options(paths=[{"path": "/a", "mode": 4096}]),
        ],
    ),
    "org.osbuild.noop": ([{}, options(anything=[1])], [{"unknown": 1}]),
    "org.osbuild.qemu": (
        [
            {
                **options(filename="x.qcow2", format={"type": "qcow2", "compression": True, "compat": "1.1"}),
                "inputs": {"image": {"type": "org.osbuild.files"}},
            },
            {
                **options(filename="x", format={"type": "vmdk", "subformat": "streamOptimized", "compat6": True}),
                "inputs": {"image": {}},
            },
            {
                **options(filename="x", format={"type": "vpc", "subformat": "dynamic", "force_size": False}),
                "inputs": {"image": {}},
            },
        ],
        [
            {**options(filename="x", format={"type": "vmdk", "adapter_type": "scsi"}), "inputs": {"image": {}}},
            {**options(filename="x", format={"type": "iso"}), "inputs": {"image": {}}},
            {**options(filename="x", format={"type": "qcow2", "compat": "1.1,x=y"}), "inputs": {"image": {}}},
            {**options(filename="x", format={"type": "raw"}), "inputs": {}},
        ],
    ),
    "org.osbuild.squashfs": (
        [
            {**options(filename="x", compression={"method": "xz", "options": {"bcj": "x86"}}), **TREE},
            {**options(filename="x", source="input://tree/usr"), **TREE},
            {**options(filename="x", source="mount://root/"), **TREE, "mounts": [], "devices": {}},
        ],
        [
            {**options(filename="x", compression={"method": "none"}), **TREE},
            {**options(filename="x", source="/etc"), **TREE},
            {**options(filename="x", compression={"method": "xz"}, **{"block-size": 100}), **TREE},
            {**options(filename="x", compression={"method": "xz"}), "inputs": {}},
        ],
    ),
    "org.osbuild.sysctld": (
        [options(filename="a.conf", config=[{"key": "kernel.x", "value": "1"}, {"key": "-net.ipv4.conf.*.x"}])],
        [
            options(filename="a.txt", config=[{"key": "a", "value": "1"}]),
            options(filename="../a.conf", config=[{"key": "a", "value": "1"}]),
            options(filename="a.conf", config=[{"key": "kernel.x"}]),
            options(filename="a.conf", config=[{"key": "a", "value": "1\nkernel.modules_disabled = 0"}]),
            options(filename="a.conf", path="/etc", config=[{"key": "a", "value": "1"}]),
        ],
    ),
    "org.osbuild.systemd": (
        [
            options(enabled_services=["a@b.service"], masked_services=["x.timer"], default_target="graphical.target"),
            options(masked_generators=["systemd-gpt-auto-generator"]),
        ],
        [
            options(masked_generators=["../x"]),
            options(enabled_services=["a b"]),
            options(default_target="a.service"),
            options(enabled_services="a"),
        ],
    ),
    "org.osbuild.timezone": (
        [options(zone="Europe/Berlin"), options(zone="Etc/GMT+1")],
        [options(zone="../../etc/passwd"), options(zone="/etc/passwd"), options(zone="")],
    ),
    "org.osbuild.truncate": (
        [options(filename="d", size="10G"), options(filename="d", size="512")],
        [options(filename="d", size=512), options(filename="d", size="-1"), options(filename="d", size="1.5G")],
    ),
    "org.osbuild.users": (
        [
            options(
                users={"a": {"uid": 1000, "groups": ["b"], "key": "ssh-ed25519 x", "password": None, "system": True}}
            )
        ],
        [options(users={"a b": {}}), options(users={"a": {"uid": "0"}}), options(users={"a": {"sudo": True}})],
    ),
}


def test_every_stage_has_documents_here() -> None:
    assert sorted(DOCUMENTS.keys() | stage_documents.DOCUMENTS.keys()) == STAGES


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_describes_itself_and_can_be_started(name: str) -> None:
    program = LIBDIR / "stages" / name
    meta = json.loads((LIBDIR / "stages" / f"{name}.meta.json").read_text(encoding="utf-8"))
    assert meta.keys() <= META_KEYS
    assert meta["summary"]
    assert meta["description"]
    assert all(isinstance(line, str) and line for line in meta["description"])
    assert {"schema", "schema_2"} & meta.keys()
    assert os.access(program, os.X_OK)
    assert program.read_text(encoding="utf-8").startswith("#!/usr/bin/python3\n")
    jsonschema.Draft4Validator.check_schema(schema_of(name))


def schema_of(name: str) -> dict[str, Any]:
    module = Modules(LIBDIR).find("Stage", name)
    assert module is not None
    return module.validation_schema()


def cases(index: int) -> list[Any]:
    return [
        pytest.param(name, document, id=f"{name.removeprefix('org.')}-{number}")
        for name, both in DOCUMENTS.items()
        for number, document in enumerate(both[index])
    ]


@pytest.mark.parametrize(("name", "document"), cases(0))
def test_good_options_are_taken(name: str, document: dict[str, Any]) -> None:
    jsonschema.Draft4Validator(schema_of(name)).validate({"type": name, **document})


@pytest.mark.parametrize(("name", "document"), cases(1))
def test_bad_options_are_refused(name: str, document: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft4Validator(schema_of(name)).validate({"type": name, **document})


@pytest.mark.parametrize(("name", "document"), [(name, both[0][0]) for name, both in DOCUMENTS.items()])
def test_unknown_keys_are_refused(name: str, document: dict[str, Any]) -> None:
    validator = jsonschema.Draft4Validator(schema_of(name))
    assert not validator.is_valid({"type": name, **document, "unknown": 1})
    if name != "org.osbuild.noop":
        assert not validator.is_valid({"type": name, **document, "options": {**document["options"], "unknown": 1}})


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_programs_of_the_sandbox_are_in_the_language_of_old_build_roots(program: Path) -> None:
    source = program.read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 6))
    imported = {
        alias.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {(node.module or "").partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    # upstream's own osbuild.util.types is about typing, and nothing on the way of a stage imports it
    deferred = {"typing"} if program.name != "types.py" else set()
    assert not imported & {"kiln", "kiln_wire", "jsonschema", "httpx", "dataclasses", *deferred}
