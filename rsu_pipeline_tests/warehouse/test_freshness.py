"""The fleet's figures and facts, asked of a real database filled by hand."""

import datetime as dt
import itertools

import pytest

from rsu_pipeline.alerts import rule_queries
from rsu_pipeline.warehouse import (
    backfill_progress,
    backfill_state,
    credential_encryption,
    fleet_facts,
    freshness,
    sync_log,
)
from rsu_pipeline.warehouse.freshness import EventRead, PartnerHealth
from rsu_pipeline.warehouse.secret_box import SecretBox, generate_secret_key
from rsu_pipeline_tests.warehouse import thousand
from rsu_pipeline_tests.warehouse.fleet_rows import HOUR, MINUTE, NOW, Fleet


def one(put: Fleet, number: int = 1) -> PartnerHealth:
    return next(item for item in freshness.read_partner_health(put.conn, NOW) if item.partner_id == number)


def reads(put: Fleet) -> dict[tuple[int, int], EventRead]:
    return {(read.partner_id, read.event_id): read for read in freshness.read_event_reads(put.conn, NOW)}


def standing(put: Fleet) -> None:
    """Enter two partners that share a race with one event ahead and one past. The first has another race."""
    put.partner(1)
    put.partner(2)
    put.race(10, 1, 2)
    put.race(11, 1)
    put.event(100, 10, 48 * HOUR)
    put.event(101, 10, -480 * HOUR)
    put.event(110, 11)


def registration(put: Fleet, partner: int, number: int, event_id: int = 100, *, removed: bool = False) -> None:
    put.sql(
        "INSERT INTO runsignup_participants (race_id, event_id, timing_partner_id, registration_id, removed_at, changed_at)"
        " SELECT race_id, event_id, %s, %s, CASE WHEN %s THEN now() END, %s FROM runsignup_events WHERE event_id = %s",
        partner,
        number,
        removed,
        NOW - HOUR * number,
        event_id,
    )


def test_each_partner_has_one_row_in_order_of_number_with_nothing_where_there_is_nothing(put: Fleet) -> None:
    put.partner(2)
    put.partner(1)
    assert freshness.read_partner_health(put.conn, NOW) == [
        PartnerHealth(
            number, f"{number}-acme", "untried", 0, 0, None, 0, -number, 0, 0, 0, 0, 0, 0, None, None, None, None, None
        )
        for number in (1, 2)
    ]


@pytest.mark.parametrize(
    ("spoil", "state", "is_synced"),
    [
        ("UPDATE partner_provider_credentials SET verified_at = now()", "works", True),
        ("UPDATE partner_provider_credentials SET verified_at = now(), rejected_at = now()", "refused", True),
        ("UPDATE partner_provider_credentials SET secret = ' '", "incomplete", False),
        ("UPDATE partner_provider_credentials SET principal = NULL", "incomplete", False),
        ("DELETE FROM partner_provider_credentials", "none", False),
        ("UPDATE timing_partners SET disabled_at = now()", "off", False),
    ],
)
def test_the_state_of_a_credential_says_whether_a_partner_is_synced(
    put: Fleet, spoil: str, state: str, is_synced: bool
) -> None:
    standing(put)
    put.sql(spoil)
    assert (one(put).credential, one(put).is_synced) == (state, is_synced)
    assert bool(reads(put)) is is_synced


def test_races_and_events_ahead_are_those_that_a_sync_would_read(put: Fleet) -> None:
    standing(put)
    assert (one(put, 1).races_ahead, one(put, 1).events_ahead) == (2, 2)
    assert (one(put, 2).races_ahead, one(put, 2).events_ahead) == (1, 1)
    assert list(reads(put)) == [(1, 100), (1, 110), (2, 100)]
    put.sql("UPDATE partner_races SET lost_at = now() WHERE timing_partner_id = 2")
    put.sql("UPDATE runsignup_events SET gone_at = now() WHERE event_id = 110")
    assert one(put, 2).races_ahead == 0 and list(reads(put)) == [(1, 100)]


