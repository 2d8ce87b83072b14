"""Bad input and bad surroundings: one clear error each, the documented status, and nothing half-written."""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from road_kiln import RECIPE, Kiln

from kiln.fetch.apt_sources import apt_mirrors


def write_recipe(kiln: Kiln, **changes: object) -> str:
    (kiln.directory / "recipe.json").write_text(json.dumps({**RECIPE, **changes}, indent=1))
    return "recipe.json"


def test_a_sentence_with_nothing_in_it(kiln: Kiln) -> None:
    error = kiln.refusal("build", "   ")
    assert (error["reason"], error["exitStatus"]) == ("empty-request", 2)
    error = kiln.refusal("build", "xyzzy plugh")
    assert (error["reason"], error["exitStatus"]) == ("nothing-understood", 2)
    assert error["hint"]


def test_an_unknown_feature_gets_a_suggestion(kiln: Kiln) -> None:
    error = kiln.refusal("build", write_recipe(kiln, features=["dokcer"]))
    assert (error["reason"], error["exitStatus"]) == ("unknown-feature", 2)
    assert "docker" in error["hint"] + error["message"]
    assert not (kiln.directory / "images").exists()


def test_an_unknown_key_gets_its_place_and_a_suggestion(kiln: Kiln) -> None:
    (kiln.directory / "recipe.json").write_text('{\n  "base": "debian-12",\n  "featurs": ["ssh"]\n}\n')
    error = kiln.refusal("build", "recipe.json")
    assert (error["reason"], error["exitStatus"]) == ("unknown-key", 2)
    assert (error["place"]["line"], error["place"]["column"]) == (3, 3)
    assert "features" in error["hint"] + error["message"]


def test_conflicting_features_name_both(kiln: Kiln) -> None:
    error = kiln.refusal("build", write_recipe(kiln, features=["nginx", "apache"]))
    assert error["exitStatus"] == 2
    assert "nginx" in error["message"] + error["detail"]
    assert "apache" in error["message"] + error["detail"]


def test_a_recipe_that_is_not_there(kiln: Kiln) -> None:
    error = kiln.refusal("build", "missing.json")
    assert (error["reason"], error["exitStatus"]) == ("no-recipe", 3)


def test_an_image_that_is_not_there(kiln: Kiln) -> None:
    assert kiln.refusal("verify", "nothing")["exitStatus"] == 3


def test_settings_with_an_unknown_key(kiln: Kiln) -> None:
    (kiln.directory / "kiln.toml").write_text('mirrrors = "x"\n')
    error = kiln.refusal("describe", "ssh server")
    assert (error["reason"], error["exitStatus"]) == ("bad-settings", 2)


def test_a_mirror_that_is_down(mirrors_nowhere: Kiln) -> None:
    error = mirrors_nowhere.refusal("build", write_recipe(mirrors_nowhere))
    assert (error["domain"], error["reason"], error["exitStatus"]) == ("fetch", "mirror-down", 5)
    assert error["retriable"]
    assert not (mirrors_nowhere.directory / "images/small/kiln.lock").exists()


def test_a_failed_run_is_recorded(mirrors_nowhere: Kiln) -> None:
    mirrors_nowhere.refusal("build", write_recipe(mirrors_nowhere))
    (record,) = mirrors_nowhere.json("records", "list", "--json")
    assert record["run"]["verdict"] == "error"
    assert record["run"]["error"]["reason"] == "mirror-down"


