"""A hub with webhooks, whose worker is a process of its own."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2.extras
import pytest

from benchmarks.webhook_receiver import SECRET, Receiver, running_receiver
from rsu_pipeline.warehouse import database, webhook_store
from rsu_pipeline.warehouse.secret_box import SecretBox
from rsu_pipeline_tests.cli.shell import SCRIPT, Done, environment, rsu
from rsu_pipeline_tests.hub import SECRET_KEY


@dataclass
class Outbox:
    """A hub without RunSignup: changes are written as a sync writes them, and a worker delivers them."""

    url: str
    settings: dict[str, str]
    workers: "list[subprocess.Popen[bytes]]" = field(default_factory=list)
    log: Path = Path()

    def rows(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        with (
            database.session(self.url, purpose="tests") as conn,
            conn.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cur,
        ):
            cur.execute(statement, parameters or None)
            found = [dict(row) for row in cur.fetchall()] if cur.description else []
            conn.commit()
        return found

    def value(self, statement: str, *parameters: object) -> Any:
        ((value,),) = [tuple(row.values()) for row in self.rows(statement, *parameters)]
        return value

    def rsu(self, *arguments: str, stdin: str = "") -> Done:
        return rsu(*arguments, settings=self.settings, stdin=stdin)

    def add(
        self, receiver: Receiver, *, partner: int | None = None, kinds: tuple[str, ...] = webhook_store.KINDS
    ) -> int:
        with database.session(self.url, purpose="tests") as conn:
            number = webhook_store.add_webhook(
                conn,
                SecretBox([SECRET_KEY], source="RSU_SECRET_KEY"),
                url=receiver.url,
                host=f"127.0.0.1:{receiver.port}",
                secret=SECRET,
                kinds=kinds,
                partner_id=partner,
            )
            conn.commit()
        return number

    def change_bib(self, registration: int, new: str, *, partner: int = 1) -> None:
        self.rows(
            "INSERT INTO runsignup_bib_changes (timing_partner_id, race_id, event_id, registration_id, kind, new_bib,"
            " first_seen_new) VALUES (%s, 1, 11, %s, 'assigned', %s, now())",
            partner,
            registration,
            new,
        )

    def start_worker(self) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            worker = subprocess.Popen(
                [SCRIPT, "deliver"],
                env=environment(**self.settings),
                stdout=log,
                stderr=log,
            )
        self.workers.append(worker)
        return worker

    def wait_for_delivery(self, seconds: float = 20.0) -> None:
        """Wait until nothing is pending."""
        deadline = time.monotonic() + seconds
        while pending := self.value(
            "SELECT count(*) FROM webhook_messages WHERE delivered_at IS NULL AND dead_at IS NULL"
        ):
            assert time.monotonic() < deadline, f"{pending} messages wait\n{self.log.read_text()}"
            time.sleep(0.02)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with running_receiver(tmp_path) as running:
        yield running


@pytest.fixture
def outbox(make_database: Callable[[], str], receiver: Receiver, tmp_path: Path) -> Iterator[Outbox]:
    """Provide a hub with two partners, a race and an event."""
    settings = {
        "RSU_HOME": str(tmp_path / "home"),
        "RSU_DATABASE_URL": (url := make_database()),
        "RSU_SECRET_KEY": SECRET_KEY,
        "RSU_WEBHOOK_NETWORKS": "127.0.0.0/8",
        "SSL_CERT_FILE": str(receiver.certificate),
    }
    made = Outbox(url, settings, log=tmp_path / "worker.log")
    made.rows(
        """
        INSERT INTO timing_partners (company_name, partition_key) VALUES ('Acme', '1-acme'), ('Bay', '2-bay');
        INSERT INTO runsignup_races (race_id, name) VALUES (1, 'Elm Run');
        INSERT INTO runsignup_events (event_id, race_id, name) VALUES (11, 1, 'Mile');
        INSERT INTO runsignup_participants (race_id, event_id, timing_partner_id, registration_id)
            SELECT 1, 11, 1, n FROM generate_series(101, 110) n
        """
    )
    yield made
    for worker in made.workers:
        if worker.poll() is None:
            os.kill(worker.pid, signal.SIGKILL)
        worker.wait(60)
