"""The only code that starts processes, mounts, unshares, locks and writes atomically."""
