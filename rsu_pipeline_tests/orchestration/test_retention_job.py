"""What is old goes, what makes a partition green stays, and nothing at work is touched."""

import datetime as dt
import os
import subprocess
import time
from pathlib import Path

import dagster as dg
import pytest

from rsu_pipeline.definitions import defs
from rsu_pipeline.orchestration import retention_job
from rsu_pipeline.orchestration.retention_job import KEEP_DAYS
from rsu_pipeline.sync import clocks
from rsu_pipeline.warehouse import database, race_locks, retention
from rsu_pipeline_tests.cli.started import RSU, without_ours
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.queued import make, queue, report, start
from rsu_pipeline_tests.orchestration.runs import sync_partner

NOW = dt.datetime.now(dt.UTC)
PARTICIPANTS = dg.AssetKey("participants")


def age(hub: Hub, days: float, *runs: str) -> None:
    """Let runs be over for that many days, in Dagster's eyes."""
    hub.execute(
        "UPDATE dagster.runs SET update_timestamp = %s WHERE run_id = ANY(%s)",
        (NOW - dt.timedelta(days=days)).replace(tzinfo=None),
        list(runs),
    )


def run_ids(instance: dg.DagsterInstance) -> set[str]:
    return {run.run_id for run in instance.get_runs()}


def rows_of(hub: Hub, run_id: str) -> dict[str, int]:
    """Return how many rows of each of Dagster's tables belong to a run."""
    tables = ("runs", "run_tags", "event_logs", "asset_check_executions")
    return {table: hub.value(f"SELECT count(*) FROM dagster.{table} WHERE run_id = %s", run_id) for table in tables}