def test_an_event_never_read_is_known_since_event_listing_and_credential_were(put: Fleet) -> None:
    standing(put)
    put.sql("UPDATE runsignup_events SET created_at = timestamp '2026-10-01 00:00'")
    put.sql("UPDATE partner_races SET listed_at = '2026-10-02 00:00Z' WHERE race_id = 10")
    put.sql("UPDATE partner_races SET listed_at = '2026-09-01 00:00Z' WHERE race_id = 11")
    put.sql("UPDATE partner_provider_credentials SET entered_at = '2026-09-01 00:00Z'")
    put.sql("UPDATE partner_provider_credentials SET entered_at = '2026-10-03 00:00Z' WHERE timing_partner_id = 2")
    put.cursor(1, 110, MINUTE)
    found = reads(put)
    days = {key: read.known_since.day for key, read in found.items()}
    assert days == {(1, 100): 2, (1, 110): 1, (2, 100): 3}
    assert [found[key].read_at for key in sorted(found)] == [None, NOW - MINUTE, None]
    assert [found[key].needs_full for key in sorted(found)] == [True, False, True]


def test_a_failure_is_open_until_the_race_is_read_again(put: Fleet) -> None:
    standing(put)
    put.tried(1, 10, 5 * HOUR)
    put.tried(1, 10, 4 * HOUR, "failed")
    put.tried(1, None, 3 * HOUR, "failed")
    assert (one(put, 1).failures, one(put, 1).last_sync, one(put, 2).failures) == (2, NOW - 5 * HOUR, 0)
    put.tried(1, None, HOUR)
    assert one(put).failures == 1
    # Polls that find nothing leave no history; the cursor shows them.
    put.cursor(1, 100, MINUTE)
    assert (one(put).failures, one(put).last_sync) == (0, NOW - MINUTE)
    put.tried(1, 10, dt.timedelta(0), "failed")
    assert one(put).failures == 1
    put.sql("UPDATE runsignup_events SET starts_at = %s WHERE event_id = 100", NOW - 3 * HOUR)
    assert one(put).failures == 0


def test_calls_of_the_last_hour_and_rows_are_counted_for_each_partner(put: Fleet) -> None:
    standing(put)
    put.sql(
        "INSERT INTO api_calls (credential_id, lane, endpoint, granted_at)"
        " SELECT partner_provider_credential_id, 'routine', 'races', %s - make_interval(mins => n) "
        " FROM partner_provider_credentials, generate_series(50, 70, 10) n WHERE timing_partner_id = 1",
        NOW,
    )
    registration(put, 1, 1)
    registration(put, 1, 2, removed=True)
    registration(put, 1, 30)
    registration(put, 2, 1)
    found = {
        item.partner_id: (item.calls, item.registrations, item.changed)
        for item in freshness.read_partner_health(put.conn, NOW)
    }
    assert found == {1: (1, 2, 2), 2: (0, 1, 1)}


def test_calls_are_those_with_the_partners_api_key_whoever_else_has_it(put: Fleet) -> None:
    standing(put)  # both partners with the API key `key`
    credential_encryption.encrypt_all(put.conn, SecretBox([generate_secret_key()], source="tests"))
    put.sql(
        "INSERT INTO api_calls (credential_id, api_key_id, lane, endpoint)"
        " SELECT partner_provider_credential_id, api_key_id, 'routine', 'races'"
        " FROM partner_provider_credentials, generate_series(1, 5)"
    )
    now = dt.datetime.now(dt.UTC)
    one, two = freshness.read_partner_health(put.conn, now)
    assert (one.calls, two.calls) == (10, 10) and one.call_budget_id == two.call_budget_id
    assert [row.calls_this_hour for row in sync_log.read_partner_status(put.conn)] == [10, 10]
    assert {read.call_budget_id for read in freshness.read_event_reads(put.conn, now)} <= {one.call_budget_id}
    assert rule_queries.read_calls_used(put.conn) == [([1, 2], ["1-acme", "2-acme"], 10)]


def test_bibs_of_the_last_day_tell_how_long_they_took(put: Fleet) -> None:
    standing(put)
    for hours, seconds in ((1, 5), (1, 15), (2, -3), (30, 900), (3, None)):
        put.sql(
            "INSERT INTO runsignup_bib_changes (timing_partner_id, race_id, event_id, registration_id, kind, new_bib,"
            " first_seen_new, recorded_at, modified_epoch) VALUES (1, 10, 100, 1, 'assigned', '7', now(), %s, %s)",
            NOW - hours * HOUR,
            None if seconds is None else int((NOW - hours * HOUR).timestamp()) - seconds,
        )
    found = one(put)
    assert (found.bibs, found.bib_seconds_max) == (4, 15)
    assert found.bib_seconds_p95 == pytest.approx(14)
    assert one(put, 2).bibs == 0
    assert freshness.count_bibs_by_hour(put.conn, NOW) == [
        (NOW - 3 * HOUR, 1, None),
        (NOW - 2 * HOUR, 1, 0),
        (NOW - 1 * HOUR, 2, pytest.approx(14.5)),
    ]


