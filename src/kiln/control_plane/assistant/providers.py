"""The two ways in which models are asked over HTTP: Anthropic's messages, and OpenAI's chat completions.

Many servers speak the second, those that run on one's own machine among them. A vendor's library would be a large piece
of foreign code with the key in its hands; each of these is one request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import httpx

from kiln.attestation.keys import read_secret
from kiln.control_plane.assistant.model import Question
from kiln.control_plane.settings import ModelSettings
from kiln.errors import Domain, ExitStatus, KilnError

TIMEOUT: Final = httpx.Timeout(120.0, connect=10.0)
MAX_ANSWER_TOKENS: Final = 4096
MAX_ANSWER_BYTES: Final = 1024 * 1024
RETRIABLE: Final = (408, 429, 500, 502, 503, 504, 529)
TOOL: Final = "recipe"
ANTHROPIC_VERSION: Final = "2023-06-01"


def ask(
    question: Question,
    settings: ModelSettings,
    environment: Mapping[str, str],
    transport: httpx.BaseTransport | None = None,
) -> dict[str, Any]:
    """Return the model's answer, an object that claims to follow the schema.

    Raises KilnError (DESCRIBE): `model-unreachable`, `model-refused`, `bad-model-answer`; what `read_secret` raises.
    """
    key = read_secret(settings.key, environment).decode("utf-8", "replace").strip() if settings.key else ""
    path, headers, body = (_anthropic if settings.provider == "anthropic" else _openai)(question, settings, key)
    try:
        with httpx.Client(timeout=TIMEOUT, transport=transport) as client:
            answer = client.post(settings.url.rstrip("/") + path, headers=headers, json=body)
    except httpx.HTTPError as error:
        raise _refusal(
            "model-unreachable", f"the model does not answer: {error}", "look at `model.url` in kiln.toml",
            ExitStatus.INFRASTRUCTURE, retriable=True,
        ) from None  # fmt: skip
    if answer.status_code != httpx.codes.OK:
        raise _refusal(
            "model-refused",
            f"the model's server answers with status {answer.status_code}",
            "look at the key, the name of the model and what it may cost",
            ExitStatus.INFRASTRUCTURE,
            retriable=answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR
            or answer.status_code == httpx.codes.TOO_MANY_REQUESTS,
        )
    try:
        if len(answer.content) > MAX_ANSWER_BYTES:
            raise ValueError("it is too long")
        found = _of_anthropic(answer.json()) if settings.provider == "anthropic" else _of_openai(answer.json())
        if not isinstance(found, dict):
            raise TypeError("it is no object")
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise _refusal(
            "bad-model-answer", f"the model's answer cannot be read: {error}", "ask again, or read without it",
            ExitStatus.FAILED, retriable=True,
        ) from None  # fmt: skip
    return found


def _anthropic(question: Question, settings: ModelSettings, key: str) -> tuple[str, dict[str, str], dict[str, Any]]:
    headers = {"anthropic-version": ANTHROPIC_VERSION} | ({"x-api-key": key} if key else {})
    body = {
        "model": settings.name,
        "max_tokens": MAX_ANSWER_TOKENS,
        "system": question.instructions,
        "messages": [{"role": "user", "content": question.request}],
        "tools": [{"name": TOOL, "description": "Give the recipe.", "input_schema": question.schema}],
        "tool_choice": {"type": "tool", "name": TOOL},
    }
    return "/v1/messages", headers, body


def _of_anthropic(document: Any) -> Any:
    return next(part["input"] for part in [*document["content"], {"type": "tool_use"}] if part["type"] == "tool_use")


def _openai(question: Question, settings: ModelSettings, key: str) -> tuple[str, dict[str, str], dict[str, Any]]:
    body = {
        "model": settings.name,
        "temperature": 0,
        "messages": [
            {"role": "system", "content": question.instructions},
            {"role": "user", "content": question.request},
        ],
        "response_format": {"type": "json_schema", "json_schema": {"name": TOOL, "schema": question.schema}},
    }
    return "/v1/chat/completions", ({"authorization": f"Bearer {key}"} if key else {}), body


def _of_openai(document: Any) -> Any:
    return json.loads(document["choices"][0]["message"]["content"])


def _refusal(reason: str, message: str, hint: str, status: ExitStatus, *, retriable: bool = False) -> KilnError:
    return KilnError(Domain.DESCRIBE, reason, message, hint=hint, exit_status=status, retriable=retriable)
