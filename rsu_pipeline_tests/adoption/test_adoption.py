"""The older program's database, adopted: what is there afterwards, what stayed, and what was moved."""

import re
from collections.abc import Callable
from pathlib import Path

import psycopg2.errors
import pytest

from rsu_pipeline.adoption import apply
from rsu_pipeline.warehouse import database
from rsu_pipeline.warehouse.database import DatabaseError
from rsu_pipeline_tests.adoption.conftest import Old
from rsu_pipeline_tests.adoption.looking import CATALOG, TABLES, adopt, assert_kept, catalog, columns, contents
from rsu_pipeline_tests.warehouse.sessions import rows

VIEWS = ("unified_participants", "unified_events")


def test_everything_a_new_database_has_is_there(old_database: str, database_url: str) -> None:
    adopt(old_database)
    adopted, fresh = catalog(old_database), catalog(database_url)
    assert {part: fresh[part] - adopted[part] for part in fresh} == {part: set() for part in fresh}
    assert rows(old_database, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'rsu%'") == []
    with database.session(old_database, purpose="tests") as conn:
        assert database.migrate(conn) == []


def test_no_row_and_no_value_is_lost(old_database: str) -> None:
    before = contents(old_database)
    report = adopt(old_database)
    assert_kept(old_database, before)
    assert report.facts.rows == {table: len(before[table]) for table in TABLES}


def test_columns_keep_their_names_and_only_narrow_types_become_wider(old_database: str) -> None:
    before = {table: columns(old_database, table) for table in (*TABLES, "sync_queue")}
    adopt(old_database)
    wider = {"character varying": ("character varying", "text"), "integer": ("integer", "bigint")}
    for table, old in before.items():
        now = dict(columns(old_database, table))
        assert [name for name, _ in old] == list(now)[: len(old)]
        assert [name for name, kind in old if now[name] not in wider.get(kind, (kind,))] == []
    assert dict(before["sync_queue"]) == dict(columns(old_database, "sync_queue"))


def test_ghosts_and_older_copies_are_moved_with_their_reasons(old_database: str, old_template: Old) -> None:
    copy = old_template.copy
    copies = rows(
        old_database,
        "SELECT timing_partner_id, registration_id, (array_agg(id ORDER BY fetched_date DESC, id DESC))[1]"
        " FROM runsignup_participants WHERE registration_id IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1",
    )
    report = adopt(old_database)
    moved = rows(old_database, "SELECT table_name, reason, count(*) FROM adopted_rows GROUP BY 1, 2 ORDER BY 2")
    assert moved == [
        ("runsignup_participants", "has no registration_id", copy.ghosts),
        ("runsignup_participants", "is an older copy of a registration that stays", copy.duplicates),
    ]
    assert {reason: number for _, reason, number in moved} == report.facts.moving["runsignup_participants"]
    kept = rows(
        old_database,
        "SELECT p.timing_partner_id, p.registration_id, p.id FROM runsignup_participants p JOIN adopted_rows a"
        " ON a.kept_id = p.id AND (a.row ->> 'registration_id')::bigint = p.registration_id",
    )
    assert sorted(kept) == sorted(copies)
    assert len(copies) == copy.duplicates
    ((count,),) = rows(old_database, "SELECT count(*) FROM runsignup_participants")
    assert count == copy.participants - copy.ghosts - copy.duplicates


def test_the_guides_statement_puts_a_moved_row_back(old_database: str) -> None:
    adopt(old_database)
    guide = (Path(__file__).parents[2] / "docs" / "adopting.md").read_text(encoding="utf-8")
    statements = [text for text in re.findall(r"```sql\n(.*?)```", guide, re.DOTALL) if "INSERT" in text]
    ((number,),) = rows(
        old_database, "SELECT min(adopted_row_id) FROM adopted_rows WHERE reason LIKE '%no registration_id'"
    )
    rows(old_database, statements[0].replace("= 7", f"= {number}"))
    assert rows(old_database, "SELECT count(*) FROM runsignup_participants WHERE registration_id = 12345678") == [(1,)]


def test_orphans_are_moved_with_what_hangs_on_them(make_old: Callable[..., str]) -> None:
    url = make_old(
        "ALTER TABLE runsignup_participants DROP CONSTRAINT runsignup_participants_event_id_fkey,"
        " DROP CONSTRAINT runsignup_participants_timing_partner_id_fkey,"
        " DROP CONSTRAINT runsignup_participants_race_id_fkey;"
        "ALTER TABLE runsignup_events DROP CONSTRAINT runsignup_events_race_id_fkey;"
        "ALTER TABLE runsignup_races DROP CONSTRAINT runsignup_races_timing_partner_id_fkey;"
        "ALTER TABLE sync_history DROP CONSTRAINT sync_history_timing_partner_id_fkey",
        "INSERT INTO runsignup_races (race_id, timing_partner_id) VALUES (1, 99), (2, 1);"
        "INSERT INTO runsignup_events (event_id, race_id) VALUES (11, 1), (21, 2), (31, 3);"
        "INSERT INTO runsignup_participants (registration_id, timing_partner_id, race_id, event_id) VALUES"
        " (1, 1, 1, 11), (2, 1, 2, 21), (3, 1, 3, 31), (4, 99, 2, 21), (5, NULL, 2, 21), (6, 1, 2, NULL), (7, 1, NULL, 21),"
        " (8, 1, 2, 404);"
        "INSERT INTO sync_history (timing_partner_id) VALUES (99)",
    )
    before = contents(url)
    adopt(url)
    moved = rows(
        url,
        "SELECT table_name, coalesce(row ->> 'registration_id', row ->> 'event_id', row ->> 'race_id'), reason"
        " FROM adopted_rows WHERE NOT reason ~ 'registration' ORDER BY 1, 2",
    )
    gone_event, gone_race = "is of an event that is not in runsignup_events or moves", "is of a race that is not in"
    partner = "is of a partner that is not in timing_partners"
    assert [(table.removeprefix("runsignup_"), key, reason) for table, key, reason in moved] == [
        ("events", "11", f"{gone_race} runsignup_races or moves"),
        ("events", "31", f"{gone_race} runsignup_races or moves"),
        ("participants", "1", gone_event),
        ("participants", "3", gone_event),
        ("participants", "4", partner),
        ("participants", "5", "has no timing_partner_id"),
        ("participants", "6", "has no event_id"),
        ("participants", "7", "has no race_id"),
        ("participants", "8", gone_event),
        ("races", "1", partner),
        ("sync_history", None, partner),
    ]
    assert_kept(url, before)


def test_new_columns_say_what_can_be_said_of_old_rows(make_old: Callable[..., str]) -> None:
    url = make_old(
        "UPDATE runsignup_races SET timezone = 'Mars/Olympus' WHERE race_id = (SELECT min(race_id) FROM runsignup_races);"
        """UPDATE runsignup_participants SET bib_num = NULL, team_info = '{"team_bib_num": 501}'
            WHERE registration_id = (SELECT min(registration_id) FROM runsignup_participants)"""
    )
    report = adopt(url, zone="Europe/Berlin")
    assert rows(url, "SELECT count(*) FROM runsignup_participants WHERE first_bib = '501'") == [(1,)]
    wrong = rows(
        url,
        "SELECT count(*) FROM runsignup_participants WHERE removed_at IS NOT NULL"
        " OR first_bib IS DISTINCT FROM rsu_bib(bib_num, team_info)"
        " OR registered_at IS DISTINCT FROM registration_date AT TIME ZONE 'America/New_York'"
        " OR changed_at IS DISTINCT FROM fetched_date AT TIME ZONE 'Europe/Berlin'"
        " OR first_seen_at IS DISTINCT FROM created_at AT TIME ZONE 'Europe/Berlin'",
    )
    assert wrong == [(0,)]
    events = rows(
        url,
        "SELECT r.timezone = 'Mars/Olympus', e.starts_at IS NOT NULL,"
        " bool_and(starts_at = start_time AT TIME ZONE nullif(timezone, 'Mars/Olympus')) IS NOT FALSE, count(*)::int"
        " FROM runsignup_events e JOIN runsignup_races r USING (race_id) WHERE start_time IS NOT NULL GROUP BY 1, 2 ORDER BY 1",
    )
    assert [event[:3] for event in events] == [(False, True, True), (True, False, True)]
    assert report.facts.without_zone == events[1][3]
    assert any(f"except for {events[1][3]} event" in line for line in report.lines())
    pairs = "SELECT timing_partner_id, race_id FROM {} WHERE timing_partner_id IS NOT NULL"
    owners = rows(url, f"{pairs.format('runsignup_races')} UNION {pairs.format('runsignup_participants')}")
    assert set(rows(url, "SELECT timing_partner_id, race_id FROM partner_races WHERE access = 'unknown'")) == set(
        owners
    )
    assert rows(url, "SELECT count(*) FROM event_cursors") == [(0,)]
    # An end at or after the credential's entry would pass for the partner's first sync.
    late = "SELECT count(*) FROM sync_history h, partner_provider_credentials c WHERE h.finished_at >= c.entered_at"
    assert rows(url, late) == [(0,)]


def test_a_blank_bib_is_none_and_what_had_to_be_there_may_be_missing(make_old: Callable[..., str]) -> None:
    url = make_old(
        "UPDATE runsignup_participants SET bib_num = '' WHERE registration_id IS NOT NULL AND bib_num IS NULL;"
        "UPDATE runsignup_participants SET last_name = '' WHERE last_name IS NULL;"
        "ALTER TABLE runsignup_participants ALTER last_name SET NOT NULL"
    )
    report = adopt(url)
    assert report.facts.blank_bibs > 0
    assert any(f"bib_num NULL instead of blank in {report.facts.blank_bibs} rows" in line for line in report.lines())
    assert rows(url, "SELECT count(*) FROM runsignup_participants WHERE '' IN (bib_num, first_bib)") == [(0,)]
    rows(url, "UPDATE runsignup_participants SET last_name = NULL WHERE id = 1")


def test_a_role_that_owns_the_database_and_no_more_can_adopt_it(make_old: Callable[..., str], server: str) -> None:
    rows(server, "DROP ROLE IF EXISTS rsu_test_owner; CREATE ROLE rsu_test_owner")
    url = make_old()
    name = url.rsplit("/", 1)[1]
    try:
        rows(
            url,
            f"ALTER DATABASE {name} OWNER TO rsu_test_owner; ALTER SCHEMA public OWNER TO rsu_test_owner;"
            "DO $$ DECLARE t text; BEGIN"
            " FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            " UNION ALL SELECT viewname FROM pg_views WHERE schemaname = 'public' LOOP"
            " EXECUTE format('ALTER TABLE %I OWNER TO rsu_test_owner', t); END LOOP; END $$",
        )
        with database.session(url, purpose="tests") as conn:
            with conn.cursor() as cur:
                cur.execute("SET ROLE rsu_test_owner")
            conn.commit()
            assert apply.adopt(conn, zone="UTC").steps
        owners = rows(url, "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
        assert owners == [("rsu_test_owner",)]
    finally:
        rows(url, "REASSIGN OWNED BY rsu_test_owner TO CURRENT_USER")
        rows(server, "REASSIGN OWNED BY rsu_test_owner TO CURRENT_USER; DROP ROLE rsu_test_owner")


def test_runsignup_is_found_by_name_in_any_case_and_made_where_missing(make_old: Callable[..., str]) -> None:
    names = "SELECT provider_id, name FROM providers ORDER BY 1"
    url = make_old()
    adopt(url)
    assert rows(url, names) == [(1, "Haku"), (2, "RunSignUp")]
    url = make_old("UPDATE providers SET name = 'Chrono' WHERE provider_id = 2")
    adopt(url)
    assert rows(url, names) == [(1, "Haku"), (2, "Chrono"), (3, "RunSignup")]


def test_no_delete_cascades_any_more(old_database: str) -> None:
    adopt(old_database)
    cascading = rows(
        old_database,
        "SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f' AND confdeltype NOT IN ('a', 'r')"
        # Notes of reads under way and of what RunSignup refused are read again, and block nobody's delete. An outbox ends with
        # its webhook.
        " AND conrelid::regclass::text NOT LIKE 'pass_%'"
        " AND conrelid::regclass::text NOT IN ('refused_events', 'webhook_messages')",
    )
    assert cascading == []
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        rows(old_database, "DELETE FROM runsignup_races")


def test_a_sequence_behind_its_rows_is_caught_up(make_old: Callable[..., str]) -> None:
    url = make_old("SELECT setval('runsignup_participants_id_seq', 3)")
    ((highest,),) = rows(url, "SELECT max(id) FROM runsignup_participants")
    adopt(url)
    assert rows(url, "SELECT nextval('runsignup_participants_id_seq')") == [(highest + 1,)]


# Views


def test_the_views_are_read_as_before(make_old: Callable[..., str], server: str) -> None:
    rows(server, "DROP ROLE IF EXISTS rsu_test_display; CREATE ROLE rsu_test_display")
    url = make_old(
        "GRANT SELECT ON unified_events TO rsu_test_display; GRANT SELECT ON unified_participants TO PUBLIC;"
        "ALTER VIEW unified_participants OWNER TO rsu_test_display;"
        "GRANT SELECT ON runsignup_participants TO rsu_test_display"
    )
    owner = "SELECT viewowner FROM pg_views WHERE viewname = 'unified_participants'"
    try:
        before = {view: columns(url, view) for view in VIEWS}
        shown = set(rows(url, "SELECT registration_id FROM runsignup_participants"))
        events = set(rows(url, "SELECT * FROM unified_events"))
        adopt(url)
        assert {view: columns(url, view) for view in VIEWS} == before
        assert set(rows(url, "SELECT * FROM unified_events")) == events
        ((count,),) = rows(url, "SET ROLE rsu_test_display; SELECT count(*) FROM unified_participants")
        assert count == len(shown - {(None,)})
        assert rows(url, owner) == [("rsu_test_display",)]
        assert rows(url, "SET ROLE rsu_test_display; SELECT count(*) FROM unified_events") == [(len(events),)]
        rows(
            url,
            "UPDATE runsignup_participants SET removed_at = now() WHERE id = (SELECT min(id) FROM runsignup_participants)",
        )
        assert rows(url, "SELECT count(*) FROM unified_participants") == [(count - 1,)]
    finally:
        rows(url, "DROP OWNED BY rsu_test_display")
        rows(server, "DROP ROLE rsu_test_display")


OTHER_PROVIDER = """
CREATE TABLE haku_participants (timing_partner_id integer, event_id varchar(50), first_name varchar(80), bib varchar(20));
INSERT INTO haku_participants VALUES (1, 'h-7', 'Wren', '77');
CREATE OR REPLACE VIEW unified_participants AS
SELECT 'runsignup' AS source_provider, timing_partner_id, event_id::varchar AS event_id, first_name, last_name, email,
    gender, bib_num AS bib_number, address->>'city' AS city, address->>'state' AS state, age, registration_date, fetched_date
FROM runsignup_participants
UNION ALL
SELECT 'haku', timing_partner_id, event_id, first_name, NULL, NULL, NULL, bib, NULL, NULL, NULL, NULL, NULL
FROM haku_participants
"""


def test_what_a_view_has_of_other_providers_stays(make_old: Callable[..., str]) -> None:
    url = make_old("DROP VIEW unified_participants", OTHER_PROVIDER)
    before = columns(url, "unified_participants")
    report = adopt(url)
    assert columns(url, "unified_participants") == before
    haku = rows(url, "SELECT event_id, first_name, bib_number FROM unified_participants WHERE source_provider = 'haku'")
    assert haku == [("h-7", "Wren", "77")]
    ((ours,), (stored,)) = rows(
        url,
        "SELECT count(*) FROM unified_participants WHERE source_provider = 'runsignup'"
        " UNION ALL SELECT count(*) FROM runsignup_participants",
    )
    assert ours == stored
    assert any("of other providers stays (haku_participants)" in line for line in report.lines())


@pytest.mark.parametrize("made", ["new", "adopted"])
def test_an_events_entrants_are_found_by_an_index(made: str, database_url: str, make_old: Callable[..., str]) -> None:
    url = database_url
    if made == "adopted":
        # The text that an older view's own types add must not come between the index and its reader.
        url = make_old("DROP VIEW unified_participants", OTHER_PROVIDER)
        adopt(url)
    for condition in ("event_id = '880101'", "timing_partner_id = 1 AND event_id = '880101'"):
        plan = rows(url, f"SET enable_seqscan = off; EXPLAIN SELECT * FROM unified_participants WHERE {condition}")
        text = "\n".join(line for (line,) in plan)
        assert "Index Cond: (((event_id)::character varying)::text = '880101'::text)" in text, text


# Rehearsing, repeating, failing


def test_a_dry_run_says_the_same_and_changes_nothing(old_database: str) -> None:
    before = contents(old_database), catalog_without_migrations(old_database)
    rehearsed = adopt(old_database, dry_run=True)
    assert (contents(old_database), catalog_without_migrations(old_database)) == before
    assert rehearsed.steps == adopt(old_database).steps


def test_adopting_again_does_nothing(old_database: str, database_url: str) -> None:
    adopt(old_database)
    before = catalog(old_database), contents(old_database)
    for url in (old_database, database_url):
        assert adopt(url).steps == ()
        assert adopt(url, dry_run=True).steps == ()
    assert (catalog(old_database), contents(old_database)) == before


@pytest.mark.parametrize("statement", ["CREATE UNIQUE INDEX", "INSERT INTO partner_races", "CREATE VIEW"])
def test_a_failure_half_way_leaves_the_database_as_it_was(
    old_database: str, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    real = apply.plan_adoption

    def breaking(*arguments: object) -> object:
        steps = real(*arguments)  # type: ignore[arg-type]
        place = next(n for n, step in enumerate(steps) if any(sql.startswith(statement) for sql in step.sql))
        broken = apply.Step("x", steps[place].phase, "x", ("SELECT 1 / 0",))
        return [*steps[: place + 1], broken, *steps[place + 1 :]]

    monkeypatch.setattr(apply, "plan_adoption", breaking)
    before = contents(old_database), catalog_without_migrations(old_database)
    with pytest.raises(DatabaseError, match=r"^x cannot be adopted \(x\), and nothing was changed: .*division by zero"):
        adopt(old_database)
    assert (contents(old_database), catalog_without_migrations(old_database)) == before


def test_what_would_differ_from_a_new_database_is_not_committed(
    old_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = apply.plan_adoption
    monkeypatch.setattr(
        apply,
        "plan_adoption",
        lambda *arguments: [step for step in real(*arguments) if not step.sentence.startswith("triggers")],
    )
    with pytest.raises(DatabaseError, match="different from a new database's"):
        adopt(old_database)
    assert rows(old_database, "SELECT to_regclass('schema_migrations')") == [(None,)]


def test_tables_in_use_are_waited_for_and_then_left_alone(old_database: str) -> None:
    with database.session(old_database, purpose="reader") as reader, reader.cursor() as cur:
        cur.execute("SELECT count(*) FROM runsignup_participants")
        with database.session(old_database, purpose="tests") as conn:
            with conn.cursor() as ours:
                ours.execute("SET lock_timeout = '200ms'")
            conn.commit()
            held = r"\(rsu reader .*, role \w+, from .*\) has locked runsignup_participants since .* UTC, so adoption could not"
            for dry_run in (True, False):
                with pytest.raises(DatabaseError, match=held):
                    apply.adopt(conn, zone="UTC", dry_run=dry_run)
    assert rows(old_database, "SELECT to_regclass('schema_migrations')") == [(None,)]


def test_of_two_adopts_at_once_the_second_names_the_first(old_database: str) -> None:
    with database.session(old_database, purpose="adopt") as first, first.cursor() as cur:
        database.lock_migrations(cur)
        with database.session(old_database, purpose="tests") as conn:
            with conn.cursor() as ours:
                ours.execute("SET lock_timeout = '200ms'")
            conn.commit()
            with pytest.raises(DatabaseError, match=r"\(rsu adopt .*\) has locked schema changes since"):
                apply.adopt(conn, zone="UTC")
    assert adopt(old_database).steps


def test_the_dry_run_finds_what_postgresql_would_refuse(make_old: Callable[..., str]) -> None:
    url = make_old(
        "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not on a Sunday'; END $$;"
        "CREATE TRIGGER stop BEFORE DELETE ON runsignup_participants FOR EACH ROW EXECUTE FUNCTION stop()"
    )
    before = contents(url), catalog_without_migrations(url)
    for dry_run in (True, False):
        with pytest.raises(
            DatabaseError,
            match=r"^runsignup_participants cannot be adopted \(.* rows moved to .*\), and .*not on a Sunday",
        ):
            adopt(url, dry_run=dry_run)
    assert (contents(url), catalog_without_migrations(url)) == before


def test_a_dry_run_takes_no_number_of_a_sequence_and_tells_how_long_it_locked(make_old: Callable[..., str]) -> None:
    url = make_old("UPDATE providers SET name = 'Chrono' WHERE provider_id = 2")
    for _ in range(2):
        rehearsed = adopt(url, dry_run=True)
        assert 0 < rehearsed.locked_seconds <= rehearsed.seconds
    adopt(url)
    assert rows(url, "SELECT provider_id FROM providers WHERE name = 'RunSignup'") == [(3,)]


RIGHTS = {
    "owns nothing": ((), r"timing_partners belongs to role \w+, which rsu_test_stranger is not a member of: adopt as "),
    "may make no schema": (
        ("REVOKE CREATE ON DATABASE {name} FROM rsu_test_stranger",),
        r"may not create in database \S+:",
    ),
    "may make no table": (
        ("REVOKE CREATE ON SCHEMA public FROM rsu_test_stranger, PUBLIC",),
        r"may not create in schema ",
    ),
}


@pytest.mark.parametrize("case", RIGHTS)
def test_a_role_without_the_rights_is_told_which(make_old: Callable[..., str], server: str, case: str) -> None:
    statements, sentence = RIGHTS[case]
    rows(server, "DROP ROLE IF EXISTS rsu_test_stranger; CREATE ROLE rsu_test_stranger")
    url = make_old()
    name = url.rsplit("/", 1)[1]
    try:
        rows(url, f"GRANT ALL ON DATABASE {name} TO rsu_test_stranger; GRANT ALL ON SCHEMA public TO rsu_test_stranger")
        for statement in statements:
            rows(url, statement.format(name=name))
        with database.session(url, purpose="tests") as conn:
            with conn.cursor() as cur:
                cur.execute("SET ROLE rsu_test_stranger")
            conn.commit()
            for dry_run in (True, False):
                with pytest.raises(DatabaseError, match=sentence):
                    apply.adopt(conn, zone="UTC", dry_run=dry_run)
    finally:
        rows(url, "DROP OWNED BY rsu_test_stranger")
        rows(server, "DROP ROLE rsu_test_stranger")


def catalog_without_migrations(url: str) -> dict[str, set[tuple[object, ...]]]:
    return {part: set(rows(url, query)) for part, query in CATALOG.items() if part != "migrations"}
