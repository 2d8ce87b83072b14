"""Format 1, format 2 and the hybrid: what they mean, their ids, and their assemblers."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from kiln.engine.execution.model import StageFailedError
from kiln.engine.manifest.formats import normalise
from kiln.engine.manifest.load import load
from kiln.engine.manifest.modules import Modules
from kiln.engine.manifest.validate import InvalidManifestError, validate
from kiln.errors import KilnError

NOOP = "beda46704765a47e6d4f44aff22168ae36866c9c0e6e11552b775b77776b2969"
UUID = "12345678-1234-1234-1234-123456789012"
FORMAT_1 = {
    "pipeline": {
        "build": {
            "pipeline": {"stages": [{"name": "org.osbuild.noop"}]},
            "runner": "org.osbuild.linux",
        },
        "stages": [{"name": "org.osbuild.noop", "options": {"a": 1}}],
        "assembler": {"name": "org.osbuild.tar", "options": {"filename": "x.tar"}},
    },
    "sources": {"org.osbuild.files": {"urls": {"sha256:" + "0" * 64: "http://x.invalid/"}}},
}


def digest(*parts):
    return hashlib.sha256(b"".join(json.dumps(part, sort_keys=True).encode() for part in parts)).hexdigest()


def test_format_1_has_osbuilds_names_order_and_ids():
    plan = load(FORMAT_1)
    tree = digest("org.osbuild.noop", NOOP, None, {"a": 1})
    reading = digest("org.osbuild.tree", "org.osbuild.pipeline", {tree: {}}, {})
    assembled = digest("org.osbuild.tar", NOOP, None, {"filename": "x.tar"}, {"tree": reading})
    assert [(pipeline.name, pipeline.id, pipeline.build, pipeline.runner) for pipeline in plan.pipelines] == [
        ("build", NOOP, None, "org.osbuild.linux"),
        ("tree", tree, "build", None),
        ("assembler", assembled, "build", None),
    ]
    assert [plan.runner_for(pipeline) for pipeline in plan.pipelines] == [None, *["org.osbuild.linux"] * 2]
    assert plan.pipelines[2].stages[0].kind == "Assembler"
    assert [source.type for source in plan.sources] == ["org.osbuild.curl"]
    assert plan.format == "1"


def test_nested_build_pipelines_are_named_by_their_depth():
    inner = {"pipeline": {"stages": [{"name": "a"}]}, "runner": "r2"}
    middle = {"pipeline": {"build": inner, "stages": [{"name": "b"}]}, "runner": "r1"}
    plan = load({"pipeline": {"build": middle, "stages": [{"name": "c"}]}})
    assert [(pipeline.name, pipeline.runner) for pipeline in plan.pipelines] == [
        ("build-build", "r2"),
        ("build", "r1"),
        ("tree", None),
    ]
    assert [plan.runner_for(pipeline) for pipeline in plan.pipelines] == [None, "r2", "r1"]


def test_the_smallest_manifest_is_one_of_format_1(tmp_path):
    assert [pipeline.name for pipeline in load({}).pipelines] == ["tree"]


def test_packages_and_commits_of_format_1_are_inputs():
    name = "sha256:" + "0" * 64
    packages = [name, {"checksum": name, "check_gpg": True}]
    document = {
        "pipeline": {"stages": [{"name": "org.osbuild.rpm", "options": {"packages": packages}}]},
        "sources": FORMAT_1["sources"],
    }
    (entry,) = load(document).pipelines[0].stages[0].inputs
    assert (entry.name, entry.type) == ("packages", "org.osbuild.files")
    assert entry.references == {name: {"metadata": {"rpm.check_gpg": True}}}
    document = {
        "pipeline": {"stages": [{"name": "org.osbuild.ostree", "options": {"commit": "ab", "ref": "r"}}]},
        "sources": {"org.osbuild.ostree": {"commits": {"ab": {}}}},
    }
    (entry,) = load(document).pipelines[0].stages[0].inputs
    assert (entry.name, entry.type, entry.references) == ("commits", "org.osbuild.ostree", {"ab": {"ref": "r"}})


def test_the_hybrid_is_format_2_with_other_words():
    hybrid = {
        "version": "2",
        "pipelines": [{"name": "os", "stages": [{"name": "org.osbuild.noop"}, {"type": "org.osbuild.noop"}]}],
        "assembler": {"name": "org.osbuild.tar", "options": {"filename": "x"}},
    }
    plan = load(hybrid)
    assert [pipeline.name for pipeline in plan.pipelines] == ["os", "assembler"]
    assert plan.pipelines[0].stages[0].id == NOOP
    assert plan.pipelines[1].stages[0].inputs[0].pipelines == ("os",)
    plain = {"version": "2", "pipelines": [{"name": "os", "stages": [{"type": "org.osbuild.noop"}]}]}
    assert normalise(plain) is plain


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"version": "2", "assembler": {"name": "x"}}, "needs a pipeline"),
        ({"version": "2", "pipelines": [{"name": "p"}], "assembler": {"name": "x"}}, "needs a tree"),
        (
            {
                "version": "2",
                "pipelines": [{"name": "assembler", "stages": [{"type": "a"}]}],
                "assembler": {"name": "x"},
            },
            "already",
        ),
        ({"sources": {"org.osbuild.inline": {"items": {}}}}, "Unknown source type"),
    ],
)
def test_assemblers_and_sources_that_cannot_be_are_refused(document, words):
    with pytest.raises(KilnError) as caught:
        load(document)
    assert words in caught.value.message
    assert caught.value.exit_status == 2


def test_every_module_of_format_1_is_checked_at_its_place(libdir):
    document = {
        "pipeline": {
            "build": {"pipeline": {"stages": [{"name": "no.such"}]}, "runner": "r"},
            "stages": [{"name": "org.kiln.test.script", "options": {}}, {"name": "org.osbuild.noop", "inputs": {}}],
            "assembler": {"name": "org.osbuild.tar", "options": {"compression": "zip"}},
        },
        "more": 1,
    }
    with pytest.raises(InvalidManifestError) as caught:
        validate(document, Modules(libdir))
    assert [(finding.id, finding.message.split(",")[0]) for finding in caught.value.findings] == [
        (".", "Additional properties are not allowed ('more' was unexpected)"),
        (".pipeline.assembler.options", "'filename' is a required property"),
        (".pipeline.assembler.options.compression", "'zip' is not one of ['bzip2'"),
        (".pipeline.build.pipeline.stages[0]", "could not find schema information for 'no.such'"),
        (".pipeline.stages[1]", "Additional properties are not allowed ('inputs' was unexpected)"),
    ]


def test_the_assembler_of_a_hybrid_is_checked(libdir):
    document = {"version": "2", "pipelines": [], "assembler": {"options": {}}}
    with pytest.raises(InvalidManifestError) as caught:
        validate(document, Modules(libdir))
    assert [(finding.id, finding.message) for finding in caught.value.findings] == [
        (".assembler", "'name' is a required property")
    ]


def assemble(make_engine, name, options, *, files=1, kind="hybrid"):
    script = "os.makedirs(tree + '/boot/efi')\n"
    script += "".join(
        f"open(tree + '/f{n}', 'w').write('{n}' * 1000); os.chown(tree + '/f{n}', 7, 8)\n" for n in range(files)
    )
    stage = {"name": "org.kiln.test.script", "options": {"script": script}}
    assembler = {"name": name, "options": options}
    document = {"version": "2", "pipelines": [{"name": "os", "stages": [stage]}], "assembler": assembler}
    if kind == "1":
        document = {"pipeline": {"stages": [stage], "assembler": assembler}}
    engine = make_engine()
    return engine, engine.build(engine.load(document), ["assembler"]).objects["assembler"]


@pytest.mark.root
@pytest.mark.parametrize("kind", ["hybrid", "1"])
def test_tar_assembles_the_tree(make_engine, tmp_path, kind):
    engine, ref = assemble(make_engine, "org.osbuild.tar", {"filename": "x.tgz", "compression": "gzip"}, kind=kind)
    engine.export(ref, tmp_path / "out")
    done = subprocess.run(
        ["tar", "-tvzf", tmp_path / "out/x.tgz", "--numeric-owner"], capture_output=True, text=True, check=True
    )
    lines = {line.split()[-1]: line.split()[1] for line in done.stdout.splitlines()}
    assert lines == {"./": "0/0", "./boot/": "0/0", "./boot/efi/": "0/0", "./f0": "7/8"}


@pytest.mark.root
def test_error_and_noop_do_what_they_say(make_engine, store):
    with pytest.raises(StageFailedError) as caught:
        assemble(make_engine, "org.osbuild.error", {"returncode": 3})
    assert "status 3" in caught.value.message
    _, ref = assemble(make_engine, "org.osbuild.noop", {})
    with store.mounted(ref) as tree:
        assert list(tree.iterdir()) == []


@pytest.mark.root
def test_rawfs_makes_a_file_system_with_the_tree(make_engine, tmp_path):
    options = {"filename": "x.img", "root_fs_uuid": UUID, "size": 16 << 20}
    engine, ref = assemble(make_engine, "org.osbuild.rawfs", options)
    engine.export(ref, tmp_path)
    image = tmp_path / "x.img"
    assert image.stat().st_size == 16 << 20
    subprocess.run(["e2fsck", "-fn", image], check=True, capture_output=True)
    done = subprocess.run(["debugfs", "-R", "stat /f0", image], capture_output=True, text=True, check=True)
    assert "User:     7   Group:     8" in done.stdout
    assert UUID in subprocess.run(["blkid", image], capture_output=True, text=True, check=True).stdout


@pytest.mark.root
@pytest.mark.parametrize("short", [False, True])
def test_qemu_makes_a_partitioned_disk_with_the_tree(make_engine, tmp_path, short):
    if short:
        # The spelling of shared manifests: bytes, and the file system as the type.
        first = {"name": "boot", "start": 1 << 20, "size": 8 << 20, "type": "ext4", "mountpoint": "/boot"}
        second = {"name": "root", "start": 9 << 20, "size": 22 << 20, "type": "ext4", "mountpoint": "/"}
        options = {"format": "qcow2", "filename": "d", "size": "32M", "ptuuid": UUID, "partitions": [first, second]}
    else:
        options = {"format": "raw", "filename": "d", "size": 32 << 20, "ptuuid": "0x14fc63d2", "root_fs_uuid": UUID}
    engine, ref = assemble(make_engine, "org.osbuild.qemu", options, files=2)
    engine.export(ref, tmp_path)
    info = json.loads(
        subprocess.run(["qemu-img", "info", "--output=json", tmp_path / "d"], capture_output=True, check=True).stdout
    )
    assert (info["format"], info["virtual-size"]) == (options["format"], 32 << 20)
    subprocess.run(["qemu-img", "convert", "-O", "raw", tmp_path / "d", tmp_path / "raw"], check=True)
    table = json.loads(subprocess.run(["sfdisk", "--json", tmp_path / "raw"], capture_output=True, check=True).stdout)
    parts = table["partitiontable"]["partitions"]
    assert (table["partitiontable"]["label"], len(parts)) == (("gpt", 2) if short else ("dos", 1))
    last = Path(tmp_path / "last")
    with (tmp_path / "raw").open("rb") as file:
        file.seek(parts[-1]["start"] * 512)
        last.write_bytes(file.read(parts[-1]["size"] * 512))
    subprocess.run(["e2fsck", "-fn", last], check=True, capture_output=True)
    done = subprocess.run(["debugfs", "-R", "stat /f1", last], capture_output=True, text=True, check=True)
    assert "Size: 1000" in done.stdout


@pytest.mark.root
def test_an_oci_archive_holds_the_tree_as_its_layer(make_engine, tmp_path):
    options = {"architecture": "amd64", "filename": "x.oci", "config": {"Cmd": ["/bin/sh"], "Volumes": ["/data"]}}
    engine, ref = assemble(make_engine, "org.osbuild.oci-archive", options)
    engine.export(ref, tmp_path)
    subprocess.run(["tar", "-xf", tmp_path / "x.oci", "-C", tmp_path], check=True)

    def blob(entry):
        path = tmp_path / "blobs/sha256" / entry["digest"].removeprefix("sha256:")
        data = path.read_bytes()
        assert (len(data), f"sha256:{hashlib.sha256(data).hexdigest()}") == (entry["size"], entry["digest"])
        return data

    assert json.loads((tmp_path / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads((tmp_path / "index.json").read_text())["manifests"]
    manifest = json.loads(blob(entry))
    config = json.loads(blob(manifest["config"]))
    assert config["config"] == {"Cmd": ["/bin/sh"], "Volumes": {"/data": {}}}
    assert manifest["layers"][0]["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
    layer = gzip.decompress(blob(manifest["layers"][0]))
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        assert sorted(archive.getnames()) == [".", "./boot", "./boot/efi", "./f0"]


@pytest.mark.root
@pytest.mark.skipif(shutil.which("ostree") is not None, reason="for hosts without ostree")
def test_an_assembler_whose_tool_is_missing_names_it(make_engine):
    with pytest.raises(StageFailedError) as caught:
        assemble(make_engine, "org.osbuild.ostree.commit", {"repository": "r", "branch": "b"})
    assert "`ostree` is missing in its build root, the host" in caught.value.hint


@pytest.mark.root
@pytest.mark.skipif(shutil.which("ostree") is None, reason="needs ostree")
def test_a_commit_is_in_the_repository(make_engine, tmp_path):
    engine, ref = assemble(make_engine, "org.osbuild.ostree.commit", {"ref": "b"})
    engine.export(ref, tmp_path)
    commit = json.loads((tmp_path / "compose.json").read_text())["ostree-commit"]
    listed = subprocess.run(
        ["ostree", f"--repo={tmp_path}/repo", "ls", commit], capture_output=True, text=True, check=True
    )
    assert "/f0" in listed.stdout
