"""PostgreSQL as the hub keeps it: schema, rows, cursors, the call ledger. No Dagster, no HTTP."""
