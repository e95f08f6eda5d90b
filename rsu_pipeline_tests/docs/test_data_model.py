"""docs/data-model.md is what a freshly migrated PostgreSQL says of itself."""

import re

import pytest

from rsu_pipeline.warehouse import database, roles
from rsu_pipeline_tests.docs import drawn, shown

WORDS_OF_ZONES = ("wall time", "zone", "calendar", "last_modified")


@pytest.fixture
def schema(empty_database: str) -> drawn.Schema:
    """The schema as the migrations make it of an empty database."""
    with database.session(empty_database, purpose="tests") as conn:
        database.migrate(conn)
        return drawn.read(conn)


def test_the_drawn_parts_are_up_to_date(schema: drawn.Schema) -> None:
    text = drawn.FILE.read_text(encoding="utf-8")
    assert text == drawn.filled(text, drawn.parts(schema)), f"{drawn.FILE.name} is out of date: `{drawn.COMMAND}`"


def test_the_columns_that_the_web_ui_shows_are_up_to_date(schema: drawn.Schema) -> None:
    assert shown.FILE.read_text(encoding="utf-8") == shown.text(schema), (
        f"{shown.FILE.name} is out of date: `{drawn.COMMAND}`"
    )


def test_a_change_of_the_schema_shows(empty_database: str, schema: drawn.Schema) -> None:
    text = drawn.FILE.read_text(encoding="utf-8")
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
            changed = drawn.filled(text, drawn.parts(drawn.read(conn)))
        assert changed != text, change


def test_each_table_is_shown_once_in_a_group(schema: drawn.Schema) -> None:
    text = drawn.FILE.read_text(encoding="utf-8")
    shown = re.findall(r"^### `(\S+)`$", text, re.MULTILINE)
    assert sorted(shown) == sorted(schema)
    assert {"runsignup_participants", "start_list", "alerts"} <= set(schema)


def test_every_table_and_column_says_what_it_is(schema: drawn.Schema) -> None:
    assert drawn.uncommented(schema) == []


def test_what_the_role_reader_may_read_is_for_others() -> None:
    assert set(roles.FOR_READERS) <= set(drawn.FOR_OTHERS)


def test_every_time_without_a_zone_says_of_which_zone_it_is(schema: drawn.Schema) -> None:
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


def test_mermaid_gets_names_that_it_can_read(schema: drawn.Schema) -> None:
    parts = drawn.parts(schema)
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


def test_a_place_that_is_missing_or_unknown_is_told(schema: drawn.Schema) -> None:
    text = drawn.FILE.read_text(encoding="utf-8")
    parts = drawn.parts(schema)
    for wrong in (
        text.replace("<!-- drawn: bibs -->", ""),
        text + "\n<!-- drawn: nothing -->\n<!-- end of nothing -->\n",
        text + text,
    ):
        with pytest.raises(ValueError, match=r"data-model\.md has"):
            drawn.filled(wrong, parts)


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
    schema: drawn.Schema,
    empty_database: str,
    monkeypatch: pytest.MonkeyPatch,
    attribute: str,
    value: object,
    said: str,
) -> None:
    monkeypatch.setattr(drawn, attribute, value)
    with database.session(empty_database, purpose="tests") as conn, pytest.raises(ValueError, match=said):
        drawn.read(conn)


def test_drawing_again_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path_factory.mktemp("docs") / drawn.FILE.name
    text = drawn.FILE.read_text(encoding="utf-8")
    copy.write_text(text.replace("| Column | Type | |", "| Column |"), encoding="utf-8")
    columns = copy.with_name(shown.FILE.name)
    columns.write_text("[]")
    monkeypatch.setattr(drawn, "FILE", copy)
    known_columns = shown.FILE.read_text(encoding="utf-8")
    monkeypatch.setattr(shown, "FILE", columns)
    assert drawn.main() == 0
    assert copy.read_text(encoding="utf-8") == text
    assert columns.read_text(encoding="utf-8") == known_columns
    assert capsys.readouterr().out.count("drawn anew") == 2
