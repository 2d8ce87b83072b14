"""The beginning of a new feature's data file."""

from __future__ import annotations

from typing import Final

_FILE: Final = """\
id: {id}
version: "0.1"
title: {title}
description: What it gives to the person who asks for it, in one sentence.
category: other
# Words that people use for it, in lower case; `kiln describe` reads them.
synonyms: [{words} service]
packages:
  # Recommended packages are not installed: name what is needed of them.
  common: [{id}]
services:
  enabled: [{id}.service]
assertions:
  # What proves in the booted image that it works, beyond that it runs.
  - service_running: {{name: {id}.service}}
"""


def skeleton(feature_id: str) -> str:
    """Return a data file that loads, for a package and a service of the feature's name."""
    words = feature_id.replace("-", " ")
    return _FILE.format(id=feature_id, title=words.capitalize(), words=words)
