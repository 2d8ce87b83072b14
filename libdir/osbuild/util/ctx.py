"""Context managers (Python 3.6)."""

import contextlib


@contextlib.contextmanager
def suppress_oserror(*errnos):
    """Ignore OSErrors with these numbers."""
    try:
        yield
    except OSError as error:
        if error.errno not in errnos:
            raise
