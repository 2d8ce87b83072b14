"""A small image in an OCI layout, and a real registry on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from kiln.artifact.oci.layout import open_layout
from kiln.artifact.oci.model import image_manifest
from kiln_wire.canonical import canonical_json
from kiln_wire.digest import Digest
from kiln_wire.oci import MANIFEST, Descriptor

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def make_layout(directory: Path, *, content: bytes = b"layer" * 5000, tag: str = "1") -> Digest:
    with open_layout(directory, create=True) as layout:
        config = canonical_json(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(content))]},
            }
        )
        for data in (config, content):
            layout.push_blob(data, Digest.of(data))
        data = image_manifest(
            Descriptor(CONFIG, Digest.of(config), len(config)), [Descriptor(LAYER, Digest.of(content), len(content))]
        )
        return layout.push_manifest(data, MANIFEST, tag).digest


@contextmanager
def registry(directory: Path) -> Iterator[str]:
    """Run Debian's docker-registry; yields `127.0.0.1:port`."""
    program = shutil.which("docker-registry")
    assert program is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {directory}/data}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
    )
    command = [program, "serve", str(directory / "config.yml")]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OTEL_TRACES_EXPORTER": "none"})
    try:
        while True:
            assert process.poll() is None, (directory / "log").read_text()
            try:
                httpx.get(f"http://127.0.0.1:{port}/v2/")
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
