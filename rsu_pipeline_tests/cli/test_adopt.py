"""`rsu db adopt`, and what follows it: migrating, syncing, sealing."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.cli.shell import Done, refusal, rows, rsu
from rsu_pipeline_tests.hub import SECRET_KEY, Hub
from rsu_pipeline_tests.warehouse import rehearsal
from rsu_pipeline_tests.warehouse.dumps import dump
from runsignup_sandbox.process import SandboxProcess
from runsignup_sandbox.scales import build
from runsignup_sandbox.world import World

Settings = dict[str, str]
SEED = 7


@pytest.fixture
def world() -> World:
    return build("small", SEED, time.time())


@pytest.fixture
def old(empty_database: str, world: World, tmp_path: Path) -> Settings:
    """Provide an installation pointed at the older program's database."""
    rehearsal.make(empty_database, world)
    return {"RSU_HOME": str(tmp_path / "home"), "RSU_DATABASE_URL": empty_database, "RSU_SECRET_KEY": SECRET_KEY}


def without_secrets(done: Done, world: World) -> str:
    """Return what a command printed, none of it a partner's key or secret."""
    printed = done.stdout + done.stderr
    assert not [name for one in world.partners.values() for name in (one.key, one.secret) if name in printed]
    return printed


def test_an_older_database_is_not_migrated_but_pointed_to_adoption(old: Settings) -> None:
    for command in (("db", "migrate"), ("up",), ("status",), ("sync",)):
        assert "`rsu db adopt` (`--dry-run` shows what that does)" in refusal(rsu(*command, settings=old))
    assert rows(old, "SELECT to_regclass('schema_migrations')") == [(None,)]


def test_adopting_is_told_done_and_not_repeated(old: Settings, world: World) -> None:
    rehearsed = rsu("db", "adopt", "--dry-run", settings=old)
    assert rehearsed.returncode == 0, rehearsed.stderr
    printed = without_secrets(rehearsed, world)
    assert printed.splitlines()[0].startswith("Would do at ") or "counting rows" in printed
    assert rehearsed.stdout.endswith("Nothing was changed.\n")
    assert "rows moved to adopted_rows" in rehearsed.stdout
    assert rows(old, "SELECT to_regclass('schema_migrations')") == [(None,)]
    done = rsu("db", "adopt", settings=old)
    assert done.returncode == 0, done.stderr
    assert "  3 credentials in clear, which the program seals at its next read\n" in done.stdout
    assert done.stdout.splitlines()[1:-1] == rehearsed.stdout.splitlines()[1:-1]
    assert done.stdout.splitlines()[-1].startswith("Adopted in ")
    assert "comparing with a new database" in done.stderr
    without_secrets(done, world)
    again = rsu("db", "adopt", settings=old)
    assert (again.returncode, again.stdout) == (0, "Nothing to do: the database is already adopted.\n")
    assert rsu("db", "migrate", settings=old).stdout == "The schema is up to date.\n"
    names = [(name,) for _, name, _ in database.list_migrations()]
    assert rows(old, "SELECT name FROM schema_migrations ORDER BY version") == names
    back = rsu("db", "adopt", "--undo", settings=old)
    assert back.returncode == 0, back.stderr
    assert back.stdout.endswith("are the older program's again, with keys and secrets in clear text.\n")
    assert rows(old, "SELECT to_regclass('schema_migrations')") == [(None,)]
    without_secrets(back, world)


def test_json_is_alone_on_standard_output(old: Settings, world: World) -> None:
    answers = []
    rows(old, "GRANT UPDATE ON runsignup_participants TO PUBLIC")
    for arguments in (("--dry-run",), (), ()):
        done = rsu("db", "adopt", "--json", *arguments, settings=old)
        assert done.returncode == 0, done.stderr
        without_secrets(done, world)
        answers.append(json.loads(done.stdout))
    rehearsed, adopted, again = answers
    assert adopted["roles_that_may_write"] == ["PUBLIC"]
    assert (rehearsed["dry_run"], adopted["dry_run"]) == (True, False)
    assert rehearsed["steps"] == adopted["steps"]
    assert adopted["rows"]["runsignup_participants"] == len(world.truth.active.items)
    moved = adopted["moved"]["runsignup_participants"]
    assert moved.keys() == {"has no registration_id", "is an older copy of a registration that stays"}
    assert [step["rows"] for step in adopted["steps"] if step["table"] == "partner_races"] == [13]
    assert (adopted["nothing_to_do"], again["nothing_to_do"], again["steps"]) == (False, True, [])


def test_what_is_not_understood_is_refused_and_left_alone(old: Settings) -> None:
    rows(old, "CREATE VIEW bibs AS SELECT bib_num FROM runsignup_participants")
    for arguments in ((), ("--dry-run",), ("--json",)):
        done = rsu("db", "adopt", *arguments, settings=old)
        assert done.stdout == ""
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("Error: View bibs reads column runsignup_participants.bib_num")
    assert rows(old, "SELECT to_regclass('schema_migrations')") == [(None,)]


def test_after_adoption_one_sync_makes_the_tables_equal_to_the_truth(
    old: Settings, world: World, make_sandbox: Callable[..., SandboxProcess], tmp_path: Path
) -> None:
    assert rsu("db", "adopt", settings=old).returncode == 0
    sandbox = make_sandbox(scale="small", seed=SEED, now=world.clock.now())
    assert [one["key"] for one in sandbox.admin.partners()] == [one.key for one in world.partners.values()]
    coming = {event.id for event in world.events.values() if (event.start or 0) > world.clock.now()}
    longest = next(row for row in sandbox.admin.truth(1)["active"] if row["event_id"] in coming)["registration_id"]
    sandbox.admin.edit(longest, {"first_name": "Wolfgang " * 40, "phone": "+1 " + "5" * 90})
    ours = old | {"RSU_API_BASE_URL": sandbox.api_url, "RSU_CALLS_PER_HOUR": "1000000"}
    done = rsu("sync", settings=ours)
    assert done.returncode == 0, done.stdout + done.stderr
    without_secrets(done, world)

    # What came in clear is sealed, and every partner has its key.
    for principal, secret in rows(old, "SELECT principal, secret FROM partner_provider_credentials"):
        assert principal.startswith("sealed:")
        assert secret.startswith("sealed:")
    assert rows(old, "SELECT count(*) FROM timing_partners WHERE partition_key IS NULL") == [(0,)]
    everything = dump(old["RSU_DATABASE_URL"])
    assert not [name for one in world.partners.values() for name in (one.key, one.secret) if name in everything]

    hub = Hub(old["RSU_DATABASE_URL"], sandbox, tmp_path)
    for partner in hub.partners:
        hub.assert_equal(partner)
        hub.assert_removals(partner)
        hub.assert_bib_log_replays(partner)
    future = "SELECT count(*) FROM runsignup_participants JOIN future_events USING (timing_partner_id, event_id) WHERE "
    assert hub.value(future + "age IS NOT NULL") > 0
    assert hub.value(future + "payment_info ? 'affiliate_profit' AND payment_info -> 'affiliate_profit' = 'null'") > 0
    assert hub.value(future + "length(first_name) > 255") == 1
    assert hub.value("SELECT count(*) FROM runsignup_participants WHERE removed_reason IS NOT NULL") > 0
    assert (
        hub.value("SELECT count(*) FROM sync_history WHERE run_id IS NOT NULL AND operation_type = 'incremental'") == 0
    )
    assert hub.value("SELECT count(*) FROM event_cursors WHERE proved_equal_at IS NULL") == 0
