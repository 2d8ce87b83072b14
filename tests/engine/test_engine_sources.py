"""Source files: only what is needed, by digest, and shown to stages without copying."""

from __future__ import annotations

import base64
import hashlib
import lzma
import threading

import pytest

from kiln.engine.execution.model import StageFailedError
from kiln.engine.execution.observer import NullObserver
from kiln.errors import Domain, KilnError

pytestmark = pytest.mark.root

READ = (
    "i = args['inputs']['files']\n"
    "names = sorted(os.listdir(i['path']))\n"
    "assert names == sorted(i['data']['files']), (names, i)\n"
    "open(tree + '/out', 'w').write(' '.join(open(i['path'] + '/' + n).read() for n in names))"
)


def checksum(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def inline(*texts, encoding="base64"):
    pack = lzma.compress if encoding == "lzma+base64" else bytes
    return {checksum(text): {"encoding": encoding, "data": base64.b64encode(pack(text)).decode()} for text in texts}


def pipeline(*references, name="os", script=READ):
    entry = {"type": "org.osbuild.files", "origin": "org.osbuild.source", "references": list(references)}
    return {
        "name": name,
        "stages": [{"type": "org.kiln.test.script", "options": {"script": script}, "inputs": {"files": entry}}],
    }


def document(items, *pipelines, kind="org.osbuild.inline"):
    return {"version": "2", "sources": {kind: {"items": items}}, "pipelines": list(pipelines)}


class Recording:
    """A fetcher that has files in its memory."""

    def __init__(self, *files):
        self.files = {checksum(data): data for data in files}
        self.asked = []

    def fetch(self, wanted):
        self.asked += [(str(entry.digest), entry.mirror, entry.path, entry.size_bytes) for entry in wanted]
        for entry in wanted:
            entry.destination.write_bytes(self.files[str(entry.digest)])


@pytest.mark.parametrize("encoding", ["base64", "lzma+base64"])
def test_inline_files_reach_the_stage(make_engine, read, store, encoding):
    items = inline(b"one", b"two", b"unused", encoding=encoding)
    engine = make_engine()
    plan = engine.load(document(items, pipeline(checksum(b"one"), checksum(b"two"))))
    result = engine.build(plan, ["os"])
    assert sorted(read(result.objects["os"], "out").split()) == ["one", "two"]
    assert not (store.files / checksum(b"unused")).exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": "!!!"}, "cannot be decoded"),
        ({"data": base64.b64encode(b"other").decode()}, "has the digest"),
        ({"encoding": "lzma+base64"}, "cannot be decoded"),
        ({"encoding": "lzma+base64", "data": base64.b64encode(lzma.compress(b"one")[:-9]).decode()}, "cut off"),
    ],
)
def test_a_wrong_inline_source_is_refused(make_engine, change, words, store):
    items = inline(b"one")
    items[checksum(b"one")].update(change)
    engine = make_engine()
    with pytest.raises(KilnError) as caught:
        engine.build(engine.load(document(items, pipeline(checksum(b"one")))), ["os"])
    assert caught.value.reason == "invalid-source"
    assert words in caught.value.message
    assert list(store.files.iterdir()) == []


def test_only_missing_and_needed_files_are_fetched_and_a_cached_build_fetches_nothing(make_engine, read, store):
    items = {
        checksum(data): {"mirror": "debian", "path": f"pool/{data.decode()}.deb", "size": len(data)}
        for data in (b"one", b"two", b"three")
    }
    (store.files / checksum(b"one")).write_bytes(b"one")
    fetcher = Recording(b"two", b"three")
    engine = make_engine(fetcher)
    plan = engine.load(document(items, pipeline(checksum(b"one"), checksum(b"two")), kind="org.kiln.mirror"))
    result = engine.build(plan, ["os"])
    assert fetcher.asked == [(checksum(b"two"), "debian", "pool/two.deb", 3)]
    assert sorted(read(result.objects["os"], "out").split()) == ["one", "two"]
    (store.files / checksum(b"two")).unlink()
    engine.build(plan, ["os"])
    assert len(fetcher.asked) == 1


def test_a_url_is_passed_on_without_a_mirror(make_engine):
    fetcher = Recording(b"one")
    engine = make_engine(fetcher)
    items = {checksum(b"one"): {"url": "http://localhost:1/one"}}
    engine.build(engine.load(document(items, pipeline(checksum(b"one")), kind="org.osbuild.curl")), ["os"])
    assert fetcher.asked == [(checksum(b"one"), "", "http://localhost:1/one", None)]


def test_a_file_that_was_cut_off_in_the_store_is_found_and_taken_away(make_engine, store):
    items = {checksum(b"one"): {"mirror": "debian", "path": "one", "size": 3}}
    (store.files / checksum(b"one")).write_bytes(b"on")
    engine = make_engine(Recording(b"one"))
    plan = engine.load(document(items, pipeline(checksum(b"one")), kind="org.kiln.mirror"))
    with pytest.raises(KilnError) as caught:
        engine.build(plan, ["os"])
    assert (caught.value.reason, caught.value.retriable) == ("damaged-source", True)
    engine.build(plan, ["os"])


