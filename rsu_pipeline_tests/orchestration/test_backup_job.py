"""Backups by themselves: written at night, verified, kept for some days, and their age in `rsu health`."""

import datetime as dt
import json
import os
from pathlib import Path

import dagster as dg
import pytest

from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.local import client_programs, dumps
from rsu_pipeline.local.dumps import Backup
from rsu_pipeline.orchestration.backup_job import build_nightly_backup
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.cli.shell import rsu
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import use_environment

NOW = dt.datetime(2027, 3, 10, 9, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def backup(days_ago: float) -> Backup:
    made_at = NOW - days_ago * DAY
    return Backup(Path(f"rsu-hub-{made_at:%Y%m%dT%H%M%S}Z.dump"), made_at)


def test_backups_are_kept_for_the_days_and_the_newest_always() -> None:
    made = [backup(days) for days in (0, 1, 13.9, 14.1, 40)]
    assert dumps.choose_outdated(made, 14, NOW) == made[3:]
    assert dumps.choose_outdated(made[3:], 14, NOW) == made[4:]
    assert dumps.choose_outdated([], 14, NOW) == []


@pytest.fixture
def folder(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a folder that the installation writes backups to, with one of long ago and a file of somebody else."""
    folder = tmp_path / "backups"
    folder.mkdir()
    (folder / "rsu-hub-20200101T000000Z.dump").touch()
    (folder / "holiday.jpg").touch()
    hub.environment |= {"RSU_BACKUP_DIR": str(folder), "RSU_BACKUP_DAYS": "3"}
    use_environment(monkeypatch, hub.environment)
    return folder


def run_job(instance: dg.DagsterInstance) -> str:
    """Run the job. Return why it failed, empty if it did not."""
    done = build_definitions().resolve_job_def("backup").execute_in_process(instance=instance, raise_on_error=False)
    failed = [event.step_failure_data for event in done.all_node_events if event.is_step_failure]
    return "; ".join(str(one.user_failure_data.description) for one in failed if one.user_failure_data)


def tick() -> dg.RunRequest | dg.SkipReason:
    context = dg.build_schedule_context(scheduled_execution_time=dt.datetime(2027, 3, 10, 9, tzinfo=dt.UTC))
    result = build_nightly_backup("America/New_York")(context)
    assert isinstance(result, dg.RunRequest | dg.SkipReason)
    return result


def test_a_backup_is_written_verified_and_replaces_the_outdated_one(
    hub: Hub, folder: Path, instance: dg.DagsterInstance
) -> None:
    hub.sync(1)
    assert isinstance(tick(), dg.RunRequest)
    assert run_job(instance) == ""
    (made,) = dumps.list_backups(folder)
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["holiday.jpg", made.path.name]
    done = rsu("health", "--only", "backup", settings=hub.environment)
    assert (done.returncode, done.stdout) == (0, "Healthy: backup. The newest backup is 0 h old.\n")
    assert json.loads(rsu("health", "--only", "backup", "--json", settings=hub.environment).stdout)["backup_hours"] < 1


def test_an_old_backup_and_a_folder_without_one_fail_the_health_check(hub: Hub, folder: Path) -> None:
    done = rsu("health", "--only", "backup", settings=hub.environment)
    assert done.returncode == 1 and f"The newest backup in {folder} is" in done.stdout
    assert "Launch job backup in the Dagster UI" in done.stdout


def test_a_dump_that_is_cut_off_or_lacks_tables_is_not_taken(hub: Hub, tmp_path: Path) -> None:
    hub.sync(1)
    file = tmp_path / "hub.dump"
    dumps.write_dump(hub.url, file)
    with database.session(hub.url, purpose="tests") as conn:
        server = client_programs.Server.of(conn)
    dumps.verify_dump(file, server)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * 0.9)])
    with pytest.raises(dumps.DumpError, match="pg_restore failed"):
        dumps.verify_dump(file, server)
    file.write_bytes(b"nothing")
    with pytest.raises(dumps.DumpError, match="is no dump"):
        dumps.verify_dump(file, server)


def test_a_backup_that_fails_deletes_none_and_is_one_sentence(
    hub: Hub, folder: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(path.name for path in folder.iterdir())
    monkeypatch.setattr(client_programs, "find_programs", lambda name: [])
    assert run_job(instance).startswith("There is no pg_dump on this machine")
    assert sorted(path.name for path in folder.iterdir()) == before
    hub.environment["RSU_BACKUP_DIR"] = "/proc/nowhere"
    use_environment(monkeypatch, hub.environment)
    assert "cannot be written" in run_job(instance)


def test_without_a_folder_nothing_is_written_and_the_schedule_names_the_setting(
    hub: Hub, instance: dg.DagsterInstance
) -> None:
    result = tick()
    assert isinstance(result, dg.SkipReason) and "RSU_BACKUP_DIR is not set" in str(result.skip_message)
    assert "RSU_BACKUP_DIR is not set" in run_job(instance)
    assert rsu("health", "--only", "backup", settings=hub.environment).stdout == "Healthy: backup.\n"
    assert os.environ.get("RSU_BACKUP_DIR") is None
