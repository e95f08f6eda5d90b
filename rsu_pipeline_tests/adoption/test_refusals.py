"""What is not understood is refused with one sentence that names it, and nothing changes."""

from collections.abc import Callable

import pytest

from rsu_pipeline.adoption import AdoptionRefusedError
from rsu_pipeline_tests.adoption.looking import adopt, contents
from rsu_pipeline_tests.warehouse.sessions import rows

NO_VIEWS = "DROP VIEW unified_participants, unified_events"
TRIGGER = "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$"
CALL = "FOR EACH ROW EXECUTE FUNCTION nothing()"
REFUSED = {
    "a column of another type": (
        ("ALTER TABLE runsignup_participants ALTER dob TYPE text USING dob::text",),
        "Column runsignup_participants.dob is of type text, where date is expected",
    ),
    "an instant where a wall time belongs": (
        (NO_VIEWS, "ALTER TABLE runsignup_events ALTER start_time TYPE timestamptz"),
        "Column runsignup_events.start_time is of type timestamp with time zone",
    ),
    "a table without its key": (
        (NO_VIEWS, "ALTER TABLE runsignup_participants DROP registration_id"),
        "Table runsignup_participants has no column registration_id",
    ),
    "a partner table of another kind": (
        ("ALTER TABLE timing_partners RENAME company_name TO title",),
        "Table timing_partners has no column company_name",
    ),
    "a missing table": (
        (NO_VIEWS, "DROP TABLE runsignup_participants"),
        "There is no table runsignup_participants in schema public",
    ),
    "a view in a table's place": (
        ("ALTER TABLE sync_history RENAME TO h; CREATE VIEW sync_history AS SELECT * FROM h",),
        "sync_history is not a plain table",
    ),
    "a new table that another program has": (
        ("CREATE TABLE api_calls (id int)",),
        "There is a table api_calls that the older program did not make",
    ),
    "another program's migrations": (
        ("CREATE TABLE schema_migrations (version bigint, dirty boolean)",),
        "Table schema_migrations has no column name",
    ),
    "a view on a changing column": (
        ("CREATE VIEW bibs AS SELECT bib_num FROM runsignup_participants",),
        "View bibs reads column runsignup_participants.bib_num, which adoption changes",
    ),
    "a view on a view": (
        ("CREATE VIEW board AS SELECT bib_number FROM unified_participants",),
        "View board reads column unified_participants.bib_number, which adoption changes",
    ),
    "a view with another column": (
        (NO_VIEWS, "CREATE VIEW unified_events AS SELECT 1 AS event_id, 2 AS mood"),
        "View unified_events has a column mood",
    ),
    "a table in a view's place": (
        (NO_VIEWS, "CREATE TABLE unified_events (id int)"),
        "unified_events is not a plain view",
    ),
    "a race twice": (
        (
            "ALTER TABLE runsignup_events DROP CONSTRAINT runsignup_events_race_id_fkey;"
            "ALTER TABLE runsignup_participants DROP CONSTRAINT runsignup_participants_race_id_fkey;"
            "ALTER TABLE runsignup_races DROP CONSTRAINT runsignup_races_pkey;"
            "INSERT INTO runsignup_races SELECT * FROM runsignup_races LIMIT 1",
        ),
        "Column runsignup_races.race_id has 1 value more than once",
    ),
    "a provider twice": (
        ("INSERT INTO providers (name) VALUES ('runsignup')",),
        "Column providers.name has 1 value more than once",
    ),
    "a credential of nobody": (
        ("UPDATE partner_provider_credentials SET timing_partner_id = NULL WHERE timing_partner_id = 1",),
        "Column partner_provider_credentials.timing_partner_id is NULL in 1 row",
    ),
    "a credential of a partner that is gone": (
        (
            "ALTER TABLE partner_provider_credentials"
            " DROP CONSTRAINT partner_provider_credentials_timing_partner_id_fkey;"
            "UPDATE partner_provider_credentials SET timing_partner_id = 99 WHERE timing_partner_id = 1",
        ),
        "Table partner_provider_credentials has 1 row whose timing_partner_id or provider_id names nobody",
    ),
    "a table that would lose rows with those that move": (
        (
            "CREATE TABLE check_ins (participant integer REFERENCES runsignup_participants ON DELETE CASCADE);"
            "INSERT INTO check_ins SELECT min(id) FROM runsignup_participants WHERE registration_id IS NULL",
        ),
        "Table check_ins has 1 row whose participant names a row of runsignup_participants that is to be moved (",
    ),
    "a plain foreign key to an older copy": (
        (
            "CREATE TABLE check_ins (n serial, participant integer REFERENCES runsignup_participants);"
            "INSERT INTO check_ins (participant) SELECT p.id FROM runsignup_participants p JOIN runsignup_participants q"
            " USING (registration_id) WHERE p.fetched_date < q.fetched_date ORDER BY 1 LIMIT 1",
        ),
        "Table check_ins has 1 row whose participant names a row of runsignup_participants that is to be moved ({older} older"
        " copy of id {newer}): let them name another row or none",
    ),
    "a foreign key from a row that stays to one of its own table that moves": (
        (
            "ALTER TABLE runsignup_participants ADD pair integer REFERENCES runsignup_participants;"
            "UPDATE runsignup_participants SET pair = (SELECT min(id) FROM runsignup_participants WHERE registration_id IS NULL)"
            " WHERE id = (SELECT max(id) FROM runsignup_participants WHERE registration_id IS NOT NULL)",
        ),
        "Table runsignup_participants has 1 row whose pair names a row of runsignup_participants",
    ),
    "an UPDATE OF trigger": (
        (f"{TRIGGER}; CREATE TRIGGER bib BEFORE UPDATE OF bib_num ON runsignup_participants {CALL}",),
        "Trigger bib on table runsignup_participants depends on runsignup_participants.bib_num, which adoption changes: drop it",
    ),
    "a WHEN trigger": (
        (
            f"{TRIGGER}; CREATE TRIGGER bib BEFORE UPDATE ON runsignup_participants FOR EACH ROW"
            " WHEN (NEW.credentials_used = 'x') EXECUTE FUNCTION nothing()",
        ),
        "Trigger bib on table runsignup_participants depends on runsignup_participants.credentials_used, which adoption changes",
    ),
    "row-level security": (
        (
            "ALTER TABLE runsignup_events ENABLE ROW LEVEL SECURITY;"
            "CREATE POLICY own ON runsignup_events USING (timing_partner_id = 1)",
        ),
        "Table runsignup_events has row-level security",
    ),
    "a policy that is not enforced": (
        ("CREATE POLICY own ON runsignup_events USING (race_id > 1)",),
        "Policy own on table runsignup_events depends on runsignup_events.race_id, which adoption changes",
    ),
    "a generated column of theirs": (
        ("ALTER TABLE runsignup_participants ADD bib_upper text GENERATED ALWAYS AS (upper(bib_num)) STORED",),
        " depends on runsignup_participants.bib_num, which adoption changes: drop it",
    ),
    "a generated column that this program writes": (
        (
            NO_VIEWS,
            "ALTER TABLE runsignup_events DROP distance, ADD distance numeric(10,2) GENERATED ALWAYS AS (1.5) STORED",
        ),
        "Column runsignup_events.distance is generated, so that this program could not write it",
    ),
    "a rule": (
        ("CREATE RULE quiet AS ON DELETE TO sync_history DO INSTEAD NOTHING",),
        "Rule quiet on table sync_history would change what this program writes: drop it, and adopt again.",
    ),
    "a rule of another table": (
        (
            "CREATE TABLE bibs (bib text); CREATE RULE copy AS ON INSERT TO bibs DO ALSO"
            " UPDATE runsignup_participants SET bib_num = NEW.bib",
        ),
        "Rule copy on table bibs",
    ),
    "a rule on a view": (
        ("CREATE RULE quiet AS ON INSERT TO unified_events DO INSTEAD NOTHING",),
        "Rule quiet on view unified_events depends on unified_events, which adoption changes",
    ),
    "a column of a row type": (
        ("CREATE TABLE archive (of_day date, whole runsignup_participants)",),
        "Column whole of table archive depends on runsignup_participants, which adoption changes",
    ),
    "a column of rows": (
        ("CREATE TABLE archive (of_day date, whole runsignup_races[])",),
        "Column whole of table archive depends on runsignup_races, which adoption changes",
    ),
    "a function of a view's row type": (
        (
            "CREATE FUNCTION shown() RETURNS SETOF unified_events LANGUAGE sql STABLE AS $$SELECT * FROM unified_events$$",
        ),
        "Function shown() depends on unified_events, which adoption changes",
    ),
    "a child table": (
        ("CREATE TABLE participants_2024 (note text) INHERITS (runsignup_participants)",),
        "Table participants_2024 inherits from runsignup_participants, so that no key can hold for both: run ALTER TABLE"
        " participants_2024 NO INHERIT runsignup_participants, which keeps its columns and rows",
    ),
    "a parent table": (
        ("CREATE TABLE any_race (name text); ALTER TABLE runsignup_races INHERIT any_race",),
        "Table runsignup_races inherits from any_race",
    ),
    "a registration that only one partner may have": (
        (
            "DELETE FROM runsignup_participants p USING runsignup_participants q"
            " WHERE p.registration_id = q.registration_id AND p.id < q.id;"
            "ALTER TABLE runsignup_participants ADD UNIQUE (registration_id)",
        ),
        "Table runsignup_participants has the rule runsignup_participants_registration_id_key (UNIQUE (registration_id))",
    ),
    "an index by which a bib is worn once": (
        ("CREATE UNIQUE INDEX one_bib ON runsignup_participants (id, bib_num)",),
        "Table runsignup_participants has the rule one_bib (CREATE UNIQUE INDEX",
    ),
    "a check on a value": (
        ("ALTER TABLE runsignup_events ADD CHECK (distance < 1000)",),
        "Table runsignup_events has the rule runsignup_events_distance_check (CHECK (distance < 1000::numeric))",
    ),
    "a key nobody could fill": (
        (
            "ALTER TABLE sync_history DROP CONSTRAINT sync_history_pkey, ADD shard integer;"
            "UPDATE sync_history SET shard = 1; ALTER TABLE sync_history ADD PRIMARY KEY (sync_history_id, shard)",
        ),
        "Column sync_history.shard is part of the primary key and has no default",
    ),
}


