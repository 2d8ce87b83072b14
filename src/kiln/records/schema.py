"""The table of records, as the migrations leave it. The columns beside the document are only there to search by."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Index, Integer, LargeBinary, MetaData, Table, Text

HEAD: Final = "0001"
"""Revision that this code reads and writes."""

METADATA: Final = MetaData()

RECORD: Final = Table(
    "record",
    METADATA,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False, unique=True),
    Column("recorded_at", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Index("record_name", "name", "sequence"),
)
