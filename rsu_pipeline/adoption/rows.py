"""Decide which rows of the older program cannot stay, and what the new columns contain for those that do.

An older table may contain rows that this program's may not: a registration without a number, a second one with the same
number, or one of an event that no longer exists. Such rows move whole to `adopted_rows`, each with its reason. None is
deleted.
"""

from collections.abc import Mapping

from rsu_pipeline.adoption.shape import Shape, Table, literal
from rsu_pipeline.eastern import EASTERN_SQL
from rsu_pipeline.warehouse.registration_columns import MEMBERS, MONEY

MOVED = "adopted_rows"
"""Where rows that cannot stay are kept."""
CREATE_MOVED = f"""
CREATE TABLE {MOVED} (
    adopted_row_id bigserial PRIMARY KEY,
    table_name text NOT NULL,
    reason text NOT NULL,
    kept_id bigint,
    "row" jsonb NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE {MOVED} IS 'One row: a row of the older program that could not stay in its table when the database was adopted.';
COMMENT ON COLUMN {MOVED}.adopted_row_id IS 'Number of the row.';
COMMENT ON COLUMN {MOVED}.table_name IS 'The table it was in.';
COMMENT ON COLUMN {MOVED}.reason IS 'Why it could not stay.';
COMMENT ON COLUMN {MOVED}.kept_id IS 'Of an older copy of a registration: id of the copy that stayed.';
COMMENT ON COLUMN {MOVED}."row" IS 'The row as it was, every column.';
COMMENT ON COLUMN {MOVED}.moved_at IS 'When the database was adopted.';
"""

BIB = "bib_num"
NO_BLANK = f"CASE WHEN {BIB} ~ '\\S' THEN {BIB} END"
"""A bib, or NULL for a blank."""

GHOST = "has no registration_id"
OLDER_COPY = "is an older copy of a registration that stays"

_PARTNERS = "SELECT timing_partner_id FROM timing_partners WHERE timing_partner_id IS NOT NULL"
_GOOD_OWNER = f"(timing_partner_id IS NULL OR timing_partner_id IN ({_PARTNERS}))"


def _good_races(shape: Shape) -> str:
    owned = "timing_partner_id" in shape.tables["runsignup_races"].columns
    return f"SELECT race_id FROM runsignup_races WHERE race_id IS NOT NULL AND {_GOOD_OWNER if owned else 'true'}"


def _good_events(shape: Shape) -> str:
    owned = "timing_partner_id" in shape.tables["runsignup_events"].columns
    return (
        f"SELECT event_id FROM runsignup_events WHERE event_id IS NOT NULL AND {_GOOD_OWNER if owned else 'true'}"
        f" AND race_id IN ({_good_races(shape)})"
    )


def build_judgements(shape: Shape) -> dict[str, str]:
    """Return by table, in the order of moving, a query for the rows that cannot stay: (place, reason, kept_id).

    `place` is the row's ctid. If a row has several reasons, the first counts.
    """
    events, races = _good_events(shape), _good_races(shape)
    owner = {
        name: [(f"timing_partner_id NOT IN ({_PARTNERS})", "is of a partner that is not in timing_partners")]
        if name in shape.tables and "timing_partner_id" in shape.tables[name].columns
        else []
        for name in ("runsignup_races", "runsignup_events", "sync_history")
    }
    found = {
        "runsignup_participants": _judge_participants(shape, events, races),
        "runsignup_events": _judge(
            "runsignup_events",
            ("event_id IS NULL", "has no event_id"),
            ("race_id IS NULL", "has no race_id"),
            (f"race_id NOT IN ({races})", "is of a race that is not in runsignup_races or moves"),
            *owner["runsignup_events"],
        ),
        "runsignup_races": _judge("runsignup_races", ("race_id IS NULL", "has no race_id"), *owner["runsignup_races"]),
    }
    if owner["sync_history"]:
        found["sync_history"] = _judge("sync_history", *owner["sync_history"])
    return found


def _case(*reasons: tuple[str, str]) -> str:
    return "CASE " + " ".join(f"WHEN {condition} THEN {literal(reason)}" for condition, reason in reasons) + " END"


