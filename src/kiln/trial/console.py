"""A session over the serial console, for an image without an SSH server or one that lets nobody in.

The console is a shared medium: the kernel and systemd write into it whenever they like. So a command's output goes
to files in the guest; what is read over the wire is their base64, between random markers and with a checksum, and
is asked for again when it came damaged.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import time
import zlib
from secrets import token_hex
from typing import Final

from kiln.trial.account import TestAccount
from kiln.trial.serial import SerialConsole
from kiln.trial.session import CommandResult, login_refused, session_lost, shell_command

PROMPT_SECONDS: Final = 60.0
REPEAT_SECONDS: Final = 3.0
"""An emulated machine may need some seconds to go from the password to the shell's first prompt."""
LOGIN_ATTEMPTS: Final = 4
TRANSFER_ATTEMPTS: Final = 4
ANSWER_MARGIN_SECONDS: Final = 120.0
"""A serial port under TCG carries some tens of kilobytes a second."""
LINE_CHARACTERS: Final = 512
"""A terminal in canonical mode takes 4095 bytes a line (N_TTY_BUF_SIZE)."""

_LOGIN: Final = re.compile(r"login: ")
_PASSWORD: Final = re.compile(r"[Pp]assword: ?")
_INCORRECT: Final = re.compile(r"Login incorrect|Login timed out|Permission denied")
_BASE64_LINE: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}")


class ConsoleSession:
    """Runs commands in a shell on the serial console; `log_in` comes first."""

    kind = "console"

    def __init__(self, serial: SerialConsole, account: TestAccount) -> None:
        self._serial = serial
        self._account = account

    def log_in(self, *, timeout_seconds: float) -> None:
        """Wait for the prompt and log in. Raises KilnError(TRIAL, "login-refused")."""
        deadline = time.monotonic() + timeout_seconds
        start = 0
        for _ in range(LOGIN_ATTEMPTS):
            if self._serial.wait_for(_LOGIN, since=start, timeout_seconds=deadline - time.monotonic()) is None:
                break
            start = self._serial.position
            self._type(self._account.name)
            if self._serial.wait_for(_PASSWORD, since=start, timeout_seconds=PROMPT_SECONDS) is not None:
                self._type(self._account.password)
                if self._shell_answers():
                    return
            start = self._serial.position
            self._type("")  # a getty repeats its prompt, which the kernel's messages may have torn
        raise login_refused("no shell on the serial console")

    def run(self, command: str, *, timeout_seconds: float, as_root: bool = True) -> CommandResult:
        """See Session.run."""
        token = token_hex(8)
        base = f"{self._account.home}/{token}"
        self._send_file(f"{base}.in", command.encode("utf-8"))
        line = shell_command(as_root, self._account.superuser, timeout_seconds)
        done = _marker(token, "done")
        start = self._serial.position
        self._type(f"{line} <{base}.in >{base}.out 2>{base}.err; s=$?; {_print(token, 'done')} $s")
        match = self._serial.wait_for(
            re.compile(done + r" (\d+)\n"), since=start, timeout_seconds=timeout_seconds + ANSWER_MARGIN_SECONDS
        )
        if match is None:
            raise session_lost("no answer on the serial console")
        result = CommandResult(int(match.group(1)), self._fetch_file(f"{base}.out"), self._fetch_file(f"{base}.err"))
        self._type(f"rm -f {base}.*")
        return result

    def _shell_answers(self) -> bool:
        """See whether a shell is there; then silence echo, prompts and the kernel.

        login(1) drops what is typed before the shell starts, perhaps half of a line. So the question is one that
        is harmless by halves (no quotes), and is asked until it is answered.
        """
        start = self._serial.position
        deadline = time.monotonic() + PROMPT_SECONDS
        while time.monotonic() < deadline and _INCORRECT.search(self._serial.text(start)) is None:
            token = token_hex(8)
            self._type(f"echo shell-{token}-$((6*7))")
            answer = re.compile(f"shell-{token}-42")
            if self._serial.wait_for(answer, since=start, timeout_seconds=REPEAT_SECONDS) is not None:
                break
        else:
            return False
        quiet = "dmesg -n 1" if self._account.superuser else "sudo -n dmesg -n 1"
        self._type(f"stty -echo; PS1=; PS2=; {quiet} 2>/dev/null; {_print(token, 'ready')}")
        ready = re.compile(_marker(token, "ready") + r"\s")
        return self._serial.wait_for(ready, since=start, timeout_seconds=PROMPT_SECONDS) is not None

    def _send_file(self, path: str, data: bytes) -> None:
        encoded = base64.b64encode(data).decode("ascii")
        lines = [encoded[at : at + LINE_CHARACTERS] for at in range(0, len(encoded), LINE_CHARACTERS)]
        digest = hashlib.sha256(data).hexdigest()
        for _ in range(TRANSFER_ATTEMPTS):
            token = token_hex(8)
            self._type(f"base64 -d >{path} <<'{token}'")
            for line in lines:
                self._type(line)
            self._type(token)
            start = self._serial.position
            self._type(f'{_print(token, "sent")} "$(sha256sum <{path})"')
            sent = re.compile(_marker(token, "sent") + r" ([0-9a-f]{64})")
            match = self._serial.wait_for(sent, since=start, timeout_seconds=ANSWER_MARGIN_SECONDS)
            if match is not None and match.group(1) == digest:
                return
        raise session_lost("a script did not reach the guest undamaged over its serial console")

    def _fetch_file(self, path: str) -> bytes:
        for _ in range(TRANSFER_ATTEMPTS):
            token = token_hex(8)
            start = self._serial.position
            self._type(
                f'{_print(token, "begin")}; gzip -nc {path} | base64; {_print(token, "end")} "$(sha256sum <{path})"'
            )
            framed = re.compile(
                _marker(token, "begin") + r" *\n(.*?)" + _marker(token, "end") + " ([0-9a-f]{64})", re.DOTALL
            )
            match = self._serial.wait_for(framed, since=start, timeout_seconds=ANSWER_MARGIN_SECONDS)
            data = None if match is None else decode_lines(match.group(1))
            if match is not None and data is not None and hashlib.sha256(data).hexdigest() == match.group(2):
                return data
        raise session_lost("an answer did not come undamaged over the serial console")

    def _type(self, line: str) -> None:
        try:
            self._serial.send(line + "\n")
        except OSError as error:
            raise session_lost(str(error)) from error


def decode_lines(text: str) -> bytes | None:
    """Return what `gzip | base64` printed, leaving out lines that cannot be its; None if it is damaged."""
    kept = "".join(line for line in text.split("\n") if _BASE64_LINE.fullmatch(line.strip()))
    try:
        return zlib.decompress(base64.b64decode(kept, validate=True), wbits=zlib.MAX_WBITS | 16)
    except (binascii.Error, ValueError, zlib.error):
        return None


def _marker(token: str, word: str) -> str:
    return re.escape(f"<{token}:{word}>")


def _print(token: str, word: str) -> str:
    """Return shell that prints a marker and its arguments; the line itself, if echoed, does not hold the marker."""
    return f"printf '<%s:%s> %s\\n' {token} {word}"
