"""Servers that many programs share: each program gets partners of its own, and the other partners are switched off."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg2.extras
from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.proof.season import clocks
from rsu_pipeline_tests.proof.season.clocks import Clocks
from runsignup_sandbox.process import SandboxProcess
from runsignup_sandbox.switches import Switches

PAGE_SIZE = 4
PARTNERS_OF_A_PROGRAM = 3
PROGRAMS_OF_A_SERVER = 50
SPEC = {"partners": PARTNERS_OF_A_PROGRAM * PROGRAMS_OF_A_SERVER, "races_per_partner": 0}
SETTINGS = {
    "RSU_PAGE_SIZE": str(PAGE_SIZE),
    "RSU_CALL_ATTEMPTS": "2",
    "RSU_CALL_BACKOFF": "0",
    # One worker polls, so that a program means the same at each run.
    "RSU_MAX_IN_FLIGHT": "1",
    # A night is long enough for the periodic full read.
    "RSU_INCREMENTAL_DAYS": "1",
}


class SeasonHub(Hub):
    """A hub whose tables are read over one session: a new one for each query took a tenth of a program's time."""

    reader: Connection

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        """Return the rows of a query as dicts."""
        with self.reader.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cur:
            cur.execute(query, parameters or None)
            found = [dict(row) for row in cur.fetchall()]
        self.reader.rollback()
        return found


class Arena:
    """Makes servers, and hands out partners for each program."""

    def __init__(self, make_database: Callable[[], str], home: Path) -> None:
        self._make_database = make_database
        self._home = home
        self._numbers: Iterator[int] = iter(())
        self.hub: Hub | None = None
        self.conn: Connection | None = None
        self.programs = 0

    def program(self) -> tuple[Hub, Connection, Clocks, list[int]]:
        """Return servers in their first state, and the numbers of partners that no program used before."""
        self.programs += 1
        partners = list(itertools.islice(self._numbers, PARTNERS_OF_A_PROGRAM))
        if self.hub is None or self.conn is None or self.conn.closed or len(partners) < PARTNERS_OF_A_PROGRAM:
            self.close()
            self.hub, self.conn = self._start()
            self._numbers = iter(sorted(self.hub.partners))
            partners = list(itertools.islice(self._numbers, PARTNERS_OF_A_PROGRAM))
        admin = self.hub.sandbox.admin
        admin.clear_faults()
        admin.switch(**{name: getattr(Switches(), name) for name in Switches.__struct_fields__})
        admin.clock(skew=0)
        time = Clocks(admin, self.conn)
        self.conn.rollback()
        with self.conn.cursor() as cur:
            cur.execute(
                "UPDATE timing_partners SET disabled_at = CASE WHEN NOT timing_partner_id = ANY (%(own)s) THEN now() END"
                " WHERE (disabled_at IS NULL) <> (timing_partner_id = ANY (%(own)s))",
                {"own": partners},
            )
            cur.execute("DELETE FROM contact_retention; DELETE FROM foreign_writes; DELETE FROM hub_clocks")
        self.conn.commit()
        return self.hub, self.conn, time, partners

    def _start(self) -> tuple[Hub, Connection]:
        sandbox = SandboxProcess.start(spec=SPEC, seed=7, now=clocks.START.timestamp())
        sandbox.admin.clock(rate=0)
        url = self._make_database()
        with database.session(url, purpose="season") as conn:
            clocks.install(conn, url)
        hub = SeasonHub(url, sandbox, self._home, **SETTINGS)
        hub.reader = database.connect(url, purpose="season control")
        return hub, hub.reader

    def close(self) -> None:
        """End the servers."""
        if self.hub is not None:
            self.hub.sandbox.stop()
        if self.conn is not None:
            with suppress(Exception):
                self.conn.close()
        self.hub = self.conn = None
