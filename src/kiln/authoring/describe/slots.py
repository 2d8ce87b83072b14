"""What a request says beside features: disk, names, users, ports, a page, a time zone, an architecture."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from kiln.authoring.describe.words import COMMON, Token
from kiln.authoring.recipe import rules
from kiln.authoring.recipe.machine import MAX_DISK_BYTES, MIN_DISK_BYTES
from kiln.authoring.recipe.outputs import OUTPUT_SYNONYMS
from kiln.authoring.recipe.sizes import parse_size, whole_mib

_SIZE: Final = re.compile(r"(?<![\w.])(?P<size>[0-9]{1,6}(?:\.[0-9]{1,3})?[ ]?[KMGT](?:i?B)?)(?!\w)", re.IGNORECASE)
_DISK_WORDS: Final = frozenset(
    ("disk", "disks", "drive", "storage", "ssd", "hdd", "image", "root", "filesystem", "space")
)
_MEMORY_WORDS: Final = frozenset(("ram", "memory", "mem", "swap", "cache", "heap", "bandwidth"))
_NAME: Final = re.compile(
    r"\b(?P<what>(?:host ?name|user|account)s?(?: (?:is|of|to|named|called))?|named|called|name it|call it)[ :=]+"
    r"(?P<quote>[\"'“”`]?)(?P<name>[A-Za-z_][A-Za-z0-9_.-]{0,62})(?P=quote)",
    re.IGNORECASE,
)
_NUMBER: Final = r"[0-9]{1,5}(?:/(?:tcp|udp))?(?![\w.])(?! ?[KMGT]i?B\b)"
_PORTS: Final = re.compile(
    r"(?P<open>\b(?:open|allow|expose|opening|opened|firewall)\b[^.;\n0-9]{0,20})?"
    rf"\bports? (?P<list>{_NUMBER}(?:(?:, ?and |, ?| and | or | & ){_NUMBER})*)",
    re.IGNORECASE,
)
_ONE_PORT: Final = re.compile(r"[0-9]{1,5}(?:/(?:tcp|udp))?", re.IGNORECASE)
_URL: Final = re.compile(r"\bhttps?://[A-Za-z0-9._~:/?#@!&()*+,;=%-]{1,1000}", re.IGNORECASE)
_REGIONS: Final = "Africa|America|Antarctica|Asia|Atlantic|Australia|Europe|Indian|Pacific|Etc"
_TIMEZONE: Final = re.compile(rf"\b(?:{_REGIONS})/[A-Z][A-Za-z0-9_+-]+(?:/[A-Z][A-Za-z0-9_+-]+)?")
_LOCALE: Final = re.compile(r"\b[a-z]{2,3}_[A-Z]{2}\.UTF-8(?![\w@])")
_SPELLINGS: Final = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "x64": "amd64",
    "aarch64": "arm64",
    "armv7": "armhf",
    "i686": "i386",
}
_NAMES: Final = ("amd64", "arm64", "armhf", "i386", "ppc64el", "riscv64", "s390x")
ARCHITECTURES: Final = {name: name for name in _NAMES} | _SPELLINGS
_ARCHITECTURE: Final = re.compile(rf"\b(?:{'|'.join(ARCHITECTURES)})\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """A value that the request gives; *kind* is `disk` (bytes), `name`, `hostname`, `user`, `port`, `open-port`, ..."""

    kind: str
    value: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Unused:
    """A piece of the request that looks like a value but is none that a recipe has."""

    message: str
    start: int
    end: int


def find_slots(text: str, words: list[Token]) -> tuple[list[Found], list[Unused]]:
    """Return the values in *text*, in the order in which they stand, and what was not usable."""
    found: list[Found] = []
    unused: list[Unused] = []
    for kind, pattern in (("url", _URL), ("timezone", _TIMEZONE), ("locale", _LOCALE)):
        for match in pattern.finditer(text):
            value = match.group().rstrip(".,;:!?)")
            found.append(Found(kind, value, match.start(), match.start() + len(value)))
    for match in _ARCHITECTURE.finditer(text):
        found.append(Found("architecture", ARCHITECTURES[match.group().lower()], *match.span()))
    for match in _OUTPUT.finditer(text):
        name = match["output"].lower()
        found.append(Found("output", OUTPUT_SYNONYMS.get(name, name), *match.span()))
    _sizes(text, words, found, unused)
    _ports(text, found, unused)
    _names(text, found, unused)
    return sorted(found, key=lambda item: (item.start, item.kind)), unused


_GENERATION: Final = re.compile(r"[345] ?G", re.IGNORECASE)
"""Of mobile networks, unless it is said of a disk or of memory: "4G modem"."""
_RADIO_WORDS: Final = frozenset(
    ("modem", "lte", "mobile", "cellular", "network", "uplink", "router", "stick", "dongle")
)
_OUTPUT: Final = re.compile(
    r"\b(?P<output>qcow2|squashfs|vmdk|vhdx|vhd|ova|iso|raw(?= (?:disk|image))|tarball|ostree|uki)\b", re.IGNORECASE
)


def _sizes(text: str, words: list[Token], found: list[Found], unused: list[Unused]) -> None:
    for match in _SIZE.finditer(text):
        about = _about(text, words, match.start(), match.end())
        following = next((word.stem for word in words if word.start >= match.end()), "")
        if _GENERATION.fullmatch(match["size"]) and (not about or following in _RADIO_WORDS):
            continue
        size = parse_size(match["size"])
        if about == "disk" and size is not None and MIN_DISK_BYTES <= size <= MAX_DISK_BYTES:
            found.append(Found("disk", str(whole_mib(size)), *match.span()))
        elif about == "disk":
            unused.append(Unused("a disk has from 1 GiB to 16 TiB", *match.span()))
        elif about == "memory":
            unused.append(Unused("memory is given where the image runs, it is no part of an image", *match.span()))
        else:
            unused.append(Unused("a size, but not said of what (of the disk?)", *match.span()))


def _about(text: str, words: list[Token], start: int, end: int) -> str:
    """Return whether a size is said of the `disk` or of `memory`; a word behind it counts before one in front."""
    behind = [word.norm for word in words if word.start >= end][:3]
    before = [word.norm for word in words if word.end <= start][-3:][::-1]
    after_comma = "," in text[end : end + 2]
    for word in [*(() if after_comma else behind), *before]:
        if word in _DISK_WORDS:
            return "disk"
        if word in _MEMORY_WORDS:
            return "memory"
    return ""


def _ports(text: str, found: list[Found], unused: list[Unused]) -> None:
    for match in _PORTS.finditer(text):
        behind = re.match(r"[ ,]*(?:is |are )?(?:open|opened|allowed|exposed)\b", text[match.end() :], re.IGNORECASE)
        kind = "open-port" if match["open"] or behind else "port"
        for port in _ONE_PORT.finditer(match["list"]):
            start = match.start("list") + port.start()
            value = port.group().lower()
            value = value if "/" in value else f"{value}/tcp"
            if rules.PORT.accepts(value):
                found.append(Found(kind, value, start, start + len(port.group())))
            else:
                unused.append(Unused("not a port", start, start + len(port.group())))


def _names(text: str, found: list[Found], unused: list[Unused]) -> None:
    for match in _NAME.finditer(text):
        what = " ".join(match["what"].lower().split())
        name = match["name"].rstrip(".-")
        quoted = bool(match["quote"])
        span = (match.start("name"), match.start("name") + len(name))
        if what.startswith(("user", "account")):
            if not quoted and not what.endswith(("named", "called")):
                continue
            kind, rule = "user", rules.USER_NAME
        elif what.startswith("host"):
            kind, rule = "hostname", rules.HOST_NAME
        else:
            kind, rule = "name", rules.RECIPE_NAME
        if name.lower() in COMMON and not quoted:
            continue
        if rule.accepts(name.lower()):
            found.append(Found(kind, name.lower(), *span))
        else:
            unused.append(Unused(f"not {rule.what}: {rule.hint}", *span))
