"""Mirrors that lie, lag, break or are down: one clear refusal each, naming mirror, suite and file."""

from __future__ import annotations

import lzma
import re
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from lock_archive import NOW, SUITE, Archive, Bench, Signer, deb, release_date, release_text

from kiln.authoring.lock.indexes import IndexReader, ReadIndex
from kiln.authoring.lock.keyrings import Keyrings
from kiln.authoring.lock.release import Freshness
from kiln.errors import Domain, KilnError
from kiln.events.model import Notice

SIGNER = Signer()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Archive(SIGNER, [deb("aa"), deb("bb", Essential="yes")]), tmp_path)


def reader(bench: Bench, **more: object) -> IndexReader:
    return IndexReader(bench.fetcher, bench.keyrings, bench.cache, bench.sink, NOW, **more)  # type: ignore[arg-type]


def read(bench: Bench, architecture: str = "amd64") -> tuple[ReadIndex, ...]:
    bench.server.asked.clear()
    return reader(bench).read(bench.mirrors(), architecture)


def refusal(bench: Bench, **more: object) -> KilnError:
    with pytest.raises(KilnError) as caught:
        reader(bench, **more).read(bench.mirrors(), "amd64")
    return caught.value


def assert_names(error: KilnError, file: str) -> None:
    """The message names the mirror (logically), the suite and the file, and no host."""
    text = str(error)
    assert "test" in text
    assert SUITE in text
    assert file in text
    assert "mirror.invalid" not in text
    assert error.hint


def test_indexes_are_read_by_hash_in_the_best_compression(bench: Bench) -> None:
    (index,) = read(bench)
    assert [file.path for file in index.files] == ["main/binary-amd64/Packages"]
    assert index.files[0].data == bench.archive.files[bench.archive.packages(by_hash=False, suffix="")]
    assert bench.server.asked == [bench.archive.inrelease, bench.archive.packages(by_hash=True)]


def test_an_unchanged_index_is_not_downloaded_again(bench: Bench) -> None:
    first = read(bench)
    second = read(bench)
    assert bench.server.asked == [bench.archive.inrelease]
    assert second == first


def test_a_changed_index_is_downloaded(bench: Bench) -> None:
    read(bench)
    bench.archive.stanzas = [deb("cc")]
    bench.archive.publish(Date=release_date(NOW - timedelta(hours=2)))
    (index,) = read(bench)
    assert b"Package: cc" in index.files[0].data


def test_without_acquire_by_hash_the_plain_path_is_asked(bench: Bench) -> None:
    bench.archive.publish(Acquire_By_Hash=None)
    read(bench)
    assert bench.server.asked[1] == bench.archive.packages(by_hash=False)


def test_a_mirror_without_the_by_hash_files_is_asked_by_name(bench: Bench) -> None:
    del bench.archive.files[bench.archive.packages(by_hash=True)]
    read(bench)
    assert bench.server.asked[-1] == bench.archive.packages(by_hash=False)


@pytest.mark.parametrize("compressions", [(".gz",), ("",), (".gz", ""), (".xz",)])
def test_every_compression_is_read(bench: Bench, compressions: tuple[str, ...]) -> None:
    bench.archive.compressions = compressions
    bench.archive.publish()
    assert b"Package: aa" in read(bench)[0].files[0].data
    assert b"Package: aa" in read(bench)[0].files[0].data


def test_a_damaged_cache_is_noticed_and_fetched_again(bench: Bench) -> None:
    (index,) = read(bench)
    for path in (bench.cache / "indexes" / "sha256").iterdir():
        data = bytearray(path.read_bytes())
        data[0] ^= 1
        path.write_bytes(data)
    assert read(bench)[0].files[0].data == index.files[0].data
    assert len(bench.server.asked) == 2


def test_a_truncated_cache_is_fetched_again(bench: Bench) -> None:
    read(bench)
    for path in (bench.cache / "indexes" / "sha256").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert b"Package: aa" in read(bench)[0].files[0].data


