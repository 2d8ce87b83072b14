"""What a stage prints: safe for any bytes, passed on as it comes, and only its end kept."""

from __future__ import annotations

import codecs
import re
from typing import Final

from kiln.events.model import Output, Sink

KEPT_CHARACTERS: Final = 1024 * 1024
TAIL_LINES: Final = 40

_MISSING_TOOL: Final = (
    re.compile(r"FileNotFoundError: \[Errno 2\] No such file or directory: b?'([^'\n]+)'"),
    re.compile(r"(?:^|: )([\w./+-]+): (?:command )?not found", re.MULTILINE),
    re.compile(r"exec(?:vp)?:? ([^:\n]+): No such file or directory"),
    re.compile(r"env: \W?([\w./+-]+)\W?: No such file or directory"),
)


class StageOutput:
    """Takes bytes, emits text, remembers the end of it."""

    def __init__(self, sink: Sink, source: str, stage_id: str = "") -> None:
        self._sink = sink
        self._source = source
        self._stage_id = stage_id
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._kept = ""

    def feed(self, data: bytes) -> None:
        """Take a piece; a character may be cut in the middle."""
        self._take(self._decoder.decode(data))

    def finish(self) -> None:
        """Take the end."""
        self._take(self._decoder.decode(b"", final=True))

    @property
    def text(self) -> str:
        """What was printed, or the end of it."""
        return self._kept[-KEPT_CHARACTERS:]

    @property
    def tail(self) -> str:
        """The last lines."""
        return "\n".join(self.text.splitlines()[-TAIL_LINES:])

    def _take(self, text: str) -> None:
        if text:
            self._sink.emit(Output(self._source, text, self._stage_id))
            self._kept += text
            if len(self._kept) > 2 * KEPT_CHARACTERS:
                self._kept = self._kept[-KEPT_CHARACTERS:]


def missing_tool(text: str) -> str | None:
    """Return the program that a stage could not find, if its output says so; a path to a data file is none."""
    for pattern in _MISSING_TOOL:
        for name in reversed(pattern.findall(text)):
            if "/" not in name or name.startswith(("/usr/", "/bin/", "/sbin/")):
                return str(name)
    return None
