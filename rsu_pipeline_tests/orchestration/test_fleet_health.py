"""`fleet_health` and its checks on a real database filled from a sandbox.

Each check turns red for a fault of its own, the others stay green, and it is green again once that is repaired.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rsu_pipeline import installation
from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.reports import fleet_plots
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import use_environment
from rsu_pipeline_tests.servers import create_database, drop_database
from runsignup_sandbox.process import SandboxProcess

NUMBERS = {
    "partners", "partners_stale", "partners_failing", "partners_off", "partners_without_credential", "credentials_refused",
    "races_ahead", "events_ahead", "events_stale", "failures", "rows", "rows_changed_24h", "quarantined",
    "rows_with_faults", "bibs_24h", "calls_this_hour", "calls_this_hour_max", "calls_needed_max", "calls_limit",
    "histories_open", "minutes_overdue_max", "bib_seconds_p95_max", "hours_not_syncing", "standstills",
    "seconds",
}  # fmt: skip
CHECKS = {
    "every_partner_fresh", "no_duplicate_registrations", "bib_log_replays", "budget_is_enough", "credentials_work",
    "no_partner_lost_access",
    "events_equal_runsignup", "no_rows_held_back", "no_shared_api_keys", "no_similar_partner_names",
    "no_foreign_writes", "clocks_agree", "nothing_stands_still",
}  # fmt: skip
_names = itertools.count(1)
A_RACE = (
    "timing_partner_id = 1 AND race_id = (SELECT min(race_id) FROM future_events WHERE timing_partner_id = 1"
    " AND race_id NOT IN (SELECT race_id FROM partner_races WHERE timing_partner_id <> 1))"
)
"""An upcoming race that no other partner has."""

# A bib given and changed, recorded by the log as a sync would.
WITH_LOG = """
UPDATE runsignup_participants SET bib_num = '9002', first_bib = NULL WHERE id = (
    SELECT min(id) FROM runsignup_participants WHERE timing_partner_id = 1 AND removed_at IS NULL);
INSERT INTO runsignup_bib_changes (timing_partner_id, race_id, event_id, registration_id, kind, old_bib, new_bib,
        modified_epoch, first_seen_new)
    SELECT 1, race_id, event_id, registration_id, k.kind, k.old, k.new, extract(epoch FROM now())::bigint - 7, now()
    FROM runsignup_participants, (VALUES ('assigned', NULL, '9001'), ('changed', '9001', '9002')) k (kind, old, new)
    WHERE timing_partner_id = 1 AND bib_num = '9002'
"""


@pytest.fixture(scope="module")
def filled(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Provide a hub whose three partners are up to date, with a bib log. Every test leaves it unchanged."""
    name = f"rsu_fleet_health_{next(_names)}"
    create_database(server, name, template)
    with SandboxProcess.start("small", seed=7) as sandbox:
        hub = Hub(f"{server.rsplit('/', 1)[0]}/{name}", sandbox, tmp_path_factory.mktemp("home"))
        for partner in hub.partners:
            hub.sync(partner)
        hub.execute(WITH_LOG)
        yield hub
    drop_database(server, name)


