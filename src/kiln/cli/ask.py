"""Questions to the person at the terminal."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kiln.authoring.catalog.entries import Catalog
    from kiln.authoring.describe.model import Question
    from kiln.control_plane.road.model import Request
    from kiln.control_plane.settings import Settings


def is_terminal() -> bool:
    """Whether somebody can be asked: both ends of the conversation are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def settle_questions(request: Request, settings: Settings, catalog: Catalog) -> Request:
    """Return *request* with the answers to what can be read in two ways; without a terminal, as it is."""
    from kiln.control_plane.road.author import understand

    if request.form != "sentence" or not is_terminal():
        return request
    reading = understand(request, settings, catalog).interpretation
    answers = [(item.words.text, chosen(item)) for item in reading.questions] if reading is not None else []
    return replace(request, answers=tuple(answers))


def chosen(question: Question) -> str:
    """Ask what the words mean; an empty line takes the first."""
    options = ", ".join(f"{number} {name}" for number, name in enumerate(question.options, 1))
    while True:
        sys.stderr.write(f'"{question.words.text}": {options}? [1] ')
        sys.stderr.flush()
        line = sys.stdin.readline()
        answer = line.strip()
        if not answer:
            return question.options[0]
        if answer in question.options:
            return answer
        if answer.isdecimal() and 1 <= int(answer) <= len(question.options):
            return question.options[int(answer) - 1]


def confirmed(question: str) -> bool:
    """Ask for yes or no; anything but yes is no."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
