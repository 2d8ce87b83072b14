"""Every package that the catalogue names exists in the machine's own mirrors, for each Debian release."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kiln.authoring.catalog.data import catalog_folder, load_catalog
from kiln.authoring.catalog.entries import COMMON, Content
from kiln.authoring.lock.indexes import IndexReader
from kiln.authoring.lock.keyrings import Keyrings
from kiln.authoring.lock.packages import PackagesFile, Universe
from kiln.authoring.lock.release import Freshness
from kiln.events.model import NullSink
from kiln.fetch.client import Fetcher
from kiln.fetch.mirrors import Mirrors

pytestmark = [pytest.mark.network, pytest.mark.full]
CATALOG = load_catalog(catalog_folder({}))


def universe(base_id: str, cache: Path) -> Universe:
    entry = CATALOG.base(base_id)
    assert entry is not None
    more = {name for feature in CATALOG.features for names in dict(feature.components).values() for name in names}
    more &= {"contrib", "non-free", "non-free-firmware"}
    mirrors = tuple(replace(mirror, components=(*mirror.components, *sorted(more))) for mirror in entry.base.mirrors)
    with Fetcher(Mirrors.of_this_machine({}), NullSink()) as fetcher:
        reader = IndexReader(
            fetcher, Keyrings(), cache, NullSink(), datetime.now(UTC), freshness=Freshness(accept_expired=True)
        )
        return Universe(
            PackagesFile(file.data, mirror=index.signed.name.mirror, suite=index.signed.name.suite, path=file.path)
            for index in reader.read(mirrors, "amd64")
            for file in index.files
        )


@pytest.mark.parametrize("base_id", ["debian-12", "debian-13"])
def test_every_package_exists(base_id: str, tmp_path: Path) -> None:
    entry = CATALOG.base(base_id)
    assert entry is not None
    base = entry.base
    there = universe(base_id, tmp_path)
    scopes = {COMMON, base.distribution, base.codename, base.id}
    contents: list[tuple[str, Content]] = [("system", part) for part in CATALOG.system.parts]
    contents += [(level.id, control) for level in CATALOG.hardening for control in level.controls]
    for feature in CATALOG.features:
        if not feature.bases or {base.id, base.distribution} & set(feature.bases):
            contents += [(feature.id, feature), *((feature.id, part) for part in feature.parts)]
    wanted = {(owner, name) for owner, item in contents for scope, names in item.packages if scope in scopes
              for name in names}  # fmt: skip
    wanted |= {(base_id, name) for name in (*base.packages, *base.boot_packages, *base.build_root_packages)}
    wanted |= {(base_id, name) for _, name in base.kernels}
    missing = sorted(item for item in wanted if not there.has(item[1]) and not there.providers(item[1]))
    assert missing == []
