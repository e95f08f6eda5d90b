"""Keeps a race-data hub's PostgreSQL equal to RunSignup.

Imports point one way: orchestration → sync → {runsignup, warehouse}. Dagster appears only in `orchestration`,
`definitions` and the commands.
"""
