"""libdir/osbuild: the names that osbuild's own programs import, for every Python of a build root."""

from __future__ import annotations

import ast
import hashlib
import importlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
LIBDIR = REPOSITORY / "libdir"

NAMES = {
    "osbuild.api": "arguments metadata exception_handler exception",
    "osbuild.host": "Service ServiceProtocol ProtocolError RemoteError",
    "osbuild.inputs": "InputService",
    "osbuild.objectstore": "StoreClient",
    "osbuild.devices": "DeviceService",
    "osbuild.mounts": "MountService FileSystemMountService",
    "osbuild.sources": "SourceService SourceResults SourceItemResult",
    "osbuild.loop": "Loop LoopControl LoopInfo LoopConfig UnexpectedDevice",
    "osbuild.remoteloop": "LoopClient",
    "osbuild.util.checksum": "verify_file",
    "osbuild.util.chroot": "Chroot",
    "osbuild.util.containers": "parse_containers_input container_source is_manifest_list merge_manifest",
    "osbuild.util.ctx": "suppress_oserror",
    "osbuild.util.host": "get_container_storage",
    "osbuild.util.jsoncomm": "Socket FdSet",
    "osbuild.util.linux": "ioctl_get_immutable ioctl_toggle_immutable ioctl_blockdev_flushbuf fcntl_flock proc_boot_id",
    "osbuild.util.lorax": "Script render_template brace_expand brace_expand_line",
    "osbuild.util.lvm2": "Disk Metadata",
    "osbuild.util.makeefi": "find_efi_source_paths find_efi_vendor_dir_name mkefidir mkefiboot",
    "osbuild.util.mnt": "mount umount MountGuard MountPermissions",
    "osbuild.util.osrelease": "parse_files describe_os DEFAULT_PATHS",
    "osbuild.util.bls": "options_append",
    "osbuild.util.ostree": "cli rev_parse show pull_local parse_input_commits deployment_path Treefile PasswdLike",
    "osbuild.util.rhsm": "Subscriptions",
    "osbuild.util.parsing": "parse_size parse_location parse_location_into_parts",
    "osbuild.util.pe32p": "read_coff_header read_optional_header iter_sections read_sections SectionFlags",
    "osbuild.util.replace": "replace rglob",
    "osbuild.util.path": "in_tree join_abs ensure_glob clamp_mtime",
    "osbuild.util.runners": "ldconfig sysusers tmpfiles nsswitch sequoia quirks create_machine_id_if_needed",
    "osbuild.util.selinux": "parse_config config_get_policy setfiles getfilecon setfilecon XATTR_NAME_SELINUX",
    "osbuild.util.toml": "load_from_file dump_to_file",
    "osbuild.util.types": "PathLike",
    "osbuild.util.udev": "UdevInhibitor",
}


@pytest.fixture(autouse=True)
def runtime(monkeypatch):
    monkeypatch.syspath_prepend(str(LIBDIR))
    known = [name for name in sys.modules if name.partition(".")[0] == "osbuild"]
    for name in known:
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "osbuild"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_names_are_there(name):
    module = importlib.import_module(name)
    assert [word for word in NAMES[name].split() if not hasattr(module, word)] == []


@pytest.mark.parametrize("path", sorted((LIBDIR / "osbuild").rglob("*.py")), ids=lambda path: path.stem)
def test_it_is_python_3_6(path):
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 6))


def test_what_stages_import_first_is_light():
    code = "import sys, osbuild.api; print(len(sys.modules), 'asyncio' in sys.modules, 'subprocess' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(LIBDIR)}, capture_output=True, text=True, check=True
    )
    count, asyncio, subprocess_ = done.stdout.split()
    assert (int(count) < 80, asyncio, subprocess_) == (True, "False", "False")


