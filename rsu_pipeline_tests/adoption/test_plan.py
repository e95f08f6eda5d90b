"""The plan, decided without a database."""

import pytest

from rsu_pipeline.adoption.plan import find_lacking
from rsu_pipeline.adoption.rows import fills
from rsu_pipeline.adoption.shape import Column, Constraint, Named, Shape, Table, View, ident, literal
from rsu_pipeline.adoption.steps import AdoptionRefusedError, listing
from rsu_pipeline.adoption.tables import table_steps, widening
from rsu_pipeline.adoption.views import view_steps
from rsu_pipeline.display import counted


def column(name: str, kind: str = "text", *, not_null: bool = False, default: str | None = None) -> Column:
    return Column(name, kind, not_null, default, "", None)


def shape(*tables: Table) -> Shape:
    return Shape("public", "rsu", {table.name: table for table in tables})


def races(*columns: Column) -> Table:
    return Table("runsignup_races", "r", None, {item.name: item for item in columns})


@pytest.mark.parametrize(
    ("found", "wanted", "becomes"),
    [
        ("text", "text", None),
        ("character varying(100)", "text", "text"),
        ("character varying", "text", None),
        ("character varying(50)", "character varying(255)", "character varying(255)"),
        ("character varying(500)", "character varying(255)", None),
        ("text", "character varying(255)", None),
        ("integer", "bigint", "bigint"),
        ("smallint", "integer", "integer"),
        ("bigint", "integer", None),
        ("numeric", "numeric(10,2)", None),
        ("numeric(12,4)", "numeric(10,2)", None),
    ],
)
def test_a_type_becomes_wider_only_where_it_is_too_narrow(found: str, wanted: str, becomes: str | None) -> None:
    assert widening("t", column("c", found), column("c", wanted)) == becomes


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("text", "date"),
        ("integer", "text"),
        ("json", "jsonb"),
        ("numeric(10,1)", "numeric(10,2)"),
        ("timestamp with time zone", "timestamp without time zone"),
        ("character(10)", "text"),
    ],
)
def test_a_type_of_another_kind_is_refused_by_name(found: str, wanted: str) -> None:
    with pytest.raises(AdoptionRefusedError, match=r"^Column t\.c is of type "):
        widening("t", column("c", found), column("c", wanted))


def test_a_table_lacks_nothing_of_itself() -> None:
    table = races(column("race_id", "bigint", not_null=True), column("name"))
    table.constraints.append(Constraint("runsignup_races_pkey", "p", "PRIMARY KEY (race_id)", ("race_id",), None, " "))
    table.indexes.append(Named("by_name", "CREATE INDEX ON runsignup_races USING btree (name)"))
    assert find_lacking(shape(table), shape(table)) == []


def test_steps_say_what_they_do_and_do_it_in_one_statement() -> None:
    theirs = races(column("race_id", "integer", not_null=True), column("mood", not_null=True))
    ours = races(
        column("race_id", "bigint", not_null=True), column("payload", "jsonb"), column("seen", default="now()")
    )
    steps = table_steps(shape(theirs), shape(ours), "runsignup_races", "UTC", rows=3)
    assert [(step.sentence, step.sql) for step in steps] == [
        (
            "2 columns added beside: payload and seen; mood may be NULL",
            (
                'ALTER TABLE "runsignup_races" ADD COLUMN "payload" jsonb, ADD COLUMN "seen" text DEFAULT now(),'
                ' ALTER COLUMN "mood" DROP NOT NULL',
            ),
        ),
        ("widened to bigint: race_id", ('ALTER TABLE "runsignup_races" ALTER COLUMN "race_id" TYPE bigint',)),
    ]


def test_an_index_of_another_name_is_renamed_and_not_made_twice() -> None:
    theirs, ours = races(column("name")), races(column("name"))
    theirs.indexes.append(Named("idx_races", "CREATE INDEX ON runsignup_races USING btree (name)"))
    ours.indexes.append(Named("races_by_name", "CREATE INDEX ON runsignup_races USING btree (name)"))
    (step,) = table_steps(shape(theirs), shape(ours), "runsignup_races", "UTC")
    assert step.sql == ('ALTER INDEX "idx_races" RENAME TO "races_by_name"',)


def test_flat_columns_are_only_read_where_there_is_no_json_yet() -> None:
    assert fills(races(column("city"), column("state")), "UTC") == {
        "address": "CASE WHEN num_nonnulls(city, state) > 0 THEN jsonb_build_object('city', city, 'state', state) END"
    }
    assert fills(races(column("city"), column("address", "jsonb")), "UTC") == {}


def test_a_view_is_put_back_with_its_own_types_and_order() -> None:
    ours = View("unified_events", "SELECT 1", None, "rsu", "", columns={"event_id": "text", "event_name": "text"})
    theirs = View(
        "unified_events",
        "SELECT 2",
        None,
        "rsu",
        "",
        ("runsignup_events",),
        {"event_name": "character varying(50)", "event_id": "text"},
        ["GRANT SELECT ON unified_events TO display"],
    )
    wanted = Shape(
        "public", "rsu", {"runsignup_events": Table("runsignup_events", "r", None)}, {"unified_events": ours}
    )
    down, up = view_steps(Shape("public", "rsu", {}, {"unified_events": theirs}), wanted)
    assert down.sql == ('DROP VIEW "unified_events"',)
    assert up.sql[0] == (
        'CREATE VIEW "unified_events" AS SELECT u."event_name"::character varying AS "event_name", u."event_id" AS "event_id"'
        " FROM (SELECT 1) u"
    )
    assert up.sql[-1] == "GRANT SELECT ON unified_events TO display"
    assert down.phase < up.phase


def test_names_and_texts_become_sql() -> None:
    assert ident('a"b') == '"a""b"'
    assert literal("it's") == "'it''s'"
    assert listing(["a"]) == "a"
    assert listing(["a", "b", "c"]) == "a, b and c"
    assert counted(1, "row") == "1 row"
    assert counted(1203, "index", "indexes") == "1,203 indexes"
