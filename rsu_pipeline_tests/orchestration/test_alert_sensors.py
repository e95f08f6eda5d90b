"""The sensor `alerts` on a real instance and database: failed runs, what follows them, and notifiers that fail."""

import datetime as dt
import json
import logging
from collections.abc import Iterator

import dagster as dg
import pytest

from rsu_pipeline.alerts import run_rules
from rsu_pipeline.definitions import defs
from rsu_pipeline.orchestration.alert_sensors import alerts
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline_tests.alerts.notifier import CANARY, Notifier, running_notifier
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.queued import make, queue, report, start
from rsu_pipeline_tests.orchestration.runs import sync_partner, use_environment


@pytest.fixture
def notifier(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notifier]:
    with running_notifier() as running:
        use_environment(monkeypatch, {"RSU_ALERT_URLS": running.url, "RSU_ALERT_LINK": "https://hub.example.com/"})
        yield running


def look(instance: dg.DagsterInstance) -> str:
    """Evaluate the sensor as the daemon does, and return its message."""
    with dg.build_sensor_context(instance=instance, resources={"warehouse": WarehouseResource()}) as context:
        result = alerts(context)
    assert isinstance(result, dg.SensorResult)
    assert not result.run_requests
    assert result.skip_reason is not None
    return str(result.skip_reason.skip_message)


def heard(instance: dg.DagsterInstance, notifier: Notifier) -> list[tuple[str, str]]:
    """Return what an evaluation sends of runs. Tests of other kinds are in rsu_pipeline_tests/alerts."""
    look(instance)
    return [(title, text) for title, text in notifier.take() if "a run failed" in title]


def ended(instance: dg.DagsterInstance, how: str, job: str = "sync_partner", **tags: str) -> dg.DagsterRun:
    """Return a run that Dagster does not retry by itself."""
    run = make(instance, job, **{"dagster/max_retries": "0"}, **tags)
    start(instance, [run])
    report(instance, [run], how)
    return run


FAILED, WELL = "PIPELINE_FAILURE", "PIPELINE_SUCCESS"


def test_a_failed_run_is_told_once_with_its_link_until_its_job_goes_well_again(
    hub: Hub, hub_instance: dg.DagsterInstance, notifier: Notifier
) -> None:
    first = ended(hub_instance, FAILED, "watch")
    ((title, text),) = heard(hub_instance, notifier)
    assert title == "RunSignup hub: a run failed"
    assert text.startswith("job watch failed at ") and text.endswith(f" https://hub.example.com/runs/{first.run_id}")
    assert heard(hub_instance, notifier) == []
    ended(hub_instance, FAILED, "watch")
    assert heard(hub_instance, notifier) == []
    ended(hub_instance, WELL, "retention")
    assert heard(hub_instance, notifier) == []
    ended(hub_instance, WELL, "watch")
    assert heard(hub_instance, notifier) == []
    ((title, text),) = heard(hub_instance, notifier)
    assert (title, "job watch failed at" in text) == ("Resolved: a run failed", True)
    assert heard(hub_instance, notifier) == []
    last = ended(hub_instance, FAILED, "watch")
    assert last.run_id in heard(hub_instance, notifier)[0][1]


def test_each_partition_is_a_cause_of_its_own_and_all_are_one_message(
    hub: Hub, hub_instance: dg.DagsterInstance, notifier: Notifier
) -> None:
    for key in ("1-acme", "2-birch"):
        ended(hub_instance, FAILED, partition=key)
    ((_, text),) = heard(hub_instance, notifier)
    assert [line.split(" and left ")[0] for line in sorted(text.splitlines())] == [
        "1-acme: job sync_partner failed",
        "2-birch: job sync_partner failed",
    ]
    ended(hub_instance, WELL, partition="1-acme")
    heard(hub_instance, notifier)
    ((_, text),) = heard(hub_instance, notifier)
    assert "1-acme" in text
    assert "2-birch" not in text


