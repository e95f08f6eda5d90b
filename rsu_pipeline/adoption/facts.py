"""Count what the rows of the older program look like, for the plan's numbers and for refusals."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from psycopg2.extensions import cursor as Cursor

from rsu_pipeline.adoption import keys, readers, rows
from rsu_pipeline.adoption.keys import OtherCredential
from rsu_pipeline.adoption.shape import Shape, ident
from rsu_pipeline.adoption.steps import listing
from rsu_pipeline.warehouse.credentials import PROVIDER

SAMPLE = 5

ADOPTED = {
    "timing_partners": ("timing_partner_id", "company_name"),
    "providers": ("provider_id", "name"),
    "partner_provider_credentials": (
        "partner_provider_credential_id",
        "provider_id",
        "timing_partner_id",
        "principal",
        "secret",
    ),
    "runsignup_races": ("race_id",),
    "runsignup_events": ("event_id", "race_id"),
    "runsignup_participants": ("id", "race_id", "event_id", "timing_partner_id", "registration_id"),
    "sync_history": ("sync_history_id",),
}
"""The tables an older program made under our names, each with the columns that identify it."""
NEEDED = ("timing_partners", "runsignup_races", "runsignup_events", "runsignup_participants")
"""Those without which there is nothing to adopt. The others are created where they are missing."""
STAND_INS = {"providers": {"provider_id": "id", "name": "provider_name"}, "sync_history": {"sync_history_id": "id"}}
"""Columns of this program, and their names in some older installations.

The old column stays the one that is written. The new one is generated from it, so both always read alike.
"""


@dataclass(frozen=True)
class Reference:
    """How many `rows` of a table have `columns` that name a row of `target` that is to be moved. `sample` names some of these."""

    table: str
    columns: tuple[str, ...]
    target: str
    rows: int
    sample: str


@dataclass
class Facts:
    """Counts of the older program's rows.

    Attributes:
        rows: Rows by table.
        moving: Rows that cannot stay, by table and reason.
        nulls: NULLs by (table, column).
        repeated: Values that more than one row has, by (table, columns).
        lost: Rows by table whose partner or provider does not exist.
    """

    rows: dict[str, int] = field(default_factory=dict)
    moving: dict[str, Counter[str]] = field(default_factory=dict)
    nulls: dict[tuple[str, str], int] = field(default_factory=dict)
    repeated: dict[tuple[str, tuple[str, ...]], int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    lagging: set[str] = field(default_factory=set)
    """Tables whose sequence is behind the highest number."""
    references: list[Reference] = field(default_factory=list)
    """Foreign keys whose rows name rows that are to be moved."""
    copies: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By column, older copies of a registration that have a value where the kept copy has none, and those with another value."""
    links: int = 0
    """Pairs of a partner and a race it sees."""
    providers: list[str] = field(default_factory=list)
    """Names of providers that are RunSignup's, whatever their case."""
    blank_bibs: int = 0
    """Participants whose bib is an empty or blank text."""
    without_zone: int = 0
    """Dated events whose race names no zone that PostgreSQL knows."""
    clear_secrets: int = 0
    """RunSignup credentials with a key or secret in clear."""
    keys_used: dict[str, int] = field(default_factory=dict)
    """Rows by table whose credentials_used is not empty."""
    keys_elsewhere: dict[str, int] = field(default_factory=dict)
    """Rows by table that hold a partner's key elsewhere."""
    not_searched: list[str] = field(default_factory=list)
    """Tables that were not searched for keys."""
    other_credentials: list[OtherCredential] = field(default_factory=list)
    """Credentials in clear of other providers."""


def column_of(shape: Shape, table: str, name: str) -> str | None:
    """Return the column that has the content of the given one: itself, its stand-in, or None."""
    columns = shape.tables[table].columns
    if name in columns:
        return name
    other = STAND_INS.get(table, {}).get(name)
    return other if other in columns else None


def sequence_of(default: str) -> str:
    """Return the sequence, as a regclass, of a default that takes its next number."""
    return default.removeprefix("nextval(").removesuffix(")")


