"""Whether an archive's index can be trusted: a state machine without files, network or clock.

`verify_index` takes the bytes of an InRelease file and goes these steps, in this order; each can fail alone:

1. framing: the file is one clear-signed message and nothing else (`unsigned-index`, `malformed-index`);
2. signature: at least one valid signature by an unexpired key of the keyring that the base names for the suite, which
   is what `Signed-By` means; a valid signature by any other key does not count (`bad-signature`);
3. second opinion, where there is one: it finds a signer in common and reads the same text (`bad-signature`);
4. form: the signed text has the fields of a Release file (`malformed-index`);
5. suite: it is the index that was asked for, not another one signed by the same key (`wrong-suite`);
6. time: not from the future (`index-from-future`), not past its Valid-Until (`expired-index`), and not older than
   what was seen before (`index-went-backwards`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from kiln.authoring.lock import openpgp
from kiln.authoring.lock.deb822 import StanzaError, parse_stanza
from kiln.authoring.lock.names import is_plain_path
from kiln.authoring.lock.openpgp import Keyring, SecondOpinion, Signed
from kiln.errors import Domain, ExitStatus, KilnError
from kiln_wire.digest import Digest

CLOCK_SKEW: Final = timedelta(hours=1)
"""How far a machine's clock may be off; indexes are signed hours apart and valid for days."""
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# RFC 5322 date, always in UTC in a Release file; apt accepts the same zone names.
_DATE: Final = re.compile(
    r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), )?(?P<day>\d{1,2}) (?P<month>[A-Z][a-z]{2}) (?P<year>\d{4}) "
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2}):(?P<second>\d{2}) (?:UTC|GMT|Z|[+-]0000)"
)
_CHECKSUM: Final = re.compile(r"(?P<hex>[0-9a-f]{64})\s+(?P<size>[0-9]{1,15})\s+(?P<path>\S+)")


@dataclass(frozen=True, slots=True)
class IndexName:
    """Which index is meant: the archive's logical name and the suite asked for."""

    mirror: str
    suite: str

    def __str__(self) -> str:
        return f"{self.mirror} {self.suite}"

    @property
    def place(self) -> str:
        """The index's file, with the logical name in the place of a URL."""
        return f"{self.mirror}:dists/{self.suite}/InRelease"


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """What the signed text promises about one file."""

    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SignedIndex:
    """A Release file that passed every step."""

    name: IndexName
    digest: Digest
    """Of the InRelease file's bytes."""
    text: bytes
    """The signed text, the only part of the file that may be read."""
    date: datetime
    valid_until: datetime | None
    suite: str
    codename: str
    components: tuple[str, ...]
    architectures: tuple[str, ...]
    acquire_by_hash: bool
    separate_all: bool
    """Whether `Architecture: all` packages stand only in files of their own."""
    files: Mapping[str, IndexedFile]
    """By path below the suite's directory."""
    signed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old and how far ahead an index may be."""

    clock_skew: timedelta = CLOCK_SKEW
    accept_expired: bool = False
    """For mirrors that are frozen on purpose (a snapshot); dates going backwards are refused all the same."""


DEFAULT_FRESHNESS: Final = Freshness()


def verify_index(
    data: bytes,
    name: IndexName,
    keyring: Keyring,
    now: datetime,
    *,
    earlier: datetime | None = None,
    freshness: Freshness = DEFAULT_FRESHNESS,
    second_opinion: SecondOpinion | None = None,
) -> SignedIndex:
    """Return what *data* says, if it can be trusted at the time *now*; *earlier* is the newest date seen before.

    Raises KilnError(LOCK) with the reasons above.
    """
    try:
        openpgp.check_framing(data)
    except openpgp.UnsignedError as error:
        raise refuse(name, "unsigned-index", str(error), hint=_HINT_SIGNATURE) from None
    except openpgp.FramingError as error:
        raise refuse(name, "malformed-index", str(error), hint=_HINT_MIRROR) from None
    signed = _verify_signature(data, name, keyring, now, second_opinion)
    index = _read(signed, Digest.of(data), name)
    if name.suite not in (index.suite, index.codename):
        said = " / ".join(word for word in (index.suite, index.codename) if word) or "nothing"
        raise refuse(name, "wrong-suite", f"the mirror answers with the index of {said}", hint=_HINT_MIRROR)
    _check_time(index, now, earlier, freshness)
    return index


def parse_date(text: str) -> datetime:
    """Read a Release file's date. Raises ValueError."""
    match = _DATE.fullmatch(text)
    if match is None or match["month"] not in _MONTHS:
        raise ValueError(f"{text!r} is not a date in UTC")
    month = _MONTHS.index(match["month"]) + 1
    clock = (int(match["hour"]), int(match["minute"]), int(match["second"]))
    return datetime(int(match["year"]), month, int(match["day"]), *clock, tzinfo=UTC)


