"""The commands of `rsu`, one module each. Dagster is imported only by those that need it, inside their functions."""
