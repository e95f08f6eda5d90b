"""The time zone of RunSignup's own times: registration dates, and when a race's record was made and changed."""

from zoneinfo import ZoneInfo

EASTERN = ZoneInfo("America/New_York")
EASTERN_SQL = f"'{EASTERN.key}'"
"""SQL: the zone's name."""
