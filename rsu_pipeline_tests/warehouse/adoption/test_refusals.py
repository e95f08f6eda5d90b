"""What is not understood is refused with one sentence that names it, and nothing changes."""

from collections.abc import Callable

import pytest

from rsu_pipeline.warehouse.adoption import Refused
from rsu_pipeline_tests.warehouse.adoption.looking import adopt, contents
from rsu_pipeline_tests.warehouse.sessions import rows

NO_VIEWS = "DROP VIEW unified_participants, unified_events"
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
    "a table of ours that is another's": (
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
        ("CREATE TABLE check_ins (participant integer REFERENCES runsignup_participants ON DELETE CASCADE)",),
        "Table check_ins has a foreign key to runsignup_participants that cascades",
    ),
    "a registration that only one partner may have": (
        (
            "DELETE FROM runsignup_participants p USING runsignup_participants q"
            " WHERE p.registration_id = q.registration_id AND p.id < q.id;"
            "ALTER TABLE runsignup_participants ADD UNIQUE (registration_id)",
        ),
        "Table runsignup_participants has the rule runsignup_participants_registration_id_key (UNIQUE (registration_id))",
    ),
    "an index that says a bib is worn once": (
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


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_table_and_column_and_left_alone(make_old: Callable[..., str], name: str) -> None:
    statements, sentence = REFUSED[name]
    url = make_old(*statements)
    tables = tuple(
        table for (table,) in rows(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    )
    before = contents(url, tables)
    for dry_run in (True, False):
        with pytest.raises(Refused) as refused:
            adopt(url, dry_run=dry_run)
        text = str(refused.value)
        assert text.startswith(sentence), text
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
        Refused, match="There is no table timing_partners in schema public, so there is nothing to adopt"
    ):
        adopt(empty_database)