@pytest.fixture
def lying_mirrors(kiln: Kiln) -> Iterator[Kiln]:
    """Mirrors that pass the machine's own on, but change a byte in every package."""
    upstream = apt_mirrors()

    class Liar(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, _, path = self.path.lstrip("/").partition("/")
            try:
                with urllib.request.urlopen(f"{upstream[name][0]}/{path}") as answer:
                    data = bytearray(answer.read())
            except urllib.error.HTTPError as error:
                self.send_error(error.code)
                return
            if path.endswith(".deb"):
                data[len(data) // 2] ^= 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Liar) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        lines = [f'{name} = ["http://127.0.0.1:{server.server_port}/{name}"]' for name in upstream]
        (kiln.directory / "kiln.toml").write_text("\n".join(["[mirrors]", *lines, ""]))
        yield kiln
        server.shutdown()


@pytest.mark.network
@pytest.mark.root
def test_a_mirror_that_serves_changed_packages(lying_mirrors: Kiln) -> None:
    error = lying_mirrors.refusal("build", write_recipe(lying_mirrors))
    assert (error["reason"], error["exitStatus"]) == ("wrong-digest", 5)
    assert ".deb" in error["message"]
    files = lying_mirrors.state / "store/sources/org.osbuild.files"
    assert [path for path in files.iterdir() if not path.name.startswith("sha256:")] == []


@pytest.mark.network
def test_a_disk_that_is_too_small(kiln: Kiln) -> None:
    error = kiln.refusal("build", write_recipe(kiln, features=["docker", "postgresql"], disk={"size": "1G"}))
    assert (error["reason"], error["exitStatus"]) == ("disk-too-small", 2)


def in_namespace(script: str) -> list[str]:
    """Return a wrapper that runs a command after *script* in a mount namespace of its own."""
    return ["unshare", "--mount", "sh", "-ec", f'{script}; exec "$@"', "sh"]


@pytest.mark.root
def test_a_host_without_bubblewrap(kiln: Kiln) -> None:
    hidden = in_namespace("mount --bind /dev/null /usr/bin/bwrap")
    done = kiln.run("doctor", "--json", wrapper=hidden)
    assert done.returncode == 5
    missing = [item for item in json.loads(done.stdout)["findings"] if item["status"] == "missing"]
    assert [item["name"] for item in missing] == ["bwrap"]
    assert "bubblewrap" in missing[0]["hint"]


@pytest.mark.root
@pytest.mark.network
def test_a_missing_tool_is_named_with_its_package(kiln: Kiln) -> None:
    error = kiln.refusal("build", write_recipe(kiln), wrapper=in_namespace("mount --bind /dev/null /usr/bin/bwrap"))
    assert (error["reason"], error["exitStatus"]) == ("missing-tool", 5)
    assert "bubblewrap" in error["hint"]


@pytest.mark.root
@pytest.mark.network
@pytest.mark.parametrize("megabytes", [8, 90, 400])
def test_no_space_left(kiln: Kiln, megabytes: int) -> None:
    """At the indexes, at the packages, and at the trees."""
    kiln.state.mkdir()
    tmpfs = in_namespace(f"mount -t tmpfs -o size={megabytes}m none {kiln.state}")
    error = kiln.refusal("build", write_recipe(kiln), wrapper=tmpfs)
    assert (error["reason"], error["exitStatus"]) == ("no-space", 5)
    assert not list((kiln.directory / "images").rglob("small.*"))


@pytest.mark.root
def test_two_runs_on_one_image_directory(kiln: Kiln, tmp_path: Path) -> None:
    recipe = write_recipe(kiln)
    stuck = tmp_path / "kiln.toml"
    # A mirror that accepts connections and never answers keeps the first run where it is.
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        stuck.write_text(
            f'[mirrors]\ndebian = ["http://127.0.0.1:{server.server_port}/debian"]\n'
            f'debian-security = ["http://127.0.0.1:{server.server_port}/x"]\n'
        )
        with subprocess.Popen(
            kiln.command("build", recipe, "--progress", "plain"),
            cwd=kiln.directory,
            env=kiln.environment(),
            stderr=subprocess.PIPE,
            text=True,
        ) as first:
            assert first.stderr is not None
            for line in first.stderr:
                if line.startswith("-> lock"):
                    break
            error = kiln.refusal("build", recipe)
            first.terminate()
            first.stderr.read()
        assert first.returncode == 130
    assert (error["reason"], error["exitStatus"]) == ("busy", 5)
