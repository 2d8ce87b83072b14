"""The state machine of trust: each step of `verify_index` fails alone, by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta

import pysequoia
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lock_archive import NOW, SUITE, Signer, release_date, release_text

from kiln.authoring.lock import openpgp
from kiln.authoring.lock.openpgp import Keyring, SignatureError, Signed
from kiln.authoring.lock.release import Freshness, IndexName, SignedIndex, parse_date, rfc3339, verify_index
from kiln.errors import KilnError

SIGNER = Signer()
OTHER = Signer("other")
NAME = IndexName("test", SUITE)
FILES = {"main/binary-amd64/Packages": b"content"}
TEXT = release_text(FILES)
GOOD = SIGNER.clear_sign(TEXT)
needs_gpgv = pytest.mark.skipif(shutil.which("gpgv") is None, reason="needs gpgv")


def verify(data: bytes = GOOD, keyring: Keyring = SIGNER.keyring, **more: object) -> SignedIndex:
    return verify_index(data, NAME, keyring, NOW, **more)  # type: ignore[arg-type]


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(KilnError) as caught:
        call()
    assert "test:dists/testing-suite/InRelease" in caught.value.message
    return caught.value.reason


def changed(**changes: str | None) -> bytes:
    return SIGNER.clear_sign(release_text(FILES, **changes))


def test_a_good_index_is_read() -> None:
    index = verify()
    assert index.signed_by == (SIGNER.fingerprint,)
    assert index.files["main/binary-amd64/Packages"].size_bytes == 7
    assert (index.suite, index.codename) == ("stable-alias", SUITE)
    assert index.components == ("main", "extra")
    assert index.acquire_by_hash
    assert not index.separate_all
    assert index.valid_until is None
    assert rfc3339(index.date) == "2026-06-30T12:00:00Z"
    assert index.text.decode() == TEXT


@needs_gpgv
def test_gpgv_agrees_with_sequoia() -> None:
    assert verify(second_opinion=openpgp.verify_with_gpgv).signed_by == (SIGNER.fingerprint,)


def test_an_unsigned_index_is_refused() -> None:
    assert reason(lambda: verify(TEXT.encode())) == "unsigned-index"


def test_a_valid_signature_by_a_key_of_another_keyring_is_refused() -> None:
    assert reason(lambda: verify(keyring=OTHER.keyring)) == "bad-signature"
    assert reason(lambda: verify(OTHER.clear_sign(TEXT))) == "bad-signature"


@needs_gpgv
def test_gpgv_refuses_a_key_of_another_keyring_too() -> None:
    with pytest.raises(SignatureError):
        openpgp.verify_with_gpgv(GOOD, OTHER.keyring)
    with pytest.raises(SignatureError):
        openpgp.verify_with_gpgv(GOOD.replace(b"Origin: Test", b"Origin: Best"), SIGNER.keyring)


def test_a_signature_by_a_key_that_has_expired_since_is_refused() -> None:
    secret = pysequoia.Tsk.generate("short <short@example.invalid>", validity_seconds=7 * 24 * 3600)
    data = pysequoia.sign(secret.signer(), TEXT.encode(), mode=pysequoia.SignatureMode.CLEAR)
    keyring = Keyring("short.gpg", (secret.extract_certificate(),))
    expiration = keyring.certificates[0].expiration
    assert expiration is not None
    assert openpgp.verify_clear_signed(data, keyring, expiration - timedelta(seconds=1)).signers
    with pytest.raises(SignatureError, match="expired"):
        openpgp.verify_clear_signed(data, keyring, expiration)
    assert reason(lambda: verify_index(data, NAME, keyring, expiration)) == "bad-signature"


def test_a_changed_byte_in_the_signed_text_is_refused() -> None:
    assert reason(lambda: verify(GOOD.replace(b"Origin: Test", b"Origin: Best"))) == "bad-signature"


@pytest.mark.parametrize(
    "data",
    [
        b"Extra: before\n" + GOOD,
        GOOD + b"Extra: after\n",
        GOOD + GOOD,
        OTHER.clear_sign(TEXT) + GOOD,
        GOOD[: len(GOOD) // 2],
        GOOD.replace(b"-----END PGP SIGNATURE-----", b""),
    ],
    ids=["text-before", "text-after", "twice", "another-message-first", "truncated", "no-end"],
)
def test_unsigned_text_around_the_signed_part_is_refused(data: bytes) -> None:
    assert reason(lambda: verify(data)) == "malformed-index"


def test_an_inline_signed_message_is_not_a_clear_signed_one() -> None:
    message = pysequoia.sign(SIGNER.secret.signer(), TEXT.encode())
    assert reason(lambda: verify(message)) == "unsigned-index"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_flipped_byte_anywhere_changes_nothing_that_is_read(position: int, flip: int) -> None:
    data = bytearray(GOOD)
    data[position] ^= flip
    try:
        index = verify(bytes(data))
    except KilnError as error:
        assert error.reason in ("unsigned-index", "bad-signature", "malformed-index")
    else:
        # Armor headers, checksums and white space at the ends of lines are not signed.
        assert index.text == verify().text


def test_a_second_verifier_that_disagrees_about_the_signer_is_believed() -> None:
    opinion = Signed(TEXT.encode(), ("0" * 40,))
    assert reason(lambda: verify(second_opinion=lambda _data, _ring: opinion)) == "bad-signature"


def test_a_second_verifier_that_reads_another_text_is_believed() -> None:
    opinion = Signed(b"Origin: other\n", (SIGNER.fingerprint,))
    assert reason(lambda: verify(second_opinion=lambda _data, _ring: opinion)) == "bad-signature"


def test_a_second_verifier_that_finds_no_signature_is_believed() -> None:
    def refuse(_data: bytes, _ring: Keyring) -> Signed:
        raise SignatureError("no")

    assert reason(lambda: verify(second_opinion=refuse)) == "bad-signature"


def test_gpgvs_word_counts_only_for_good_signatures() -> None:
    valid = "[GNUPG:] VALIDSIG AA 2026-01-01 1 0 4 0 22 10 00 BB\n"
    assert openpgp.read_gpgv_status(f"[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG 1 x\n{valid}") == ("bb",)
    for status in ("", f"[GNUPG:] NEWSIG\n[GNUPG:] EXPKEYSIG 1 x\n{valid}", f"[GNUPG:] REVKEYSIG 1 x\n{valid}"):
        with pytest.raises(SignatureError):
            openpgp.read_gpgv_status(status)
    with pytest.raises(SignatureError, match="bad"):
        openpgp.read_gpgv_status(f"[GNUPG:] GOODSIG 1 x\n{valid}[GNUPG:] NEWSIG\n[GNUPG:] BADSIG 2 y\n")


@pytest.mark.parametrize(
    "changes",
    [
        {"Date": None},
        {"Date": "yesterday"},
        {"Date": "Tue, 30 Jun 2026 12:00:00 +0200"},
        {"Valid-Until": "never"},
        {"Origin": "Test\nno field"},
    ],
)
def test_a_signed_text_without_the_form_of_a_release_file_is_refused(changes: dict[str, str | None]) -> None:
    data = SIGNER.clear_sign(release_text(FILES, **{key.replace("-", "_"): value for key, value in changes.items()}))
    assert reason(lambda: verify(data)) == "malformed-index"


@pytest.mark.parametrize("path", ["../../Packages", "/etc/passwd", "a//b", "a/./b"])
def test_a_listed_path_that_leads_out_of_the_suite_is_refused(path: str) -> None:
    assert reason(lambda: verify(SIGNER.clear_sign(release_text({path: b""})))) == "malformed-index"


def test_an_index_without_sha256_is_refused() -> None:
    text = TEXT.replace("SHA256:", "MD5Sum:")
    assert reason(lambda: verify(SIGNER.clear_sign(text))) == "malformed-index"


def test_a_file_listed_twice_with_different_content_is_refused() -> None:
    text = TEXT + f" {'0' * 64} 7 main/binary-amd64/Packages\n"
    assert reason(lambda: verify(SIGNER.clear_sign(text))) == "malformed-index"


def test_the_index_of_another_suite_is_refused_though_the_same_key_signed_it() -> None:
    assert reason(lambda: verify(changed(Codename="other-suite"))) == "wrong-suite"
    assert reason(lambda: verify(changed(Codename=None, Suite=None))) == "wrong-suite"


def test_the_suites_alias_is_accepted() -> None:
    assert verify_index(GOOD, IndexName("test", "stable-alias"), SIGNER.keyring, NOW).codename == SUITE


def test_an_expired_index_is_refused_beyond_the_clock_skew() -> None:
    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    late = changed(Valid_Until=release_date(NOW - hour - minute))
    assert reason(lambda: verify(late)) == "expired-index"
    assert verify(changed(Valid_Until=release_date(NOW - hour + minute))).valid_until is not None
    assert verify(late, freshness=Freshness(accept_expired=True)).valid_until is not None


def test_an_index_from_the_future_is_refused_beyond_the_clock_skew() -> None:
    assert reason(lambda: verify(changed(Date=release_date(NOW + timedelta(hours=2))))) == "index-from-future"
    assert verify(changed(Date=release_date(NOW + timedelta(minutes=30)))).date > NOW


def test_an_index_older_than_one_seen_before_is_refused_though_valid() -> None:
    seen = verify().date
    assert verify(earlier=seen).date == seen
    assert reason(lambda: verify(earlier=seen + timedelta(seconds=1))) == "index-went-backwards"
    frozen = Freshness(accept_expired=True)
    assert reason(lambda: verify(earlier=seen + timedelta(seconds=1), freshness=frozen)) == "index-went-backwards"


@given(st.datetimes(min_value=NOW.replace(tzinfo=None, year=1995), max_value=NOW.replace(tzinfo=None, year=2099)))
def test_dates_are_read_back(moment: object) -> None:
    from datetime import UTC, datetime

    assert isinstance(moment, datetime)
    whole = moment.replace(microsecond=0, tzinfo=UTC)
    assert parse_date(release_date(whole)) == whole