def test_old_runs_go_with_events_checks_and_logs_but_the_newest_success_of_each_partition_stays(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    first, second = hub.partners[1], hub.partners[2]
    older, newer = (sync_partner(hub_instance, first).run_id for _ in range(2))
    only = sync_partner(hub_instance, second).run_id
    logs = Path(hub.environment["RSU_HOME"]) / "dagster" / "logs"
    assert all(rows_of(hub, older).values())
    assert (logs / older).is_dir()
    age(hub, 300, older, newer, only)

    counts = retention_job.delete_old_runs(hub_instance, NOW)
    assert counts == {"runs": 1, "runs_left": 0, "runs_kept": 2}
    assert run_ids(hub_instance) == {newer, only}
    assert not any(rows_of(hub, older).values())
    assert not (logs / older).exists()
    assert all(rows_of(hub, only).values())
    assert (logs / only).is_dir()
    for asset in ("partner_events", "future_events", "participants"):
        assert hub_instance.get_materialized_partitions(dg.AssetKey(asset)) == {first, second}
    assert retention_job.delete_old_runs(hub_instance, NOW)["runs"] == 0

    # The other way: why the newest is kept.
    hub_instance.delete_run(only)
    assert hub_instance.get_materialized_partitions(PARTICIPANTS) == {first}


def test_each_assets_newest_run_stays_where_they_differ(hub: Hub, hub_instance: dg.DagsterInstance) -> None:
    key = hub.partners[1]
    whole = sync_partner(hub_instance, key).run_id
    # A run that fails in its last step holds the newest of the first two assets, though it is no success.
    hub.sandbox.admin.fault("http_500", 100, endpoint="participants", partner=1)
    failed = sync_partner(hub_instance, key)
    hub.sandbox.admin.clear_faults()
    assert not failed.success
    assert {"partner_events", "future_events"} == failed.metadata.keys()
    age(hub, 300, whole, failed.run_id)
    assert retention_job.newest_runs(hub_instance) == {whole, failed.run_id}
    retention_job.delete_old_runs(hub_instance, NOW)
    assert run_ids(hub_instance) == {whole, failed.run_id}


def test_runs_stay_as_long_as_their_outcome_says_and_those_not_ended_stay_for_ever(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    kinds = {
        dg.DagsterRunStatus.SUCCESS: "PIPELINE_SUCCESS",
        dg.DagsterRunStatus.FAILURE: "PIPELINE_FAILURE",
        dg.DagsterRunStatus.CANCELED: "PIPELINE_CANCELED",
    }
    assert kinds.keys() == KEEP_DAYS.keys()
    assert (KEEP_DAYS[dg.DagsterRunStatus.SUCCESS], KEEP_DAYS[dg.DagsterRunStatus.FAILURE]) == (7, 30)
    stay, go = set(), set()
    for status, kind in kinds.items():
        for days, expected in ((KEEP_DAYS[status] - 1, stay), (KEEP_DAYS[status] + 1, go)):
            run = make(hub_instance)
            report(hub_instance, [run], kind)
            age(hub, days, run.run_id)
            expected.add(run.run_id)
    waiting, new = queue(hub_instance), make(hub_instance)
    starting, started, canceling = (queue(hub_instance) for _ in range(3))
    report(hub_instance, [starting], "PIPELINE_STARTING")
    start(hub_instance, [started, canceling])
    report(hub_instance, [canceling], "PIPELINE_CANCELING")
    unfinished = {run.run_id for run in (waiting, new, starting, started, canceling)}
    age(hub, 400, *unfinished)
    assert retention_job.delete_old_runs(hub_instance, NOW) == {"runs": len(go), "runs_left": 0, "runs_kept": 0}
    assert run_ids(hub_instance) == stay | unfinished


def test_more_old_runs_than_a_nights_share_are_left_for_the_next_the_oldest_gone_first(
    hub: Hub, hub_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_job, "RUNS_A_NIGHT", 2)
    runs = [make(hub_instance).run_id for _ in range(3)]
    for run in hub_instance.get_runs():
        report(hub_instance, [run], "PIPELINE_SUCCESS")
    age(hub, 100, *runs)
    assert retention_job.delete_old_runs(hub_instance, NOW) == {"runs": 2, "runs_left": 1, "runs_kept": 0}
    assert run_ids(hub_instance) == {runs[-1]}
    assert retention_job.delete_old_runs(hub_instance, NOW) == {"runs": 1, "runs_left": 0, "runs_kept": 0}


def test_what_sensors_reported_long_ago_goes_but_the_newest_of_each_partition(
    hub: Hub, hub_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_job, "BATCH", 2)
    for partition in ("1-a", "2-b"):
        for number in range(3):
            hub_instance.report_runless_asset_event(
                dg.AssetMaterialization("participants", partition=partition, tags={"number": str(number)})
            )
    hub.execute(
        "UPDATE dagster.event_logs SET timestamp = %s WHERE run_id = '' AND partition = '1-a'",
        (NOW - dt.timedelta(days=15)).replace(tzinfo=None),
    )
    query = "SELECT partition, count(*) AS n FROM dagster.event_logs GROUP BY partition ORDER BY partition"
    assert retention_job.delete_runless_events(hub_instance, NOW) == 2
    assert [(row["partition"], row["n"]) for row in hub.rows(query)] == [("1-a", 1), ("2-b", 3)]
    assert hub_instance.get_materialized_partitions(PARTICIPANTS) == {"1-a", "2-b"}
    orphans = "SELECT count(*) FROM dagster.asset_event_tags WHERE event_id NOT IN (SELECT id FROM dagster.event_logs)"
    assert hub.value(orphans) == 0


def test_runs_that_were_deleted_at_work_leave_nothing(hub: Hub, hub_instance: dg.DagsterInstance) -> None:
    kept = sync_partner(hub_instance, hub.partners[2]).run_id
    hub_instance.report_runless_asset_event(dg.AssetMaterialization("participants", partition="2-b"))
    hub.sandbox.admin.switch(latency_ms=1500)
    shell = subprocess.Popen(
        [RSU, "sync", "--partner", "1", "--quiet"], env=without_ours() | hub.environment, stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while not hub.value("SELECT count(*) FROM api_calls WHERE settled_at IS NULL"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (deleted,) = run_ids(hub_instance) - {kept}
        hub_instance.delete_run(deleted)
        hub.sandbox.admin.switch(latency_ms=0)
        shell.wait(60)
    finally:
        hub.sandbox.admin.switch(latency_ms=0)
        shell.kill()
        shell.wait(60)
    logs = Path(hub.environment["RSU_HOME"]) / "dagster" / "logs"
    assert rows_of(hub, deleted)["event_logs"] > 0
    assert (logs / deleted).is_dir()

    # Not while it may still be at work.
    assert retention_job.delete_remains_of_deleted_runs(hub_instance, NOW) == 0
    assert retention_job.delete_remains_of_deleted_runs(hub_instance, NOW + dt.timedelta(hours=2)) == 1
    assert not any(rows_of(hub, deleted).values())
    assert not (logs / deleted).exists()
    assert all(rows_of(hub, kept).values())
    assert (logs / kept).is_dir()
    assert hub_instance.get_materialized_partitions(PARTICIPANTS) == {hub.partners[2], "2-b"}
    orphans = "SELECT count(*) FROM dagster.asset_event_tags WHERE event_id NOT IN (SELECT id FROM dagster.event_logs)"
    assert hub.value(orphans) == 0
    # The catalogue still shows the asset, and the next sync of the partner is its own again.
    assert PARTICIPANTS in hub_instance.all_asset_keys()
    assert sync_partner(hub_instance, hub.partners[1]).success
    assert hub.partners[1] in hub_instance.get_materialized_partitions(PARTICIPANTS)


def test_what_ticks_printed_long_ago_goes_and_what_runs_printed_does_not(tmp_path: Path) -> None:
    names = ("__repository__/race_day/1.err", "__repository__/race_day/2.err", "0b1c2d3e/compute_logs/step.err")
    old = (NOW - dt.timedelta(days=4)).timestamp()
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        if not name.endswith("2.err"):
            os.utime(path, (old, old))
    assert retention_job.delete_tick_logs(tmp_path, NOW) == 1
    assert [name for name in names if (tmp_path / name).exists()] == list(names[1:])
    assert retention_job.delete_tick_logs(tmp_path / "nowhere", NOW) == 0


def delete_old(hub: Hub) -> dict[str, int]:
    with database.session(hub.url, purpose="tests") as conn:
        return retention.delete_old_rows(conn, NOW)


def ago(days: float) -> dt.datetime:
    return NOW - dt.timedelta(days=days)


def test_call_records_older_than_14_days_go_batch_by_batch(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 10)
    insert = "INSERT INTO api_calls (credential_id, lane, endpoint, granted_at) SELECT 1, 'routine', 'races', %s FROM"
    for days, count in ((15, 25), (13, 3)):
        hub.execute(f"{insert} generate_series(1, {count})", ago(days))
    assert delete_old(hub)["api_calls"] == 25
    assert hub.value("SELECT count(*) FROM api_calls") == 3
    assert delete_old(hub)["api_calls"] == 0


def test_marks_of_bibs_told_go_after_14_days(hub: Hub) -> None:
    for number, days in ((1, 15), (2, 13)):
        hub.execute("INSERT INTO bib_changes_handled (bib_change_id, handled_at) VALUES (%s, %s)", number, ago(days))
    assert delete_old(hub)["bib_changes_handled"] == 1
    assert hub.value("SELECT bib_change_id FROM bib_changes_handled") == 2


def test_of_the_history_the_newest_of_each_race_and_outcome_stays_and_so_does_what_others_wrote(hub: Hub) -> None:
    def history(name: str, days: float, race: int | None, status: str = "completed", run_id: str | None = "r") -> None:
        hub.execute(
            "INSERT INTO sync_history (timing_partner_id, race_id, status, run_id, finished_at, reason, sync_direction)"
            " VALUES (1, %s, %s, %s, %s, %s, 'pull')",
            race,
            status,
            run_id,
            ago(days),
            name,
        )

    history("old, and a newer one", 200, 7)
    history("old, and the newest", 190, 7)
    history("old failure, the newest", 400, 7, "failed")
    history("old, and one not so old", 181, 8)
    history("not so old", 179, 8)
    history("old listing", 300, None)
    history("newer listing", 200, None)
    history("another program's", 500, 9, run_id=None)
    history("another program's", 400, 9, run_id=None)
    assert delete_old(hub)["sync_history"] == 3
    left = [row["reason"] for row in hub.rows("SELECT reason FROM sync_history ORDER BY sync_history_id")]
    assert left == [
        "old, and the newest",
        "old failure, the newest",
        "not so old",
        "newer listing",
        "another program's",
        "another program's",
    ]


def test_resolved_quarantine_older_than_90_days_goes_and_open_quarantine_stays(hub: Hub) -> None:
    for digest, resolved in (("a", ago(91)), ("b", ago(89)), ("c", None)):
        hub.execute(
            "INSERT INTO quarantined_rows (timing_partner_id, race_id, is_stored, reason, row_digest, first_seen_at,"
            " last_seen_at, resolved_at) VALUES (1, 7, false, 'odd', %s, %s, %s, %s)",
            digest,
            ago(400),
            ago(400),
            resolved,
        )
    assert delete_old(hub)["quarantined_rows"] == 1
    left = [row["row_digest"] for row in hub.rows("SELECT row_digest FROM quarantined_rows ORDER BY row_digest")]
    assert left == ["b", "c"]


def test_messages_delivered_three_days_ago_go_and_dead_ones_after_thirty_and_pending_ones_stay(hub: Hub) -> None:
    hub.execute(
        "INSERT INTO webhooks (host, url, secret, kinds) VALUES ('scores.test:443', 'u', 's', '{bib.changed}')",
    )
    for subject, delivered, dead in (
        ("delivered long ago", ago(3.1), None),
        ("delivered lately", ago(2.9), None),
        ("pending", None, None),
        ("given up", None, ago(29.9)),
        ("given up long ago", None, ago(30.1)),
    ):
        hub.execute(
            "INSERT INTO webhook_messages (webhook_id, kind, subject, body, created_at, delivered_at, dead_at)"
            " SELECT webhook_id, 'bib.changed', %s, '{}', %s, %s, %s FROM webhooks",
            subject,
            ago(401),
            delivered,
            dead,
        )
    assert delete_old(hub)["webhook_messages"] == 2
    left = [row["subject"] for row in hub.rows("SELECT subject FROM webhook_messages ORDER BY message_id")]
    assert left == ["delivered lately", "pending", "given up"]


def test_a_folder_that_nobody_kept_for_a_day_goes_and_another_machines_of_the_same_path_stays(hub: Hub) -> None:
    for machine, kept_at in (("timing-1:7", ago(1.1)), ("timing-2:7", ago(0.9))):
        hub.execute(
            "INSERT INTO start_list_folders (folder, machine, kept_at) VALUES ('/srv/lists', %s, %s)", machine, kept_at
        )
    assert delete_old(hub)["start_list_folders"] == 1
    assert [row["machine"] for row in hub.rows("SELECT machine FROM start_list_folders")] == ["timing-2:7"]


def test_stale_passes_go_with_what_they_saw_but_not_those_of_a_race_being_read(hub: Hub) -> None:
    for partner, race, days in ((1, 7, 8), (1, 8, 6), (2, 9, 8)):
        hub.execute("INSERT INTO runsignup_races (race_id, name) VALUES (%s, 'Mill Pond Mile')", race)
        hub.execute("INSERT INTO partner_races (timing_partner_id, race_id) VALUES (%s, %s)", partner, race)
        hub.execute(
            "INSERT INTO read_passes (timing_partner_id, race_id, mode, event_ids, started_at)"
            " VALUES (%s, %s, 'full', '{1}', %s)",
            partner,
            race,
            ago(days),
        )
        hub.execute("INSERT INTO pass_registrations VALUES (%s, %s, 'full', 1, 1, false)", partner, race)
    with database.session(hub.url, purpose="tests") as conn, race_locks.race_lock(conn, 2, 9):
        assert delete_old(hub)["read_passes"] == 1
    left = "SELECT race_id FROM {} ORDER BY race_id"
    assert [row["race_id"] for row in hub.rows(left.format("read_passes"))] == [8, 9]
    assert [row["race_id"] for row in hub.rows(left.format("pass_registrations"))] == [8, 9]
    assert delete_old(hub)["read_passes"] == 1


def test_the_nightly_run_reports_what_it_deleted_and_leaves_bib_log_and_registrations_alone(
    hub: Hub, hub_instance: dg.DagsterInstance
) -> None:
    synced = sync_partner(hub_instance, hub.partners[1])
    assert synced.success
    hub.execute(
        "INSERT INTO runsignup_bib_changes (timing_partner_id, race_id, event_id, registration_id, kind, new_bib,"
        " first_seen_new, recorded_at) VALUES (1, 1, 1, 1, 'assigned', '12', %s, %s)",
        ago(4000),
        ago(4000),
    )
    hub.execute("UPDATE api_calls SET granted_at = %s", ago(20))
    before = hub.value("SELECT count(*) FROM runsignup_participants")
    outcome = defs().resolve_job_def("retention").execute_in_process(instance=hub_instance)
    assert outcome.success
    (output,) = [event.step_output_data for event in outcome.all_events if event.is_successful_output]
    told = {name: value.value for name, value in output.metadata.items()}
    assert told.pop("seconds") >= 0
    assert told.pop("api_calls") > 0
    assert told == {
        "runs": 0,
        "runs_left": 0,
        "runs_kept": 1,
        "events_without_run": 0,
        "deleted_runs": 0,
        "tick_logs": 0,
        "sync_history": 0,
        "quarantined_rows": 0,
        "foreign_writes": 0,
        "bib_changes_handled": 0,
        "start_list_folders": 0,
        "webhook_messages": 0,
        "read_passes": 0,
    }
    assert hub.value("SELECT count(*) FROM runsignup_bib_changes") == 1
    assert hub.value("SELECT count(*) FROM runsignup_participants") == before > 0


def test_a_hub_clock_that_is_ahead_deletes_nothing_too_early(
    hub: Hub, hub_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync_partner(hub_instance, hub.partners[1])
    calls, runs = hub.value("SELECT count(*) FROM api_calls"), run_ids(hub_instance)
    real = clocks.utc_now
    monkeypatch.setattr(clocks, "utc_now", lambda: real() + dt.timedelta(days=400))
    assert defs().resolve_job_def("retention").execute_in_process(instance=hub_instance).success
    assert hub.value("SELECT count(*) FROM api_calls") == calls > 0
    assert runs <= run_ids(hub_instance)


def test_it_runs_every_night_by_itself_at_half_past_three() -> None:
    schedule = defs().resolve_schedule_def("nightly_retention")
    assert schedule.cron_schedule == "30 3 * * *"
    assert schedule.execution_timezone == "America/New_York"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert schedule.job_name == "retention"