def test_the_progress_of_a_history_is_that_of_each_partners_own(put: Fleet) -> None:
    standing(put)
    put.event(102, 10, -100 * HOUR)
    backfill_state.request_backfill(put.conn, 1)
    backfill_state.note_read(put.conn, 1, 10, [101], needs_catch_up=False, unconfirmed=[])
    backfill_state.note_failure(put.conn, 1, 10, "no", wait=HOUR)
    own = backfill_progress.read_progress(put.conn, 1, NOW)
    found = one(put, 1)
    assert own is not None and (own.events, own.empty) == (2, 1)
    assert (found.past_events, found.past_events_settled, found.history_complete, found.failures) == (2, 1, False, 1)
    assert one(put, 2).past_events is None and one(put, 2).history_complete is None
    assert backfill_progress.read_progress_of_all(put.conn, NOW) == {1: own}
    backfill_state.request_backfill(put.conn, 2)
    backfill_state.note_unavailable(put.conn, 2, [101], "refused")
    other = backfill_progress.read_progress(put.conn, 2, NOW)
    assert other is not None and (other.events, other.unavailable, other.races, other.failing) == (2, 1, 1, 0)
    assert backfill_progress.read_progress_of_all(put.conn, NOW) == {1: own, 2: other}
    backfill_state.note_success(put.conn, 1, 10)
    put.sql("UPDATE history_requests SET finished_at = now()")
    assert (one(put, 1).history_complete, one(put, 1).failures) == (False, 0), "an event is not read"
    backfill_state.note_read(put.conn, 1, 10, [102], needs_catch_up=False, unconfirmed=[])
    assert one(put, 1).history_complete


# Facts


def test_the_facts_of_an_empty_hub_hold(put: Fleet) -> None:
    assert fleet_facts.find_duplicates(put.conn, 5) == fleet_facts.Duplicates(0, 0, 0, True, [])
    assert fleet_facts.replay_bib_log(put.conn, 5) == fleet_facts.Replay(0, 0, 0, 0, 0, [])
    assert fleet_facts.read_equality(put.conn, 5) == fleet_facts.Equality(0, 0, 0, 0, 0, [])
    assert fleet_facts.read_unstored_rows(put.conn, 5) == fleet_facts.UnstoredRows(0, 0, 0, [])


def log(put: Fleet, number: int, *bibs: str | None) -> None:
    """Enter a registration that came with the first of these bibs, has the last, and a log of the changes between."""
    registration(put, 1, number)
    put.sql(
        "UPDATE runsignup_participants SET first_bib = %s, bib_num = %s WHERE registration_id = %s",
        bibs[0],
        bibs[-1],
        number,
    )
    for old, new in itertools.pairwise(bibs):
        put.sql(
            "INSERT INTO runsignup_bib_changes (timing_partner_id, race_id, event_id, registration_id, kind, old_bib,"
            " new_bib, first_seen_new) VALUES (1, 10, 100, %s, 'changed', %s, %s, now())",
            number,
            old,
            new,
        )


