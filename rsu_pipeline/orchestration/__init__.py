"""Dagster, and only here: assets, jobs, sensors, resources, storage."""
