"""The way back: the older program finds its tables as it knows them, and other programs lose nothing."""

import json
from collections.abc import Callable
from dataclasses import asdict

import pytest

from rsu_pipeline.adoption import AdoptionRefusedError, undo
from rsu_pipeline.adoption.shape import Shape, inspect
from rsu_pipeline.adoption.undo import read_shape
from rsu_pipeline.warehouse import credential_encryption, database
from rsu_pipeline.warehouse.secret_box import SecretBox
from rsu_pipeline_tests.adoption.conftest import Old
from rsu_pipeline_tests.adoption.looking import CATALOG, TABLES, adopt, contents
from rsu_pipeline_tests.adoption.test_shapes import SHAPES
from rsu_pipeline_tests.hub import SECRET_KEY
from rsu_pipeline_tests.warehouse.sessions import rows

SECRET_BOX = SecretBox([SECRET_KEY], source="tests")
BEFORE = (
    "CREATE SCHEMA scoring; CREATE TABLE scoring.results (n serial PRIMARY KEY, partner integer REFERENCES timing_partners,"
    " seconds integer); INSERT INTO scoring.results (partner, seconds) VALUES (1, 1800);"
    "CREATE TABLE haku_participants (bib text); INSERT INTO haku_participants VALUES ('h1');"
    "CREATE VIEW scoring.companies AS SELECT timing_partner_id, company_name FROM timing_partners;"
    "GRANT SELECT ON unified_events TO PUBLIC; COMMENT ON TABLE runsignup_races IS 'races, of old';"
    "ALTER TABLE runsignup_events ALTER name SET NOT NULL; ALTER TABLE runsignup_races ADD mood text DEFAULT 'good'"
)
SINCE = (
    "INSERT INTO scoring.results (partner, seconds) VALUES (2, 2000); INSERT INTO haku_participants VALUES ('h2');"
    "CREATE TABLE kiosk (id serial PRIMARY KEY, line text); INSERT INTO kiosk (line) VALUES ('since');"
    "CREATE VIEW kiosk_lines AS SELECT line FROM kiosk;"
    "CREATE FUNCTION lines() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM kiosk';"
    "CREATE INDEX of_kiosk ON runsignup_races (mood);"
    "ALTER TABLE runsignup_participants ADD kiosk_note text; UPDATE runsignup_participants SET kiosk_note = 'here' WHERE id = 2"
)


def catalog(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Return what a database is made of, without migrations, which an old one does not have."""
    return {part: sorted(rows(url, query), key=repr) for part, query in CATALOG.items() if part != "migrations"}


def go_back(url: str, *, dry_run: bool = False) -> list[str]:
    with database.session(url, purpose="tests") as conn:
        return undo(conn, SECRET_BOX, dry_run=dry_run)


def without_keys(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return rows as text without the API keys, which adoption removed for good."""
    return {
        table: sorted(json.dumps(json.loads(row) | {"credentials_used": None}, sort_keys=True) for row in lines)
        for table, lines in found.items()
    }


@pytest.mark.parametrize("name", ["as usual", *SHAPES])
def test_adopting_and_going_back_leaves_tables_and_rows_as_they_were(make_old: Callable[..., str], name: str) -> None:
    url = make_old(*SHAPES.get(name, ()))
    tables = tuple(table for (table,) in rows(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
    before = catalog(url), without_keys(contents(url, tables))
    adopt(url)
    go_back(url)
    assert catalog(url) == before[0]
    assert without_keys(contents(url, tables)) == before[1]


def test_other_programs_lose_nothing_and_what_was_read_since_stays(
    make_old: Callable[..., str], old_template: Old
) -> None:
    url = make_old(BEFORE)
    before = catalog(url)
    shown = rows(url, "SELECT count(*) FROM unified_participants")
    adopt(url)
    rows(url, SINCE)
    with database.session(url, purpose="tests") as conn:
        assert credential_encryption.encrypt_all(conn, SECRET_BOX) == 3
        conn.commit()
    rows(
        url,
        "INSERT INTO runsignup_participants (timing_partner_id, race_id, event_id, registration_id, last_name, removed_at)"
        " SELECT timing_partner_id, race_id, event_id, 1990000000 + n, repeat('x', 150 * n), CASE n WHEN 2 THEN now() END"
        " FROM runsignup_participants, generate_series(1, 2) n WHERE id = 2;"
        "UPDATE runsignup_participants SET removed_at = now(), bib_num = '77' WHERE id = 2",
    )
    rehearsed = go_back(url, dry_run=True)
    assert rows(url, "SELECT to_regclass('adopted_rows') IS NOT NULL") == [(True,)]
    notes = go_back(url)
    assert notes == rehearsed
    assert "1 removed registration that the old program never had deleted" in notes
    assert "runsignup_participants.last_name stays text: 1 value would not fit" in notes

    assert rows(url, "SELECT partner, seconds FROM scoring.results ORDER BY n") == [(1, 1800), (2, 2000)]
    assert rows(url, "SELECT bib FROM haku_participants ORDER BY 1") == [("h1",), ("h2",)]
    assert rows(url, "SELECT line, lines() FROM kiosk_lines") == [("since", 1)]
    assert rows(url, "SELECT count(*) FROM scoring.companies") == [(3,)]
    assert rows(url, "SELECT kiosk_note, bib_num FROM runsignup_participants WHERE id = 2") == [("here", "77")]
    assert rows(url, "SELECT count(*) FROM runsignup_participants WHERE registration_id > 1990000000") == [(1,)]
    assert rows(url, "SELECT count(*) FROM unified_participants") == [(shown[0][0] + 1,)]
    clear = rows(url, "SELECT principal, secret FROM partner_provider_credentials ORDER BY timing_partner_id")
    assert clear == [(one.key, one.secret) for one in old_template.world.partners.values()]
    after = catalog(url)
    for part, was in before.items():
        lost = [item for item in was if item not in after[part]]
        assert [item for item in lost if item[:2] != ("runsignup_participants", "last_name")] == [], part
    tables = {table for (table,) in rows(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    assert tables - set(TABLES) == {"haku_participants", "kiosk", "sync_queue"}
    # The old program works again, and the database can be adopted again.
    rows(url, "INSERT INTO runsignup_participants (registration_id, timing_partner_id, event_id) SELECT NULL, 1, NULL")
    assert adopt(url).steps


def test_what_hangs_on_what_goes_is_named_and_nothing_is_changed(make_old: Callable[..., str]) -> None:
    url = make_old()
    adopt(url)
    rows(url, "CREATE VIEW board AS SELECT bib_number FROM unified_participants")
    before = catalog(url), contents(url)
    with pytest.raises(
        AdoptionRefusedError,
        match=r"no way back yet, and nothing was changed: .*\(view board depends on view unified_part",
    ):
        go_back(url)
    assert (catalog(url), contents(url)) == before
    rows(url, "DROP VIEW board")
    go_back(url)


def test_a_database_without_a_record_is_refused_with_the_other_way(
    make_old: Callable[..., str], database_url: str
) -> None:
    for url in (make_old(), database_url):
        with pytest.raises(
            AdoptionRefusedError, match=r"There is no record of an adoption in this database.*docs/adopting\.md"
        ):
            go_back(url)


def test_a_shape_is_read_as_it_was_recorded(old_database: str) -> None:
    with database.session(old_database, purpose="tests") as conn, conn.cursor() as cur:
        found = inspect(cur, "public")
    shape = Shape(found.schema, found.user, found.tables, found.views)
    assert read_shape(json.loads(json.dumps(asdict(shape), default=list))) == shape