SPOILED = {
    "today's bib is another": "UPDATE runsignup_participants SET bib_num = '9' WHERE registration_id = 1",
    "today's bib is gone": "UPDATE runsignup_participants SET bib_num = NULL WHERE registration_id = 1",
    "the first bib is another": "UPDATE runsignup_participants SET first_bib = '9' WHERE registration_id = 1",
    "the registration is gone": "DELETE FROM runsignup_participants WHERE registration_id = 1",
    "an entry is gone": "ALTER TABLE runsignup_bib_changes DISABLE TRIGGER USER;"
    " DELETE FROM runsignup_bib_changes WHERE registration_id = 1 AND new_bib = '6'",
    "an entry is of no change": "INSERT INTO runsignup_bib_changes (timing_partner_id, race_id, event_id, registration_id,"
    " kind, old_bib, new_bib, first_seen_new) VALUES (1, 10, 100, 1, 'changed', '8', '7', now())",
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_bib_log_that_does_not_lead_to_todays_bib_is_found(put: Fleet, spoil: str) -> None:
    standing(put)
    log(put, 1, None, "5", "6", "7")
    log(put, 2, "1", None, "1")
    log(put, 3, "4")
    replayed = fleet_facts.replay_bib_log(put.conn, 5)
    assert (replayed.changes, replayed.registrations, replayed.wrong, replayed.unlogged) == (5, 2, 0, 0)
    put.sql(spoil)
    found = fleet_facts.replay_bib_log(put.conn, 5)
    assert (found.registrations, found.wrong) == (2, 1)
    assert [(item["partner"], item["registration_id"]) for item in found.sample] == [("1-acme", 1)]


def test_rows_beside_a_damaged_index_are_seen_and_another_partners_row_of_the_same_number_is_none(put: Fleet) -> None:
    standing(put)
    registration(put, 1, 1)
    registration(put, 2, 1)
    assert fleet_facts.find_duplicates(put.conn, 5) == fleet_facts.Duplicates(
        2, 2, 0, True, []
    )  # it ends the transaction
    standing(put)
    put.sql("DROP INDEX runsignup_participants_identity")
    put.sql("CREATE UNIQUE INDEX narrower ON runsignup_participants (timing_partner_id, registration_id)"
            " WHERE removed_at IS NOT NULL")  # fmt: skip
    for number in (1, 1, 2):
        registration(put, 1, number)
    registration(put, 2, 1)
    put.conn.commit()
    assert fleet_facts.find_duplicates(put.conn, 5) == fleet_facts.Duplicates(
        4, 3, 1, False, [{"partner": "1-acme", "registration_id": 1, "rows": 2, "active": 2}]
    )


def test_samples_are_no_longer_than_asked_for(put: Fleet) -> None:
    standing(put)
    for number in range(5):
        log(put, number, None, "5")
    put.sql("UPDATE runsignup_participants SET bib_num = '6'")
    found = fleet_facts.replay_bib_log(put.conn, 2)
    assert (found.wrong, len(found.sample)) == (5, 2)


# A thousand partners


def test_a_thousand_partners_are_asked_about_by_indexes(put: Fleet) -> None:
    thousand.seed(
        put,
        """
        INSERT INTO api_calls (credential_id, lane, endpoint, granted_at)
            SELECT c.partner_provider_credential_id, 'routine', 'participants', %(now)s - make_interval(mins => 5 * n)
            FROM partner_provider_credentials c, generate_series(1, 200) n;
        INSERT INTO runsignup_participants (race_id, event_id, timing_partner_id, registration_id)
            SELECT race_id, event_id, 1 + race_id % 1000, event_id * 10 + n FROM runsignup_events, generate_series(1, 3) n;
        INSERT INTO runsignup_bib_changes (timing_partner_id, race_id, event_id, registration_id, kind, new_bib,
                first_seen_new, recorded_at, modified_epoch)
            SELECT 1 + n % 1000, 1, 1, n, 'assigned', '7', now(), %(now)s - make_interval(mins => n), 0
            FROM generate_series(1, 100000) n;
        INSERT INTO history_races (timing_partner_id, race_id, failures, error, retry_at)
            SELECT timing_partner_id, race_id, 1, 'no', now() FROM partner_races WHERE race_id <= 5000;
        INSERT INTO history_requests (timing_partner_id) SELECT n FROM generate_series(1, 1000) n;
        INSERT INTO history_events (timing_partner_id, event_id, state)
            SELECT 1 + race_id % 1000, event_id, 'loaded' FROM runsignup_events WHERE starts_at < %(now)s;
        """,
    )
    with thousand.found_by_indexes(put) as asked:
        found = freshness.read_partner_health(put.conn, NOW)
        reads, hours = freshness.read_event_reads(put.conn, NOW), freshness.count_bibs_by_hour(put.conn, NOW)
        histories = backfill_progress.read_progress_of_all(put.conn, NOW)
    assert len(asked) == 4, "one statement for all partners"
    assert len(found) == 1000 and all(item.calls == 11 and item.registrations == 120 for item in found)
    assert sum(item.races_ahead for item in found) == 10_000
    assert (len(reads), len(hours)) == (20_000, 24)
    assert len(histories) == 1000 and all(item.races == 20 and item.failing == 5 for item in histories.values())
    assert sum(item.settled for item in histories.values()) == 20_000
