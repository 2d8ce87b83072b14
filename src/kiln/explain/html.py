"""A difference as one HTML page without scripts and without anything from elsewhere. Pure."""

from __future__ import annotations

from html import escape
from typing import Final

from kiln.explain.model import SEVERITIES, Difference

_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8884; vertical-align: top; }
td { overflow-wrap: anywhere; }
.critical, .high { color: #b00020; font-weight: 600; }
.medium { color: #a15c00; }
.low, .info { color: #666; }
@media (prefers-color-scheme: dark) { body { background: #111; color: #ddd; } .critical, .high { color: #ff6b78; } }
"""


def html_page(difference: Difference) -> str:
    """Return the page; every text of an image is escaped, because a file's name may be anything."""
    counts = {word: sum(item.severity == word for item in difference.changes) for word in SEVERITIES}
    summary = ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "no differences"
    rows = "\n".join(
        f'<tr><td class="{item.severity}">{item.severity}</td>'
        f"<td>{escape(item.section)}</td><td>{escape(item.reason)}</td>"
        f"<td>{escape(item.subject)}</td><td>{escape(item.before)}</td><td>{escape(item.after)}</td></tr>"
        for item in difference.changes
    )
    missing = "".join(
        f"<li>{escape(section)}: nothing is said by {escape(side)}</li>" for section, side in difference.not_compared
    )
    title = f"{escape(difference.before)} → {escape(difference.after)}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body><h1>{title}</h1>'
        f"<p>{summary}</p>\n<table><thead><tr><th>severity</th><th>section</th><th>change</th><th>subject</th>"
        f"<th>before</th><th>after</th></tr></thead>\n<tbody>\n{rows}\n</tbody></table>\n"
        + (f"<h2>Not compared</h2><ul>{missing}</ul>\n" if missing else "")
        + "</body></html>\n"
    )
