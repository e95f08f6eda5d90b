"""Nothing migrates a database unasked: every command meets an older, a newer and an empty database."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from rsu_pipeline.cli.main import rsu as program
from rsu_pipeline.local import client_programs, embedded
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.cli.shell import refusal, rows, rsu
from rsu_pipeline_tests.command_tree import commands_of
from rsu_pipeline_tests.hub import SECRET_KEY
from rsu_pipeline_tests.servers import execute

Settings = dict[str, str]
NEEDED = database.list_migrations()[-1][0]
CATALOG = "SELECT md5(string_agg(attrelid::regclass || attname, ',' ORDER BY attrelid, attnum)) FROM pg_attribute"

REFUSING = [
    ("alerts list", ()),
    ("backfill", ()),
    ("bibs allow", ("1",)),
    ("bibs forbid", ("1",)),
    ("bibs give", ("1", "101")),
    ("bibs list", ()),
    ("bibs push", ("1",)),
    ("bibs take", ("1",)),
    ("db grant-reader", ("nobody_of_tests",)),
    ("db roles", ()),
    ("db url", ()),
    ("export", ("events", "--csv", "-")),
    ("partners add", ("Juniper Timing", "--key", "k", "--no-check")),
    ("partners list", ()),
    ("partners check", ("1",)),
    ("partners import", ("-",)),
    ("partners merge", ("1", "2", "--yes")),
    ("partners remove", ("1", "--archive", "--yes")),
    ("partners rename", ("1", "Juniper Timing")),
    ("partners set", ("1", "--own-key")),
    ("partners disable", ("1",)),
    ("partners enable", ("1",)),
    ("partners set", ("1", "--include", "all")),
    ("privacy purge", ("--before", "2020-01-01")),
    ("privacy erase", ("--user", "1", "--yes")),
    ("report", ("--html", "report.html")),
    ("schema", ()),
    ("secrets rotate", ()),
    ("start-list", ("1",)),
    ("log", ()),
    ("race-day", ()),
    ("status", ()),
    ("status", ("--prometheus", "-")),
    ("sync", ()),
    ("webhooks add", ("https://scoring.example.com/", "--new-secret", "scoring.secret")),
    ("deliver", ()),
    ("webhooks list", ()),
    ("webhooks redeliver", ("1",)),
    ("webhooks remove", ("1",)),
    ("webhooks test", ("1",)),
]
"""Commands that need this program's schema, with arguments that are right."""
MIGRATING = {"db migrate", "db import", "db adopt", "up", "demo"}
"""Whose job it is."""
ANY_VERSION = {"db export", "db psql", "health"}
"""Shown apart below."""
ELSEWHERE = {"alerts test", "sandbox", "secrets new-key"}
"""They open no database of the installation's."""


