"""Each role logs in to a real server, does its work, and can do no more."""

import datetime as dt
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import psycopg2
import psycopg2.errors
import pytest

from rsu_pipeline.cli.db_command import db
from rsu_pipeline.settings import project_root
from rsu_pipeline.start_lists import start_list_store
from rsu_pipeline.warehouse import database, privacy, retention, roles, schema_version, session_settings
from rsu_pipeline.warehouse.database import DatabaseError
from rsu_pipeline.warehouse.roles import RolesError
from rsu_pipeline_tests.cli.shell import refusal, rsu
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import sync_partner, use_environment
from rsu_pipeline_tests.specs import estate
from rsu_pipeline_tests.warehouse.sessions import rows

SPEC = estate(events=2, registrations=10)
PASSWORD = "only-for-tests"
Logins = dict[str, str]
"""libpq URL by kind of role."""
_numbers = itertools.count(1)


def execute(url: str, statement: str) -> None:
    with database.session(url, purpose="tests") as conn, conn.cursor() as cur:
        cur.execute(statement)
        conn.commit()


def drop(url: str, *names: str) -> None:
    """Drop roles one after the other, because PostgreSQL fails at default privileges that two of them share."""
    for name in names:
        execute(url, f"DROP OWNED BY {name} CASCADE")
    execute(url, f"DROP ROLE {', '.join(names)}")


def denied(url: str, *statements: str) -> None:
    for statement in statements:
        with pytest.raises(DatabaseError, match=r"permission denied|must be owner"):
            execute(url, statement)


@pytest.fixture
def hub(make_hub: Callable[..., Hub]) -> Hub:
    """Provide a hub whose partner was synced by the administrator."""
    hub = make_hub(spec=SPEC, seed=7)
    hub.sync()
    return hub


@pytest.fixture
def logins(hub: Hub) -> Iterator[Logins]:
    """Provide the roles made, and a login for each as docs/security.md has it."""
    prefix = f"hub_{next(_numbers)}"
    with database.session(hub.url, purpose="tests") as conn:
        roles.grant_roles(conn, prefix)
    found = {}
    for kind, role in roles.build_role_names(prefix).items():
        execute(hub.url, f"CREATE ROLE {role}_login LOGIN PASSWORD '{PASSWORD}' IN ROLE {role}")
        found[kind] = re.sub(r"//[^@]*@", f"//{role}_login:{PASSWORD}@", hub.url)
    owner = roles.build_role_names(prefix)["owner"]
    execute(hub.url, f"ALTER ROLE {owner}_login IN DATABASE {hub.url.rsplit('/', 1)[1]} SET role = '{owner}'")
    admin = hub.url
    yield found
    drop(admin, *[name for role in roles.build_role_names(prefix).values() for name in (f"{role}_login", role)])


def as_writer(hub: Hub, logins: Logins) -> None:
    hub.url = hub.environment["RSU_DATABASE_URL"] = logins["writer"]


def test_the_writer_syncs_reads_history_and_cleans_up(hub: Hub, logins: Logins) -> None:
    as_writer(hub, logins)
    key = min(row["registration_id"] for row in hub.sandbox.admin.truth(1)["active"])
    hub.sandbox.admin.edit(key, {"bib_num": 4711})
    outcome = hub.sync(full=True)
    assert (outcome.failures, outcome.unequal_events, outcome.counts.bib_changes) == ([], [], 1)
    hub.assert_equal()
    hub.history()
    with database.session(hub.url, purpose="tests") as conn:
        schema_version.require_current(conn, hub.url)
        assert database.migrate(conn) == [], "`rsu up` checks whether there are migrations to do"
        now = dt.datetime.now(dt.UTC)
        start_list_store.rebuild(conn, 1, now)
        conn.commit()
        retention.delete_old_rows(conn, now)
        privacy.purge_contact_rows(conn, now.date(), now=now, who="tests")
        privacy.erase_person(conn, registration_id=key, who="tests")
    assert hub.value("SELECT last_name FROM runsignup_participants WHERE registration_id = %s", key) is None


def test_the_writer_makes_drops_and_alters_nothing_of_the_hubs(hub: Hub, logins: Logins) -> None:
    denied(
        logins["writer"],
        "CREATE TABLE mine (id int)",
        "CREATE VIEW mine AS SELECT 1 AS one",
        "CREATE SCHEMA mine",
        "DROP TABLE api_calls",
        "DROP VIEW start_list",
        "ALTER TABLE runsignup_participants ADD COLUMN mine int",
        "TRUNCATE api_calls",
        "ALTER TABLE runsignup_bib_changes DISABLE TRIGGER append_only",
        "DELETE FROM runsignup_bib_changes",
        "UPDATE privacy_log SET who = 'nobody'",
        "DELETE FROM schema_migrations",
        "CREATE ROLE mine",
    )