def test_packages_of_all_architectures_are_read_where_they_stand_apart(bench: Bench) -> None:
    listed = {"main/binary-amd64/Packages": b"", "main/binary-all/Packages": b"Package: zz\n"}
    for path, data in listed.items():
        bench.archive.files[f"dists/{SUITE}/{path}"] = data
    plain = {"Architectures": "all amd64", "Acquire_By_Hash": None}
    bench.archive.sign(release_text(listed, **plain))
    assert [file.architecture for file in read(bench)[0].files] == ["amd64", "all"]
    bench.archive.sign(release_text(listed, **plain, No_Support_for_Architecture_all="Packages"))
    assert [file.architecture for file in read(bench)[0].files] == ["amd64"]


def test_a_component_with_a_prefix_is_found(bench: Bench) -> None:
    bench.archive.publish(Components="updates/main updates/extra")
    assert read(bench)[0].components == ("main",)


def test_an_unknown_component_is_refused_with_a_suggestion(bench: Bench) -> None:
    with pytest.raises(KilnError) as caught:
        reader(bench).read(bench.mirrors(("mian",)), "amd64")
    assert caught.value.reason == "unknown-component"
    assert "`main`" in caught.value.hint


def test_an_unknown_architecture_is_refused(bench: Bench) -> None:
    with pytest.raises(KilnError) as caught:
        read(bench, "riscv64")
    assert caught.value.reason == "unknown-architecture"


def test_a_mirror_that_is_down(bench: Bench) -> None:
    bench.server.answer = lambda _path: httpx.Response(503)
    error = refusal(bench)
    assert (error.domain, error.reason, error.retriable) == (Domain.FETCH, "mirror-down", True)
    assert_names(error, "InRelease")


def test_a_mirror_without_the_suite(bench: Bench) -> None:
    del bench.archive.files[bench.archive.inrelease]
    error = refusal(bench)
    assert (error.domain, error.reason) == (Domain.FETCH, "not-found")
    assert_names(error, "InRelease")


def test_a_mirror_without_the_packages_file(bench: Bench) -> None:
    bench.server.answer = lambda path: httpx.Response(404) if "binary" in path else None
    error = refusal(bench)
    assert error.reason == "not-found"
    assert_names(error, "main/binary-amd64/Packages.xz")


def test_an_unknown_mirror(bench: Bench) -> None:
    with pytest.raises(KilnError) as caught:
        reader(bench).read((bench.mirrors()[0].__class__("nowhere", SUITE, ("main",), "test-archive.gpg"),), "amd64")
    assert caught.value.reason == "unknown-mirror"


def test_a_packages_file_with_other_bytes(bench: Bench) -> None:
    path = bench.archive.packages(by_hash=True)
    bench.archive.files[path] = bytes(len(bench.archive.files[path]))
    error = refusal(bench)
    assert error.reason == "wrong-digest"
    assert_names(error, "main/binary-amd64/Packages.xz")
    assert not list((bench.cache / "indexes" / "sha256").iterdir())


@pytest.mark.parametrize("change", [lambda data: data[:-5], lambda data: data + b"more"], ids=["truncated", "longer"])
def test_a_packages_file_of_another_size(bench: Bench, change: object) -> None:
    path = bench.archive.packages(by_hash=True)
    bench.archive.files[path] = change(bench.archive.files[path])  # type: ignore[operator]
    error = refusal(bench)
    assert error.reason in ("wrong-size", "mirror-down")
    assert_names(error, "main/binary-amd64/Packages.xz")


def test_an_inrelease_cut_short(bench: Bench) -> None:
    bench.archive.files[bench.archive.inrelease] = bench.archive.files[bench.archive.inrelease][:-100]
    error = refusal(bench)
    assert error.reason == "malformed-index"
    assert_names(error, "InRelease")


def test_an_endless_inrelease_is_cut_off(bench: Bench) -> None:
    bench.archive.files[bench.archive.inrelease] = bytes(17 * 1024 * 1024)
    assert refusal(bench).reason == "too-large"


