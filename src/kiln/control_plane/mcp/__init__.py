"""Kiln for agents: the Model Context Protocol (revision 2025-03-26), tools only.

The official library brings a web framework, OpenTelemetry and a dozen packages more; the part that tools need is small.
"""