def test_the_writer_runs_dagster_whose_tables_are_its_own(
    hub: Hub, logins: Logins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_writer(hub, logins)
    use_environment(monkeypatch, hub.environment)
    home = tmp_path / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text((project_root() / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(home)) as instance:
        run = sync_partner(instance, hub.partners[1])
        assert run.success, run.failure
        assert {"partner_events", "future_events", "participants", "start_lists"} <= run.metadata.keys()
    tables = rows(logins["writer"], "SELECT count(*) FROM pg_tables WHERE schemaname = 'dagster'")
    assert tables != [(0,)]
    denied(logins["reader"], "SELECT count(*) FROM dagster.runs")


def test_the_writers_address_will_do_for_the_commands(hub: Hub, logins: Logins, tmp_path: Path) -> None:
    settings = hub.environment | {"RSU_DATABASE_URL": logins["writer"]}
    for command in (
        ("db", "migrate"),
        ("status",),
        ("sync",),
        ("partners", "disable", "1"),
        ("partners", "enable", "1"),
        ("secrets", "rotate"),
        ("db", "export", str(tmp_path / "hub.dump")),
    ):
        done = rsu(*command, settings=settings)
        assert done.returncode == 0, (command, done.stderr)


def test_tables_in_use_are_not_waited_for_for_ever(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    use_environment(monkeypatch, hub.environment)
    with database.session(hub.url, purpose="busy") as conn, conn.cursor() as cur:
        cur.execute("SELECT count(*) FROM api_calls")
        monkeypatch.setitem(session_settings.SETTINGS, "lock_timeout", "200ms")
        with pytest.raises(DatabaseError, match="Other sessions use the tables"):
            db.main(["roles", "--prefix", "hub_busy"], standalone_mode=False)
    assert rows(hub.url, "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'hub_busy%'") == [(0,)]


READABLE = "SELECT count(*) FROM "


def test_a_reader_sees_participants_only_without_contact_data(hub: Hub, logins: Logins) -> None:
    url = logins["reader"]
    assert rows(url, READABLE + "reader_participants") == [(20,)]
    for name in roles.FOR_READERS:
        rows(url, READABLE + name)
    tables = [str(name) for (name,) in rows(hub.url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    closed = sorted({*tables, "unified_participants"} - {*roles.FOR_READERS})
    assert {"runsignup_participants", "partner_provider_credentials", "timing_partners", "quarantined_rows"} <= set(
        closed
    )
    denied(url, *(READABLE + name for name in closed))
    denied(url, "DELETE FROM start_lists", "CREATE TABLE mine (id int)", "SELECT payload FROM runsignup_events")


def test_what_a_reader_sees_holds_no_contact_data(hub: Hub, logins: Logins) -> None:
    """Not by the columns' names, but by what is in them."""
    (person, *_) = [row for row in hub.sandbox.admin.truth(1)["active"] if row["user"]["email"] and row["user"]["dob"]]
    user = person["user"]
    with database.session(hub.url, purpose="tests") as conn:
        start_list_store.rebuild(conn, 1, dt.datetime.now(dt.UTC))
        conn.commit()
    seen = "\n".join(
        str(row) for name in roles.FOR_READERS for row in rows(logins["reader"], f"SELECT t::text FROM {name} t")
    )
    assert user["last_name"] in seen
    assert str(person["registration_id"]) in seen
    for name in ("email", "phone", "dob"):
        assert user[name] not in seen, name
    assert user["address"]["street"] not in seen
    assert "payload" not in seen


def test_a_reader_of_start_lists_sees_them_alone(hub: Hub, logins: Logins) -> None:
    with database.session(hub.url, purpose="tests") as conn:
        start_list_store.rebuild(conn, 1, dt.datetime.now(dt.UTC))
        conn.commit()
    url = logins["start_lists"]
    assert rows(url, READABLE + "start_list") == [(20,)]
    assert rows(url, READABLE + "start_list_entries") == [(20,)]
    others = {*roles.FOR_READERS, "runsignup_participants", "runsignup_races", "partner_provider_credentials"}
    denied(url, *(READABLE + name for name in sorted(others - {*roles.START_LISTS})), "DELETE FROM start_list_entries")


def test_what_the_owner_makes_later_is_the_writers_and_nobody_elses(hub: Hub, logins: Logins) -> None:
    execute(logins["owner"], "CREATE TABLE later (later_id bigserial PRIMARY KEY, what text)")
    execute(logins["writer"], "INSERT INTO later (what) VALUES ('a'); UPDATE later SET what = 'b'; DELETE FROM later")
    denied(logins["writer"], "DROP TABLE later")
    for kind in ("reader", "start_lists"):
        denied(logins[kind], "SELECT * FROM later")
    # A migration of the owner's goes through, the hub's tables being its own.
    execute(logins["owner"], "ALTER TABLE runsignup_participants ADD COLUMN later int")


def test_a_second_time_changes_nothing_and_takes_back_what_was_given_beyond(hub: Hub, logins: Logins) -> None:
    reader = logins["reader"].split("//")[1].split(":")[0].removesuffix("_login")
    rights = (
        "SELECT c.relname::text, c.relowner::regrole::text, ARRAY(SELECT a::text FROM unnest(c.relacl) a ORDER BY 1)"
        " FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'S') ORDER BY 1"
    )
    before = rows(hub.url, rights)
    execute(hub.url, f"GRANT SELECT ON runsignup_participants TO {reader}")
    assert rows(hub.url, rights) != before
    with database.session(hub.url, purpose="tests") as conn:
        assert not [
            step for step in roles.grant_roles(conn, reader.removesuffix("_reader")) if step.sentence.endswith(" made")
        ]
    assert rows(hub.url, rights) == before


def test_other_programs_tables_keep_owner_and_rights(hub: Hub) -> None:
    execute(hub.url, "CREATE TABLE race_results (id int)")
    prefix = f"hub_{next(_numbers)}"
    owner = "SELECT relowner::regrole::text, relacl::text FROM pg_class WHERE relname = 'race_results'"
    before = rows(hub.url, owner)
    with database.session(hub.url, purpose="tests") as conn:
        try:
            roles.grant_roles(conn, prefix)
            assert rows(hub.url, owner) == before
        finally:
            drop(hub.url, *roles.build_role_names(prefix).values())


def test_every_table_and_view_of_the_migrations_is_known(hub: Hub) -> None:
    with database.session(hub.url, purpose="tests") as conn:
        made = {name for kind, name in roles.hub_relations(conn) if kind != "FUNCTION"}
    there = {
        name
        for (name,) in rows(
            hub.url,
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'p')",
        )
    }
    assert made == there


def test_an_administrator_who_is_no_superuser_will_do(hub: Hub) -> None:
    """As managed databases have it: a role that may make roles, and owns database and tables."""
    prefix = f"hub_{next(_numbers)}"
    admin = f"{prefix}_admin"
    catalog = hub.url.rsplit("/", 1)[1]
    execute(
        hub.url,
        f"CREATE ROLE {admin} LOGIN CREATEROLE PASSWORD '{PASSWORD}'; ALTER DATABASE {catalog} OWNER TO {admin};"
        f"ALTER SCHEMA public OWNER TO {admin};"
        + "".join(
            f"ALTER {kind} {name} OWNER TO {admin};" for kind, name in roles.hub_relations(psycopg2.connect(hub.url))
        ),
    )
    url = re.sub(r"//[^@]*@", f"//{admin}:{PASSWORD}@", hub.url)
    try:
        for _ in range(2):
            with database.session(url, purpose="tests") as conn:
                roles.grant_roles(conn, prefix)
        assert rows(hub.url, "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'api_calls'") == [
            (f"{prefix}_owner",)
        ]
    finally:
        execute(hub.url, f"ALTER DATABASE {catalog} OWNER TO CURRENT_USER; ALTER SCHEMA public OWNER TO CURRENT_USER")
        drop(hub.url, *roles.build_role_names(prefix).values(), admin)


# The command


def test_a_rehearsal_says_what_it_would_do_and_makes_nothing(hub: Hub) -> None:
    done = rsu("db", "roles", "--dry-run", settings=hub.environment)
    assert done.returncode == 0, done.stderr
    name = hub.url.rsplit("/", 1)[1]
    assert done.stdout.startswith("Would do at ")
    assert f"role {name}_reader made" in done.stdout
    assert rows(hub.url, f"SELECT count(*) FROM pg_roles WHERE rolname LIKE '{name}%'") == [(0,)]


def test_the_command_makes_the_roles(hub: Hub) -> None:
    done = rsu("db", "roles", "--prefix", "hub_by_command", settings=hub.environment)
    try:
        assert done.returncode == 0, done.stderr
        made = rows(hub.url, "SELECT rolname::text, rolcanlogin FROM pg_roles WHERE rolname LIKE 'hub_by_command%'")
        assert sorted(made) == [(f"hub_by_command_{kind}", False) for kind in sorted(roles.KINDS)]
    finally:
        drop(hub.url, *roles.build_role_names("hub_by_command").values())


def test_a_role_without_the_right_is_told_so(hub: Hub, logins: Logins) -> None:
    said = refusal(rsu("db", "roles", settings=hub.environment | {"RSU_DATABASE_URL": logins["writer"]}))
    assert "Run this as a role that may create roles" in said
    assert PASSWORD not in said


@pytest.mark.parametrize("prefix", ["", "Hub", "hub-1", "pg_hub", "1hub", "hub;", 'hub"', "h" * 41])
def test_a_prefix_that_is_no_name_is_refused(prefix: str) -> None:
    with pytest.raises(RolesError, match="prefix"):
        roles.build_role_names(prefix)
