"""What the terminal of `rsu up` reports while everything runs: one line for each thing that changes."""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rsu_pipeline.cli import live_report
from rsu_pipeline.cli.live_report import Snapshot, describe_changes, read_snapshot
from rsu_pipeline.sync import listing, partner_sync
from rsu_pipeline.warehouse import database, sync_log
from rsu_pipeline_tests.hub import Hub
from runsignup_sandbox.process import SandboxProcess


def test_partners_and_alerts_are_a_line_each_when_they_change() -> None:
    begun = Snapshot(partners=3)
    some = Snapshot(partners=3, synced=frozenset({2}), registrations=1200)
    done = Snapshot(partners=3, synced=frozenset({1, 2, 3}), registrations=4500, alerts={7: "1-acme: x\x1b[31m"})
    assert list(describe_changes(Snapshot(), begun)) == ["3 partners, none of them synced yet."]
    assert list(describe_changes(begun, some)) == ["1 of 3 partners synced: 1,200 participants."]
    assert list(describe_changes(some, done)) == [
        "All 3 partners are synced: 4,500 participants.",
        "Alert: 1-acme: x\ufffd[31m",
    ]
    assert list(describe_changes(done, done)) == []
    assert list(describe_changes(done, replace(done, alerts={}))) == ["Resolved: 1-acme: x\ufffd[31m"]


class Ended(Exception):
    """Ends the report, which has no end of its own."""


def test_a_hub_at_work_is_reported_line_by_line(
    make_database: Callable[[], str], make_sandbox: Callable[..., SandboxProcess], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    hub = Hub(make_database(), make_sandbox(scale="small", seed=7), tmp_path / "home")
    monkeypatch.setattr(live_report, "BIBS_EVERY_SECONDS", 0.0)

    def bibs() -> None:
        registration = hub.value(
            "SELECT min(registration_id) FROM runsignup_participants p JOIN future_events f USING (timing_partner_id, event_id)"
            " WHERE timing_partner_id = 1 AND removed_at IS NULL"
        )
        hub.sandbox.admin.bib(registration, 4711)
        hub.sync(1)

    def alert() -> None:
        hub.execute(
            "INSERT INTO alerts (kind, cause, sentence, first_seen_at, last_seen_at)"
            " VALUES ('x', 'x', 'Something is wrong.', now(), now())"
        )

    steps = [lambda: hub.sync(1), lambda: [hub.sync(2), hub.sync(3)], bibs, alert]
    lines: list[str] = []

    def pause(seconds: float) -> None:
        if not steps:
            raise Ended
        steps.pop(0)()

    with pytest.raises(Ended):
        live_report.report_changes(hub.url, dt.UTC, lines.append, pause=pause)
    said = [line.partition("  ")[2] for line in lines]
    assert said[0] == "3 partners, none of them synced yet."
    assert said[1].startswith("1 of 3 partners synced: ") and said[2].startswith("All 3 partners are synced: ")
    assert said[3:] == ["1 bib change stored.", "Alert: Something is wrong."]
    assert all(line[2] == line[5] == ":" and " UTC  " in line for line in lines)
    with database.session(hub.url, purpose="tests") as conn:
        status = sync_log.read_partner_status(conn)
        counted = read_snapshot(conn, Snapshot())
        assert counted.registrations == sum(row.participants for row in status) > 0
        # Counting reads all registrations, so it is done only after another partner was synced.
        assert read_snapshot(conn, replace(counted, registrations=-1)).registrations == -1
        assert read_snapshot(conn, replace(counted, synced=frozenset({1, 2}), registrations=-1)) == counted


def test_a_partner_counts_as_synced_once_its_registrations_are_stored(hub: Hub) -> None:
    def snapshot(before: Snapshot | None = None) -> Snapshot:
        with database.session(hub.url, purpose="tests") as conn:
            return read_snapshot(conn, before or Snapshot())

    with hub.partner_session(1) as session:
        listing.refresh_events(session)
        assert snapshot().synced == frozenset(), "its races are listed, and nothing of them is read"
        plan = partner_sync.make_plan(session)
        nearest = partner_sync.make_plan(session, race_ids=[plan.reads[0].race_id])
        partner_sync.sync_participants(session, nearest)
        assert (snapshot().synced, snapshot().registrations) == (frozenset(), 0), "one of its races is read"
        partner_sync.sync_participants(session, partner_sync.make_plan(session))
    synced = snapshot()
    stored = hub.value("SELECT count(*) FROM runsignup_participants WHERE timing_partner_id = 1 AND removed_at IS NULL")
    assert (synced.synced, synced.registrations) == (frozenset({1}), stored) and stored > 0
    hub.execute("DELETE FROM event_cursors WHERE event_id = (SELECT min(event_id) FROM future_events)")
    assert snapshot().synced == frozenset() and snapshot(synced) == synced, "an event of it is new"
    race = plan.reads[-1].race_id
    hub.execute(f"DELETE FROM event_cursors WHERE race_id <> {race}")
    hub.execute("UPDATE sync_history SET status = 'failed' WHERE race_id IS NOT NULL")
    assert snapshot().synced == frozenset({1}), "races that fail keep no partner from being synced"
