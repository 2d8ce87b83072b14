"""Typed progress: what happens is a value; words are made at the edge by a sink."""