def count(cur: Cursor, found: Shape, wanted: Shape) -> Facts:
    """Count what a plan needs. The tables of NEEDED must exist with their columns."""
    facts = Facts()

    def value(query: str) -> Any:
        cur.execute(query)
        return (cur.fetchone() or (0,))[0]

    for table in ADOPTED:
        if table in found.tables:
            facts.rows[table] = value(f"SELECT count(*) FROM {table}")
            _count_keys(value, found, wanted, table, facts)
            key = found.tables[table].primary_key()
            default = found.tables[table].columns[key[0]].default if len(key) == 1 else None
            if default is not None and default.startswith("nextval("):
                last = f"pg_sequence_last_value({sequence_of(default)})"
                if value(f"SELECT max({ident(key[0])}) > coalesce({last}, 0) FROM {table}"):
                    facts.lagging.add(table)
    for table, judgement in rows.build_judgements(found).items():
        cur.execute(f"SELECT reason, count(*)::int FROM ({judgement}) j GROUP BY reason ORDER BY reason")
        if moving := Counter(dict(cur.fetchall())):
            facts.moving[table] = moving
    facts.references = _count_references(cur, found, wanted, facts)
    facts.copies = readers.count_copies(cur, found)
    facts.links = value(f"SELECT count(*) FROM ({rows.links(found)}) l")
    if "start_time" in found.tables["runsignup_events"].columns:
        zoned = "timezone" in found.tables["runsignup_races"].columns
        known = "SELECT FROM pg_timezone_names z WHERE lower(z.name) = lower(r.timezone)"
        facts.without_zone = value(
            "SELECT count(*) FROM runsignup_events e JOIN runsignup_races r USING (race_id)"
            f" WHERE e.start_time IS NOT NULL AND {f'NOT EXISTS ({known})' if zoned else 'true'}"
        )
    if rows.BIB in found.tables["runsignup_participants"].columns:
        facts.blank_bibs = value(f"SELECT count(*) FROM runsignup_participants WHERE {rows.BIB} !~ '\\S'")
    facts.keys_used = keys.count_used(value, found)
    facts.keys_elsewhere, facts.not_searched = keys.find_elsewhere(cur, found)
    _count_credentials(cur, value, found, facts)
    return facts


def _count_references(cur: Cursor, found: Shape, wanted: Shape, facts: Facts) -> list[Reference]:
    """Return the foreign keys that prevent rows from being moved: a row that stays names one that goes.

    Foreign keys of the older program that cascade are dropped before that.
    """
    judged = rows.build_judgements(found)
    references = []
    for key in found.referrers:
        is_taken_away = key.table in ADOPTED and key.target in wanted.tables and key.action in ("c", "n", "d")
        if key.target not in facts.moving or is_taken_away:
            continue
        pairs = zip(key.columns, key.target_columns, strict=True)
        join = " AND ".join(f"r.{ident(name)} = t.{ident(target)}" for name, target in pairs)
        stays = f"r.ctid NOT IN (SELECT place FROM ({judged[key.table]}) o)" if key.table in facts.moving else "true"
        cur.execute(
            f"""
            SELECT count(*), array_agg(DISTINCT concat_ws(' ', t.{ident(key.target_columns[0])}::text,
                'older copy of id ' || j.kept_id)) FROM {key.table} r JOIN {ident(key.target)} t ON {join}
            JOIN ({judged[key.target]}) j ON j.place = t.ctid WHERE {stays}"""
        )
        number, named = cur.fetchone() or (0, None)
        if number:
            references.append(Reference(key.table, key.columns, key.target, number, listing(named[:SAMPLE])))
    return references


def _count_keys(value: Any, found: Shape, wanted: Shape, table: str, facts: Facts) -> None:
    theirs, ours = found.tables[table], wanted.tables[table]
    for name, column in ours.columns.items():
        stored = column_of(found, table, name)
        if stored is not None and column.not_null and not theirs.columns[stored].not_null:
            facts.nulls[table, stored] = value(f"SELECT count(*) FROM {table} WHERE {ident(stored)} IS NULL")
    unique = {key.columns for key in theirs.constraints if key.kind in ("p", "u")}
    for key in ours.constraints:
        stored_columns = tuple(column_of(found, table, name) or "" for name in key.columns)
        if key.kind in ("p", "u") and all(stored_columns) and stored_columns not in unique:
            names = ", ".join(ident(name) for name in stored_columns)
            facts.repeated[table, stored_columns] = value(
                f"SELECT count(*) FROM (SELECT FROM {table} WHERE ({names}) IS NOT NULL GROUP BY {names}"
                " HAVING count(*) > 1) r"
            )


def _count_credentials(cur: Cursor, value: Any, found: Shape, facts: Facts) -> None:
    if "providers" not in found.tables:
        return
    key, name = column_of(found, "providers", "provider_id"), column_of(found, "providers", "name")
    cur.execute(f"SELECT {name} FROM providers WHERE lower({name}) = %s ORDER BY 1", (PROVIDER,))
    facts.providers = [row[0] for row in cur.fetchall()]
    # Names that differ only in case would violate the rule that a name is found in any case.
    facts.repeated["providers", (str(name),)] = value(
        f"SELECT count(*) FROM (SELECT FROM providers GROUP BY lower({name}) HAVING count(*) > 1) r"
    )
    if "partner_provider_credentials" not in found.tables:
        return
    facts.lost["partner_provider_credentials"] = value(
        "SELECT count(*) FROM partner_provider_credentials WHERE timing_partner_id NOT IN"
        " (SELECT timing_partner_id FROM timing_partners) OR provider_id NOT IN"
        f" (SELECT {key} FROM providers)"
    )
    facts.clear_secrets = value(
        "SELECT count(*) FROM partner_provider_credentials WHERE provider_id IN"
        f" (SELECT {key} FROM providers WHERE lower({name}) = '{PROVIDER}')"
        " AND (principal NOT LIKE 'sealed:%' OR secret NOT LIKE 'sealed:%')"
    )
    facts.other_credentials = keys.other_credentials(cur, str(key), str(name), PROVIDER)
