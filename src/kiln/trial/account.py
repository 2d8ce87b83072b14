"""The account with which a test logs in: made for one run, told to the guest's systemd from outside.

The image has no test agent and no test user. QEMU hands systemd (>= 252) the credential `tmpfiles.extra`, whose
tmpfiles.d(5) lines create the account in the throw-away overlay at every boot, before any service starts.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Final

from kiln.linux.process import run
from kiln.trial.machine import CredentialFiles

ACCOUNT_ID: Final = 60990
"""Above what adduser gives to people, below systemd-homed (60001-60513 are its) and DynamicUser= (61184-65519)."""

CREDENTIAL_PREFIX: Final = "io.systemd.credential.binary:tmpfiles.extra="  # systemd.system-credentials(7)


@dataclass(frozen=True, slots=True)
class TestAccount:
    """A name, a password and a key pair; *superuser* gives it the user id 0, for an image that has no sudo."""

    __test__ = False  # not a pytest class

    name: str
    password: str
    password_hash: str
    public_key: str
    private_key_file: Path
    superuser: bool

    @property
    def home(self) -> str:
        """The home directory, which disappears with the machine's memory."""
        return f"/run/{self.name}"


def create_account(directory: Path, *, superuser: bool) -> TestAccount:
    """Make an account with fresh secrets; the key pair lies in *directory*, which must be private to this run.

    Raises KilnError(HOST, "missing-tool") without ssh-keygen or openssl.
    """
    name, password = f"kiln-test-{token_hex(3)}", token_hex(16)
    key = directory / "key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)])
    # SHA-512 crypt: every Linux distribution's login knows it. The password goes by stdin, not by the process list.
    hashed = run(["openssl", "passwd", "-6", "-stdin"], stdin=f"{password}\n".encode("ascii"))
    return TestAccount(
        name,
        password,
        hashed.stdout.decode("ascii").strip(),
        key.with_suffix(".pub").read_text("ascii").strip(),
        key,
        superuser,
    )


def tmpfiles_lines(account: TestAccount) -> str:
    """Return the tmpfiles.d(5) lines that create *account*.

    Numbers, not names, own the files, because systemd-tmpfiles looks names up before it has written any line.
    """
    number = 0 if account.superuser else ACCOUNT_ID
    name, home = account.name, account.home
    lines = [
        f"d {home} 0700 {number} {number} -",
        f"d {home}/.ssh 0700 {number} {number} -",
        f"f {home}/.ssh/authorized_keys 0600 {number} {number} - {account.public_key}",
        f"w+ /etc/passwd - - - - {name}:x:{number}:{number}::{home}:/bin/sh\\n",
        # The empty third field switches password ageing off (shadow(5)); otherwise login asks for a new password.
        f"w+ /etc/shadow - - - - {name}:{account.password_hash}::0:99999:7:::\\n",
    ]
    if not account.superuser:
        lines.append(f"w+ /etc/group - - - - {name}:x:{number}:\\n")
        lines.append(f"f /etc/sudoers.d/zz-{name} 0440 0 0 - {name} ALL=(ALL) NOPASSWD: ALL")
    return "\n".join(lines) + "\n"


def write_credentials(account: TestAccount, directory: Path) -> CredentialFiles:
    """Write what QEMU hands to the guest; as files, because a command line is visible to every user of the host."""
    content = tmpfiles_lines(account).encode("ascii")
    files = CredentialFiles(smbios=directory / "smbios", fw_cfg=directory / "fw-cfg")
    for path, data in (
        (files.smbios, CREDENTIAL_PREFIX.encode("ascii") + base64.b64encode(content)),
        (files.fw_cfg, content),
    ):
        path.touch(mode=0o600)
        path.write_bytes(data)
    return files
