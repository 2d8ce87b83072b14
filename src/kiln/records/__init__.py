"""The append-only chain of records: what was built from what, when, by whom, and with which verdict."""
