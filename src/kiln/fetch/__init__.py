"""Fetching files by digest from mirrors that have logical names."""
