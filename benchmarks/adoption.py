"""Adoption of the older program's database at full size: how long a rehearsal and the adoption take.

    python -m benchmarks.adoption [--scale estate|medium|small] [--repeat N] [--sync] [--json FILE]

The database is filled from the sandbox's world: at `estate` 13 partners and 407,053 registrations, some of them twice and
some without their number. Nothing counts unless the rows that stay and the rows that moved are all the rows there were.
With `--sync` every partner is synced once after the last adoption, and must then equal the sandbox's truth.
"""

import argparse
import json
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2

from rsu_pipeline import adoption
from rsu_pipeline.local import embedded, pg_binaries
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.warehouse import rehearsal
from runsignup_sandbox.process import SandboxProcess
from runsignup_sandbox.scales import build

SEED = 7


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--scale", default="estate", choices=("estate", "medium", "small"))
    arguments.add_argument("--repeat", type=int, default=3)
    arguments.add_argument("--sync", action="store_true")
    arguments.add_argument("--json", type=Path)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="rsu-adoption-") as name:
        folder = Path(name) / "postgres"
        server = embedded.ensure_running(folder, pg_binaries.machine_binaries())
        try:
            results = measure(server, chosen.scale, chosen.repeat, sync=chosen.sync, home=Path(name))
        finally:
            embedded.release(folder)
            embedded.destroy(folder)
    for label, value in results.items():
        print(f"{label:40} {value}")
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=2) + "\n")


def measure(server: str, scale: str, repeat: int, *, sync: bool, home: Path) -> dict[str, Any]:
    """Make the older database once and adopt copies of it."""
    now, started = time.time(), time.monotonic()
    _execute(server, "CREATE DATABASE older")
    copy = rehearsal.make(_at(server, "older"), build(scale, SEED, now))
    results: dict[str, Any] = {"rows": copy.participants, "seconds to make them": round(time.monotonic() - started, 1)}
    rehearsals, adoptions = [], []
    for number in range(repeat):
        _execute(server, f"CREATE DATABASE adopted_{number} TEMPLATE older", "CHECKPOINT")
        url = _at(server, f"adopted_{number}")
        rehearsals.append(_adopt(url, dry_run=True).seconds)
        adoptions.append(_adopt(url, dry_run=False).seconds)
        stayed, moved = _counts(url)
        assert stayed + moved == copy.participants
        assert moved == copy.ghosts + copy.duplicates
        if number < repeat - 1:
            _execute(server, f"DROP DATABASE adopted_{number}")
    results["rows moved"] = copy.ghosts + copy.duplicates
    results["seconds, dry run"] = [round(seconds, 1) for seconds in rehearsals]
    results["seconds, adoption"] = [round(seconds, 1) for seconds in adoptions]
    results["median seconds, adoption"] = round(statistics.median(adoptions), 1)
    if sync:
        results |= _sync(url, scale, now, home)
    return results


def _adopt(url: str, *, dry_run: bool) -> adoption.Report:
    with database.session(url, purpose="benchmark") as conn:
        return adoption.adopt(conn, zone=adoption.server_zone(url), dry_run=dry_run)


def _sync(url: str, scale: str, now: float, home: Path) -> dict[str, Any]:
    with SandboxProcess.start(scale, SEED, now=now) as sandbox:
        hub = Hub(url, sandbox, home, RSU_READ_TIMEOUT="30")
        started = time.monotonic()
        for partner in hub.partners:
            hub.sync(partner)
        seconds = time.monotonic() - started
        for partner in hub.partners:
            hub.assert_equal(partner)
            hub.assert_bib_log_replays(partner)
    return {"seconds, first sync of all partners": round(seconds, 1), "equal to the truth": True}


def _counts(url: str) -> tuple[int, int]:
    with closing(psycopg2.connect(url)) as conn, conn.cursor() as cur:
        cur.execute("SELECT (SELECT count(*) FROM runsignup_participants), (SELECT count(*) FROM adopted_rows)")
        stayed, moved = cur.fetchone() or (0, 0)
    return stayed, moved


def _execute(server: str, *statements: str) -> None:
    with closing(psycopg2.connect(server)) as conn:
        conn.autocommit = True
        for statement in statements:
            with conn.cursor() as cur:
                cur.execute(statement)


def _at(server: str, name: str) -> str:
    return f"{server.rsplit('/', 1)[0]}/{name}"


if __name__ == "__main__":
    main()
