"""docs/data-model.md equals the catalogue of a freshly migrated PostgreSQL."""

import re

import pytest

from rsu_pipeline.warehouse import database, roles
from tools import schema_docs, schema_sql, table_columns
from tools.schema_catalogue import Schema

WORDS_OF_ZONES = ("wall time", "zone", "calendar", "last_modified")


@pytest.fixture
def schema(empty_database: str) -> Schema:
    """Provide the schema as the migrations make it of an empty database."""
    with database.session(empty_database, purpose="tests") as conn:
        database.migrate(conn)
        return schema_docs.read(conn)


def test_the_drawn_parts_are_up_to_date(schema: Schema) -> None:
    text = schema_docs.FILE.read_text(encoding="utf-8")
    assert text == schema_docs.filled(text, schema_docs.parts(schema)), (
        f"{schema_docs.FILE.name} is out of date: `{schema_docs.COMMAND}`"
    )


def test_the_columns_that_the_web_ui_shows_are_up_to_date(schema: Schema) -> None:
    assert table_columns.FILE.read_text(encoding="utf-8") == table_columns.text(schema), (
        f"{table_columns.FILE.name} is out of date: `{schema_docs.COMMAND}`"
    )


def test_the_schema_in_one_file_is_what_the_migrations_make(empty_database: str, schema: Schema) -> None:
    assert schema_sql.FILE.read_text(encoding="utf-8") == schema_sql.text(empty_database), (
        f"{schema_sql.FILE.name} is out of date: `{schema_docs.COMMAND}`"
    )


def test_a_change_of_the_schema_shows(empty_database: str, schema: Schema) -> None:
    text = schema_docs.FILE.read_text(encoding="utf-8")
    for change in (
        "ALTER TABLE start_lists ADD COLUMN extra integer",
        "COMMENT ON COLUMN start_lists.entrants IS 'Something else.'",
        "CREATE TABLE extra (extra_id integer PRIMARY KEY)",
        "ALTER TABLE history_races DROP CONSTRAINT history_races_race_id_fkey",
        "ALTER TABLE start_lists ALTER COLUMN race_day SET NOT NULL",
        "CREATE SCHEMA extra; CREATE TABLE extra.more (extra_id integer PRIMARY KEY)",
    ):
        with database.session(empty_database, purpose="tests") as conn, conn.cursor() as cur:
            cur.execute(change)
            changed = schema_docs.filled(text, schema_docs.parts(schema_docs.read(conn)))
        assert changed != text, change


def test_each_table_is_shown_once_in_a_group(schema: Schema) -> None:
    text = schema_docs.FILE.read_text(encoding="utf-8")
    shown = re.findall(r"^### `(\S+)`$", text, re.MULTILINE)
    assert sorted(shown) == sorted(schema)
    assert {"runsignup_participants", "start_list", "alerts"} <= set(schema)


def test_every_table_and_column_says_what_it_is(schema: Schema) -> None:
    assert schema_docs.uncommented(schema) == []


def test_what_the_role_reader_may_read_is_for_others() -> None:
    assert set(roles.FOR_READERS) <= set(schema_docs.FOR_OTHERS)


def test_every_time_without_a_zone_says_of_which_zone_it_is(schema: Schema) -> None:
    found = [
        (table.name, column)
        for table in schema.values()
        for column in table.columns
        if column.type.startswith("timestamp") and not column.type.startswith("timestamptz")
    ]
    assert len(found) > 15
    silent = [
        f"{table}.{column.name}"
        for table, column in found
        if not any(word in column.meaning for word in WORDS_OF_ZONES)
    ]
    assert silent == []


def test_mermaid_gets_names_that_it_can_read(schema: Schema) -> None:
    parts = schema_docs.parts(schema)
    name, column = r"[A-Za-z]\w*", r"\w+ \w+ (?:PK|FK|UK)(?:, (?:PK|FK|UK))*"
    line = re.compile(
        rf'    (?:{name}(?: \{{)?|\}}|{name} (?:\|o|\|\|)(?:--|\.\.)(?:o\||o\{{) {name} : "[\w, ]+"|    {column})'
    )
    for part in parts.values():
        for diagram in re.findall(r"```mermaid\n(.*?)\n```", part, re.DOTALL):
            first, *rest = diagram.splitlines()
            assert first == "erDiagram" and rest
            for one in rest:
                assert line.fullmatch(one), one


def test_a_place_that_is_missing_or_unknown_is_told(schema: Schema) -> None:
    text = schema_docs.FILE.read_text(encoding="utf-8")
    parts = schema_docs.parts(schema)
    for wrong in (
        text.replace("<!-- drawn: bibs -->", ""),
        text + "\n<!-- drawn: nothing -->\n<!-- end of nothing -->\n",
        text + text,
    ):
        with pytest.raises(ValueError, match=r"data-model\.md has"):
            schema_docs.filled(wrong, parts)


@pytest.mark.parametrize(
    ("attribute", "value", "said"),
    [
        ("JOINS", (("api_calls", ("nothing",), "timing_partners"),), "columns that api_calls does not have: nothing"),
        ("JOINS", (("nothing", ("x",), "timing_partners"),), "one of them is not in the database"),
        ("FOR_OTHERS", ("nothing",), "not in the database: nothing"),
        ("VIEW_COLUMNS", {("start_list", "nothing"): "x"}, "VIEW_COLUMNS explains"),
    ],
)
def test_what_stands_beside_the_catalogue_must_fit_it(
    schema: Schema,
    empty_database: str,
    monkeypatch: pytest.MonkeyPatch,
    attribute: str,
    value: object,
    said: str,
) -> None:
    monkeypatch.setattr(schema_docs, attribute, value)
    with database.session(empty_database, purpose="tests") as conn, pytest.raises(ValueError, match=said):
        schema_docs.read(conn)


def test_drawing_again_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path_factory.mktemp("docs") / schema_docs.FILE.name
    text = schema_docs.FILE.read_text(encoding="utf-8")
    copy.write_text(text.replace("| Column | Type | |", "| Column |"), encoding="utf-8")
    columns = copy.with_name(table_columns.FILE.name)
    columns.write_text("[]")
    monkeypatch.setattr(schema_docs, "FILE", copy)
    known_columns = table_columns.FILE.read_text(encoding="utf-8")
    monkeypatch.setattr(table_columns, "FILE", columns)
    statements = copy.with_name(schema_sql.FILE.name)
    statements.write_text("")
    known_statements = schema_sql.FILE.read_text(encoding="utf-8")
    monkeypatch.setattr(schema_sql, "FILE", statements)
    assert schema_docs.main() == 0
    assert copy.read_text(encoding="utf-8") == text
    assert columns.read_text(encoding="utf-8") == known_columns
    assert statements.read_text(encoding="utf-8") == known_statements
    assert capsys.readouterr().out.count("updated") == 3
