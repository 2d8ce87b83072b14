"""Whatever a person points at: an image directory, an OCI layout, a reference, a pack, a signed file or directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kiln.artifact.oci.auth import stored_credentials
from kiln.artifact.oci.layout import open_layout
from kiln.artifact.oci.model import OciTarget, Reference, refused
from kiln.artifact.oci.registry import open_registry
from kiln.attestation.verify import verify_image
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.events.model import Sink
from kiln_wire import layout
from kiln_wire.archive import PREFIX, ArchiveFiles
from kiln_wire.dsse import MAX_BUNDLE_BYTES
from kiln_wire.files import DirectoryFiles, FileError
from kiln_wire.finding import VerificationResult
from kiln_wire.oci import LAYOUT_FILE, OciError
from kiln_wire.pack import verify_pack
from kiln_wire.policy import Policy
from kiln_wire.trust import Trust
from kiln_wire.verify_blob import BUNDLE_SUFFIX, FILE_LIST, verify_blob, verify_directory
from kiln_wire.verify_oci import verify_oci

DOCKER_CONFIG: Final = Path(".docker/config.json")


@dataclass(frozen=True, slots=True)
class OciPlace:
    """An OCI image: a layout's directory or a repository, and the tag or digest in it."""

    directory: Path | None
    reference: Reference | None
    selector: str

    @property
    def name(self) -> str:
        """What a signature of cosign's older scheme calls the image."""
        return self.reference.repository if self.reference else (self.directory or Path()).absolute().name

    @contextmanager
    def open(self, *, create: bool = False, plain_http: bool = False) -> Iterator[OciTarget]:
        """Open the place for reading and writing. Raises KilnError(ARTIFACT)."""
        if self.directory is not None:
            with open_layout(self.directory, create=create) as opened:
                yield opened
        elif self.reference is not None:
            credentials = stored_credentials(self.reference.host, Path.home() / DOCKER_CONFIG)
            with open_registry(self.reference, plain_http=plain_http, credentials=credentials) as registry:
                yield registry


def oci_place(text: str, *, create: bool = False) -> OciPlace | None:
    """Return the place that *text* names: `DIR`, `DIR:TAG`, `DIR@DIGEST`, or a reference; None if it is no such thing.

    With *create*, a directory that is not there, or empty, is one, too. Raises KilnError(ARTIFACT, "bad-reference").
    """
    path, selector = Path(text), ""
    if not path.exists() and ("@" in text or ":" in text):
        head, _, selector = text.partition("@") if "@" in text else text.rpartition(":")
        path = Path(head)
    if (path / LAYOUT_FILE).is_file():
        return OciPlace(path, None, selector)
    if create and (text.startswith(("/", "./", "../")) or path.is_dir()):
        return OciPlace(path, None, selector)
    if Path(text).exists() or text.startswith(("/", ".")):
        return None
    try:
        reference = Reference.parse(text)
    except KilnError:
        if "/" in text and ":" in text:
            raise
        return None
    return OciPlace(None, reference, reference.selector)


def verify_target(
    target: str,
    trust: Trust,
    *,
    policy: Policy | None = None,
    bundle: Path | None = None,
    plain_http: bool = False,
    sink: Sink | None = None,
) -> VerificationResult:
    """Verify whatever *target* is. Only a registry is asked over a network.

    Raises KilnError(ATTESTATION): `no-image`, `unreadable`; KilnError(ARTIFACT) where a registry does not answer.
    """
    place = oci_place(target)
    if place is not None:
        with _readable(Path(target)), place.open(plain_http=plain_http) as source:
            return verify_oci(source, place.selector, trust, policy=policy)
    path = Path(target)
    with _readable(path):
        if path.is_file() and _is_pack(path):
            return _verify_pack(path, trust, policy)
        if path.is_file() and (bundle is not None or not (path.parent / layout.ATTESTATIONS).is_dir()):
            data = None if bundle is None else bundle.read_bytes()[: MAX_BUNDLE_BYTES + 1]
            if data is None and not path.with_name(path.name + BUNDLE_SUFFIX).is_file():
                raise refused("not-signed", f"there is no bundle {path.name}{BUNDLE_SUFFIX} beside {path}")
            with DirectoryFiles(path.parent) as files:
                return verify_blob(files, path.name, trust, bundle=data, policy=policy)
        if path.is_dir() and (path / FILE_LIST).is_file() and not (path / layout.ATTESTATIONS).is_dir():
            with DirectoryFiles(path) as files:
                return verify_directory(files, trust, policy=policy)
    return verify_image(path, trust=trust, policy=policy, sink=sink)


def _is_pack(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(PREFIX) + 4) == PREFIX + b"PK\x03\x04"


def _verify_pack(path: Path, trust: Trust, policy: Policy | None) -> VerificationResult:
    try:
        with ArchiveFiles(path) as files:
            return verify_pack(files, trust, policy=policy)
    except FileError as error:
        raise KilnError(
            Domain.ATTESTATION,
            "malformed-archive",
            str(error),
            hint="the pack was changed, or is not whole; get it again",
            exit_status=ExitStatus.REFUSED,
        ) from error


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OciError as error:
        raise refused(error.reason, str(error)) from error
    except OSError as error:
        raise KilnError(
            Domain.ATTESTATION,
            "unreadable",
            f"{path} can't be read: {error.strerror}",
            hint="run as a user who may read it",
            exit_status=ExitStatus.INFRASTRUCTURE,
        ) from error
