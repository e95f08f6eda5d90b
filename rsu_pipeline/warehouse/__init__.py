"""The hub's PostgreSQL: schema, rows, cursors, the call ledger. No Dagster, no HTTP."""