def test_sockets_carry_documents_of_any_size_and_descriptors():
    jsoncomm = importlib.import_module("osbuild.util.jsoncomm")
    ours, theirs = jsoncomm.Socket.new_pair()
    reading, writing = os.pipe()
    with ours, theirs:
        for document in ({"a": "x" * 10}, {"a": "é" * 5000}, {"a": "y" * 3_000_000}):
            ours.send(document, fds=[writing])
            got, fds, _ = theirs.recv()
            assert got == document
            assert len(fds) == 1
            os.write(fds[0], b"1")
            taken = fds.steal(0)
            with pytest.raises(IndexError):
                fds[0]
            os.close(taken)
        ours.close()
        assert theirs.recv()[0] is None
    assert os.read(reading, 10) == b"111"
    os.close(reading)
    os.close(writing)


def test_a_listener_takes_its_address_with_it(tmp_path):
    jsoncomm = importlib.import_module("osbuild.util.jsoncomm")
    with jsoncomm.Socket.new_server(tmp_path / "s") as server:
        server.listen()
        server.blocking = False
        assert server.accept() is None
        client = jsoncomm.Socket.new_client(tmp_path / "s")
        peer = server.accept()
        client.send(1)
        assert peer.recv()[0] == 1
        peer.close()
        client.close()
    assert not (tmp_path / "s").exists()


def test_in_tree_answers_both_ways_of_asking(tmp_path):
    path = importlib.import_module("osbuild.util.path")
    assert path.in_tree(str(tmp_path), "/a/b") == f"{tmp_path}/a/b"
    assert path.in_tree("/run/osbuild/tree/a", "/run/osbuild/tree") is True
    assert path.in_tree("/run/osbuild/tree/../x", "/run/osbuild/tree") is False
    assert path.in_tree("/run/osbuild/treehouse", "/run/osbuild/tree") is False
    assert path.in_tree("/run/osbuild/tree/a", "/run/osbuild/tree", must_exist=True) is False
    assert path.join_abs("/r", "/a", "b/../c") == "/r/a/c"
    (tmp_path / "x").write_text("")
    path.clamp_mtime(str(tmp_path), 0, 5)
    assert (tmp_path / "x").stat().st_mtime == tmp_path.stat().st_mtime == 5
    with pytest.raises(ValueError, match="0 names"):
        path.ensure_glob(f"{tmp_path}/*.none")


def test_small_helpers(tmp_path):
    checksum = importlib.import_module("osbuild.util.checksum")
    file = tmp_path / "f"
    file.write_bytes(b"xyz")
    assert checksum.verify_file(str(file), f"sha256:{hashlib.sha256(b'xyz').hexdigest()}")
    assert not checksum.verify_file(str(file), "md5:" + "0" * 32)
    parsing = importlib.import_module("osbuild.util.parsing")
    sizes = [parsing.parse_size(text) for text in ("7", "1 kB", "2KiB", "3 GB", "1TiB", "unlimited")]
    assert sizes == [7, 1000, 2048, 3 * 1000**3, 1024**4, "unlimited"]
    with pytest.raises(TypeError):
        parsing.parse_size("1 parsec")
    release = importlib.import_module("osbuild.util.osrelease")
    file.write_text('# x\nID=ubuntu\nVERSION_ID="24.04"\n')
    assert release.describe_os(str(tmp_path / "none"), str(file)) == "ubuntu2404"
    ostree = importlib.import_module("osbuild.util.ostree")
    file.write_text("root:x:0\nbin:x:1\n")
    users = ostree.PasswdLike.from_file(str(file))
    file.write_text("root:y:0\nnew:x:2\n")
    users.merge_with_file(str(file))
    assert list(users.db.values()) == ["root:x:0\n", "bin:x:1\n", "new:x:2\n"]
    ids = ostree.SubIdsDB()
    ids.read(io.StringIO("a:1:2\n# c\n"))
    assert ids.dumps() == "a:1:2\n"
    tree = ostree.Treefile()
    with pytest.raises(ValueError, match="no value"):
        tree["selinux"] = "yes"
    with tree.as_tmp_file() as name:
        assert json.loads(Path(name).read_text())["repos"] == ["osbuild"]
    selinux = importlib.import_module("osbuild.util.selinux")
    config = selinux.parse_config(io.StringIO("# c\nSELINUX=enforcing\nSELINUXTYPE = targeted\n"))
    assert selinux.config_get_policy(config) == "targeted"
    bls = importlib.import_module("osbuild.util.bls")
    entry = tmp_path / "boot/loader/entries/a.conf"
    entry.parent.mkdir(parents=True)
    entry.write_text("title x\noptions a=1\n")
    bls.options_append(str(tmp_path), ["b", "c=2"])
    assert entry.read_text() == "title x\noptions a=1 b c=2\n"
    rhsm = importlib.import_module("osbuild.util.rhsm")
    text = "[a]\nbaseurl = https://x.invalid/$releasever/os\nsslcacert = /c\nsslclientkey = /k\nsslclientcert = /t\n"
    found = rhsm.Subscriptions.parse_repo_file(io.StringIO(text))
    assert found.get_secrets("https://x.invalid/9/os/p.rpm")["ssl_client_key"] == "/k"
    with pytest.raises(RuntimeError, match="no subscription"):
        found.get_secrets("https://y.invalid/")
    udev = importlib.import_module("osbuild.util.udev")
    inhibitor = udev.UdevInhibitor.for_device(7, 1, lockdir=str(tmp_path / "l"))
    assert inhibitor.active
    inhibitor.release()
    assert list((tmp_path / "l").iterdir()) == []


