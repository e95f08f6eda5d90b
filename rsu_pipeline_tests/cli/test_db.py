"""`rsu db` and `rsu secrets`, and what the first command of an installation makes."""

import os
import signal
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from psycopg2.extensions import parse_dsn

from rsu_pipeline.local import embedded
from rsu_pipeline.warehouse import database
from rsu_pipeline.warehouse.secret_box import SecretBox
from rsu_pipeline_tests.cli.shell import SCRIPT, arguments_of_all, environment, refusal, rows, rsu

Settings = dict[str, str]


@pytest.fixture
def fresh(empty_database: str, tmp_path: Path) -> Settings:
    """Provide an installation at its very beginning: an empty database, no home, no key."""
    return {"RSU_HOME": str(tmp_path / "home"), "RSU_DATABASE_URL": empty_database}


def test_migrate_makes_the_schema_and_then_has_nothing_to_do(fresh: Settings) -> None:
    names = [name for _, name, _ in database.list_migrations()]
    first = rsu("db", "migrate", settings=fresh)
    assert (first.returncode, first.stdout) == (0, f"Applied {len(names)} migrations, {names[0]} to {names[-1]}.\n")
    assert rsu("db", "migrate", settings=fresh).stdout == "The schema is up to date.\n"
    assert rows(fresh, "SELECT count(*) FROM timing_partners") == [(0,)]
    assert not Path(fresh["RSU_HOME"]).exists(), "no key is made before there is a secret"


def test_the_first_partner_makes_the_key_file(settings: Settings) -> None:
    fresh = {name: value for name, value in settings.items() if name != "RSU_SECRET_KEY"}
    done = rsu("partners", "add", "Juniper Timing", "--key", "k", "--no-check", settings=fresh, stdin="s3cret\n")
    assert done.returncode == 0, done.stderr
    key_file = Path(fresh["RSU_HOME"]) / "secret.key"
    assert key_file.stat().st_mode & 0o777 == 0o600
    ((sealed,),) = rows(fresh, "SELECT secret FROM partner_provider_credentials")
    assert SecretBox([key_file.read_text().strip()], source="x").decrypt(sealed) == "s3cret"


def test_without_an_address_the_embedded_server_runs_for_the_command_and_no_longer(tmp_path: Path) -> None:
    settings = {"RSU_HOME": str(tmp_path / "home")}
    try:
        done = rsu("db", "psql", "-At", "-c", "SELECT inet_server_port(), count(*) FROM providers", settings=settings)
        assert done.returncode == 0, done.stderr
        port, count = done.stdout.strip().split("|")
        assert count == "1"
        deadline = time.monotonic() + 60
        while answers(int(port)):
            assert time.monotonic() < deadline, "the embedded server still runs"
            time.sleep(0.1)
    finally:
        embedded.destroy(tmp_path / "home" / "postgres")


def answers(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_another_programs_database_is_refused_and_left_alone(fresh: Settings) -> None:
    rows(fresh, "CREATE TABLE runsignup_participants (id int)")
    text = refusal(rsu("partners", "add", "X", "--key", "k", settings=fresh, stdin="s\n"))
    assert "was made by another program: take it over with `rsu db adopt`" in text
    assert rows(fresh, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [("runsignup_participants",)]


def test_psql_runs_on_the_hubs_database_with_its_own_arguments(settings: Settings) -> None:
    query = "SELECT current_database(), count(*) FROM timing_partners"
    done = rsu("db", "psql", "-At", "-c", query, settings=settings)
    assert (done.returncode, done.stdout) == (0, f"{settings['RSU_DATABASE_URL'].rsplit('/', 1)[1]}|0\n"), done.stderr
    assert rsu("db", "psql", "-At", settings=settings, stdin="SELECT 40 + 2;\n").stdout == "42\n"
    assert rsu("db", "psql", "-c", "SELECT 1 / 0", settings=settings).returncode == 1


def test_psql_keeps_the_options_of_the_address(settings: Settings) -> None:
    address = settings["RSU_DATABASE_URL"] + "?application_name=night%20shift"
    done = rsu("db", "psql", "-At", "-c", "SHOW application_name", settings=settings | {"RSU_DATABASE_URL": address})
    assert done.stdout == "night shift\n", done.stderr


def test_ctrl_c_is_psqls_and_the_password_is_in_no_argument(settings: Settings) -> None:
    process = subprocess.Popen(
        [SCRIPT, "db", "psql", "-c", "SELECT pg_sleep(300)"],
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    running = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(300)' AND state = 'active'"
    deadline = time.monotonic() + 60
    while rows(settings, running) != [(1,)]:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    password = str(parse_dsn(settings["RSU_DATABASE_URL"])["password"])
    shown = arguments_of_all()
    assert "pg_sleep(300)" in shown
    assert password not in shown
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "canceling statement due to user request" in errors
    assert "Stopped." not in errors


def test_a_new_key_can_be_used_at_once(settings: Settings) -> None:
    done = rsu("secrets", "new-key", settings={})
    assert done.returncode == 0
    secret_box = SecretBox([done.stdout.strip()], source="x")
    assert secret_box.decrypt(secret_box.encrypt("s")) == "s"
    rotated = settings | {"RSU_SECRET_KEY": f"{done.stdout.strip()}, {settings['RSU_SECRET_KEY']}"}
    add = ("partners", "add", "Juniper Timing", "--key", "k", "--no-check")
    assert rsu(*add, settings=settings, stdin="s3cret\n").returncode == 0
    # RunSignup refuses what was made up, so the old secret was opened to ask it.
    assert "RunSignup rejects the credential" in rsu("partners", "check", "1", settings=rotated).stderr
    ((old,),) = rows(settings, "SELECT secret FROM partner_provider_credentials")
    assert rsu(*add, settings=rotated, stdin="s3cret\n").returncode == 0
    ((new,),) = rows(settings, "SELECT secret FROM partner_provider_credentials")
    assert new != old
    assert secret_box.decrypt(new) == "s3cret"
