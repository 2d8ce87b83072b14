"""Why something is in an image: from the words of the request over the feature and the package to the file. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kiln.artifact.stock import Inventory
from kiln.authoring.catalog.model import Reason, Resolution
from kiln.authoring.lock.model import IMAGE_TREE, Lock
from kiln.errors import Domain, ExitStatus, KilnError

KINDS: Final = ("package", "file", "user", "port", "service", "sysctl", "feature")
_PORT: Final = re.compile(r"[0-9]{1,5}(/(tcp|udp))?")


@dataclass(frozen=True, slots=True)
class Origin:
    """A thing and the chain that leads to it, outermost cause first."""

    kind: str
    name: str
    chain: tuple[str, ...]
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Image:
    """What the answer is read from."""

    resolution: Resolution
    lock: Lock
    inventory: Inventory


def why(image: Image, question: str) -> tuple[Origin, ...]:
    """Return every origin of what *question* names: `openssh-server`, `/usr/sbin/sshd`, `22/tcp`, `user:alice` ...

    Raises KilnError(ATTESTATION, "not-in-image").
    """
    kind, colon, name = question.partition(":")
    wanted = (kind,) if colon and kind in KINDS else KINDS
    word = name if colon and kind in KINDS else question
    found = [origin for each in wanted for origin in _FINDERS[each](image, word)]
    if not found:
        raise KilnError(
            Domain.ATTESTATION,
            "not-in-image",
            f"there is no {' or '.join(wanted)} `{word}` in this image",
            hint="name a package, a whole path, a user, a port such as 22/tcp, a unit or a kernel setting",
            exit_status=ExitStatus.NOT_FOUND,
        )
    return tuple(found)


def package_chain(image: Image, name: str) -> tuple[str, ...]:
    """Return the chain of a locked package; the resolution says what comes before its own first word."""
    package = next(item for item in image.lock.tree(IMAGE_TREE).packages if item.name == name)
    first, *rest = package.reason.split(" > ")
    wish = next((item for item in image.resolution.packages if item.name == (rest[0] if rest else name)), None)
    feature = next((item for item in image.resolution.features if first == f"feature {item.id}"), None)
    if feature is not None:
        before = feature.reason.chain
    elif wish is not None and wish.reason.chain[-1] == first:
        before = wish.reason.chain
    else:
        before = (first,)
    tail = [f"package {item}" for item in rest]
    return (*before, *tail) if tail and rest[-1] == name else (*before, *tail, f"package {name}")


def _package(image: Image, word: str) -> Iterator[Origin]:
    for item in image.lock.tree(IMAGE_TREE).packages:
        if word in (item.name, f"{item.name}:{item.architecture}"):
            wish = next((entry for entry in image.resolution.packages if entry.name == item.name), None)
            also = wish.reason.also if wish is not None else ()
            yield Origin("package", f"{item.name} {item.version}", package_chain(image, item.name), also)


def _file(image: Image, word: str) -> Iterator[Origin]:
    if not word.startswith("/"):
        return
    written = next((item for item in image.resolution.files if _same(item.path, word)), None)
    if written is not None:
        yield Origin("file", word, written.reason.chain, written.reason.also)
        return
    for file in image.inventory.files:
        if _same(file.path, word):
            for owner in file.packages:
                name = owner.partition(":")[0]
                yield Origin("file", word, package_chain(image, name))
            if not file.packages:
                yield Origin("file", word, ("no package owns it", "made while the packages were set up"))


def _same(path: str, word: str) -> bool:
    return path in (word, f"/usr{word}")


def _reasoned(kind: str, name: str, reason: Reason) -> Origin:
    return Origin(kind, name, reason.chain, reason.also)


def _user(image: Image, word: str) -> Iterator[Origin]:
    wishes = [item for item in image.resolution.users if item.name == word]
    yield from (_reasoned("user", item.name, item.reason) for item in wishes)
    if not wishes and any(item.name == word for item in image.inventory.accounts):
        yield Origin("user", word, ("made while the packages were set up",))


def _port(image: Image, word: str) -> Iterator[Origin]:
    if _PORT.fullmatch(word):
        for item in image.resolution.ports:
            if word in (f"{item.port}", f"{item.port}/{item.protocol}"):
                yield _reasoned("port", f"{item.port}/{item.protocol}", item.reason)


def _service(image: Image, word: str) -> Iterator[Origin]:
    unit = word if "." in word else f"{word}.service"
    wishes = [item for item in image.resolution.services if item.unit == unit]
    yield from (_reasoned("service", f"{item.unit} ({item.state})", item.reason) for item in wishes)
    if not wishes and any(item.unit == unit for item in image.inventory.units):
        for file in image.inventory.files:
            if file.path == f"/usr/lib/systemd/system/{unit}" and file.packages:
                yield Origin("service", f"{unit} (enabled)", package_chain(image, file.packages[0].partition(":")[0]))


def _sysctl(image: Image, word: str) -> Iterator[Origin]:
    for item in image.resolution.sysctls:
        if item.key == word:
            yield _reasoned("sysctl", f"{item.key} = {item.value}", item.reason)


def _feature(image: Image, word: str) -> Iterator[Origin]:
    for item in image.resolution.features:
        if item.id == word:
            yield _reasoned("feature", item.id, item.reason)


_FINDERS: Final = {
    "package": _package,
    "file": _file,
    "user": _user,
    "port": _port,
    "service": _service,
    "sysctl": _sysctl,
    "feature": _feature,
}
