"""The instance that dagster.yaml describes: in the hub's database and home, usable at once, holding no secret."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest
from dagster_postgres import PostgresRunStorage
from sqlalchemy import create_engine, event, text

from rsu_pipeline import installation
from rsu_pipeline.local import embedded
from rsu_pipeline.orchestration import partitions
from rsu_pipeline.orchestration.storage import sqlalchemy_url
from rsu_pipeline.warehouse import database, server_lock
from rsu_pipeline_tests.hub import SECRET_KEY, Hub
from rsu_pipeline_tests.orchestration.runs import sync_partner, use_environment
from rsu_pipeline_tests.servers import execute
from rsu_pipeline_tests.warehouse.pgbouncer import pgbouncer
from rsu_pipeline_tests.warehouse.sessions import rows

# Makes the instance when the file appears, so that several do it at the same moment.
START = """
import sys, time
from pathlib import Path
import dagster as dg
import dagster_postgres, rsu_pipeline.orchestration.storage
Path(sys.argv[2]).touch()
while not Path(sys.argv[3]).exists():
    time.sleep(0.001)
with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    instance.add_dynamic_partitions("timing_partner", [sys.argv[4]])
"""


def tables(url: str) -> dict[str, set[str]]:
    """Return tables by schema."""
    with database.session(url, purpose="tests") as conn, conn.cursor() as cur:
        cur.execute("SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'dagster')")
        found: dict[str, set[str]] = {"public": set(), "dagster": set()}
        for schema, table in cur.fetchall():
            found[schema].add(table)
    return found


def schema_text(hub: Hub, schema: str) -> str:
    """Return every row of every table of a schema, as text."""
    names = hub.rows("SELECT tablename FROM pg_tables WHERE schemaname = %s", schema)
    assert names
    return "\n".join(
        str(row["line"])
        for name in names
        for row in hub.rows(f'SELECT t::text AS line FROM {schema}."{name["tablename"]}" t')
    )


def test_dagsters_tables_are_in_a_schema_of_their_own(
    empty_database: str, dagster_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, {"RSU_DATABASE_URL": empty_database, "RSU_HOME": str(tmp_path / "home")})
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        found = tables(empty_database)
        assert found["public"] == set()
        assert {"runs", "event_logs", "job_ticks", "dynamic_partitions", "alembic_version"} <= found["dagster"]
        instance.add_dynamic_partitions(partitions.NAME, ["1-a", "2-b"])
    with dg.DagsterInstance.from_config(str(dagster_home)) as again:
        assert again.get_dynamic_partitions(partitions.NAME) == ["1-a", "2-b"]
        assert not again.telemetry_enabled
        assert again.run_monitoring_enabled
        assert again.run_monitoring_max_runtime_seconds == 7200


def test_a_process_looks_for_dagsters_tables_once_only(
    empty_database: str, dagster_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, {"RSU_DATABASE_URL": empty_database, "RSU_HOME": str(tmp_path / "home")})
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        reference = instance.get_ref()
    with database.session(empty_database, purpose="tests") as conn, conn.cursor() as cur:
        cur.execute("DROP SCHEMA dagster CASCADE")
        conn.commit()
    # As for each tick of a sensor: no read, which would make them again.
    with dg.DagsterInstance.from_ref(reference):
        assert tables(empty_database)["dagster"] == set()


def test_an_embedded_server_is_started_by_the_first_query_and_not_by_an_instance(
    dagster_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A short path, because a socket of the server is in it.
    home = Path(tempfile.mkdtemp(prefix="rsu-lazy-"))
    monkeypatch.delenv("RSU_DATABASE_URL", raising=False)
    use_environment(monkeypatch, {"RSU_HOME": str(home)})
    try:
        with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
            assert not (home / "postgres").exists()
            with ThreadPoolExecutor(4) as pool:
                answers = [pool.submit(instance.get_dynamic_partitions, partitions.NAME) for _ in range(4)]
            assert [answer.result() for answer in answers] == [[]] * 4
            assert {"runs", "event_logs", "job_ticks"} <= tables(installation.current().database_url)["dagster"]
    finally:
        embedded.release(home / "postgres")
        embedded.destroy(home / "postgres")
        shutil.rmtree(home, ignore_errors=True)


def test_processes_that_start_at_the_same_moment_share_one_storage(
    empty_database: str, dagster_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"RSU_DATABASE_URL": empty_database, "RSU_HOME": str(tmp_path / "home")}
    names = ["1-a", "2-b"]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", START, str(dagster_home), str(tmp_path / name), str(tmp_path / "go"), name],
            env=os.environ | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    while not all((tmp_path / name).exists() for name in names):
        assert all(process.poll() is None for process in started)
        time.sleep(0.02)
    (tmp_path / "go").touch()
    errors = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], errors
    use_environment(monkeypatch, environment)
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        assert sorted(instance.get_dynamic_partitions(partitions.NAME)) == names


def test_dagsters_tables_are_in_their_schema_whatever_address_and_environment_say(
    empty_database: str, dagster_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(empty_database, "CREATE SCHEMA elsewhere")
    url = f"{empty_database}?options=-csearch_path%3Delsewhere&client_encoding=LATIN1"
    use_environment(monkeypatch, {"RSU_DATABASE_URL": url, "RSU_HOME": str(tmp_path / "home")})
    monkeypatch.setenv("PGOPTIONS", "-c search_path=public -c timezone=America/Denver")
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        instance.optimize_for_webserver(statement_timeout=5000, pool_recycle=60, max_overflow=5)
        instance.add_dynamic_partitions(partitions.NAME, ["1-zo\u00eb"])
        found = tables(url)
        storage = instance.run_storage
        assert isinstance(storage, PostgresRunStorage)
        assert "password" not in str(storage.postgres_url)
        with storage.connect() as conn:
            settings = [conn.execute(text(f"SHOW {name}")).scalar() for name in ("client_encoding", "timezone")]
    assert found["public"] == set()
    assert {"runs", "event_logs", "job_ticks"} <= found["dagster"]
    assert settings == ["UTF8", "UTC"]
    assert rows(url, "SELECT partition FROM dagster.dynamic_partitions") == [("1-zo\u00eb",)]


def test_a_daemons_sessions_show_what_they_are(
    empty_database: str, dagster_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, {"RSU_DATABASE_URL": empty_database, "RSU_HOME": str(tmp_path / "home")})
    names = "SELECT DISTINCT application_name FROM pg_stat_activity WHERE application_name ~ '^rsu da'"
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        instance.get_dynamic_partitions(partitions.NAME)
        assert [name.split()[:2] for (name,) in rows(empty_database, names)] == [["rsu", "dagster"]]
    monkeypatch.setenv("PGAPPNAME", server_lock.daemon_name())
    engine = create_engine(sqlalchemy_url(empty_database))
    with engine.connect() as conn:
        assert conn.execute(text("SHOW application_name")).scalar() == server_lock.daemon_name()
        with pytest.raises(database.DatabaseError, match=r"A Dagster daemon .* is running on this database"):
            server_lock._acquire(empty_database, 0.0)
    engine.dispose()


def test_dagsters_tables_are_in_their_schema_through_a_pooler(
    empty_database: str, dagster_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The usual remedy for a pooler that refuses start-up options is to have it drop them.
    with pgbouncer(empty_database, pool_mode="session", more="ignore_startup_parameters = options\n") as url:
        use_environment(monkeypatch, {"RSU_DATABASE_URL": url, "RSU_HOME": str(tmp_path / "home")})
        with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
            instance.add_dynamic_partitions(partitions.NAME, ["1-a"])
            assert instance.get_dynamic_partitions(partitions.NAME) == ["1-a"]
    found = tables(empty_database)
    assert found["public"] == set()
    assert {"runs", "event_logs", "job_ticks"} <= found["dagster"]


def test_a_role_that_may_not_use_dagsters_tables_gets_one_sentence(
    empty_database: str, dagster_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = {"RSU_HOME": str(tmp_path / "home")}
    use_environment(monkeypatch, home | {"RSU_DATABASE_URL": empty_database})
    dg.DagsterInstance.from_config(str(dagster_home)).dispose()
    execute(empty_database, "CREATE ROLE no_dagster LOGIN PASSWORD 'only-for-tests'")
    guest = re.sub(r"//[^@]*@", "//no_dagster:only-for-tests@", empty_database)
    try:
        use_environment(monkeypatch, home | {"RSU_DATABASE_URL": guest})
        for missing, right in (
            ("may not use [0-9]+ tables of schema dagster", "GRANT USAGE ON SCHEMA dagster TO no_dagster"),
            (
                "may not use [0-9]+ tables of schema dagster",
                "GRANT SELECT ON ALL TABLES IN SCHEMA dagster TO no_dagster",
            ),
        ):
            with pytest.raises(database.DatabaseError, match=missing):
                dg.DagsterInstance.from_config(str(dagster_home))
            execute(empty_database, right)
    finally:
        execute(empty_database, "DROP OWNED BY no_dagster; DROP ROLE no_dagster")


def test_runs_on_it_are_stored_and_nothing_that_is_kept_or_printed_holds_a_secret(
    hub: Hub, hub_instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    admin = hub.sandbox.admin
    good = sync_partner(hub_instance, hub.partners[1])
    assert good.success
    # What fails reveals most: broken connections, bodies that are no JSON, a credential that is refused.
    for kind in ("reset", "html_200", "truncated", "redirect"):
        admin.fault(kind, 1, endpoint="participants", partner=2)
    failed = sync_partner(hub_instance, hub.partners[2])
    assert failed.failure is not None
    admin.clear_faults()
    admin.revoke(3)
    try:
        refused = sync_partner(hub_instance, hub.partners[3])
    finally:
        admin.grant(3)
    assert refused.failure is not None

    stored = schema_text(hub, "dagster")
    for run in (good, failed, refused):
        assert run.run_id in stored
    for word in ("Mill Pond Half", "RunSignup rejects the credential"):
        assert word in stored
    folder = Path(hub.environment["RSU_HOME"]) / "dagster"
    assert hub_instance.storage_directory() == str(folder / "storage")
    logs = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in logs if good.run_id in path.parts} == {".out", ".err", ".complete"}
    printed = "".join(capfd.readouterr())
    assert "Mill Pond Half" in printed
    everywhere = "\n".join([stored, schema_text(hub, "public"), printed, *(path.read_text() for path in logs)])
    password = str(hub.url).split("@")[0].rsplit(":", 1)[-1]
    secrets = [SECRET_KEY, password]
    for partner in admin.partners():
        secrets += [partner["key"], partner["secret"]]
    assert all(len(secret) > 8 for secret in secrets)
    assert [secret for secret in secrets if secret in everywhere] == []


def test_the_web_uis_connections_are_tried_before_use_and_their_statements_limited(
    empty_database: str, dagster_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, {"RSU_DATABASE_URL": empty_database, "RSU_HOME": str(tmp_path / "home")})
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        instance.optimize_for_webserver(statement_timeout=4321, pool_recycle=60, max_overflow=5)
        storage = instance.run_storage
        assert isinstance(storage, PostgresRunStorage)
        for _ in range(2):
            with storage.connect() as conn:
                assert conn.execute(text("SHOW statement_timeout")).scalar() == "4321ms"
            # Each of the three parts of the storage has connections.
            assert (instance.get_runs(), instance.all_instigator_state(), list(instance.all_asset_keys())) == (
                [],
                [],
                [],
            )
            assert rows(empty_database, end)


def test_columns_of_dagsters_tables_are_looked_up_once(hub: Hub, hub_instance: dg.DagsterInstance) -> None:
    looked_up: list[str] = []

    def note(conn: object, cursor: object, statement: str, *_: object) -> None:
        looked_up.extend([statement] if "pg_attribute" in statement else [])

    assert sync_partner(hub_instance, hub.partners[1]).success
    engine = hub_instance.event_log_storage._engine  # type: ignore[attr-defined]
    event.listen(engine, "before_cursor_execute", note)
    assert sync_partner(hub_instance, hub.partners[1]).success
    assert len(looked_up) <= 1, "of a backfill's column alone"
