"""What to read, when, and applying it. No Dagster."""
