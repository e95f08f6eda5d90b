"""Writes of other programs are noted with who and when, repaired by the next read, and can be taken away by rights."""

import datetime as dt
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg2
import psycopg2.errors
import pytest

from rsu_pipeline.sync.partner_sync import make_plan
from rsu_pipeline.warehouse import database, foreign_writes, read_only, roles
from rsu_pipeline.warehouse.roles import RolesError
from rsu_pipeline_tests.cli.shell import refusal, rsu
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate
from rsu_pipeline_tests.warehouse.sessions import rows

SPEC = estate(events=2, registrations=10)
OLD = "old_sync.py"
ROLE, PASSWORD = "rsu_test_old", "only-for-tests"


def write(url: str, *statements: str, program: str = OLD, together: bool = True) -> None:
    """Write as another program does, in one transaction or in one for each statement."""
    with closing(psycopg2.connect(url, application_name=program)) as conn, conn.cursor() as cur:
        conn.autocommit = not together
        for statement in statements:
            cur.execute(statement)
        if together:
            conn.commit()


def noted(url: str) -> list[tuple[object, ...]]:
    return rows(
        url, "SELECT table_name, operation, program, login, address, transactions FROM foreign_writes ORDER BY 1, 2, 3"
    )


def found(url: str) -> foreign_writes.Findings:
    with database.session(url, purpose="tests") as conn:
        return foreign_writes.find_foreign_writes(conn, dt.datetime.now(dt.UTC))


@pytest.fixture
def hub(make_hub: Callable[..., Hub]) -> Hub:
    hub = make_hub(spec=SPEC, seed=7)
    hub.sync()
    return hub


def test_writes_of_other_programs_are_noted_with_who_and_when_and_ours_are_not(hub: Hub) -> None:
    assert noted(hub.url) == []
    assert found(hub.url) == foreign_writes.Findings([], 0, 0)
    update = "UPDATE runsignup_participants SET phone = '1'"
    write(
        hub.url,
        update,
        update,
        "DELETE FROM runsignup_participants WHERE id = 0",
        "UPDATE runsignup_events SET name = name",
    )
    write(hub.url, *[update] * 3, together=False, program="")
    write(hub.url, "INSERT INTO runsignup_races (race_id, name) VALUES (1, 'of a stranger')", program="psql")
    user = psycopg2.extensions.parse_dsn(hub.url)["user"]
    writes = [(table, operation, program, count) for table, operation, program, _, _, count in noted(hub.url)]
    assert writes == [
        ("runsignup_events", "UPDATE", OLD, 1),
        ("runsignup_participants", "DELETE", OLD, 1),
        ("runsignup_participants", "UPDATE", "", 3),
        ("runsignup_participants", "UPDATE", OLD, 1),
        ("runsignup_races", "INSERT", "psql", 1),
    ]
    assert {(login, address) for _, _, _, login, address, _ in noted(hub.url)} <= {(user, "127.0.0.1"), (user, "local")}
    newest = found(hub.url).writes[0]
    assert newest.sentence().startswith(f"psql (role {user}, from ")
    assert " did INSERT on runsignup_races in 1 transactions from " in newest.sentence()


def test_what_others_may_write_is_not_noted(hub: Hub) -> None:
    rows(hub.url, "ALTER TABLE runsignup_participants ADD note text")
    write(
        hub.url,
        "UPDATE runsignup_participants SET local_bib = 'A1', note = 'paid in cash'",
        "UPDATE timing_partners SET disabled_at = NULL",
    )
    assert noted(hub.url) == []


def test_what_another_program_wrote_is_repaired_by_the_next_sync(hub: Hub) -> None:
    stolen = hub.value("SELECT min(registration_id) FROM runsignup_participants")
    write(
        hub.url,
        "UPDATE runsignup_participants SET last_name = 'stale', age = NULL",
        f"DELETE FROM runsignup_participants WHERE registration_id = {stolen}",
        "INSERT INTO runsignup_participants (race_id, event_id, timing_partner_id, registration_id)"
        " SELECT race_id, event_id, timing_partner_id, 99999999 FROM runsignup_participants LIMIT 1",
    )
    # Read in full more than an hour ago, as it is when it matters.
    hub.execute("UPDATE event_cursors SET last_full_at = last_full_at - interval '2 hours'")
    hub.execute("UPDATE foreign_writes SET last_at = last_at - interval '90 minutes'")
    assert found(hub.url).events_waiting == 2
    with hub.partner_session() as session:
        reasons = {item.reason for item in make_plan(session).reads}
    assert reasons == {foreign_writes.REASON}
    hub.sync()
    hub.assert_equal()
    assert found(hub.url).events_waiting == 0
    with database.session(hub.url, purpose="tests") as conn:
        now = dt.datetime.now(dt.UTC)
        assert foreign_writes.read_open_writes(conn, now) != []
        assert foreign_writes.read_open_writes(conn, now + dt.timedelta(days=2)) == []