@pytest.fixture(scope="module")
def older(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Provide an installation whose database lacks the newest migration, with a partner in it."""
    execute(server, "CREATE DATABASE rsu_older")
    url = f"{server.rsplit('/', 1)[0]}/rsu_older"
    with pytest.MonkeyPatch.context() as patch, database.session(url, purpose="tests") as conn:
        known = database.list_migrations()[:-1]
        patch.setattr(database, "list_migrations", lambda: known)
        database.migrate(conn)
        with conn.cursor() as cur:
            cur.execute("INSERT INTO timing_partners (company_name) VALUES ('Larch Timing')")
        conn.commit()
    home = tmp_path_factory.mktemp("older")
    yield {"RSU_HOME": str(home), "RSU_DATABASE_URL": url, "RSU_SECRET_KEY": SECRET_KEY}
    execute(server, "DROP DATABASE rsu_older WITH (FORCE)")


def state(settings: Settings) -> tuple[object, object]:
    return rows(settings, CATALOG), rows(settings, "SELECT version FROM schema_migrations ORDER BY 1")


def leaves(command: click.Command, path: str = "") -> Iterator[str]:
    if isinstance(command, click.Group):
        for name, below in commands_of(command).items():
            yield from leaves(below, f"{path} {name}".strip())
    else:
        yield path


def test_every_command_has_its_place_here() -> None:
    assert set(leaves(program)) == {name for name, _ in REFUSING} | MIGRATING | ANY_VERSION | ELSEWHERE


@pytest.mark.parametrize(("name", "arguments"), REFUSING)
def test_a_command_refuses_an_older_database_and_leaves_it_alone(
    older: Settings, name: str, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = state(older)
    text = refusal(rsu(*name.split(), *arguments, settings=older, stdin="s\n"))
    place = older["RSU_DATABASE_URL"].rsplit("@", 1)[1]
    assert text == (
        f"The database at {place} is at version {NEEDED - 1}, this program needs {NEEDED}: run `rsu db migrate`."
    )
    assert state(older) == before
    assert list(tmp_path.iterdir()) == []


def test_health_says_the_same_and_leaves_it_alone(older: Settings) -> None:
    before = state(older)
    done = rsu("health", "--only", "database", settings=older)
    assert done.returncode == 1
    assert f"is at version {NEEDED - 1}, this program needs {NEEDED}: run `rsu db migrate`." in done.stdout
    assert state(older) == before


def test_psql_opens_an_older_database_as_it_is_and_says_so(older: Settings) -> None:
    before = state(older)
    done = rsu("db", "psql", "-At", "-c", "SELECT company_name FROM timing_partners", settings=older)
    assert (done.returncode, done.stdout) == (0, "Larch Timing\n")
    assert done.stderr.endswith(f"this program needs {NEEDED}: run `rsu db migrate`. psql opens it unchanged.\n")
    assert state(older) == before


def test_an_older_database_is_exported_as_it_is_and_comes_back_migrated(
    older: Settings, empty_database: str, tmp_path: Path
) -> None:
    before = state(older)
    file = tmp_path / "before-upgrade.dump"
    done = rsu("db", "export", str(file), settings=older)
    assert done.returncode == 0, done.stderr
    assert state(older) == before
    there = older | {"RSU_DATABASE_URL": empty_database}
    assert rsu("db", "import", str(file), settings=there).returncode == 0
    assert rows(there, "SELECT max(version) FROM schema_migrations") == [(NEEDED,)]
    assert rows(there, "SELECT company_name FROM timing_partners") == [("Larch Timing",)]


def test_a_newer_database_is_refused_but_exported(settings: Settings, empty_database: str, tmp_path: Path) -> None:
    rows(settings, "INSERT INTO schema_migrations VALUES (9000, '9000_future.sql', 'x')")
    place = settings["RSU_DATABASE_URL"].rsplit("@", 1)[1]
    for command in (("db", "roles"), ("status",), ("sync",), ("partners", "list")):
        assert refusal(rsu(*command, settings=settings)) == (
            f"The database at {place} is at version 9000, newer than this program, which knows {NEEDED}: install the newer"
            " program, or restore a backup made before the upgrade."
        )
    assert "version 9000" in refusal(rsu("db", "migrate", settings=settings))
    file = tmp_path / "newer.dump"
    assert rsu("db", "export", str(file), settings=settings).returncode == 0
    there = settings | {"RSU_DATABASE_URL": empty_database}
    assert refusal(rsu("db", "import", str(file), settings=there)) == (
        f"{file} was written by a newer program. Its schema is at version 9000, this program knows {NEEDED}. Install the"
        " newer program first."
    )
    assert rows(there, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_another_programs_dump_is_refused_and_changes_nothing(
    server: str, database_url: str, empty_database: str, tmp_path: Path
) -> None:
    rows({"RSU_DATABASE_URL": database_url}, "DROP TABLE schema_migrations")
    with database.session(server, purpose="tests") as conn:
        programs = client_programs.find_programs("pg_dump")
        program = client_programs.choose_pg_dump(programs, client_programs.Server.of(conn))
    file = tmp_path / "older.dump"
    subprocess.run([program.path, "--format=custom", "--file", file, "--dbname", database_url], check=True, timeout=120)
    settings = {"RSU_DATABASE_URL": empty_database, "RSU_HOME": str(tmp_path / "home")}
    assert "is not a hub of this program" in refusal(rsu("db", "import", str(file), settings=settings))
    assert rows(settings, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_an_empty_database_stays_empty_and_the_sentence_says_what_fills_it(empty_database: str, tmp_path: Path) -> None:
    fresh = {"RSU_HOME": str(tmp_path / "home"), "RSU_DATABASE_URL": empty_database}
    place = empty_database.rsplit("@", 1)[1]
    sentence = f"The database at {place} is empty: run `rsu db migrate`, or `rsu up`, which does it too."
    add = ("partners", "add", "Juniper Timing", "--key", "k", "--no-check")
    for command in (("status",), ("sync",), add):
        assert refusal(rsu(*command, settings=fresh, stdin="s\n")) == sentence
    file = tmp_path / "nothing.dump"
    assert refusal(rsu("db", "export", str(file), settings=fresh)) == f"{sentence} There is nothing to export yet."
    assert not file.exists()
    assert rows(fresh, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    assert not Path(fresh["RSU_HOME"]).exists(), "no key is made before there is a secret"


def test_the_embedded_database_that_we_made_has_its_schema_from_the_first_command(tmp_path: Path) -> None:
    settings = {"RSU_HOME": str(tmp_path / "home")}
    try:
        done = rsu("status", settings=settings)
        assert done.returncode == 0, done.stderr
        # An older one of this program is migrated no more than another's.
        drop = "DELETE FROM schema_migrations WHERE version = (SELECT max(version) FROM schema_migrations)"
        assert rsu("db", "psql", "-c", drop, settings=settings).returncode == 0
        assert f"this program needs {NEEDED}: run `rsu db migrate`." in refusal(rsu("status", settings=settings))
    finally:
        embedded.destroy(tmp_path / "home" / "postgres")
