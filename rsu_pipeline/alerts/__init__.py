"""Alerts: the rules that find problems, the state of each alert, and the notifications. No Dagster."""
