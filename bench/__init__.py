"""Measurements: ratios within one run, never limits. `make bench` writes bench/results/latest.json."""