def _judge(table: str, *reasons: tuple[str, str]) -> str:
    return (
        f"SELECT place, reason, NULL::bigint AS kept_id FROM (SELECT ctid AS place, {_case(*reasons)} AS reason"
        f" FROM {table}) judged WHERE reason IS NOT NULL"
    )


def _judge_participants(shape: Shape, events: str, races: str) -> str:
    has_age = "fetched_date" in shape.tables["runsignup_participants"].columns
    fetched = "fetched_date" if has_age else "NULL::timestamp AS fetched_date"
    reason = _case(
        ("registration_id IS NULL", GHOST),
        ("timing_partner_id IS NULL", "has no timing_partner_id"),
        (f"timing_partner_id NOT IN ({_PARTNERS})", "is of a partner that is not in timing_partners"),
        ("event_id IS NULL", "has no event_id"),
        (f"event_id NOT IN ({events})", "is of an event that is not in runsignup_events or moves"),
        ("race_id IS NULL", "has no race_id"),
        (f"race_id NOT IN ({races})", "is of a race that is not in runsignup_races or moves"),
    )
    return f"""
        SELECT place, coalesce(reason, {literal(OLDER_COPY)}) AS reason, CASE WHEN reason IS NULL THEN newest END AS kept_id
        FROM (
            SELECT place, reason, row_number() OVER copies AS copy, first_value(id) OVER copies AS newest
            FROM (
                SELECT ctid AS place, id, timing_partner_id, registration_id, {fetched}, {reason} AS reason
                FROM runsignup_participants
            ) judged
            WINDOW copies AS (PARTITION BY reason, timing_partner_id, registration_id
                ORDER BY fetched_date DESC NULLS LAST, id DESC)
        ) numbered
        WHERE reason IS NOT NULL OR copy > 1"""


def move(table: str, judgement: str, emptied: str | None = None) -> str:
    """Return the statement that moves the rows of a judgement, with the column `emptied` left NULL."""
    content = f"to_jsonb(t) || '{{\"{emptied}\": null}}'" if emptied else "to_jsonb(t)"
    return f"""
        WITH judged AS MATERIALIZED ({judgement}),
        moved AS (
            DELETE FROM {table} t USING judged j WHERE t.ctid = j.place
            RETURNING j.reason, j.kept_id, {content} AS content
        )
        INSERT INTO {MOVED} (table_name, reason, kept_id, "row")
        SELECT {literal(table)}, reason, kept_id, content FROM moved"""


def links(shape: Shape) -> str:
    """Return a query for the (timing_partner_id, race_id) pairs of partner_races.

    A partner gets a race if it owns the race or one of its events, or has registrations of it.
    """
    sources = [
        f"SELECT timing_partner_id, race_id FROM {table}"
        for table in ("runsignup_races", "runsignup_events")
        if "timing_partner_id" in shape.tables[table].columns
    ]
    sources.append(
        "SELECT timing_partner_id, race_id FROM runsignup_participants"
        f" WHERE registration_id IS NOT NULL AND event_id IN ({_good_events(shape)})"
    )
    return (
        f"SELECT DISTINCT timing_partner_id, race_id FROM ({' UNION ALL '.join(sources)}) pairs"
        f" WHERE timing_partner_id IN ({_PARTNERS}) AND race_id IN ({_good_races(shape)})"
    )


# Values of new columns.

ADDRESS = ("street", "street2", "city", "state", "zipcode", "country_code")
_OBJECTS = ("team_info", "payment_info", "additional_data")
FLAT: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "runsignup_participants": {
        "address": ADDRESS,
        **{column: tuple(member.name for member in MEMBERS if member.column == column) for column in _OBJECTS},
    },
    "runsignup_races": {"address": ADDRESS},
}
"""JSONB columns of this program, and the flat columns that an older table may have in place of each."""


_AMOUNTS = {member.name for member in MEMBERS if member.column == "payment_info" and member.name in MONEY}


def _typed(table: Table, column: str) -> str:
    """Return SQL for a flat column as a JSON member, typed as a sync types it.

    Amounts and ids become numbers. Text that is not a number stays text.
    """
    is_text = table.columns[column].type == "text" or "character" in table.columns[column].type
    if not is_text or not (column in _AMOUNTS or column.endswith("_id")):
        return column
    pattern = r"^\s*-?\$?[0-9][0-9,]*(\.[0-9]+)?\s*$" if column in _AMOUNTS else r"^[0-9]{1,18}$"
    return (
        rf"CASE WHEN {column} ~ {literal(pattern)} THEN to_jsonb(regexp_replace({column}, '[$,\s]', '', 'g')::numeric)"
        f" ELSE to_jsonb({column}) END"
    )


