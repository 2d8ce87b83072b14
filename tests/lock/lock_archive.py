"""A signed apt archive made in memory, and a mirror that serves it, well or badly."""

from __future__ import annotations

import gzip
import hashlib
import lzma
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pysequoia

from kiln.authoring.catalog.model import Base, Mirror, PackageWish, Reason, Resolution
from kiln.authoring.lock.keyrings import Keyrings
from kiln.authoring.lock.openpgp import Keyring
from kiln.events.model import CollectingSink
from kiln.fetch.client import Fetcher
from kiln.fetch.mirrors import Mirrors

NOW = datetime(2026, 7, 1, 12, 0, 0, tzinfo=UTC)
MIRROR_URL = "http://mirror.invalid/base"
KEYRING = "test-archive.gpg"
SUITE = "testing-suite"


def release_date(moment: datetime) -> str:
    return moment.strftime("%a, %d %b %Y %H:%M:%S UTC")


@dataclass
class Signer:
    """An OpenPGP key; making one takes some milliseconds."""

    name: str = "archive"
    secret: pysequoia.Tsk = field(init=False)

    def __post_init__(self) -> None:
        self.secret = pysequoia.Tsk.generate(f"{self.name} <{self.name}@example.invalid>")

    @property
    def fingerprint(self) -> str:
        return self.secret.extract_certificate().fingerprint

    @property
    def keyring(self) -> Keyring:
        return Keyring(f"{self.name}.gpg", (self.secret.extract_certificate(),))

    def clear_sign(self, text: str) -> bytes:
        return pysequoia.sign(self.secret.signer(), text.encode(), mode=pysequoia.SignatureMode.CLEAR)


def deb(name: str, version: str = "1.0", **fields: str) -> dict[str, str]:
    """Return a stanza's fields."""
    content = f"{name} {version}".encode()
    stanza = {
        "Package": name,
        "Version": version,
        "Architecture": "amd64",
        "Installed-Size": "12",
        "Filename": f"pool/main/{name[0]}/{name}/{name}_{version.replace(':', '%3a')}_amd64.deb",
        "Size": str(len(content)),
        "SHA256": hashlib.sha256(content).hexdigest(),
        "Description": f"package {name}\n further words",
    }
    return stanza | {key.replace("_", "-"): value for key, value in fields.items()}


def packages_text(stanzas: Sequence[Mapping[str, str]]) -> bytes:
    return "".join("".join(f"{key}: {value}\n" for key, value in one.items()) + "\n" for one in stanzas).encode()


def release_text(files: Mapping[str, bytes], **changes: str | None) -> str:
    """Return a Release file that lists *files*; a change of None leaves a field out."""
    fields: dict[str, str | None] = {
        "Origin": "Test",
        "Suite": "stable-alias",
        "Codename": SUITE,
        "Date": release_date(NOW - timedelta(days=1)),
        "Acquire-By-Hash": "yes",
        "Architectures": "amd64 arm64",
        "Components": "main extra",
    }
    fields |= {key.replace("_", "-"): value for key, value in changes.items()}
    head = "".join(f"{key}: {value}\n" for key, value in fields.items() if value is not None)
    lines = (f" {hashlib.sha256(data).hexdigest()} {len(data):>8} {path}\n" for path, data in files.items())
    return f"{head}SHA256:\n{''.join(lines)}"