def test_where_no_other_program_wrote_old_reads_are_not_repeated(hub: Hub) -> None:
    hub.sync()
    hub.execute("UPDATE event_cursors SET last_full_at = now() - interval '5 hours'")
    assert {read.read.mode for read in hub.sync().reads} == {"incremental"}


def test_registrations_of_a_race_that_their_partner_does_not_have_are_counted(hub: Hub) -> None:
    write(
        hub.url,
        "INSERT INTO runsignup_races (race_id, name) VALUES (1, 'of a stranger');"
        "INSERT INTO runsignup_events (event_id, race_id) VALUES (11, 1);"
        "INSERT INTO runsignup_participants (race_id, event_id, timing_partner_id, registration_id) VALUES (1, 11, 1, 7)",
    )
    assert found(hub.url).rows_of_no_partner == 1


def test_a_program_that_writes_row_by_row_costs_one_note_in_a_transaction(hub: Hub) -> None:
    started = time.monotonic()
    update = "UPDATE runsignup_participants SET phone = '2' WHERE id = 1"
    write(hub.url, *[update] * 300)
    assert [row[-1] for row in noted(hub.url)] == [1]
    assert time.monotonic() - started < 30


@pytest.fixture
def old_login(hub: Hub) -> Iterator[str]:
    """Provide the old program's own role, which may do everything with rows."""
    rows(
        hub.url,
        f"DROP ROLE IF EXISTS {ROLE}; CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}';"
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {ROLE};"
        "GRANT INSERT ON runsignup_races TO PUBLIC",
    )
    yield re.sub(r"//[^@]*@", f"//{ROLE}:{PASSWORD}@", hub.url)
    rows(hub.url, f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")


def test_the_old_programs_role_is_left_nothing_but_reading(hub: Hub, old_login: str) -> None:
    write(old_login, "UPDATE runsignup_participants SET phone = '3'")
    assert [row[3] for row in noted(hub.url)] == [ROLE]
    rehearsed = rsu("db", "roles", "--read-only", ROLE, "--dry-run", settings=hub.environment)
    assert rehearsed.returncode == 0, rehearsed.stderr
    write(old_login, "UPDATE runsignup_participants SET phone = '4'")
    done = rsu("db", "roles", "--read-only", ROLE, settings=hub.environment)
    assert done.returncode == 0, done.stderr
    assert f"  {ROLE} only reads runsignup_races, " in done.stdout
    for statement in (
        "UPDATE runsignup_participants SET phone = '5'",
        "INSERT INTO runsignup_races (race_id) VALUES (1)",
        "DELETE FROM sync_history",
        "SELECT * FROM partner_provider_credentials",
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            write(old_login, statement)
    write(old_login, "SELECT * FROM runsignup_participants", "SELECT * FROM unified_events")


def test_a_role_that_can_write_all_the_same_is_named_with_the_way_out(hub: Hub, old_login: str) -> None:
    assert "There is no role 'nobody-here'." in refusal(
        rsu("db", "roles", "--read-only", "nobody-here", settings=hub.environment)
    )
    user = str(psycopg2.extensions.parse_dsn(hub.url)["user"])
    with database.session(hub.url, purpose="tests") as conn:
        with pytest.raises(RolesError, match="is the role that this program uses itself"):
            read_only.make_read_only(conn, user)
        conn.rollback()
        with conn.cursor() as cur:
            cur.execute(f"ALTER TABLE runsignup_races OWNER TO {ROLE}")
        conn.commit()
        with pytest.raises(
            RolesError, match=rf"^{ROLE} can still write to runsignup_races, as owner or member of {ROLE}"
        ):
            read_only.make_read_only(conn, ROLE)
        with conn.cursor() as cur:
            cur.execute(f"ALTER TABLE runsignup_races OWNER TO {user}")
        conn.commit()
        assert roles.hub_relations(conn)
    write(old_login, "UPDATE runsignup_participants SET phone = '6'")