def _wall(table: Table, column: str, zone: str) -> str:
    """Return SQL for a time column as an instant: a wall time of the zone, unless it is an instant already."""
    has_zone = table.columns[column].type.endswith("with time zone")
    return column if has_zone else f"{column} AT TIME ZONE {zone}"


def fills(table: Table, zone: str) -> dict[str, str]:
    """Return SQL for the values of old rows in the columns that adoption adds. Columns not returned keep their default.

    `zone` is the server's time zone, which the older program's own times have.
    """
    here = literal(zone)
    found: dict[str, str] = {}
    if table.name == "runsignup_participants":
        # The bib log replays from first_bib. Its first entries are the changes since the older program last read.
        found["first_bib"] = f"coalesce({NO_BLANK}, {_team_bib(table)})"
        found["registered_at"] = f"registration_date AT TIME ZONE {EASTERN_SQL}"
        found["first_seen_at"] = "created_at"
        found["changed_at"] = "fetched_date"
        for name in ("first_seen_at", "changed_at"):
            source = found[name]
            found[name] = f"coalesce({_wall(table, source, here)}, now())" if source in table.columns else "now()"
        for source, name in ((BIB, "first_bib"), ("registration_date", "registered_at")):
            if source not in table.columns:
                del found[name]
    elif table.name == "sync_history":
        found |= _history_fills(table, here)
    for name, flat in FLAT.get(table.name, {}).items():
        present = [column for column in flat if column in table.columns]
        if name not in table.columns and present:
            members = ", ".join(f"{literal(column)}, {_typed(table, column)}" for column in present)
            found[name] = f"CASE WHEN num_nonnulls({', '.join(present)}) > 0 THEN jsonb_build_object({members}) END"
    return {name: sql for name, sql in found.items() if name not in table.columns}


def _team_bib(table: Table) -> str:
    """Return SQL for a row's team bib as rsu_bib computes it, which counts if the row has no bib of its own."""
    if "team_info" in table.columns and table.columns["team_info"].type in ("json", "jsonb"):
        source = "team_info ->> 'team_bib_num'"
    elif "team_bib_num" in table.columns:
        source = "team_bib_num::text"
    else:
        return "NULL::text"
    return f"CASE WHEN octet_length({source}) <= 1000 THEN nullif(btrim({source}, E' \\t\\r\\n'), '') END"


def _history_fills(table: Table, zone: str) -> dict[str, str]:
    """Return SQL for the values of old rows in the columns that adoption adds to the sync log.

    Every old run gets an end before now, whatever its clock showed. An end at or after the credential's entry would count as the
    first sync. The texts of the other shape are copied to this program's columns.
    """
    ends = [
        f"{_wall(table, source, zone)} {more}".strip()
        for source, more in (
            ("completed_at", ""),
            ("sync_time", "+ make_interval(secs => coalesce(duration_seconds, 0))"),
            ("started_at", ""),
        )
        if source in table.columns and (not more or "duration_seconds" in table.columns)
    ]
    found = {"finished_at": f"least(coalesce({', '.join([*ends, literal('epoch')])}), now() - interval '1 second')"}
    for name, source in (
        ("sync_time", "started_at"),
        ("operation_type", "sync_type"),
        ("num_of_synced_records", "records_processed"),
        ("reason", "error_message"),
    ):
        if source in table.columns:
            found[name] = f"left({source}, 50)" if name == "operation_type" else source
    return found


ZONED = """
    UPDATE runsignup_events e
    SET starts_at = e.start_time AT TIME ZONE z.name, ends_at = e.end_time AT TIME ZONE z.name
    FROM runsignup_races r JOIN pg_timezone_names z ON lower(z.name) = lower(r.timezone)
    WHERE r.race_id = e.race_id AND num_nonnulls(e.start_time, e.end_time) > 0"""
"""Fills the instants of events. They stay NULL where a race names no zone that PostgreSQL knows."""
