"""Start lists built from nothing, and brought up to date after one bib changed.

    python -m benchmarks.start_lists [--entrants N] [--repeat N] [--json FILE]

One partner with `--entrants` entrants in ten events of five races, and ten thousand registrations of past editions beside them, in
a PostgreSQL of its own. Times are of the call with its commit. Beside them: the check that finds nothing to do, and a
rebuild that finds nothing different.
"""

import argparse
import datetime as dt
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from psycopg2.extensions import connection as Connection

from rsu_pipeline.local import embedded, pg_binaries
from rsu_pipeline.start_lists import start_list_store
from rsu_pipeline.warehouse import database

NOW = dt.datetime.now(dt.UTC)
PARTNER = 1
SETUP = """
INSERT INTO timing_partners (company_name) VALUES ('Benchmark Timing');
INSERT INTO runsignup_races (race_id, name) SELECT n, 'Race ' || n FROM generate_series(1, 6) n;
INSERT INTO partner_races (timing_partner_id, race_id) SELECT 1, n FROM generate_series(1, 6) n;
INSERT INTO runsignup_events (event_id, race_id, race_event_days_id, name, start_time, starts_at)
SELECT n, (n + 1) / 2, (n + 1) / 2, 'Event ' || n, now() + interval '3 days', now() + interval '3 days'
FROM generate_series(1, 10) n
UNION ALL SELECT 11, 6, 11, 'Past', now() - interval '1 year', now() - interval '1 year';
INSERT INTO future_events (timing_partner_id, event_id, race_id, tier, next_read, reason)
SELECT 1, event_id, race_id, 'later', 'incremental', 'benchmark' FROM runsignup_events WHERE event_id <= 10;
INSERT INTO runsignup_participants (timing_partner_id, race_id, event_id, registration_id, user_id, first_name, last_name, email,
    dob, gender, age, bib_num, address, team_info, payload)
SELECT 1, (e + 1) / 2, e, n, n, 'First' || n, 'Last' || n %% 997, 'runner' || n || '@example.test', date '1950-01-01' + n %% 20000,
    CASE n %% 2 WHEN 0 THEN 'F' ELSE 'M' END, 40, CASE WHEN n %% 20 > 0 THEN (1000000 * e + n / 10)::text END,
    '{"city": "Elm Falls", "state": "VT"}', '{"team_name": "Harriers"}', json_build_object('filler', repeat('x', 1200))
FROM (SELECT n, CASE WHEN n <= %(entrants)s THEN 1 + n %% 10 ELSE 11 END AS e FROM generate_series(1, %(entrants)s + 10000) n) s;
"""
ONE_BIB = """
UPDATE runsignup_participants SET bib_num = (99000000 + %(n)s)::text, changed_at = now() WHERE registration_id = %(n)s
"""


def seconds(conn: Connection, action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    conn.commit()
    return time.perf_counter() - began


def repetition(conn: Connection, number: int, entrants: int) -> dict[str, float]:
    """Do each thing once. No time counts unless exactly the rows it must write were written."""

    def execute(statement: str) -> None:
        with conn.cursor() as cur:
            cur.execute(statement, {"n": number})
        conn.commit()

    def build(inserted: int, updated: int) -> Callable[[], None]:
        def action() -> None:
            built = start_list_store.rebuild(conn, PARTNER, NOW)
            assert (built.inserted, built.updated, built.deleted) == (inserted, updated, 0), built

        return action

    def look() -> None:
        assert start_list_store.is_current(conn, PARTNER, NOW)

    execute("DELETE FROM start_list_entries; DELETE FROM start_lists")
    found = {"from nothing": seconds(conn, build(entrants, 0))}
    execute(ONE_BIB)
    found["after one bib"] = seconds(conn, build(0, 1))
    found["nothing changed"] = seconds(conn, build(0, 0))
    found["a look"] = seconds(conn, look)
    return found


def main() -> None:
    """Run the benchmark, as the module describes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start_lists", description=str(__doc__).split("\n")[0])
    parser.add_argument("--entrants", type=int, default=5000, metavar="N")
    parser.add_argument("--repeat", type=int, default=9, metavar="N", help="repetitions, of which the median counts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rsu-benchmark-") as folder:
        data = Path(folder) / "postgres"
        url = embedded.ensure_running(data, pg_binaries.machine_binaries())
        try:
            with database.session(url, purpose="benchmark") as conn:
                database.migrate(conn)
                with conn.cursor() as cur:
                    cur.execute(SETUP, {"entrants": options.entrants})
                conn.commit()
                times = [repetition(conn, number + 1, options.entrants) for number in range(max(1, options.repeat))]
        finally:
            embedded.release(data)
            embedded.destroy(data)
    medians = {name: statistics.median(found[name] for found in times) for name in times[0]}
    print(f"{options.entrants:,} entrants in 10 events, median of {len(times)}, with the slowest:")
    for name, median in medians.items():
        print(f"  {name:16} {median * 1000:7.1f} ms  {max(found[name] for found in times) * 1000:7.1f} ms")
    ratio = medians["after one bib"] / medians["from nothing"]
    print(f"A rebuild after one bib takes {ratio:.2f} of the time of building from nothing.")
    if options.json:
        options.json.write_text(json.dumps({"entrants": options.entrants, "times": times, "ratio": ratio}, indent=2))


if __name__ == "__main__":
    main()
