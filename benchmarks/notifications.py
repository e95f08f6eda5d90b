"""What notifications cost the loader: pages stored with and without them, in turns.

    python -m benchmarks.notifications [--rows N] [--json FILE]

Two databases of one PostgreSQL are given the same pages of 2,500 registrations, each page one after the other, in an order that
changes with every page. One of them notifies nobody: its triggers are dropped, and its merge does not notify either. Nobody
listens, as in most installations. A page is staged, merged and committed as a sync does it: first as a first load, then with
another address for each registration, then with another bib for each.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from psycopg2.extensions import connection as Connection

from rsu_pipeline.local import embedded, pg_binaries
from rsu_pipeline.runsignup.payload_decoding import decode_registration
from rsu_pipeline.sync.registration_rows import compute_digest, stage_registration
from rsu_pipeline.warehouse import database, participants
from rsu_pipeline.warehouse.cursors import Mode
from rsu_pipeline.warehouse.staging import Source, StagedLine

PAGE = 2500
EVENTS = (11, 12)
SETUP = """
INSERT INTO timing_partners (company_name) VALUES ('Benchmark Timing');
INSERT INTO runsignup_races (race_id, name) VALUES (1, 'Race');
INSERT INTO partner_races (timing_partner_id, race_id) VALUES (1, 1);
INSERT INTO runsignup_events (event_id, race_id, name) VALUES (11, 1, 'Mile'), (12, 1, 'Half');
INSERT INTO read_passes (timing_partner_id, race_id, mode, event_ids) VALUES (1, 1, 'full', '{11,12}');
"""
LOADED = """
INSERT INTO event_cursors (timing_partner_id, race_id, event_id, modified_after, removed_after, first_loaded_at, last_full_at,
    last_read_at)
SELECT 1, 1, event_id, 0, 0, now(), now(), now() FROM runsignup_events
"""
SILENT = """
DROP TRIGGER notify_bib_changes ON runsignup_bib_changes;
DROP TRIGGER notify_participant ON runsignup_participants;
"""
WITHOUT = "without notifications"
WITH = "with notifications"


def make_page(first: int, *, city: str, bib: int | None) -> list[StagedLine]:
    """Return the lines of a page of registrations from this id on."""
    lines = []
    for number in range(first, first + PAGE):
        user = {
            "user_id": number,
            "first_name": f"First{number % 911}",
            "last_name": f"Last{number % 997}",
            "email": f"runner{number}@example.test",
            "dob": "1984-05-06",
            "gender": "F",
            "phone": "555-0100",
            "address": {
                "street": f"{number} Elm Street",
                "city": city,
                "state": "VT",
                "zipcode": "05000",
                "country_code": "US",
            },
        }
        sent = {
            "registration_id": number,
            "event_id": EVENTS[number % 2],
            "user": user,
            "age": 42,
            "chip_num": None,
            "bib_num": None if bib is None else bib + number,
            "registration_date": "3/1/2026 10:15",
            "last_modified": 1_772_000_000,
            "race_fee": "$45.00",
            "processing_fee": "$3.70",
            "amount_paid": "$48.70",
            "question_responses": [{"question_id": n, "response": "answer " * 6} for n in range(9)],
        }
        row = decode_registration(json.dumps(sent).encode())
        line, faults = stage_registration(row, 1)
        assert not faults
        lines.append(line + b"\t%d" % participants.compute_digest(compute_digest(row.raw), has_field_errors=False))
    return lines


def store(conn: Connection, lines: list[StagedLine], *, is_first_load: bool) -> float:
    """Store a page, and return how many seconds that took."""
    mode: Mode = "full" if is_first_load else "incremental"
    source = Source(1, "1-benchmark", 1, int(time.time()), "benchmark", mode)
    began = time.perf_counter()
    counts, refused = participants.merge_active(conn, lines, source, full=False, is_first_load=is_first_load)
    conn.commit()
    seconds = time.perf_counter() - began
    assert not refused and counts.inserted + counts.updated == len(lines), (counts, refused[:1])
    return seconds


def measure(sessions: dict[str, Connection], rows: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield for each kind of load how many seconds it took with and without notifications."""
    merges = {name: (participants._INSERT_NEW, participants._MERGE_ACTIVE) for name in sessions}
    silent = tuple(sql.replace(participants._NOTIFY_WRITTEN, " 0") for sql in merges[WITHOUT])
    assert silent != merges[WITHOUT]
    merges[WITHOUT] = silent
    kinds = {
        "first load": {"city": "Elm", "bib": None},
        "another address each": {"city": "Ash", "bib": None},
        "another bib each": {"city": "Ash", "bib": 100},
    }
    for kind, content in kinds.items():
        spent = dict.fromkeys(sessions, 0.0)
        for number in range(rows // PAGE):
            lines = make_page(1 + number * PAGE, **content)
            for name in sorted(sessions, reverse=bool(number % 2)):
                participants._INSERT_NEW, participants._MERGE_ACTIVE = merges[name]
                spent[name] += store(sessions[name], lines, is_first_load=kind == "first load")
        if kind == "first load":
            for conn in sessions.values():
                with conn.cursor() as cur:
                    cur.execute(LOADED)
                conn.commit()
        yield kind, spent


def main() -> None:
    """Run the benchmark, as the module describes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.notifications", description=str(__doc__).split("\n")[0])
    parser.add_argument("--rows", type=int, default=200_000, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rsu-benchmark-") as folder, ExitStack() as stack:
        data = Path(folder) / "postgres"
        url = embedded.ensure_running(data, pg_binaries.machine_binaries())
        stack.callback(embedded.destroy, data)
        stack.callback(embedded.release, data)
        sessions = {}
        admin = stack.enter_context(database.session(url, purpose="benchmark"))
        admin.autocommit = True
        with admin.cursor() as cur:
            cur.execute("CREATE DATABASE silent")
        for name, its in {WITH: url, WITHOUT: url.rsplit("/", 1)[0] + "/silent?" + url.partition("?")[2]}.items():
            conn = sessions[name] = stack.enter_context(database.session(its, purpose="benchmark"))
            database.migrate(conn)
            with conn.cursor() as cur:
                cur.execute(SETUP + (SILENT if name == WITHOUT else ""))
            conn.commit()
        found = dict(measure(sessions, options.rows))
    print(f"{options.rows:,} registrations in pages of {PAGE:,}, µs each:")
    for kind, spent in found.items():
        each = {name: seconds / options.rows * 1e6 for name, seconds in spent.items()}
        print(
            f"  {kind:22} {each[WITHOUT]:6.1f} without, {each[WITH]:6.1f} with: {each[WITH] / each[WITHOUT] - 1:+.1%}"
        )
    if options.json:
        options.json.write_text(json.dumps({"rows": options.rows, "seconds": found}, indent=2))


if __name__ == "__main__":
    main()
