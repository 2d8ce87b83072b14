"""Kiln: from a sentence to a booted, signed operating-system image."""

__version__ = "0.1.0"
