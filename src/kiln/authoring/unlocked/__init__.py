"""Manifests as people write them: a suite and names of packages instead of digests; checked, locked, lowered."""
