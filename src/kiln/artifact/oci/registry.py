"""A repository of an OCI registry: pull and push by digest, with referrers where the registry has them.

Reference: OCI distribution specification 1.1.1. A broken upload goes on where the registry says it is; a broken
download with a range. Where the registry has no referrers API, the list under the fallback tag is kept as the
specification says. Plain HTTP is spoken with loopback addresses alone, unless asked for.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final
from urllib.parse import urljoin

import httpx

from kiln.artifact.oci.auth import Credentials, authorize
from kiln.artifact.oci.model import Reference, refused
from kiln.errors import ExitStatus, KilnError
from kiln_wire.canonical import canonical_json
from kiln_wire.digest import Digest
from kiln_wire.oci import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Descriptor,
    OciError,
    fallback_tag,
    read_manifest,
)

UPLOAD_CHUNK_BYTES: Final = 16 * 1024 * 1024
ATTEMPTS: Final = 4
TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)
_ACCEPT: Final = ", ".join((MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX))
_HEADERS: Final = {"User-Agent": "kiln", "Accept-Encoding": "identity"}  # digests are of the bytes as they are


class Registry:
    """One repository (kiln.artifact.oci.model.OciTarget). Use open_registry."""

    def __init__(self, reference: Reference, client: httpx.Client, credentials: Credentials | None) -> None:
        self._reference = reference
        self._client = client
        self._credentials = credentials
        self._token: dict[str, str] = {}

    def resolve(self, reference: str) -> Descriptor:
        """Return what a tag or digest stands for. Raises OciError `no-manifest`."""
        data = self._get_manifest(reference or self._reference.selector)
        return read_manifest(data, reference).descriptor

    def manifest(self, digest: Digest) -> bytes:
        """Return a manifest, which has this digest."""
        data = self._get_manifest(str(digest))
        if Digest.of(data) != digest:
            raise OciError(str(digest), "changed", f"the registry answers with {Digest.of(data)}")
        return data

    def blob(self, descriptor: Descriptor, max_bytes: int) -> bytes:
        """Return a small blob, which has this digest."""
        if descriptor.size_bytes > max_bytes:
            raise OciError(str(descriptor.digest), "too-large", f"has {descriptor.size_bytes} bytes")
        with tempfile.TemporaryFile() as file:
            self.fetch(descriptor, file)
            file.seek(0)
            return file.read()

    def check(self, descriptors: list[Descriptor]) -> dict[Digest, OciError | None]:
        """Read blobs to their ends; return what is wrong with each."""
        result: dict[Digest, OciError | None] = {}
        for item in descriptors:
            try:
                self.fetch(item, None)
                result[item.digest] = None
            except OciError as error:
                result[item.digest] = error
        return result

    def fetch(self, descriptor: Descriptor, target: IO[bytes] | None) -> None:
        """Download a blob and check its digest and size; a broken connection is resumed.

        Raises OciError `missing-blob`, `changed`, `wrong-size`; KilnError(ARTIFACT, "registry-down").
        """
        state, done = hashlib.new(descriptor.digest.algorithm), 0
        for attempt in range(1, ATTEMPTS + 1):
            headers = {"Range": f"bytes={done}-"} if done else {}
            try:
                with self._stream(f"blobs/{descriptor.digest}", headers) as answer:
                    if answer.status_code == httpx.codes.NOT_FOUND:
                        raise OciError(str(descriptor.digest), "missing-blob", "the registry does not have it")
                    self._expect(answer, httpx.codes.OK, httpx.codes.PARTIAL_CONTENT)
                    skip = done if answer.status_code == httpx.codes.OK else 0
                    for chunk in answer.iter_raw():
                        fresh, skip = chunk[skip:], max(0, skip - len(chunk))
                        done += len(fresh)
                        if done > descriptor.size_bytes:
                            raise OciError(str(descriptor.digest), "wrong-size", "the registry sends too much")
                        state.update(fresh)
                        if target is not None:
                            target.write(fresh)
            except httpx.TransportError as error:
                if attempt == ATTEMPTS:
                    raise self._down(error) from error
                continue
            if done == descriptor.size_bytes:
                break
        if done != descriptor.size_bytes:
            raise OciError(str(descriptor.digest), "wrong-size", f"has {done} bytes, not {descriptor.size_bytes}")
        if state.hexdigest() != descriptor.digest.hex:
            raise OciError(str(descriptor.digest), "changed", f"has the digest {state.hexdigest()}")

    def referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        """Return the manifests that have *digest* as their subject; each is read, no list is taken at its word."""
        answer = self._request("GET", f"referrers/{digest}", headers={"Accept": INDEX})
        if answer.status_code == httpx.codes.OK:
            data = answer.content
        else:
            try:
                data = self._get_manifest(fallback_tag(digest))
            except OciError:
                return ()
        found = []
        for item in read_manifest(data, f"referrers of {digest}").manifests:
            try:
                manifest = read_manifest(self.manifest(item.digest), str(item.digest))
            except OciError:
                continue  # a list may name what is gone
            if manifest.subject is not None and manifest.subject.digest == digest:
                found.append(manifest.descriptor)
        return tuple(found)

    def push_blob(self, content: bytes | Path, digest: Digest) -> int:
        """Put a blob there, unless it is there already.

        Raises KilnError(ARTIFACT): `registry-refused`, `registry-down`.
        """
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        if self._request("HEAD", f"blobs/{digest}").status_code == httpx.codes.OK:
            return size
        answer = self._expect(self._request("POST", "blobs/uploads/"), httpx.codes.ACCEPTED)
        location = self._location(answer)
        done = 0
        with self._reader(content) as file:
            while done < size:
                file.seek(done)
                location, done = self._send(location, file.read(UPLOAD_CHUNK_BYTES), done)
        separator = "&" if "?" in location else "?"
        finished = self._request("PUT", f"{location}{separator}digest={digest}", headers={"Content-Length": "0"})
        self._expect(finished, httpx.codes.CREATED)
        return size

    def push_manifest(self, data: bytes, media_type: str, tag: str = "") -> Descriptor:
        """Put a manifest there, under its digest and a tag; list it as a referrer if the registry does not do so."""
        manifest = read_manifest(data, "manifest")
        answer = self._put_manifest(tag or str(manifest.digest), data, media_type)
        if manifest.subject is not None and "OCI-Subject" not in answer.headers:
            self._list_referrer(manifest.subject.digest, manifest.descriptor)
        return manifest.descriptor

    def _list_referrer(self, subject: Digest, referrer: Descriptor) -> None:
        known = [item.document for item in self.referrers(subject) if item.digest != referrer.digest]
        manifests = sorted([*known, referrer.document], key=lambda item: str(item["digest"]))
        index = canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
        self._put_manifest(fallback_tag(subject), index, INDEX)

    def _put_manifest(self, reference: str, data: bytes, media_type: str) -> httpx.Response:
        answer = self._request("PUT", f"manifests/{reference}", content=data, headers={"Content-Type": media_type})
        return self._expect(answer, httpx.codes.CREATED)

    def _send(self, location: str, chunk: bytes, done: int) -> tuple[str, int]:
        """Send one chunk; return where to go on, and from which byte."""
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{done}-{done + len(chunk) - 1}",
        }
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = self._request("PATCH", location, content=chunk, headers=headers, retry=False)
            except httpx.TransportError as error:
                if attempt == ATTEMPTS:
                    raise self._down(error) from error
                status = self._request("GET", location)
                if status.status_code != httpx.codes.NO_CONTENT:
                    continue
                reached = _reached(status.headers.get("Range", ""))
                if reached != done:
                    return self._location(status), reached
                continue
            self._expect(answer, httpx.codes.ACCEPTED)
            return self._location(answer), done + len(chunk)
        raise AssertionError

    def _get_manifest(self, reference: str) -> bytes:
        answer = self._request("GET", f"manifests/{reference}", headers={"Accept": _ACCEPT})
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise OciError(f"{self._reference.repository}:{reference}", "no-manifest", "the registry does not have it")
        self._expect(answer, httpx.codes.OK)
        if len(answer.content) > MAX_MANIFEST_BYTES:
            raise OciError(reference, "too-large", f"a manifest of {len(answer.content)} bytes")
        return answer.content

    def _request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        retry: bool = True,
    ) -> httpx.Response:
        attempts = ATTEMPTS if retry else 1
        for attempt in range(1, attempts + 1):
            try:
                return self._authorized(method, path, content, headers or {})
            except httpx.TransportError as error:
                if not retry:
                    raise
                if attempt == attempts:
                    raise self._down(error) from error
        raise AssertionError

    def _authorized(self, method: str, path: str, content: bytes | None, headers: dict[str, str]) -> httpx.Response:
        answer = self._client.request(method, self._url(path), content=content, headers={**headers, **self._token})
        if answer.status_code == httpx.codes.UNAUTHORIZED and not self._token:
            self._token = authorize(self._client, answer, self._credentials)
            return self._client.request(method, self._url(path), content=content, headers={**headers, **self._token})
        return answer

    @contextmanager
    def _stream(self, path: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        self._request("HEAD", path)  # obtains a token where one is needed
        with self._client.stream("GET", self._url(path), headers={**headers, **self._token}) as answer:
            yield answer

    def _url(self, path: str) -> str:
        if path.startswith(("http://", "https://", "/")):
            return urljoin(str(self._client.base_url), path)
        return f"/v2/{self._reference.name}/{path}"

    def _location(self, answer: httpx.Response) -> str:
        location: str = urljoin(str(answer.request.url), answer.headers.get("Location", ""))
        if httpx.URL(location).host != self._client.base_url.host:
            raise refused("registry-refused", "the registry sends uploads to another host")
        return location

    @contextmanager
    def _reader(self, content: bytes | Path) -> Iterator[IO[bytes]]:
        if isinstance(content, Path):
            with content.open("rb") as file:
                yield file
        else:
            with tempfile.SpooledTemporaryFile(max_size=UPLOAD_CHUNK_BYTES) as file:
                file.write(content)
                yield file

    def _expect(self, answer: httpx.Response, *statuses: int) -> httpx.Response:
        if answer.status_code in statuses:
            return answer
        text = "" if answer.is_stream_consumed is False else answer.text[:300]
        with suppress(ValueError, KeyError, IndexError, TypeError):
            text = json.loads(text)["errors"][0]["message"]
        message = f"{self._reference.repository} answers {answer.status_code} to {answer.request.method}: {text}"
        raise refused("registry-refused", message, status=ExitStatus.INFRASTRUCTURE)

    def _down(self, error: httpx.TransportError) -> KilnError:
        message = f"the registry {self._reference.host} does not answer: {error}"
        return refused("registry-down", message, status=ExitStatus.INFRASTRUCTURE, retriable=True)


@contextmanager
def open_registry(
    reference: Reference,
    *,
    plain_http: bool = False,
    credentials: Credentials | None = None,
    transport: httpx.BaseTransport | None = None,
) -> Iterator[Registry]:
    """Open the repository of *reference*."""
    scheme = "http" if plain_http or is_loopback(reference.host) else "https"
    with httpx.Client(
        base_url=f"{scheme}://{reference.host}",
        timeout=TIMEOUT,
        transport=transport,
        follow_redirects=True,
        headers=_HEADERS,
    ) as client:
        yield Registry(reference, client, credentials)


def _reached(text: str) -> int:
    """Return how many bytes an upload has; `0-0` is what registries say of an empty one."""
    last = text.rpartition("-")[2]
    return int(last) + 1 if last.isdigit() and last != "0" else 0


def is_loopback(host: str) -> bool:
    """Whether *host* (with or without a port) is this machine."""
    name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