def pair(url: str) -> dict[str, int]:
    """Return the older copy that check_ins names, and the one that stays."""
    ((older, newer),) = rows(
        url,
        "SELECT p.id, q.id FROM check_ins c JOIN runsignup_participants p ON p.id = c.participant"
        " JOIN runsignup_participants q USING (registration_id) WHERE q.fetched_date > p.fetched_date",
    )
    return {"older": older, "newer": newer}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_table_and_column_and_left_alone(make_old: Callable[..., str], name: str) -> None:
    statements, sentence = REFUSED[name]
    url = make_old(*statements)
    tables = tuple(
        table for (table,) in rows(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    )
    before = contents(url, tables)
    for dry_run in (True, False):
        with pytest.raises(AdoptionRefusedError) as refused:
            adopt(url, dry_run=dry_run)
        text = str(refused.value)
        if "{older}" in sentence:
            sentence = sentence.format(**pair(url))
        assert text.startswith(sentence) or (sentence.startswith(" ") and sentence in text), text
        assert "\n" not in text
    assert contents(url, tables) == before
    after = rows(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    assert tuple(table for (table,) in after) == tables


def test_a_view_on_columns_that_stay_is_no_hindrance(make_old: Callable[..., str]) -> None:
    url = make_old("CREATE VIEW names AS SELECT timing_partner_id, company_name FROM timing_partners")
    adopt(url)
    assert len(rows(url, "SELECT * FROM names")) == 3


def test_an_empty_database_has_nothing_to_adopt(empty_database: str) -> None:
    with pytest.raises(
        AdoptionRefusedError, match="There is no table timing_partners in schema public, so there is nothing to adopt"
    ):
        adopt(empty_database)


WAYS_OUT = {
    "an UPDATE OF trigger": ("DROP TRIGGER bib ON runsignup_participants",),
    "row-level security": (
        "ALTER TABLE runsignup_events DISABLE ROW LEVEL SECURITY; DROP POLICY own ON runsignup_events",
    ),
    "a plain foreign key to an older copy": (
        "UPDATE check_ins SET participant = q.id FROM runsignup_participants p JOIN runsignup_participants q"
        " USING (registration_id) WHERE p.id = check_ins.participant AND q.fetched_date > p.fetched_date",
    ),
    "a child table": ("ALTER TABLE participants_2024 NO INHERIT runsignup_participants",),
    "a parent table": ("ALTER TABLE runsignup_races NO INHERIT any_race",),
}


def test_the_way_out_that_a_refusal_names_leads_out(make_old: Callable[..., str]) -> None:
    url = make_old(*(statement for name in WAYS_OUT for statement in REFUSED[name][0]))
    rows(
        url,
        "INSERT INTO participants_2024 (registration_id, event_id, race_id, timing_partner_id, note)"
        " SELECT 7, event_id, race_id, timing_partner_id, 'of old' FROM runsignup_participants LIMIT 1",
    )
    for name, statements in WAYS_OUT.items():
        with pytest.raises(AdoptionRefusedError):
            adopt(url, dry_run=True)
        for statement in statements:
            rows(url, statement)
        assert name
    adopt(url)
    assert rows(url, "SELECT registration_id, note FROM participants_2024") == [(7, "of old")]
    assert rows(url, "SELECT count(*) FROM runsignup_participants WHERE registration_id = 7") == [(0,)]
    rows(url, f"CREATE TRIGGER bib BEFORE UPDATE OF bib_num ON runsignup_participants {CALL}")


def test_a_foreign_key_to_rows_that_stay_is_no_hindrance(make_old: Callable[..., str]) -> None:
    url = make_old(
        "CREATE TABLE check_ins (participant integer REFERENCES runsignup_participants ON DELETE CASCADE);"
        "INSERT INTO check_ins SELECT max(id) FROM runsignup_participants p WHERE registration_id IS NOT NULL"
        " AND 1 = (SELECT count(*) FROM runsignup_participants q WHERE q.registration_id = p.registration_id)"
    )
    adopt(url)
    assert rows(url, "SELECT count(*) FROM check_ins JOIN runsignup_participants ON id = participant") == [(1,)]