@dataclass
class Archive:
    """One suite. `files` is what the mirror serves, by path below its root; change it to make the mirror lie."""

    signer: Signer
    stanzas: Sequence[Mapping[str, str]]
    suite: str = SUITE
    changes: dict[str, str | None] = field(default_factory=dict)
    compressions: tuple[str, ...] = (".xz", ".gz", "")
    files: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.publish()

    def publish(self, **changes: str | None) -> None:
        self.changes |= changes
        plain = packages_text(self.stanzas)
        packed = {".xz": lzma.compress(plain), ".gz": gzip.compress(plain, mtime=0), "": plain}
        listed: dict[str, bytes] = {}
        for component, texts in (("main", packed), ("extra", {".xz": lzma.compress(b""), "": b""})):
            for suffix in self.compressions:
                if suffix in texts:
                    listed[f"{component}/binary-amd64/Packages{suffix}"] = texts[suffix]
        self.files.clear()
        for path, data in listed.items():
            self.files[f"dists/{self.suite}/{path}"] = data
            directory = path.rpartition("/")[0]
            self.files[f"dists/{self.suite}/{directory}/by-hash/SHA256/{hashlib.sha256(data).hexdigest()}"] = data
        self.sign(release_text(listed, **self.changes))

    def sign(self, text: str) -> None:
        self.files[self.inrelease] = self.signer.clear_sign(text)

    @property
    def inrelease(self) -> str:
        return f"dists/{self.suite}/InRelease"

    def packages(self, *, by_hash: bool, suffix: str = ".xz") -> str:
        """Return the path at which the mirror has the Packages file of `main`."""
        plain = f"dists/{self.suite}/main/binary-amd64/Packages{suffix}"
        if not by_hash:
            return plain
        digest = hashlib.sha256(self.files[plain]).hexdigest()
        return f"{plain.rpartition('/')[0]}/by-hash/SHA256/{digest}"


@dataclass
class MirrorServer:
    """Answers HTTP requests from an archive's files and writes down what was asked."""

    files: Mapping[str, bytes]
    asked: list[str] = field(default_factory=list)
    answer: Callable[[str], httpx.Response | None] = lambda _path: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/base/")
        self.asked.append(path)
        if (special := self.answer(path)) is not None:
            return special
        if path not in self.files:
            return httpx.Response(404)
        return httpx.Response(200, stream=httpx.ByteStream(self.files[path]))


@dataclass
class Bench:
    """Everything that a lock needs, around one archive."""

    archive: Archive
    room: Path
    mirror_name: str = "test"
    sink: CollectingSink = field(default_factory=CollectingSink)

    def __post_init__(self) -> None:
        self.server = MirrorServer(self.archive.files)
        mirrors = Mirrors({self.mirror_name: (MIRROR_URL,)})
        transport = httpx.MockTransport(self.server)
        self.fetcher = Fetcher(mirrors, self.sink, transport=transport, sleep=lambda _seconds: None)
        directory = self.room / "keyrings"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / KEYRING).write_bytes(bytes(self.archive.signer.keyring))
        self.keyrings = Keyrings([directory], system=())
        self.cache = self.room / "cache"

    def mirrors(self, components: tuple[str, ...] = ("main",), suite: str = "") -> tuple[Mirror, ...]:
        return (Mirror(self.mirror_name, suite or self.archive.suite, components, KEYRING),)

    def base(self, **changes: object) -> Base:
        values: dict[str, object] = {
            "id": "test-1",
            "title": "Test 1",
            "family": "deb",
            "distribution": "test",
            "codename": "testing-suite",
            "version": "1",
            "architectures": ("amd64",),
            "mirrors": self.mirrors(),
            "packages": (),
            "kernels": (("cloud", "linux-cloud"),),
            "default_kernel": "cloud",
            "boot_packages": (),
            "build_root_packages": (),
            "default_disk_bytes": 1 << 30,
        }
        return Base(**(values | changes))  # type: ignore[arg-type]


def resolution(
    base: Base, packages: Mapping[str, str], *, excluded: Sequence[str] = (), kernel: str = ""
) -> Resolution:
    """Return a resolution that wants *packages* (name -> feature)."""
    wishes = tuple(
        PackageWish(name, Reason(('request "words"', f"feature {feature}")))
        for name, feature in sorted(packages.items())
    )
    return Resolution(
        recipe_digest="sha256:" + "1" * 64,
        base=base,
        name="image",
        hostname="image",
        locale="C.UTF-8",
        timezone="UTC",
        features=(),
        packages=wishes,
        excluded_packages=tuple(excluded),
        files=(),
        services=(),
        sysctls=(),
        users=(),
        ports=(),
        assertions=(),
        kernel_flavour="cloud" if kernel else "",
        kernel_package=kernel,
        kernel_cmdline="",
        disk_bytes=1 << 30,
    )
