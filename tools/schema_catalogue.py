"""Read tables and views, their columns, keys and references from PostgreSQL's catalogue."""

from dataclasses import dataclass, field

from psycopg2.extensions import connection as Connection

_TYPES = {
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "character varying": "varchar",
}


@dataclass(frozen=True)
class Column:
    """`meaning` is the comment in the database, else what is known of a view's column, else empty."""

    name: str
    type: str
    not_null: bool
    meaning: str


@dataclass(frozen=True)
class Reference:
    """Columns that point into a table. `declared` when there is a foreign key."""

    columns: tuple[str, ...]
    table: str
    declared: bool = True


@dataclass
class Table:
    """A table, or a view with the tables it reads. `keys` are sets of columns that are unique, the primary key first."""

    name: str
    comment: str
    is_view: bool
    columns: list[Column] = field(default_factory=list)
    keys: list[tuple[str, ...]] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)


Schema = dict[str, Table]

_OURS = "n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'dagster')"
_NAME = "CASE n.nspname WHEN 'public' THEN c.relname ELSE n.nspname || '.' || c.relname END"


def read_tables(conn: Connection) -> Schema:
    """Return every table and view that the migrations made, by name, as the catalogue describes them."""
    with conn.cursor() as cur:
        cur.execute(
            f"SELECT {_NAME}, coalesce(obj_description(c.oid, 'pg_class'), ''), c.relkind IN ('v', 'm')"
            f" FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            f" WHERE c.relkind IN ('r', 'p', 'v', 'm') AND {_OURS} ORDER BY 1"
        )
        schema = {name: Table(name, comment, is_view) for name, comment, is_view in cur.fetchall()}
        cur.execute(
            f"SELECT {_NAME}, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,"
            f" coalesce(col_description(c.oid, a.attnum), '')"
            f" FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
            f" WHERE c.relkind IN ('r', 'p', 'v', 'm') AND {_OURS} AND a.attnum > 0 AND NOT a.attisdropped"
            f" ORDER BY 1, a.attnum"
        )
        for table, name, kind, not_null, comment in cur.fetchall():
            schema[table].columns.append(Column(name, _short(kind), not_null, comment))
        # Unique whatever else is in the row: no predicate, no expression.
        cur.execute(
            f"SELECT {_NAME}, (SELECT array_agg(a.attname::text ORDER BY k.place) FROM unnest(i.indkey::int2[])"
            f"   WITH ORDINALITY k (number, place) JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number)"
            f" FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
            f" WHERE i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND {_OURS}"
            f" ORDER BY 1, NOT i.indisprimary, 2"
        )
        for table, columns in cur.fetchall():
            schema[table].keys.append(tuple(columns))
        cur.execute(
            f"SELECT {_NAME}, (SELECT array_agg(a.attname::text ORDER BY k.place) FROM unnest(f.conkey)"
            f"   WITH ORDINALITY k (number, place) JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number),"
            f" f.confrelid::regclass::text"
            f" FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
            f" WHERE f.contype = 'f' AND {_OURS} ORDER BY 1, 2"
        )
        for table, columns, target in cur.fetchall():
            schema[table].references.append(Reference(tuple(columns), target))
        cur.execute(
            f"SELECT DISTINCT {_NAME}, d.refobjid::regclass::text"
            f" FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace"
            f" JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid"
            f"   AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> c.oid WHERE {_OURS} ORDER BY 1, 2"
        )
        for view, table in cur.fetchall():
            schema[view].reads.append(table)
    conn.rollback()
    return schema


def _short(kind: str) -> str:
    for long, short in _TYPES.items():
        kind = kind.replace(long, short)
    return kind
