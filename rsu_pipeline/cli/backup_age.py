"""The age of the newest backup, for `rsu health`."""

import datetime as dt
import time
from collections.abc import Iterator

from rsu_pipeline.local import dumps
from rsu_pipeline.service_settings import BackupSettings

MAX_BACKUP_HOURS = 26.0
"""A backup is written every night, and takes its time."""


def measure_hours(settings: BackupSettings) -> float | None:
    """Return the age of the newest backup in hours, None if there is none or none is configured."""
    found = dumps.list_backups(settings.folder) if settings.folder else []
    return (dt.datetime.now(dt.UTC) - found[0].made_at).total_seconds() / 3600 if found else None


def find_problem(settings: BackupSettings) -> Iterator[tuple[str, str]]:
    """Yield the check and the reason if the newest backup is too old. A folder that is younger than a day need not have one yet."""
    if settings.folder is None or not settings.folder.exists():
        return
    hours, retry = measure_hours(settings), "Launch job backup in the Dagster UI, which shows the error."
    if hours is None and time.time() - settings.folder.stat().st_ctime > MAX_BACKUP_HOURS * 3600:
        yield "backup", f"There is no backup in {settings.folder}. {retry}"
    elif hours is not None and hours > MAX_BACKUP_HOURS:
        yield "backup", f"The newest backup in {settings.folder} is {hours:.0f} h old. {retry}"


def describe(settings: BackupSettings) -> str:
    """Return the age of the newest backup as a sentence, empty if none is configured."""
    if settings.folder is None:
        return ""
    hours = measure_hours(settings)
    return " There is no backup yet." if hours is None else f" The newest backup is {hours:.0f} h old."
