"""The sync engine: decide what to read and when, read it, and store it. No Dagster."""