def rfc3339(moment: datetime) -> str:
    """Return *moment* as RFC 3339 in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def refuse(
    name: IndexName, reason: str, problem: str, *, detail: str = "", hint: str = "", retriable: bool = False
) -> KilnError:
    """Return the refusal of an index, naming mirror, suite and file."""
    return KilnError(
        Domain.LOCK,
        reason,
        f"{name.place} is refused: {problem}",
        detail=detail,
        hint=hint,
        exit_status=ExitStatus.REFUSED,
        retriable=retriable,
    )


_HINT_MIRROR: Final = "the mirror is broken, or something changes files on the way; try another mirror for this name"
_HINT_SIGNATURE: Final = (
    "an index must be signed by a key of the keyring that the base names for it; try another mirror for this name, "
    "or update the keyring's package"
)
_HINT_REPLAY: Final = "the mirror lags behind or replays old indexes; try later, or another mirror for this name"
_HINT_CLOCK: Final = "check this machine's clock, or try another mirror for this name"


def _verify_signature(
    data: bytes, name: IndexName, keyring: Keyring, now: datetime, second_opinion: SecondOpinion | None
) -> Signed:
    try:
        signed = openpgp.verify_clear_signed(data, keyring, now)
        if second_opinion is None:
            return signed
        other = second_opinion(data, keyring)
    except openpgp.SignatureError as error:
        problem = f"no signature by a key of {keyring.name} is valid"
        raise refuse(name, "bad-signature", problem, detail=str(error), hint=_HINT_SIGNATURE) from None
    if not set(signed.signers) & set(other.signers):
        detail = f"one found {', '.join(signed.signers)}, the other {', '.join(other.signers)}"
        raise refuse(name, "bad-signature", "two verifiers disagree about who signed it", detail=detail)
    if not openpgp.same_text(signed.text, other.text):
        raise refuse(name, "bad-signature", "two verifiers disagree about which text is signed", hint=_HINT_MIRROR)
    return signed


def _read(signed: Signed, digest: Digest, name: IndexName) -> SignedIndex:
    try:
        fields = parse_stanza(signed.text.decode("utf-8").replace("\r\n", "\n"))
        valid_until = fields.get("valid-until", "")
        architectures = tuple(fields.get("architectures", "").split())
        no_support = fields.get("no-support-for-architecture-all", "")
        return SignedIndex(
            name=name,
            digest=digest,
            text=signed.text,
            date=parse_date(fields.get("date", "")),
            valid_until=parse_date(valid_until) if valid_until else None,
            suite=fields.get("suite", ""),
            codename=fields.get("codename", ""),
            components=tuple(fields.get("components", "").split()),
            architectures=architectures,
            acquire_by_hash=fields.get("acquire-by-hash", "no").lower() in ("yes", "true", "1"),
            separate_all="all" in architectures and "Packages" not in no_support.split(),
            files=_files(fields.get("sha256", "")),
            signed_by=signed.signers,
        )
    except (UnicodeDecodeError, StanzaError, ValueError) as error:
        raise refuse(name, "malformed-index", f"its signed text is malformed: {error}", hint=_HINT_MIRROR) from None


def _files(block: str) -> dict[str, IndexedFile]:
    """Read the SHA256 field. MD5 and SHA-1, which some archives list as well, are never looked at."""
    files: dict[str, IndexedFile] = {}
    for line in block.split("\n"):
        if not line:
            continue
        match = _CHECKSUM.fullmatch(line)
        if match is None:
            raise ValueError(f"{line[:80]!r} is not a SHA-256, a size and a path")
        path = match["path"]
        if not is_plain_path(path):
            raise ValueError(f"the path {path[:80]!r} leads out of the suite's directory")
        entry = IndexedFile(Digest("sha256", match["hex"]), int(match["size"]))
        if files.setdefault(path, entry) != entry:
            raise ValueError(f"{path} is listed twice with different content")
    if not files:
        raise ValueError("it lists no SHA-256")
    return files


def _check_time(index: SignedIndex, now: datetime, earlier: datetime | None, freshness: Freshness) -> None:
    name, date = index.name, index.date
    if date > now + freshness.clock_skew:
        problem = f"it is dated {rfc3339(date)}, after this machine's time {rfc3339(now)}"
        raise refuse(name, "index-from-future", problem, hint=_HINT_CLOCK)
    expired = index.valid_until is not None and now > index.valid_until + freshness.clock_skew
    if index.valid_until is not None and expired and not freshness.accept_expired:
        problem = f"it was valid until {rfc3339(index.valid_until)}, and it is {rfc3339(now)}"
        hint = f"{_HINT_CLOCK}; for a mirror that is frozen on purpose, accept expired indexes in the settings"
        raise refuse(name, "expired-index", problem, hint=hint)
    if earlier is not None and date < earlier:
        problem = f"it is dated {rfc3339(date)}, but one of {rfc3339(earlier)} was seen before"
        raise refuse(name, "index-went-backwards", problem, hint=_HINT_REPLAY, retriable=True)