def test_a_weak_digest_is_refused(make_engine):
    engine = make_engine()
    name = f"md5:{hashlib.md5(b'one').hexdigest()}"
    plan = engine.load(document({name: "http://localhost:1/x"}, pipeline(name), kind="org.osbuild.curl"))
    with pytest.raises(KilnError) as caught:
        engine.build(plan, ["os"])
    assert "can be forged" in caught.value.message


def test_without_a_network_missing_files_are_an_error(make_engine):
    engine = make_engine()
    items = {checksum(b"one"): "http://localhost:1/x"}
    with pytest.raises(KilnError) as caught:
        engine.build(engine.load(document(items, pipeline(checksum(b"one")), kind="org.osbuild.curl")), ["os"])
    assert caught.value.reason == "offline"


def test_a_stage_cannot_change_a_source_file_and_its_copies_are_its_own(make_engine, store, read):
    script = (
        "p = args['inputs']['files']['path']; n = p + '/' + os.listdir(p)[0]\n"
        "for what in (lambda: open(n, 'w'), lambda: os.unlink(n), lambda: os.chmod(n, 0o777)):\n"
        " try: what(); raise SystemExit('changed')\n"
        " except OSError as e: assert e.errno == 30, e\n"
        "open(tree + '/ok', 'w').write('ok')"
    )
    engine = make_engine()
    engine.build(engine.load(document(inline(b"one"), pipeline(checksum(b"one"), script=script))), ["os"])
    assert (store.files / checksum(b"one")).read_bytes() == b"one"


def test_hundreds_of_files_are_linked_and_not_copied(make_engine, store):
    texts = [str(number).encode() for number in range(400)]
    items = inline(*texts)
    script = (
        "p = args['inputs']['files']['path']; assert all(os.stat(p + '/' + n).st_nlink == 2 for n in os.listdir(p))"
    )
    engine = make_engine()
    engine.build(engine.load(document(items, pipeline(*items, script=script))), ["os"])
    assert len(list(store.files.iterdir())) == 400


class Patient(Recording):
    """A fetcher that goes on only when a stage has run; then it brings the files, or an error."""

    def __init__(self, *files, error=None):
        super().__init__(*files)
        self.ran = threading.Event()
        self.error = error

    def fetch(self, wanted):
        assert self.ran.wait(600), "no stage ran meanwhile"
        if self.error is not None:
            raise self.error
        super().fetch(wanted)


class Watching(NullObserver):
    """Tells a fetcher when a stage has ended."""

    def __init__(self, fetcher):
        self._fetcher = fetcher

    def stage_finished(self, run, error, *, success):
        self._fetcher.ran.set()


def overlapping(script="pass"):
    items = {checksum(b"one"): "https://example.invalid/one"}
    independent = {"name": "free", "stages": [{"type": "org.kiln.test.script", "options": {"script": script}}]}
    return document(items, independent, pipeline(checksum(b"one")), kind="org.osbuild.curl")


def test_stages_that_need_no_source_run_while_sources_are_fetched(make_engine, read):
    fetcher = Patient(b"one")
    engine = make_engine(fetcher, observer=Watching(fetcher))
    result = engine.build(engine.load(overlapping()), ["os", "free"])
    assert read(result.objects["os"], "out") == "one"
    assert [item.checksum for item in result.sources["org.osbuild.curl"]] == [checksum(b"one")]
    assert len(result.stages) == 2


def test_a_source_that_fails_ends_what_runs_beside_it(make_engine, store):
    fetcher = Patient(error=KilnError(Domain.FETCH, "gone", "nobody has it"))
    engine = make_engine(fetcher, observer=Watching(fetcher))
    plan = engine.load(overlapping())
    with pytest.raises(KilnError, match="nobody has it"):
        engine.build(plan, ["os", "free"])
    # What was finished meanwhile stays.
    assert engine.stored(plan) == {plan.pipelines[0].id}


@pytest.mark.parametrize("error", [None, KeyboardInterrupt()])
def test_a_stage_that_fails_while_sources_are_fetched_is_what_is_reported(make_engine, error):
    fetcher = Patient(b"one", error=error)
    engine = make_engine(fetcher, observer=Watching(fetcher))
    expected = StageFailedError if error is None else KeyboardInterrupt
    with pytest.raises(expected):
        engine.build(engine.load(overlapping("sys.exit(1)")), ["os", "free"])


def test_an_interrupt_of_the_fetching_ends_the_stages(make_engine):
    class Interrupted(Recording):
        def fetch(self, wanted):
            raise KeyboardInterrupt

    engine = make_engine(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        engine.build(engine.load(overlapping("import time; time.sleep(3600)")), ["os", "free"])
