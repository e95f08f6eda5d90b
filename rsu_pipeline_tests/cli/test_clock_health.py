"""`rsu health` names a clock that is wrong, whosever it is, and by how much."""

import time
from collections.abc import Callable, Iterator

import pytest

from benchmarks.race_morning import fast
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.cli.shell import rsu
from rsu_pipeline_tests.hub import SECRET_KEY


@pytest.fixture
def stepping(make_empty_database: Callable[[], str], tmp_path: object) -> dict[str, str]:
    """Provide the settings of a hub whose database has a clock that can be set."""
    url = make_empty_database()
    with database.session(url, purpose="tests") as conn:
        fast.prepare_database(conn)
    with database.session(url, purpose="tests") as conn:
        database.migrate(conn)
    return {"RSU_HOME": str(tmp_path), "RSU_DATABASE_URL": url, "RSU_SECRET_KEY": SECRET_KEY}


def step(settings: dict[str, str], seconds: float) -> None:
    with database.session(settings["RSU_DATABASE_URL"], purpose="tests") as conn:
        wall = time.time()
        fast.set_database_clock(conn, fast.FastClock(wall + seconds, time.monotonic(), wall, 1.0))


def test_health_names_the_clock_that_is_wrong(stepping: dict[str, str]) -> None:
    def asked() -> Iterator[str]:
        done = rsu("health", "--only", "clock", settings=stepping)
        assert not done.stderr
        yield from (str(done.returncode), done.stdout.strip())

    assert list(asked()) == ["0", "Healthy: clock."]
    step(stepping, 100)
    assert list(asked()) == ["0", "Healthy: clock."]
    step(stepping, 3 * 3600)
    code, said = asked()
    assert code == "1"
    assert said.startswith("The clock of the hub on ") and "is 3.0 h behind the database's" in said
    assert "RunSignup's answers have no usable Date" in said and said.endswith("Set the clock right, best by NTP.")
    step(stepping, 0)
    assert list(asked()) == ["0", "Healthy: clock."]
    with database.session(stepping["RSU_DATABASE_URL"], purpose="tests") as conn, conn.cursor() as cur:
        cur.execute("INSERT INTO hub_clocks VALUES ('worker-2', now(), -90000, -90000)")
        conn.commit()
    assert list(asked()) == [
        "1",
        "The clock of the hub on worker-2 is 25.0 h ahead of RunSignup's and the database's, which are used."
        " Set the clock right, best by NTP.",
    ]