@pytest.mark.root
def test_container_images_are_inputs(make_engine, manifest, store, read):
    id_ = "sha256:" + "1" * 64
    image = store.files.parent / "org.osbuild.containers" / id_ / "image"
    image.mkdir(parents=True)
    (image / "version").write_text("dir")
    entry = {"type": "org.osbuild.containers", "references": {id_: {"name": "x"}}, "origin": "org.osbuild.source"}
    other = {
        "type": "org.osbuild.containers",
        "references": {"name:first": {"name": "y"}},
        "origin": "org.osbuild.pipeline",
    }
    text = (
        "i = args['inputs']['one']\n"
        f"assert i['data'] == {{'archives': {{'{id_}': {{'format': 'dir', 'name': 'x'}}}}}}, i\n"
        f"a = open(i['path'] + '/{id_}/version').read()\n"
        "i = args['inputs']['two']\n"
        "assert i['data'] == {'archives': {'a.tar': {'format': 'oci-archive', 'name': 'y'}}}, i\n"
        "open(tree + '/out', 'w').write(a + open(i['path'] + '/a.tar').read())"
    )
    stage = {
        "type": "org.kiln.test.script",
        "options": {"script": text},
        "inputs": {"one": entry, "two": other},
    }
    # The source is of a kind that the store has from elsewhere: nothing is to be fetched.
    fake = {"org.kiln.test.images": {"items": {id_: {}}}}
    path = make_engine()._modules.libdir / "sources/org.kiln.test.images"
    path.write_text(
        "#!/usr/bin/python3\nimport sys\nfrom osbuild import sources\n"
        "class T(sources.SourceService):\n"
        "    content_type = 'org.osbuild.containers'\n"
        "    def fetch_one(self, checksum, desc): pass\n"
        "    def fetch_all(self, items): return sources.SourceResults('x').as_dict()\n"
        "T.from_args(sys.argv[1:]).main()\n"
    )
    path.chmod(0o755)
    path.with_name(f"{path.name}.meta.json").write_text('{"summary": "", "description": [], "schema": {}}')
    document = manifest(fake, first=["open(tree + '/a.tar', 'w').write('tar')"], second={"stages": [stage]})
    engine = make_engine()
    assert read(engine.build(engine.load(document), ["second"]).objects["second"], "out") == "dirtar"