@pytest.fixture
def hub(filled: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    use_environment(monkeypatch, filled.environment)
    yield filled
    installation.current.cache_clear()


@dataclass
class Looked:
    """What a run of check_fleet reported: metadata of the asset, and each check's answer."""

    metadata: dict[str, Any]
    checks: dict[str, dg.AssetCheckEvaluation]

    @property
    def red(self) -> set[str]:
        return {name for name, check in self.checks.items() if not check.passed}

    @property
    def red_of_their_own(self) -> set[str]:
        """Failed checks without the one that has the list of `rsu health`, which other tests compare with the alerts.

        Nobody watches the race in its window here, which is on that list after a minute.
        """
        return self.red - {"nothing_stands_still"}


def look(*, draws: bool = True) -> Looked:
    """Run check_fleet. Where all is well again it need not draw: the pictures of a healthy fleet have tests of their own."""
    with dg.DagsterInstance.ephemeral() as instance, pytest.MonkeyPatch.context() as patch:
        if not draws:
            patch.setattr(fleet_plots, "draw_fleet_plots", lambda *given: {})
        outcome = build_definitions().resolve_job_def("check_fleet").execute_in_process(instance=instance)
    (event,) = [event for event in outcome.all_node_events if event.is_step_materialization]
    metadata = event.step_materialization_data.materialization.metadata
    checks = {check.check_name: check for check in outcome.get_asset_check_evaluations()}
    assert checks.keys() == CHECKS
    return Looked({name: value.value for name, value in metadata.items()}, checks)


def told(check: dg.AssetCheckEvaluation) -> dict[str, Any]:
    return {name: value.value for name, value in check.metadata.items()}


def test_a_healthy_fleet_shows_no_fault_and_its_figures(hub: Hub) -> None:
    looked = look()
    assert looked.red == set()
    assert all(told(check)["sample"] == [] for check in looked.checks.values())
    numbers = {name: value for name, value in looked.metadata.items() if isinstance(value, int | float)}
    assert numbers.keys() == NUMBERS
    active = hub.value("SELECT count(*) FROM runsignup_participants WHERE removed_at IS NULL")
    assert (numbers["partners"], numbers["rows"], numbers["bibs_24h"]) == (3, active, 2)
    assert numbers["calls_this_hour"] == hub.value("SELECT count(*) FROM api_calls") > 0
    assert numbers["calls_this_hour_max"] < numbers["calls_this_hour"]
    assert 6 <= numbers["bib_seconds_p95_max"] < 600
    # A race in its window is polled every 20 s.
    assert 210 < numbers["calls_needed_max"] < numbers["calls_limit"]
    bad = ("partners_stale", "partners_failing", "credentials_refused", "quarantined", "events_stale")
    assert {name: numbers[name] for name in bad} == dict.fromkeys(bad, 0)
    assert told(looked.checks["bib_log_replays"])["registrations_replayed"] == 1
    proved = told(looked.checks["events_equal_runsignup"])
    assert proved["rows_sent"] == proved["rows_stored"] > 0
    rows = told(looked.checks["no_duplicate_registrations"])
    assert rows["rows"] == rows["registrations"] > 0 and rows["unique_index"] == 1


def test_the_fleet_is_shown_by_partner_and_in_pictures_without_a_name_or_a_secret(hub: Hub) -> None:
    looked = look()
    table = [record.data for record in looked.metadata["by_partner"].records]
    assert {row["partner"] for row in table} == set(hub.partners.values())
    assert {row["credential"] for row in table} == {"works"}
    pictures = [value for value in looked.metadata.values() if isinstance(value, str) and "](data:image/png" in value]
    assert len(pictures) == 2 and all(len(picture) < 60_000 for picture in pictures)
    text = json.dumps(
        [{**looked.metadata, "by_partner": table}, {name: told(check) for name, check in looked.checks.items()}],
        default=repr,
    )
    people = hub.rows("SELECT email FROM runsignup_participants WHERE email IS NOT NULL")
    assert people and not [row for row in people if row["email"] in text]
    for partner in hub.sandbox.admin.partners():
        assert partner["secret"] not in text and partner["key"] not in text


Do = Callable[[Hub], object]


def sql(statement: str) -> Do:
    return lambda hub: hub.execute(statement)


AN_EVENT = "(timing_partner_id, event_id) = (SELECT 2, min(event_id) FROM future_events WHERE timing_partner_id = 2)"
FAR = """(timing_partner_id, event_id) = (SELECT timing_partner_id, event_id FROM future_events
    WHERE timing_partner_id = 2 AND tier = 'later' ORDER BY starts_at DESC LIMIT 1)"""
TWICE = """
DROP INDEX runsignup_participants_identity;
DO $$ DECLARE names text;
BEGIN
    SELECT string_agg(quote_ident(attname), ', ') INTO names FROM pg_attribute
    WHERE attrelid = 'runsignup_participants'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'id';
    EXECUTE format('INSERT INTO runsignup_participants (%1$s) SELECT %1$s FROM runsignup_participants
        WHERE id = (SELECT max(id) FROM runsignup_participants WHERE removed_at IS NULL)', names);
END $$
"""
INDEX = (
    "CREATE UNIQUE INDEX runsignup_participants_identity ON runsignup_participants (timing_partner_id, registration_id)"
)
ONCE = f"DELETE FROM runsignup_participants WHERE id = (SELECT max(id) FROM runsignup_participants); {INDEX}"
LOGGED = "timing_partner_id = 1 AND registration_id = (SELECT min(registration_id) FROM runsignup_bib_changes)"
NO_TRIGGERS = "SET session_replication_role = replica;"
REFUSED = (
    "UPDATE partner_provider_credentials SET rejected_at = now(), rejected_reason = 'no' WHERE timing_partner_id = 3"
)
HELD = """
INSERT INTO quarantined_rows (timing_partner_id, race_id, registration_id, is_stored, reason, row_digest, row_text)
VALUES (2, 1, 77, false, 'unreadable', 'x', '{"email": "jo@example.org"}'),
    (2, 1, 78, true, 'dob: not a date', 'y', '{}')
"""
SHARED_KEY = """
UPDATE partner_provider_credentials SET api_key_id = (
    SELECT api_key_id FROM partner_provider_credentials WHERE timing_partner_id = 1) WHERE timing_partner_id = 2
"""
OWN_KEY = """
UPDATE partner_provider_credentials c SET api_key_id = (
    SELECT min(api_key_id) FROM api_calls WHERE credential_id = c.partner_provider_credential_id)
"""
UNLOGGED = """id = (SELECT min(id) FROM runsignup_participants WHERE timing_partner_id = 2 AND removed_at IS NULL)"""
STRANGE = "SET application_name = 'rsu tests';"
LOST_ENTRY = f"""
{NO_TRIGGERS} DELETE FROM runsignup_bib_changes WHERE new_bib = '9001'
"""
LOST_ENTRY_BACK = f"""
{NO_TRIGGERS} DELETE FROM runsignup_bib_changes; SET session_replication_role = origin; {WITH_LOG}
"""


@pytest.mark.parametrize(
    ("check", "seed", "mend", "severity", "numbers", "sample"),
    [
        pytest.param(
            "every_partner_fresh",
            sql(f"UPDATE event_cursors SET last_read_at = now() - interval '9 hours' WHERE {FAR}"),
            sql(f"UPDATE event_cursors SET last_read_at = now() WHERE {FAR}"),
            "WARN",
            {"partners": 3, "partners_stale": 1, "events_stale": 1},
            {"partner": 2, "tier": "later"},
            id="an event far off was not read for 9 hours",
        ),
        pytest.param(
            "every_partner_fresh",
            sql(
                "UPDATE event_cursors SET last_read_at = now() - interval '9 hours' WHERE timing_partner_id = 1 AND event_id IN"
                " (SELECT event_id FROM future_events WHERE tier = 'window')"
            ),
            sql("UPDATE event_cursors SET last_read_at = now() WHERE timing_partner_id = 1"),
            "ERROR",
            {"partners_stale": 1},
            {"partner": 1, "tier": "window"},
            id="a race of today was not read for 9 hours",
        ),
        pytest.param(
            "no_duplicate_registrations",
            sql(TWICE),
            sql(ONCE),
            "ERROR",
            {"registrations_doubled": 1, "unique_index": 0},
            {"rows": 2, "active": 2},
            id="a registration is there twice",
        ),
        pytest.param(
            "no_duplicate_registrations",
            sql("DROP INDEX runsignup_participants_identity"),
            sql(INDEX),
            "ERROR",
            {"registrations_doubled": 0, "unique_index": 0},
            {},
            id="nothing forbids it",
        ),
        pytest.param(
            "bib_log_replays",
            sql(f"UPDATE runsignup_participants SET bib_num = '1' WHERE {LOGGED}"),
            sql(f"UPDATE runsignup_participants SET bib_num = '9002' WHERE {LOGGED}"),
            "ERROR",
            {"registrations_with_log": 1, "registrations_replayed": 0, "registrations_wrong": 1},
            {"partner": 1},
            id="a bib changed without an entry",
        ),
        pytest.param(
            "bib_log_replays",
            sql(LOST_ENTRY),
            sql(LOST_ENTRY_BACK),
            "ERROR",
            {"bib_changes": 1, "registrations_wrong": 1},
            {"partner": 1},
            id="an entry was lost",
        ),
        pytest.param(
            "bib_log_replays",
            sql(f"UPDATE runsignup_participants SET bib_num = 'Z9' WHERE {UNLOGGED}"),
            sql("UPDATE runsignup_participants SET bib_num = first_bib WHERE bib_num = 'Z9'"),
            "ERROR",
            {"registrations_changed_without_log": 1, "registrations_wrong": 0},
            {"partner": 2},
            id="a bib without an entry is not the first",
        ),
        pytest.param(
            "no_foreign_writes",
            sql(
                f"SET application_name = 'old_sync.py'; UPDATE runsignup_participants SET phone = phone WHERE {UNLOGGED}"
            ),
            sql("DELETE FROM foreign_writes"),
            "ERROR",
            {"foreign_writers": 1, "foreign_transactions": 1},
            {"table": "runsignup_participants", "program": "old_sync.py"},
            id="another program wrote",
        ),
        pytest.param(
            "no_foreign_writes",
            sql(f"{STRANGE} UPDATE runsignup_participants SET race_id = -race_id WHERE {UNLOGGED}"),
            sql(f"{STRANGE} UPDATE runsignup_participants SET race_id = -race_id WHERE race_id < 0"),
            "ERROR",
            {"registrations_of_no_partners_race": 1},
            {},
            id="a registration of a stranger's race",
        ),
        pytest.param(
            "clocks_agree",
            sql("INSERT INTO hub_clocks VALUES ('worker-2', now(), -7200, -7201)"),
            sql("DELETE FROM hub_clocks WHERE hub = 'worker-2'"),
            "ERROR",
            {"clocks_wrong": 1, "seconds_difference_max": 7201.0},
            {"machine": "worker-2"},
            id="a hub's clock is ahead",
        ),
        pytest.param(
            "no_partner_lost_access",
            sql(f"UPDATE partner_races SET lost_at = now(), lost_reason = 'access_lost' WHERE {A_RACE}"),
            sql(f"UPDATE partner_races SET lost_at = NULL, lost_reason = NULL WHERE {A_RACE}"),
            "ERROR",
            {"upcoming_races_lost": 1, "partners_without_races_any_more": 0},
            {"partner": 1},
            id="access to an upcoming race is lost",
        ),
        pytest.param(
            "credentials_work",
            sql(REFUSED),
            sql("UPDATE partner_provider_credentials SET rejected_at = NULL, rejected_reason = NULL"),
            "ERROR",
            {"partners": 3, "credentials_works": 2, "credentials_refused": 1},
            {"partner": 3, "credential": "refused"},
            id="a credential is refused",
        ),
        pytest.param(
            "events_equal_runsignup",
            sql(f"UPDATE event_cursors SET stored_hash = stored_hash + 1 WHERE {AN_EVENT}"),
            sql(f"UPDATE event_cursors SET stored_hash = stored_hash - 1 WHERE {AN_EVENT}"),
            "ERROR",
            {"events_unequal": 1},
            {"partner": 2},
            id="an event's content differs",
        ),
        pytest.param(
            "no_rows_held_back",
            sql(HELD),
            sql("UPDATE quarantined_rows SET resolved_at = now()"),
            "ERROR",
            {"rows_held_back": 1, "rows_with_faults": 1, "partners": 1},
            {"partner": 2, "registration_id": 77},
            id="a row is quarantined",
        ),
        pytest.param(
            "no_shared_api_keys",
            sql(SHARED_KEY),
            sql(OWN_KEY),
            "WARN",
            {"api_keys_shared": 1, "api_keys_shared_unintended": 1},
            {},
            id="two partners have one API key",
        ),
        pytest.param(
            "no_similar_partner_names",
            sql(
                "INSERT INTO timing_partners (timing_partner_id, company_name)"
                " SELECT 99, upper(company_name) || '  ' FROM timing_partners WHERE timing_partner_id = 2"
            ),
            sql("DELETE FROM timing_partners WHERE timing_partner_id = 99"),
            "WARN",
            {"names_similar": 1, "partners": 2},
            {},
            id="a partner's name differs in its case alone",
        ),
    ],
)
def test_a_fault_turns_its_own_check_red_until_it_is_mended(
    hub: Hub, check: str, seed: Do, mend: Do, severity: str, numbers: dict[str, int], sample: dict[str, Any]
) -> None:
    seed(hub)
    try:
        looked = look()
    finally:
        mend(hub)
    assert looked.red_of_their_own == {check}
    found = looked.checks[check]
    assert found.severity is dg.AssetCheckSeverity[severity]
    assert told(found).items() >= numbers.items()
    if sample:
        shown = sample | ({"partner": hub.partners[sample["partner"]]} if "partner" in sample else {})
        assert told(found)["sample"][0].items() >= shown.items()
    assert "example.org" not in json.dumps(told(found))
    assert look(draws=False).red_of_their_own == set()


@pytest.mark.parametrize(("limit", "severity", "short"), [("1", "ERROR", 3), ("100", "WARN", 1)])
def test_too_small_a_budget_turns_its_check_red(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, limit: str, severity: str, short: int
) -> None:
    use_environment(monkeypatch, hub.environment | {"RSU_CALLS_PER_HOUR": limit})
    looked = look()
    assert looked.red_of_their_own == {"budget_is_enough"}
    found = looked.checks["budget_is_enough"]
    assert found.severity is dg.AssetCheckSeverity[severity]
    assert told(found)["calls_limit"] == int(limit) < told(found)["calls_needed_max"]
    assert told(found)["partners_short"] == len(told(found)["sample"]) == short
    use_environment(monkeypatch, hub.environment)
    assert look(draws=False).red_of_their_own == set()


MANY_RACES = """
INSERT INTO runsignup_races (race_id, name) SELECT n, 'Race ' || n FROM generate_series(900001, 900400) n;
INSERT INTO partner_races (timing_partner_id, race_id) SELECT 2, n FROM generate_series(900001, 900400) n;
INSERT INTO runsignup_events (event_id, race_id, starts_at)
    SELECT n, n, now() + interval '100 hours' FROM generate_series(900001, 900400) n;
INSERT INTO event_cursors (timing_partner_id, event_id, race_id, modified_after, removed_after, first_loaded_at,
        last_full_at, last_read_at) SELECT 2, n, n, 0, 0, now(), now(), now() FROM generate_series(900001, 900400) n
"""
NO_MORE = "; ".join(
    f"DELETE FROM {table} WHERE race_id > 900000"
    for table in ("event_cursors", "runsignup_events", "partner_races", "runsignup_races")
)


@pytest.mark.parametrize(("scope", "fitting"), [("all", 5142), ("credential", 41142)])
def test_more_visits_than_find_a_turn_turn_its_check_red(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, scope: str, fitting: int
) -> None:
    # Every minute two calls for each of the 400 races: 48,000 an hour, which the one partner's limit would allow.
    often = {"RSU_IN_FLIGHT_SCOPE": scope, "RSU_CALLS_PER_HOUR": "1000000", "RSU_INTERVAL_LATER": "60"}
    use_environment(monkeypatch, hub.environment | often)
    assert look(draws=False).red_of_their_own == set()
    hub.execute(MANY_RACES)
    try:
        looked = look()
    finally:
        hub.execute(NO_MORE)
    assert looked.red_of_their_own == {"budget_is_enough"}
    found = looked.checks["budget_is_enough"]
    assert found.severity is dg.AssetCheckSeverity.ERROR
    assert told(found)["calls_that_fit_in_flight"] == fitting < told(found)["visits_of_fleet"]
    assert told(found)["partners_short"] == 0


def test_a_hub_without_partners_is_healthy(
    make_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, {"RSU_DATABASE_URL": make_database(), "RSU_HOME": str(tmp_path)})
    looked = look()
    assert looked.red == set() and looked.metadata["partners"] == 0
