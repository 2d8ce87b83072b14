"""A verification's result as lines of text."""

from __future__ import annotations

from kiln_wire.finding import VerificationResult

_TITLE_COLUMNS = 42


def result_lines(result: VerificationResult) -> list[str]:
    """Return the outcome of each step, and every finding below its step."""
    lines = []
    for step in result.steps:
        lines.append(f"{step.number:>3}. {step.title:<{_TITLE_COLUMNS}} {step.outcome}")
        for item in result.findings:
            if item.step == step.name:
                lines.append(f"       {item.severity}: {item.component}: {item.reason}")
                if item.expected or item.got:
                    lines.append(f"         expected {item.expected}, got {item.got}")
    return lines
