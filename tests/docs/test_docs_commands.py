"""docs/commands.md has a heading for each command and a row for each option, and no others; examples can be parsed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from pages import page, rows, sections, words

from kiln.cli.main import app
from kiln.engine import arguments as engine

HELP = frozenset({"--help", "-h"})


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None or name == "kiln":
        yield name, command
    for child_name, child in (children or {}).items():
        yield from commands(child, f"{name} {child_name}")


def options(command: Any) -> set[str]:
    named = (parameter for parameter in command.params if parameter.param_type_name == "option")
    return {spelling for option in named for spelling in (*option.opts, *option.secondary_opts)} - HELP


def parser_options() -> set[str]:
    return {spelling for action in engine._parser()._actions for spelling in action.option_strings} - HELP


PAGE = sections(page("commands.md"))
ROOT_COMMAND = typer.main.get_command(app)
COMMANDS = dict(commands(ROOT_COMMAND, "kiln"))
OPTIONS = {name: options(command) for name, command in COMMANDS.items()} | {"kiln-osbuild": parser_options()}


def test_every_command_has_its_heading_and_no_other_has_one() -> None:
    assert PAGE.keys() - {"", "Commands"} == OPTIONS.keys()


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_has_its_row(name: str) -> None:
    listed = [word for row in rows(PAGE[name]) for word in words(row[0])]
    assert sorted(listed) == sorted(OPTIONS[name])


def examples() -> list[str]:
    return [line.strip() for text in PAGE.values() for line in text.splitlines() if line.startswith("    kiln")]


def test_every_command_has_an_example() -> None:
    shown = [section for section in OPTIONS if section != "kiln"]
    assert all(any(re.match(rf"{name}\b", line) for line in examples()) for name in shown)


@pytest.mark.parametrize("line", examples())
def test_examples_can_be_parsed(line: str) -> None:
    program, *arguments = shlex.split(line)
    if program == "kiln-osbuild":
        engine._parser().parse_args(arguments)
        return
    command = ROOT_COMMAND
    while getattr(command, "commands", None):
        command = command.commands[arguments.pop(0)]
    given = {argument for argument in arguments if argument.startswith("-")}
    assert given <= options(command)
    command.make_context(line, arguments)
