"""How the schema of records.db came to be, one module a step (Alembic)."""
