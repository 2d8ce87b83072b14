"""The table of records, which nothing can change afterwards."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Integer, LargeBinary, Text

revision = "0001"
down_revision = None

_REFUSE = """
    CREATE TRIGGER record_refuses_{what} BEFORE {what} ON record
    BEGIN SELECT RAISE(ABORT, 'records are append-only'); END
"""
_IN_ORDER = """
    CREATE TRIGGER record_in_order BEFORE INSERT ON record
    WHEN NEW.sequence IS NOT (SELECT coalesce(max(sequence), 0) + 1 FROM record)
    BEGIN SELECT RAISE(ABORT, 'a record follows the one before it'); END
"""


def upgrade() -> None:
    """Create table, index and triggers."""
    op.create_table(
        "record",
        Column("sequence", Integer, primary_key=True, autoincrement=False),
        Column("id", Text, nullable=False, unique=True),
        Column("recorded_at", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("verdict", Text, nullable=False),
        Column("document", LargeBinary, nullable=False),
    )
    op.create_index("record_name", "record", ["name", "sequence"])
    op.execute(_REFUSE.format(what="UPDATE"))
    op.execute(_REFUSE.format(what="DELETE"))
    op.execute(_IN_ORDER)
