"""Hints and messages of the program name commands, options and pages that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import typer
from pages import DOCS, ROOT

from kiln.cli.main import app

COMMAND = re.compile(r"`kiln (?P<words>[a-z][a-z -]*)`?")


def texts() -> Iterator[tuple[str, str]]:
    """Yield file and text of every string in the program that is not a docstring, and of the parts of f-strings."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def wrong(words: list[str]) -> bool:
    command = typer.main.get_command(app)
    while words and not words[0].startswith("-") and getattr(command, "commands", None):
        command = command.commands.get(words[0])  # type: ignore[attr-defined]
        if command is None:
            return True
        words = words[1:]
    known = {spelling for parameter in command.params for spelling in parameter.opts}
    return any(word.startswith("-") and word not in known for word in words)


def test_every_command_that_a_message_names_exists() -> None:
    bad = [
        f"{place}: kiln {match['words']}"
        for place, text in texts()
        for match in COMMAND.finditer(text)
        if wrong(match["words"].split())
    ]
    assert bad == []


def test_every_page_that_a_message_names_exists() -> None:
    named = {(place, name) for place, text in texts() for name in re.findall(r"docs/([a-z-]+\.md)", text)}
    assert sorted(f"{place}: {name}" for place, name in named if not (DOCS / name).is_file()) == []
