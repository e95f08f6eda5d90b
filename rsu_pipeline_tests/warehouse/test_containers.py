"""The owner of a race, and the migration that brought it."""

import pytest

from rsu_pipeline.warehouse import containers, database
from rsu_pipeline_tests.warehouse.fleet_rows import NOW, Fleet


@pytest.mark.parametrize(
    ("change", "owner"),
    [
        ("", 2),
        ("UPDATE partner_races SET access = 'denied' WHERE timing_partner_id = 2", 1),
        ("UPDATE partner_races SET access = 'unknown' WHERE timing_partner_id = 2", 1),
        ("UPDATE partner_races SET lost_at = now() WHERE timing_partner_id = 2", 1),
        ("UPDATE partner_races SET unlisted_at = now() WHERE timing_partner_id = 2", 1),
        ("UPDATE timing_partners SET disabled_at = now() WHERE timing_partner_id = 2", 1),
        ("UPDATE partner_provider_credentials SET rejected_at = now() WHERE timing_partner_id = 2", 1),
        ("UPDATE timing_partners SET disabled_at = now()", 2),
        ("UPDATE partner_races SET access = 'denied'", 2),
        ("UPDATE runsignup_races SET timing_partner_id = NULL", 1),
        ("UPDATE partner_races SET lost_at = now()", None),
    ],
)
def test_a_race_is_shown_of_a_partner_that_can_read_it_now(put: Fleet, change: str, owner: int | None) -> None:
    for partner in (1, 2, 3):
        put.partner(partner)
    put.race(10, 1, 2)
    put.event(100, 10)
    put.sql("UPDATE partner_races SET access = 'granted'")
    put.sql("UPDATE runsignup_races SET timing_partner_id = 2")
    if change:
        put.sql(change)
    with put.conn.cursor() as cur:
        cur.execute("SELECT timing_partner_id FROM race_owners")
        assert cur.fetchall() == ([] if owner is None else [(owner,)])
        cur.execute("SELECT timing_partner_id FROM unified_events")
        assert cur.fetchall() == ([] if owner is None else [(owner,)])


def test_finding_transfers_reads_no_registration_where_no_event_is_gone(put: Fleet) -> None:
    """Each sync does so: it read every registration of the hub, a quarter of a second for 50,000."""
    put.partner(1)
    put.race(10, 1)
    for event in (100, 101):
        put.event(event, 10)
    put.sql(
        "INSERT INTO runsignup_participants (race_id, event_id, timing_partner_id, registration_id)"
        " SELECT 10, 100 + n % 2, 1, n FROM generate_series(1, 2000) n"
    )
    put.conn.commit()
    put.sql("ANALYZE runsignup_participants")
    put.conn.commit()

    def count_read() -> int:
        with put.conn.cursor() as cur:
            cur.execute(
                "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'runsignup_participants'"
            )
            (read,) = cur.fetchone() or (0,)
            return int(read)

    assert containers.link_transfers(put.conn, 1, NOW) == 0
    assert count_read() == 0
    put.sql("UPDATE runsignup_events SET gone_at = %s WHERE event_id = 100", NOW)
    assert containers.link_transfers(put.conn, 1, NOW) == 0
    assert count_read() > 0, "it is counted"


def test_an_event_that_one_answer_took_for_gone_is_confirmed_after_the_upgrade(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = database.list_migrations()
    (number,) = (version for version, name, _ in known if "containers" in name)
    with database.session(empty_database, purpose="tests") as conn:
        with monkeypatch.context() as patch:
            patch.setattr(database, "list_migrations", lambda: [one for one in known if one[0] < number])
            database.migrate(conn)
        put = Fleet(conn)
        put.partner(1)
        put.race(10, 1)
        for event in (100, 101):
            put.event(event, 10)
        put.sql("UPDATE runsignup_races SET detail_as_of = now()")
        put.sql("UPDATE runsignup_events SET gone_at = %s", NOW)
        put.sql(
            "INSERT INTO runsignup_participants (race_id, event_id, timing_partner_id, registration_id)"
            " VALUES (10, 100, 1, 1000)"
        )
        conn.commit()
        database.migrate(conn)
        with conn.cursor() as cur:
            cur.execute("SELECT gone_at, vanished_at FROM runsignup_events ORDER BY event_id")
            assert cur.fetchall() == [(None, NOW), (NOW, None)], "the other has nobody who could be kept by mistake"
            cur.execute("SELECT detail_as_of FROM runsignup_races")
            assert cur.fetchone() == (None,)
