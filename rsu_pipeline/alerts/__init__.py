"""Whoever must act is told once: what is wrong, what was told, and the telling. No Dagster."""
