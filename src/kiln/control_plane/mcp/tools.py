"""What agents may ask for: each tool with its arguments, and what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: *arguments* are texts by name with their meaning, *required* some of them."""

    name: str
    meaning: str
    arguments: tuple[tuple[str, str], ...]
    required: tuple[str, ...]
    run: Callable[[Json], object] = field(repr=False)

    def description(self) -> Json:
        """Return what `tools/list` says of it."""
        properties = {name: {"type": "string", "description": text} for name, text in self.arguments}
        schema = {"type": "object", "additionalProperties": False, "properties": properties}
        return {
            "name": self.name,
            "description": self.meaning,
            "inputSchema": schema | ({"required": list(self.required)} if self.required else {}),
        }

    def fault(self, arguments: Json) -> str:
        """Return what is wrong with the arguments of a call, or an empty text."""
        known = {name for name, _ in self.arguments}
        for name, value in arguments.items():
            if name not in known:
                return f"`{self.name}` has no argument `{name[:60]}`"
            if not isinstance(value, str):
                return f"`{name}` must be text"
        missing = [name for name in self.required if name not in arguments]
        return f"`{missing[0]}` is missing" if missing else ""
