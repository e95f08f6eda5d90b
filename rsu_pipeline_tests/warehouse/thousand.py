"""A thousand partners, and whether what is asked about them is found by indexes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg2.extensions

from rsu_pipeline_tests.warehouse.fleet_rows import NOW, Fleet

GROWING = ("sync_history", "api_calls", "runsignup_bib_changes")


def seed(put: Fleet, more: str = "") -> None:
    """Insert a thousand partners with twenty races of two events each, half of them over, and 200 rows of history.

    Then `more`, in which %(now)s is NOW.
    """
    put.sql(
        f"""
        SET LOCAL session_replication_role = replica;  -- spares looking up what every row refers to
        INSERT INTO timing_partners (timing_partner_id, company_name, partition_key)
            SELECT n, 'Partner ' || n, n || '-acme' FROM generate_series(1, 1000) n;
        INSERT INTO partner_provider_credentials (timing_partner_id, provider_id, principal, secret)
            SELECT n, provider_id, 'key', 'secret' FROM generate_series(1, 1000) n, providers WHERE name = 'RunSignup';
        INSERT INTO runsignup_races (race_id, name) SELECT n, 'Race ' || n FROM generate_series(1, 20000) n;
        INSERT INTO partner_races (timing_partner_id, race_id) SELECT 1 + n % 1000, n FROM generate_series(1, 20000) n;
        INSERT INTO runsignup_events (event_id, race_id, starts_at, start_time)
            SELECT 2 * n + k, n, %(now)s + make_interval(hours => n % 200 - 100), '2026-10-01'
            FROM generate_series(1, 20000) n, generate_series(0, 1) k;
        INSERT INTO event_cursors (timing_partner_id, event_id, race_id, modified_after, removed_after, first_loaded_at,
                last_full_at, last_read_at)
            SELECT 1 + race_id % 1000, event_id, race_id, 0, 0, %(now)s, %(now)s, %(now)s FROM runsignup_events;
        INSERT INTO sync_history (timing_partner_id, race_id, status, finished_at)
            SELECT 1 + n % 1000, nullif(n % 21000, 20000 + n % 1000), 'completed', %(now)s - make_interval(mins => n / 20)
            FROM generate_series(1, 200000) n;
        {more}
        ANALYZE;
        """.replace("%(now)s", f"timestamptz '{NOW.isoformat()}'")
    )


class _Recording(psycopg2.extensions.cursor):
    """Keeps what was asked."""

    asked: list[tuple[str, Any]] = []  # noqa: RUF012 - emptied by the one function that uses it

    def execute(self, query: Any, vars: Any = None) -> None:
        self.asked.append((query, vars))
        super().execute(query, vars)


@contextmanager
def found_by_indexes(put: Fleet) -> Iterator[list[tuple[str, Any]]]:
    """Provide the statements that are executed within.

    In the end none of it reads a table through more than once, nor one that grows without limit at all.
    """
    _Recording.asked.clear()
    put.conn.cursor_factory = _Recording
    yield _Recording.asked
    put.conn.cursor_factory = psycopg2.extensions.cursor
    for query, parameters in _Recording.asked:
        with put.conn.cursor() as cur:
            cur.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", parameters)
            ((explained,),) = cur.fetchall()
        for node in _nodes(explained[0]["Plan"]):
            if node["Node Type"] == "Seq Scan":
                once = node["Actual Loops"] <= 1 or node["Parallel Aware"] or node["Relation Name"] == "providers"
                assert once, node
                assert node["Relation Name"] not in GROWING, node


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)
