"""Read a database before and after: its catalog and its rows, independently of the code under test."""

import json
from collections.abc import Iterable
from typing import Any

from rsu_pipeline import adoption
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.warehouse.sessions import rows

TABLES = (
    "timing_partners",
    "providers",
    "partner_provider_credentials",
    "runsignup_races",
    "runsignup_events",
    "runsignup_participants",
    "sync_history",
)


def adopt(url: str, *, dry_run: bool = False, zone: str = "UTC") -> adoption.Report:
    with database.session(url, purpose="tests") as conn:
        return adoption.adopt(conn, zone=zone, dry_run=dry_run)


_HERE = "n.nspname = 'public'"
CATALOG = {
    "columns": f"""
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_HERE} AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped""",
    "defaults": f"""
        SELECT c.relname, a.attname FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.adnum
        WHERE {_HERE}""",
    "keys": f"""
        SELECT c.relname, CASE WHEN k.contype = 'p' THEN 'u' ELSE k.contype END, k.convalidated,
            replace(pg_get_constraintdef(k.oid), 'PRIMARY KEY', 'UNIQUE')
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_HERE} AND k.contype IN ('p', 'u', 'f', 'c')""",
    "indexes": "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexdef !~ '_(pkey|key) ON '",
    "triggers": f"""
        SELECT c.relname, pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_HERE} AND NOT t.tgisinternal""",
    "functions": f"SELECT p.proname, p.prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {_HERE}",
    "comments": f"""
        SELECT c.relname, coalesce(a.attname, ''), d.description FROM pg_description d
        JOIN pg_class c ON d.classoid = 'pg_class'::regclass AND c.oid = d.objoid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND d.objsubid > 0
        WHERE {_HERE}""",
    "views": """
        SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.views
        USING (table_schema, table_name) WHERE table_schema = 'public'""",
    "migrations": "SELECT version, name, digest FROM schema_migrations",
}


def catalog(url: str) -> dict[str, set[tuple[Any, ...]]]:
    """Return the parts of a database."""
    return {part: set(rows(url, query)) for part, query in CATALOG.items()}


def columns(url: str, relation: str) -> list[tuple[str, str]]:
    """Return names and types of a table's or view's columns, in order, as information_schema has them."""
    query = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = '{}' ORDER BY ordinal_position"
    return [(name, kind) for name, kind in rows(url, query.format(relation))]


def contents(url: str, tables: tuple[str, ...] = TABLES) -> dict[str, list[str]]:
    """Return every row of the tables as JSON text, sorted."""
    return {
        table: sorted(json.dumps(row, sort_keys=True) for (row,) in rows(url, f"SELECT to_jsonb(t) FROM {table} t"))
        for table in tables
    }


def assert_kept(url: str, before: dict[str, list[str]]) -> None:
    """Assert that after adoption every row is there or moved, with the values of every column except the keys."""
    for table, old in before.items():
        names = json.loads(old[0]).keys() - {"credentials_used"} if old else ()
        now = rows(url, f"SELECT to_jsonb(t) FROM {table} t")
        now += rows(url, f"SELECT row FROM adopted_rows WHERE table_name = '{table}'")
        assert {row.get("credentials_used") for (row,) in now} <= {None}, table
        were = [json.loads(text) for text in old]
        assert _texts([row for (row,) in now], names) == _texts(were, names), table


def _texts(found: list[dict[str, Any]], names: Iterable[str]) -> list[str]:
    return sorted(json.dumps({name: row[name] for name in names}, sort_keys=True) for row in found)
