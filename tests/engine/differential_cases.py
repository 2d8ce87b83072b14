"""Manifests that osbuild's engine and ours are both given: one for each thing that the contract promises."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any, Final

EPOCH: Final = 1_700_000_000
UUID: Final = "5d0e1c52-6a5f-4d1b-9c0e-1f0f6b1b7a11"

TEXT: Final = b"a file of the manifest\n"
TEXT_ID: Final = f"sha256:{hashlib.sha256(TEXT).hexdigest()}"
OTHER: Final = b"\x00\xff other bytes"
OTHER_ID: Final = f"sha256:{hashlib.sha256(OTHER).hexdigest()}"


@dataclass(frozen=True)
class Case:
    """A manifest and how it is built; *trees* says whether the exported trees are compared, byte for byte."""

    name: str
    manifest: Any
    exports: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    trees: bool = True
    twice: bool = False


def stage(type_: str, options: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"type": type_, **({} if options is None else {"options": options}), **more}


def pipeline(name: str, *stages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "stages": list(stages), **more}


def manifest(*pipelines: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"version": "2", "pipelines": list(pipelines), **more}


def inline(*contents: bytes) -> dict[str, Any]:
    items = {
        f"sha256:{hashlib.sha256(data).hexdigest()}": {"encoding": "base64", "data": base64.b64encode(data).decode()}
        for data in contents
    }
    return {"org.osbuild.inline": {"items": items}}


def files(*references: str, origin: str = "org.osbuild.source") -> dict[str, Any]:
    return {"type": "org.osbuild.files", "origin": origin, "references": list(references)}


def tree(name: str) -> dict[str, Any]:
    return {"type": "org.osbuild.tree", "origin": "org.osbuild.pipeline", "references": [f"name:{name}"]}


def mkdir(*paths: str, **more: Any) -> dict[str, Any]:
    return stage("org.osbuild.mkdir", {"paths": [{"path": path, **more} for path in paths]})


NOOP: Final = stage("org.osbuild.noop")
LOOPBACK: Final = {"device": {"type": "org.osbuild.loopback", "options": {"filename": "disk.img"}}}
EXT4: Final = [{"name": "root", "type": "org.osbuild.ext4", "source": "device", "target": "/"}]
COPY_TEXT: Final = {"paths": [{"from": f"input://f/{TEXT_ID}", "to": "tree:///etc/text"}]}
OS: Final = pipeline(
    "os",
    mkdir("/etc", "/usr/lib/sysctl.d", "/usr/lib/tmpfiles.d", parents=True, mode=0o755),
    stage("org.osbuild.copy", COPY_TEXT, inputs={"f": files(TEXT_ID)}),
    stage("org.osbuild.machine-id", {"first-boot": "yes"}),
    stage("org.osbuild.sysctld", {"filename": "a.conf", "config": [{"key": "net.a", "value": "1"}, {"key": "-net.b"}]}),
    stage(
        "org.osbuild.tmpfilesd",
        {"filename": "t.conf", "config": [{"type": "d", "path": "/run/x", "mode": "0755", "age": "1d"}]},
    ),
    stage("org.osbuild.chmod", {"items": {"/etc/text": {"mode": "u=rw,go="}}}),
    **{"source-epoch": EPOCH},
)

# Not here: manifests that end osbuild with a traceback and not ours (a pipeline without stages beside others, format 1
# without stages or with a stage without a name), and what a second run repeats (we keep the result of every stage).
BUILDS: Final = [
    Case("noop", manifest(pipeline("a", NOOP)), ("a",)),
    Case(
        "options", manifest(pipeline("a", stage("org.osbuild.noop", {"x": [1, None, "ü😀"], "y": {"b": 1.5}}))), ("a",)
    ),
    Case("configuration", manifest(OS, sources=inline(TEXT)), ("os",)),
    Case("two-exports", manifest(pipeline("a", mkdir("/a")), pipeline("b", NOOP, mkdir("/b", mode=0o700))), ("a", "b")),
    Case("only-what-is-needed", manifest(pipeline("a", NOOP), pipeline("b", mkdir("/x"))), ("a",)),
    Case("nothing-to-export", manifest(pipeline("a", NOOP), sources=inline(TEXT))),
    Case(
        "tree-input",
        manifest(
            OS,
            pipeline("archive", stage("org.osbuild.tar", {"filename": "os.tar"}, inputs={"tree": tree("os")})),
            sources=inline(TEXT),
        ),
        ("archive",),
        trees=False,
    ),
    Case(
        "file-of-a-pipeline",
        manifest(
            OS,
            pipeline(
                "b",
                stage(
                    "org.osbuild.copy",
                    {"paths": [{"from": "input://i/etc/text", "to": "tree:///copied"}]},
                    inputs={
                        "i": {
                            "type": "org.osbuild.files",
                            "origin": "org.osbuild.pipeline",
                            "references": {"name:os": {"file": "/etc/text"}},
                        }
                    },
                ),
            ),
            sources=inline(TEXT),
        ),
        ("b",),
    ),
    Case(
        "untar",
        manifest(
            pipeline("a", mkdir("/d/e", parents=True), **{"source-epoch": EPOCH}),
            pipeline("t", stage("org.osbuild.tar", {"filename": "a.tar"}, inputs={"tree": tree("a")})),
            pipeline(
                "b",
                mkdir("/into"),
                stage(
                    "org.osbuild.untar",
                    {"prefix": "/into"},
                    inputs={
                        "file": {
                            "type": "org.osbuild.files",
                            "origin": "org.osbuild.pipeline",
                            "references": [{"id": "name:t", "options": {"file": "a.tar"}}],
                        }
                    },
                ),
                **{"source-epoch": EPOCH},
            ),
        ),
        ("b",),
    ),
    Case(
        "disk",
        manifest(
            pipeline(
                "image",
                stage("org.osbuild.truncate", {"filename": "disk.img", "size": "16M"}),
                stage("org.osbuild.mkfs.ext4", {"uuid": UUID, "label": "root"}, devices=LOOPBACK),
                stage(
                    "org.osbuild.copy",
                    {"paths": [{"from": f"input://f/{TEXT_ID}", "to": "mount://root/text"}]},
                    inputs={"f": files(TEXT_ID)},
                    devices=LOOPBACK,
                    mounts=EXT4,
                ),
            ),
            sources=inline(TEXT),
        ),
        ("image",),
        trees=False,
    ),
    Case(
        "metadata-member",
        manifest(pipeline("a", NOOP), metadata={"generators": [{"name": "g", "version": "1"}]}),
        ("a",),
    ),
    Case(
        "checkpoint",
        manifest(pipeline("a", NOOP, mkdir("/x"))),
        ("a",),
        ("--checkpoint", "a", "--cache-max-size", "1GiB"),
        twice=True,
    ),
    Case(
        "stage-checkpoint",
        manifest(pipeline("a", mkdir("/x"), NOOP)),
        ("a",),
        ("--checkpoint", "*mkdir", "--cache-max-size", "unlimited"),
    ),
    Case(
        "sandbox",
        manifest(
            pipeline("build", stage("org.osbuild.testing.show", {"in": "a host's root"})),
            pipeline(
                "a",
                mkdir("/disk"),
                stage("org.osbuild.truncate", {"filename": "disk.img", "size": "16M"}),
                stage("org.osbuild.mkfs.ext4", {"uuid": UUID}, devices=LOOPBACK),
                stage(
                    "org.osbuild.testing.show",
                    {"x": 1},
                    inputs={"f": files(TEXT_ID, OTHER_ID), "t": tree("build")},
                    devices=LOOPBACK,
                    mounts=EXT4,
                ),
                **{"source-epoch": EPOCH},
            ),
            sources=inline(TEXT, OTHER),
        ),
        ("a",),
        trees=False,
    ),
    Case("a-failing-stage", manifest(pipeline("a", NOOP, mkdir("/x/y"), NOOP)), ("a",)),
    Case(
        "a-failing-second-pipeline",
        manifest(
            pipeline("a", NOOP), pipeline("b", NOOP, mkdir("/x/y"), stage("org.osbuild.noop", inputs={"t": tree("a")}))
        ),
        ("b",),
    ),
    Case(
        "export-by-id",
        manifest(pipeline("a", NOOP)),
        ("beda46704765a47e6d4f44aff22168ae36866c9c0e6e11552b775b77776b2969",),
    ),
    Case(
        "format-1",
        {"pipeline": {"stages": [{"name": "org.osbuild.noop"}, {"name": "org.osbuild.noop", "options": {"a": 1}}]}},
        ("tree",),
    ),
    Case(
        "format-1-assembler",
        {"pipeline": {"stages": [{"name": "org.osbuild.noop"}], "assembler": {"name": "org.osbuild.noop"}}},
        ("assembler",),
    ),
    Case("unknown-export", manifest(pipeline("a", NOOP)), ("b",)),
    Case("unknown-checkpoint", manifest(pipeline("a", NOOP)), ("a",), ("--checkpoint", "zzz")),
]

REFUSED: Final = [
    Case("format-3", {"version": "3"}),
    Case("unknown-member", {"version": "2", "pipeline": {}}),
    Case("pipelines-not-a-list", {"version": "2", "pipelines": {}}),
    Case("unknown-stage", manifest(pipeline("a", stage("org.osbuild.does.not.exist")))),
    Case(
        "options-of-the-wrong-type", manifest(pipeline("a", stage("org.osbuild.truncate", {"filename": 1, "size": []})))
    ),
    Case(
        "unknown-option", manifest(pipeline("a", NOOP, stage("org.osbuild.hostname", {"hostname": "x", "domain": "y"})))
    ),
    Case("missing-option", manifest(pipeline("a", stage("org.osbuild.hostname", {})))),
    Case(
        "an-input-that-the-stage-has-not",
        manifest(pipeline("a", stage("org.osbuild.hostname", {"hostname": "a"}, inputs={"f": tree("a")}))),
    ),
    Case(
        "a-tree-of-two",
        manifest(
            pipeline(
                "a",
                stage(
                    "org.osbuild.tar",
                    {"filename": "x"},
                    inputs={"tree": {**tree("a"), "references": ["name:a", "name:b"]}},
                ),
            )
        ),
    ),
    Case(
        "unknown-input",
        manifest(
            pipeline(
                "a",
                stage(
                    "org.osbuild.noop",
                    inputs={"x": {"type": "org.x", "origin": "org.osbuild.source", "references": []}},
                ),
            )
        ),
    ),
    Case("unknown-device", manifest(pipeline("a", stage("org.osbuild.noop", devices={"d": {"type": "org.x"}})))),
    Case("unknown-mount", manifest(pipeline("a", stage("org.osbuild.noop", mounts=[{"name": "m", "type": "org.x"}])))),
    Case(
        "an-option-of-a-device",
        manifest(
            pipeline(
                "a",
                stage("org.osbuild.noop", devices={"d": {"type": "org.osbuild.loopback", "options": {"filename": 3}}}),
            )
        ),
    ),
    Case("unknown-source", manifest(pipeline("a", NOOP), sources={"org.x": {"items": {}}})),
    Case(
        "a-bad-checksum",
        manifest(
            pipeline("a", NOOP), sources={"org.osbuild.inline": {"items": {"x": {"encoding": "base64", "data": ""}}}}
        ),
    ),
    Case(
        "several-at-once",
        manifest(
            pipeline("a", stage("org.x"), stage("org.osbuild.hostname", {"a": 1})),
            pipeline("b", stage("org.x")),
            extra=1,
        ),
    ),
    Case("format-1-unknown-stage", {"pipeline": {"stages": [{"name": "org.x"}]}}),
    Case(
        "format-1-nested",
        {"pipeline": {"build": {"pipeline": {"stages": [{"name": "org.x"}]}, "runner": "org.osbuild.linux"}}},
    ),
    Case("format-1-assembler-options", {"pipeline": {"assembler": {"name": "org.osbuild.noop", "options": {"a": 1}}}}),
]

CASES: Final = [*BUILDS, *REFUSED]
