"""A database that is not up yet is waited for. One that refuses permanently is not."""

import math
import time

import pytest

from rsu_pipeline.warehouse import reachability
from rsu_pipeline.warehouse.database import DatabaseError
from rsu_pipeline_tests.cli.shell import refusal, rsu
from rsu_pipeline_tests.cli.started import free_port
from rsu_pipeline_tests.conftest import at


@pytest.mark.parametrize(
    ("reason", "permanent"),
    [
        ("Connection refused", False),
        ("timeout expired", False),
        ("No such file or directory", False),
        ('could not translate host name "db.example" to address: Name or service not known', False),
        ("the database system is starting up", False),
        ("the database system is not yet accepting connections", False),
        ("the database system is shutting down", False),
        ("sorry, too many clients already", False),
        ("remaining connection slots are reserved for roles with the SUPERUSER attribute", False),
        ("server closed the connection unexpectedly", False),
        ('password authentication failed for user "rsu"', True),
        ("fe_sendauth: no password supplied", True),
        ('database "rsu" does not exist', True),
        ('role "rsu" does not exist', True),
        ('no pg_hba.conf entry for host "10.0.0.1", user "rsu", database "rsu", no encryption', True),
        ('permission denied for database "rsu"', True),
        ("server does not support SSL, but SSL was required", True),
        ('invalid sslmode value: "nonsense"', True),
    ],
)
def test_only_what_passes_by_itself_is_waited_for(reason: str, permanent: bool) -> None:
    assert reachability.is_permanent(f"Cannot use PostgreSQL at db.example:5432/rsu: {reason}. Check.") is permanent


def test_a_refusal_of_a_real_server_is_raised_at_once(server: str) -> None:
    logged: list[str] = []
    began = time.monotonic()
    with pytest.raises(DatabaseError, match="does not exist"):
        reachability.wait_until_reachable(at(server, "rsu_nowhere"), timeout_seconds=math.inf, log=logged.append)
    assert time.monotonic() - began < 5
    assert logged == []


def test_a_reason_that_stays_is_logged_every_half_a_minute() -> None:
    now, logged = [0.0], []

    def sleep(seconds: float) -> None:
        now[0] += seconds

    url = f"postgresql://rsu@127.0.0.1:{free_port()}/rsu"
    with pytest.raises(DatabaseError, match="Connection refused"):
        reachability.wait_until_reachable(url, timeout_seconds=70, log=logged.append, sleep=sleep, clock=lambda: now[0])
    assert [line.split(" so far")[0] for line in logged] == [
        f"Waiting for the database ({seconds} s" for seconds in (0, 30, 60)
    ]


def test_a_bounded_wait_ends_with_the_reason() -> None:
    settings = {"RSU_DATABASE_URL": f"postgresql://rsu@127.0.0.1:{free_port()}/rsu"}
    done = rsu("db", "migrate", "--wait", "0.5", settings=settings)
    assert done.stderr.startswith("Waiting for the database")
    assert "Connection refused" in done.stderr.splitlines()[-1]
    assert refusal(rsu("db", "migrate", "--wait", "0", settings=settings)).startswith("Cannot use PostgreSQL")