def test_a_run_that_dagster_retries_is_told_only_when_the_retry_fails_or_does_not_come(
    hub: Hub, hub_instance: dg.DagsterInstance, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended(hub_instance, FAILED, "retention")
    hub_instance.add_run_tags(run.run_id, {"dagster/will_retry": "true"})
    assert heard(hub_instance, notifier) == []
    monkeypatch.setattr(run_rules, "RETRY_WITHIN", dt.timedelta(0))
    assert len(heard(hub_instance, notifier)) == 1
    ended(hub_instance, WELL, "retention")
    heard(hub_instance, notifier)
    heard(hub_instance, notifier)

    run = ended(hub_instance, FAILED, "watch")
    retry = ended(hub_instance, FAILED, "watch")
    hub_instance.add_run_tags(run.run_id, {"dagster/will_retry": "true", "dagster/auto_retry_run_id": retry.run_id})
    ((_, text),) = heard(hub_instance, notifier)
    assert retry.run_id in text


def test_a_sync_that_could_not_read_is_mended_by_whatever_reads_it_later(
    hub: Hub, hub_instance: dg.DagsterInstance, notifier: Notifier
) -> None:
    key = hub.partners[2]
    hub.sandbox.admin.fault("http_500", 0, endpoint="races", partner=2)
    run = sync_partner(hub_instance, key)
    assert not run.success
    ((title, text),) = heard(hub_instance, notifier)
    assert title == "RunSignup hub: a run failed"
    assert text.startswith(f"{key}: the listing of races could not be read since ")
    assert text.endswith(f" https://hub.example.com/runs/{run.run_id}")
    hub.sandbox.admin.clear_faults()
    assert heard(hub_instance, notifier) == []
    hub.sync(2)
    hub.execute("UPDATE sync_history SET finished_at = finished_at - interval '1 second' WHERE status = 'failed'")
    if not hub.value("SELECT count(*) FROM sync_history WHERE race_id IS NULL AND status <> 'failed'"):
        assert sync_partner(hub_instance, key).success
    assert heard(hub_instance, notifier) == []
    ((title, _),) = heard(hub_instance, notifier)
    assert title == "Resolved: a run failed"


def test_a_run_that_waits_or_keeps_silent_for_too_long_is_told_and_a_backfill_in_its_queue_is_not(
    hub: Hub, hub_instance: dg.DagsterInstance, notifier: Notifier
) -> None:
    key = hub.partners[1]
    queued = queue(hub_instance, partition=key)
    queue(hub_instance, "backfill_history", lane="backfill", partition=key)
    silent = make(hub_instance, "watch")
    start(hub_instance, [silent], ago=840)
    look(hub_instance)
    assert notifier.take() == []
    hub.execute("UPDATE dagster.runs SET update_timestamp = update_timestamp - interval '40 minutes'")
    ((title, text), (stopped, queue_text)) = [look(hub_instance), notifier.take()][1]
    assert title == "RunSignup hub: a run hangs"
    assert stopped == "RunSignup hub: a sensor, a schedule or the queue has stopped"
    assert queue_text.startswith("The queue has stopped: 1 run of lane backfill waiting since ")
    assert text.startswith(f"{key}: job sync_partner has been waiting in the queue since ")
    assert text.endswith(queued.run_id)
    report(hub_instance, [silent], "PIPELINE_START", ago=960)
    hub.execute(
        "DELETE FROM dagster.event_logs WHERE run_id = %s AND timestamp > now() - interval '15 minutes'", silent.run_id
    )
    look(hub_instance)
    ((_, text),) = notifier.take()
    assert text.startswith("job watch has logged nothing since ")
    report(hub_instance, [silent], WELL)
    look(hub_instance)
    look(hub_instance)
    # With the watch over, nothing is before the other run of its lane any more.
    assert [title for title, _ in notifier.take()] == [stopped, "Resolved: a run hangs"]


def test_runs_of_other_programs_and_of_long_ago_are_no_news(
    hub: Hub, hub_instance: dg.DagsterInstance, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(hub_instance, FAILED, "watch")
    hub.execute("UPDATE dagster.runs SET update_timestamp = update_timestamp - interval '25 hours'")
    assert heard(hub_instance, notifier) == []
    ended(hub_instance, FAILED, "watch")
    monkeypatch.setattr(run_rules, "MONITORED_JOBS", frozenset({"sync_partner"}))
    assert heard(hub_instance, notifier) == []


def test_every_job_of_ours_counts() -> None:
    assert {
        job.name for job in defs().resolve_all_job_defs() if not job.name.startswith("__")
    } <= run_rules.MONITORED_JOBS


def test_a_run_that_was_told_stays_open_when_it_is_a_day_old(
    hub: Hub, hub_instance: dg.DagsterInstance, notifier: Notifier
) -> None:
    ended(hub_instance, FAILED, "watch")
    assert len(heard(hub_instance, notifier)) == 1
    hub.execute("UPDATE dagster.runs SET update_timestamp = update_timestamp - interval '25 hours'")
    for _ in range(3):
        assert heard(hub_instance, notifier) == []
    assert hub.value("SELECT count(*) FROM alerts WHERE kind = 'run_failed' AND cleared_at IS NULL") == 1


def test_without_notifiers_it_says_so_and_keeps_the_table(hub: Hub, hub_instance: dg.DagsterInstance) -> None:
    ended(hub_instance, FAILED, "watch")
    assert look(hub_instance) == "1 open alert. Notifications are off (RSU_ALERT_URLS is not set)."
    assert hub.rows("SELECT kind, cause, told_at FROM alerts") == [
        {"kind": "run_failed", "cause": "watch:", "told_at": None}
    ]


def test_a_notifier_that_is_down_fails_nothing_and_its_address_is_nowhere(
    hub: Hub,
    hub_instance: dg.DagsterInstance,
    notifier: Notifier,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    ended(hub_instance, FAILED, "watch")
    notifier.status = 500
    said = look(hub_instance)
    assert said == (
        "1 open alert, 0 notified, 0 resolved, 0 messages sent, 1 not accepted by any notifier (sent again at the next tick)."
        " Failed notifiers: json"
    )
    notifier.status = 200
    assert look(hub_instance) == "1 open alert, 1 notified, 0 resolved, 1 message sent"
    assert len(notifier.take()) == 1

    shown = capfd.readouterr()
    stored = json.dumps(hub.rows("SELECT * FROM alerts"), default=str)
    events = json.dumps(hub.rows("SELECT * FROM dagster.event_logs"), default=str)
    assert CANARY not in said + stored + events + caplog.text + shown.out + shown.err
    assert CANARY not in repr(defs())


def test_a_database_that_is_away_is_one_sentence(
    hub: Hub, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, {"RSU_DATABASE_URL": f"postgresql://hub:{CANARY}@127.0.0.1:9/hub"})
    with pytest.raises(dg.Failure) as failed:
        look(instance)
    assert str(failed.value.description).startswith("Cannot use PostgreSQL at 127.0.0.1:9/hub: ")
    assert CANARY not in str(failed.value.description)