def test_a_signed_bomb_stops_at_the_size_that_the_signed_text_promises(bench: Bench) -> None:
    plain = "main/binary-amd64/Packages"
    listed = {f"{plain}.xz": lzma.compress(bytes(50_000_000)), plain: b"short"}
    bench.archive.files[f"dists/{SUITE}/{plain}.xz"] = listed[f"{plain}.xz"]
    bench.archive.sign(release_text(listed, Acquire_By_Hash=None))
    error = refusal(bench)
    assert error.reason == "wrong-index"
    assert "longer than 5 bytes" in error.message
    assert_names(error, "main/binary-amd64/Packages.xz")


def test_packed_content_that_differs_from_the_promised_plain_content(bench: Bench) -> None:
    plain = "main/binary-amd64/Packages"
    listed = {f"{plain}.xz": lzma.compress(b"other"), plain: b"plain"}
    bench.archive.files[f"dists/{SUITE}/{plain}.xz"] = listed[f"{plain}.xz"]
    bench.archive.sign(release_text(listed, Acquire_By_Hash=None))
    assert refusal(bench).reason == "wrong-index"


def test_a_replayed_older_index_is_refused_and_the_newer_date_is_kept(bench: Bench) -> None:
    old = dict(bench.archive.files)
    bench.archive.publish(Date=release_date(NOW - timedelta(hours=3)))
    read(bench)
    bench.archive.files.clear()
    bench.archive.files.update(old)
    for _ in range(2):
        error = refusal(bench)
        assert (error.reason, error.retriable) == ("index-went-backwards", True)
        assert_names(error, "InRelease")


def test_an_index_whose_files_cannot_be_fetched_does_not_raise_the_date(bench: Bench) -> None:
    old = dict(bench.archive.files)
    bench.archive.stanzas = [deb("new")]
    bench.archive.publish(Date=release_date(NOW - timedelta(hours=3)))
    bench.server.answer = lambda path: httpx.Response(404) if "binary" in path else None
    refusal(bench)
    bench.server.answer = lambda _path: None
    bench.archive.files.clear()
    bench.archive.files.update(old)
    assert read(bench)


def test_an_expired_index_is_used_only_when_allowed_and_with_a_warning(bench: Bench) -> None:
    bench.archive.publish(Valid_Until=release_date(NOW - timedelta(days=1)))
    assert refusal(bench).reason == "expired-index"
    assert reader(bench, freshness=Freshness(accept_expired=True)).read(bench.mirrors(), "amd64")
    warnings = [event for event in bench.sink.events if isinstance(event, Notice) and event.level == "warning"]
    assert len(warnings) == 1


def test_a_missing_keyring_is_the_hosts_matter_with_the_package_that_holds_it(bench: Bench, tmp_path: Path) -> None:
    keyrings = Keyrings([tmp_path / "empty"], system=())
    with pytest.raises(KilnError) as caught:
        keyrings.load("debian-archive-keyring.gpg")
    assert (caught.value.domain, caught.value.reason) == (Domain.HOST, "missing-keyring")
    assert "apt-get install debian-archive-keyring" in caught.value.hint
    with pytest.raises(KilnError):
        keyrings.load("../keyrings/test-archive.gpg")


def test_an_armored_keyring_is_read_and_a_broken_one_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "a.asc").write_text(str(SIGNER.secret.extract_certificate()))
    (tmp_path / "b.gpg").write_bytes(b"no keys")
    keyrings = Keyrings([tmp_path], system=())
    assert keyrings.load("a.asc").certificates[0].fingerprint == SIGNER.fingerprint
    with pytest.raises(KilnError) as caught:
        keyrings.load("b.gpg")
    assert caught.value.reason == "bad-keyring"


def test_a_suite_cannot_name_a_file_outside_the_cache(bench: Bench) -> None:
    from kiln.authoring.lock.index_cache import IndexCache
    from kiln.authoring.lock.release import IndexName

    IndexCache(bench.cache / "indexes").remember(IndexName("..", "../.."), NOW)
    files = {str(path.relative_to(bench.cache)) for path in bench.cache.rglob("*") if path.is_file()}
    assert len(files) == 1
    assert all(re.match(r"indexes/dates/[^/]+/[^/]+$", path) for path in files)
