"""What a name may be before it reaches a shell, a path or a file of the image.

Everything here is stricter than what the receiving program would take: a value that passes needs no quoting in
/etc/passwd, in a systemd unit, in an INI file, on a command line or as a part of a path.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Rule:
    """What a text must be: *what* names it in messages, *accepts* decides, *hint* says how it should look."""

    what: str
    accepts: Callable[[str], bool]
    hint: str = ""
    pattern: str = ""
    """The regular expression for the whole text, where there is one that says it all; for the published schema."""


def _pattern(what: str, pattern: str, hint: str = "") -> Rule:
    compiled = re.compile(pattern)
    return Rule(what, lambda text: compiled.fullmatch(text) is not None, hint, pattern)


# Accounts that base-passwd and systemd make on every base; a recipe must not redefine one.
SYSTEM_ACCOUNTS: Final = frozenset(
    (
        "root",
        "daemon",
        "bin",
        "sys",
        "sync",
        "games",
        "man",
        "lp",
        "mail",
        "news",
        "uucp",
        "proxy",
        "www-data",
        "backup",
        "list",
        "irc",
        "_apt",
        "nobody",
        "messagebus",
        "sshd",
        "polkitd",
        "systemd-network",
        "systemd-resolve",
        "systemd-timesync",
        "systemd-journal",
        "systemd-oom",
    )
)

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_USER: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}")  # adduser's NAME_REGEX and the 32 characters of useradd(8)
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_@+.][A-Za-z0-9_@+.-]*)+")
_KEY: Final = re.compile(
    r"(?P<type>[a-z0-9@.-]+) (?P<blob>[A-Za-z0-9+/]{32,4000}={0,2})(?: (?P<comment>[^\x00-\x1f\x7f]{1,200}))?"
)
# DSA is absent on purpose: OpenSSH has refused it by default since 7.0.
_KEY_TYPES: Final = frozenset(
    (
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    )
)


def safe_path(text: str) -> bool:
    """Whether *text* is an absolute path of plain characters without `.` and `..` parts."""
    return len(text) <= 255 and _PATH.fullmatch(text) is not None and not {".", ".."} & set(text.split("/"))


def one_line(text: str) -> bool:
    """Whether *text* is a single line without control characters (C0, DEL, C1, and Unicode's line separators)."""
    return not any(ord(char) < 32 or 127 <= ord(char) < 160 or char in "\u2028\u2029" for char in text)


def _home(text: str) -> bool:
    return safe_path(text) and text.startswith(("/home/", "/srv/", "/opt/", "/var/lib/"))


def _ssh_key(text: str) -> bool:
    match = _KEY.fullmatch(text)
    if match is None or match["type"] not in _KEY_TYPES:
        return False
    try:
        blob = base64.b64decode(match["blob"], validate=True)
    except binascii.Error:
        return False
    # RFC 4253, section 6.6: the blob begins with the length and the name of the key's type.
    name = match["type"].encode()
    return blob.startswith(len(name).to_bytes(4, "big") + name)


def _address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _network_address(text: str) -> bool:
    address, slash, prefix = text.partition("/")
    if not slash or not prefix.isascii() or not prefix.isdigit():
        return False
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return "%" not in address


def _port(text: str) -> bool:
    number, _, protocol = text.partition("/")
    return re.fullmatch(r"[1-9][0-9]{0,4}", number) is not None and int(number) <= 65535 and protocol in ("tcp", "udp")


def _git_url(text: str) -> bool:
    return re.fullmatch(r"(?:https|ssh)://[A-Za-z0-9@][A-Za-z0-9._~:@/+-]*", text) is not None and ".." not in text


def _subdirectory(text: str) -> bool:
    return safe_path("/" + text)


RECIPE_NAME: Final = _pattern("a name", _LABEL, "lower-case letters, digits and `-`, at most 63 characters")
FEATURE_ID: Final = _pattern("a feature id", r"(?=.{1,63}\Z)[a-z0-9]+(?:-[a-z0-9]+)*", "lower-case words joined by `-`")
BASE_ID: Final = _pattern("a base", r"[a-z0-9]+(?:[.-][a-z0-9]+){0,4}", "such as `debian-12`")
PACKAGE: Final = _pattern(
    "a package name",
    r"[a-z0-9][a-z0-9+.-]{1,127}",  # Debian policy, section 5.6.1
    "the bare name: versions are chosen by the lock",
)
USER_NAME: Final = Rule(
    "a user name",
    lambda text: _USER.fullmatch(text) is not None and text not in SYSTEM_ACCOUNTS,
    "lower-case letters, digits, `_` and `-`, at most 32 characters, and no account of the system",
)
GROUP_NAME: Final = _pattern("a group name", r"[a-z_][a-z0-9_-]{0,31}")
SHELL: Final = Rule(
    "a shell",
    lambda text: safe_path(text) and text.rpartition("/")[0].endswith(("/bin", "/sbin")),
    "such as `/bin/bash`",
)
HOME: Final = Rule("a home directory", _home, "an absolute path below /home, /srv, /opt or /var/lib")
COMMENT: Final = Rule(
    "a comment",
    lambda text: len(text) <= 128 and ":" not in text and one_line(text),
    "one line without `:` (it is a field of /etc/passwd)",
)
SSH_KEY: Final = Rule("an SSH public key", _ssh_key, "one line: type, base64, comment; no options, no DSA")
PASSWORD_HASH: Final = _pattern(
    "a password hash",
    r"\$(?:y|gy|7|6|5|2[aby])\$[./A-Za-z0-9$=,]{8,400}",  # crypt(5)
    "make one with `mkpasswd --method=yescrypt`; better, give `ssh_keys`",
)
HOST_NAME: Final = _pattern(
    "a host name", rf"(?=.{{1,64}}\Z){_LABEL}(?:\.{_LABEL})*", "RFC 1123, at most 64 characters"
)
INTERFACE: Final = _pattern("an interface name", r"[a-z][a-z0-9_.-]{0,13}[a-z0-9*]", "such as `eth0` or `en*`")
ADDRESS: Final = Rule("an IP address", _address)
NETWORK_ADDRESS: Final = Rule("an address with its prefix", _network_address, "such as `192.0.2.10/24`")
PORT: Final = Rule("a port", _port, "such as `8080/tcp`")
UNIT: Final = _pattern(
    "a service",
    r"[A-Za-z0-9][A-Za-z0-9_@.-]{0,127}",
    "the name of a systemd unit; `.service` may be left out",
)
KEY: Final = _pattern("a key", r"[a-z][a-z0-9_]{0,63}")
LOCALE: Final = _pattern(
    "a locale",
    r"C\.UTF-8|[a-z]{2,3}_[A-Z]{2}\.UTF-8(?:@[a-z]{1,16})?",
    "such as `en_GB.UTF-8`; only UTF-8 is supported",
)
TIMEZONE: Final = _pattern(
    "a time zone", r"[A-Z][A-Za-z0-9_+-]{1,31}(?:/[A-Z][A-Za-z0-9_+-]{0,31}){0,2}", "such as `UTC` or `Europe/Berlin`"
)
FLAVOUR: Final = _pattern("a kernel flavour", r"[a-z][a-z0-9-]{0,31}")
CMDLINE: Final = _pattern(
    "a kernel command line",
    r"|[A-Za-z0-9_.=,:/+@%-]+(?: [A-Za-z0-9_.=,:/+@%-]+){0,63}",
    "words joined by single spaces, without quotes",
)
SCRIPT_NAME: Final = _pattern("a script name", r"[a-z0-9][a-z0-9-]{0,62}", "lower-case letters, digits and `-`")
SCRIPT: Final = Rule("a script", lambda text: bool(text.strip()) and "\0" not in text and len(text) <= 65536)
TITLE: Final = Rule("one line of text", lambda text: bool(text.strip()) and len(text) <= 200 and one_line(text))
LINE: Final = Rule("one line of text", lambda text: len(text) <= 4096 and one_line(text))
MIRROR: Final = _pattern("the logical name of a mirror", r"[a-z0-9]+(?:-[a-z0-9]+)*", "a name, not an address")
SUITE: Final = _pattern("a suite", r"[A-Za-z0-9][A-Za-z0-9./-]{0,63}")
COMPONENT: Final = _pattern("a component", r"[a-z0-9][a-z0-9.-]{0,31}")
SIGNED_BY: Final = Rule(
    "a keyring file of the project", _subdirectory, "a relative path inside the project, such as `keys/tools.gpg`"
)
GIT_URL: Final = Rule("a git address", _git_url, "https or ssh")
GIT_REF: Final = _pattern("a git name", r"|(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
SUBDIRECTORY: Final = Rule("a relative path", _subdirectory)
THEME: Final = _pattern("a theme", r"|[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}")
WALLPAPER: Final = Rule("a path", safe_path)
DESKTOP_ENTRY: Final = _pattern("a desktop entry", r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", "such as `firefox-esr.desktop`")
SECRET_NAME: Final = _pattern("the name of a secret", r"[a-z0-9][a-z0-9-]{0,62}", "lower-case letters, digits and `-`")
LAYOUT: Final = _pattern("a disk layout", r"[a-z][a-z0-9-]{0,31}")
OUTPUT: Final = _pattern("a form of the image", r"[a-z][a-z0-9.-]{0,31}", "such as `qcow2`")
