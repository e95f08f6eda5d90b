"""Ten faults in a healthy fleet, injected by what really causes them where possible.

Each turns its own check and alert red and no other, and all is green again once it is repaired.
"""

import datetime as dt
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import dagster as dg
import pytest

from rsu_pipeline import installation
from rsu_pipeline.alerts import rules
from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.orchestration.fleet_checks import FLEET_CHECKS
from rsu_pipeline.reports import fleet_plots
from rsu_pipeline.settings import project_root
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.conftest import at
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.queued import make, report, start
from rsu_pipeline_tests.orchestration.runs import sync_partner, use_environment
from rsu_pipeline_tests.orchestration.test_assets import CHECKED
from rsu_pipeline_tests.servers import create_database, drop_database
from runsignup_sandbox.process import SandboxProcess


@dataclass
class Fleet:
    """A hub with a Dagster instance.

    `checks` are the last evaluations of the partitions' checks, each by the partner's last sync that came so far. The web UI
    shows the same.
    """

    hub: Hub
    instance: dg.DagsterInstance
    monkeypatch: pytest.MonkeyPatch
    checks: dict[tuple[int, str], bool] = field(default_factory=dict)

    def sync(self, partner: int, **config: object) -> None:
        run = sync_partner(self.instance, self.hub.partners[partner], **config)
        for entry in self.instance.all_logs(run.run_id):
            if entry.dagster_event and entry.dagster_event.event_type_value == CHECKED:
                check = entry.dagster_event.asset_check_evaluation_data
                self.checks[partner, check.check_name] = check.passed

    def use(self, **environment: str) -> None:
        use_environment(self.monkeypatch, self.hub.environment | environment)

    def red(self, *, draws: bool = True) -> set[str]:
        """Return the checks that fail, of the partitions and of the whole fleet, and the kinds of open alerts.

        Where all is well the fleet's pictures need not be drawn: they have tests of their own.
        """
        job = build_definitions().resolve_job_def("check_fleet")
        with pytest.MonkeyPatch.context() as patch:
            if not draws:
                patch.setattr(fleet_plots, "draw_fleet_plots", lambda *given: {})
            looked = job.execute_in_process(instance=self.instance).get_asset_check_evaluations()
        assert len(looked) == len(FLEET_CHECKS)
        failing = {name for (_, name), passed in self.checks.items() if not passed}
        failing |= {check.check_name for check in looked if not check.passed}
        failing.discard("nothing_stands_still")
        with database.session(self.hub.url, purpose="tests") as conn:
            found = rules.find_problems(conn, installation.current().settings, dt.datetime.now(dt.UTC))
        (standstills,) = [check for check in looked if check.check_name == "nothing_stands_still"]
        sample = standstills.metadata["sample"].value
        assert {item["kind"] for item in sample} == {problem.kind for problem in found} & rules.HEALTH_CHECKS.keys()
        return {f"check {name}" for name in failing} | {f"alert {problem.kind}" for problem in found}

    def first(self, partner: int, race: str, *, second: bool = False) -> int:
        """Return a registration of the partner's race of this name, with a bib."""
        rows = self.hub.rows(
            "SELECT p.registration_id FROM runsignup_participants p JOIN runsignup_races r USING (race_id)"
            " WHERE p.timing_partner_id = %s AND r.name = %s AND p.removed_at IS NULL AND p.bib_num IS NOT NULL"
            " ORDER BY p.event_id, p.registration_id LIMIT 2",
            partner,
            race,
        )
        return int(rows[int(second)]["registration_id"])


@pytest.fixture(scope="module")
def healthy(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Provide three partners that are up to date, where everybody who starts today has a bib of their own.

    Runs are judged in the hub's database, in the instance that dagster.yaml describes.
    """
    create_database(server, "rsu_faults", template)
    home = tmp_path_factory.mktemp("faults")
    shutil.copy(project_root() / "dagster.yaml", home)
    with pytest.MonkeyPatch.context() as monkeypatch, SandboxProcess.start("small", seed=7) as sandbox:
        hub = Hub(at(server, "rsu_faults"), sandbox, home / "home", RSU_CALL_ATTEMPTS="1")
        for partner in hub.partners:
            for number, row in enumerate(sandbox.admin.truth(partner)["active"]):
                if row["bib_num"] is None:
                    sandbox.admin.bib(row["registration_id"], 50_000 + 1000 * partner + number)
        use_environment(monkeypatch, hub.environment)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            fleet = Fleet(hub, instance, monkeypatch)
            for partner in hub.partners:
                fleet.sync(partner)
            assert len(fleet.checks) == len(hub.partners) * 5
            yield fleet
    installation.current.cache_clear()
    drop_database(server, "rsu_faults")


@pytest.fixture
def fleet(healthy: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """Provide the fleet as the test before has mended it. Only its race of today has to be read again every few minutes."""
    healthy.monkeypatch = monkeypatch
    healthy.use()
    healthy.sync(1)
    yield healthy
    installation.current.cache_clear()


Step = Callable[[Fleet], object]


@dataclass
class Fault:
    """What breaks and what mends it, and all that is red in between."""

    breaks: Step
    mends: Step
    red: set[str]


NEAR = "Mill Pond Half & 5K"
"""Partner 1's race of today."""


def sql(statement: str) -> Step:
    return lambda fleet: fleet.hub.execute(statement)


def refuse(fleet: Fleet) -> None:
    fleet.hub.sandbox.admin.revoke(3)
    fleet.sync(3)


def admit(fleet: Fleet) -> None:
    fleet.hub.sandbox.admin.grant(3)
    with fleet.hub.partner_session(3, retry_rejected=True):
        pass
    fleet.hub.execute("UPDATE partner_provider_credentials SET rejected_at = NULL, rejected_reason = NULL")
    fleet.sync(3)


def bib(value: Callable[[Fleet], int | None]) -> Step:
    def do(fleet: Fleet) -> None:
        fleet.hub.sandbox.admin.bib(fleet.first(1, NEAR), value(fleet))
        fleet.sync(1)

    return do


def lose_a_row(fleet: Fleet) -> None:
    """Let another program's trigger swallow a registration that is new to the hub."""
    event_id = fleet.hub.value("SELECT min(event_id) FROM future_events WHERE timing_partner_id = 2")
    fleet.hub.execute(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        " CREATE TRIGGER swallow BEFORE INSERT ON runsignup_participants FOR EACH ROW"
        " WHEN (new.first_name = 'Lost') EXECUTE FUNCTION swallow()"
    )
    fleet.hub.sandbox.admin.register(event_id, {"first_name": "Lost", "bib_num": 61_001})
    fleet.sync(2, force_full_sync=True)


def find_the_row(fleet: Fleet) -> None:
    fleet.hub.execute("DROP FUNCTION swallow CASCADE")
    fleet.sync(2)


def spoil_a_row(fleet: Fleet) -> None:
    admin = fleet.hub.sandbox.admin
    event_id = fleet.hub.value("SELECT min(event_id) FROM future_events WHERE timing_partner_id = 2")
    (number,) = admin.register(event_id, {"bib_num": 61_002})
    admin.edit(number, {"event_id": [1]})
    fleet.sync(2, force_full_sync=True)


def unspoil_the_row(fleet: Fleet) -> None:
    number = fleet.hub.value("SELECT registration_id FROM quarantined_rows WHERE resolved_at IS NULL")
    fleet.hub.sandbox.admin.edit(number, drop=["event_id"])
    fleet.sync(2, force_full_sync=True)


def remove_most(fleet: Fleet) -> None:
    for row in fleet.hub.rows(
        "SELECT p.registration_id FROM runsignup_participants p JOIN runsignup_races r USING (race_id)"
        " WHERE r.name = 'Mesa Quemada Sunrise 10K' LIMIT 20"
    ):
        fleet.hub.sandbox.admin.remove(row["registration_id"], silent=True)
    fleet.sync(1, force_full_sync=True)


def hang(fleet: Fleet) -> None:
    """Make a run that no process works at, silent for twenty minutes."""
    run = make(fleet.instance, "sync_partner", partition=fleet.hub.partners[1])
    start(fleet.instance, [run], ago=1200)


def end_it(fleet: Fleet) -> None:
    run = fleet.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    report(fleet.instance, run, "PIPELINE_SUCCESS")


CALLS = (
    "INSERT INTO api_calls (credential_id, lane, endpoint, settled_at)"
    " SELECT c.partner_provider_credential_id, 'routine', 'races', now()"
    " FROM partner_provider_credentials c, generate_series(1, 950) WHERE c.timing_partner_id = 3"
)
FAULTS = {
    "stale partner": Fault(
        sql(
            "UPDATE event_cursors SET last_read_at = now() - interval '9 hours' WHERE timing_partner_id = 3;"
            " UPDATE partner_provider_credentials SET entered_at = now() - interval '1 day' WHERE timing_partner_id = 3"
        ),
        lambda fleet: fleet.sync(3),
        {"check every_partner_fresh", "alert partner_stale"},
    ),
    "bad key": Fault(refuse, admit, {"check credentials_work", "alert credential_rejected"}),
    "duplicate bib": Fault(
        bib(
            lambda fleet: int(
                fleet.hub.value(
                    "SELECT bib_num FROM runsignup_participants WHERE registration_id = %s",
                    fleet.first(1, NEAR, second=True),
                )
            )
        ),
        bib(lambda fleet: 61_003),
        {"check no_duplicate_bibs", "alert duplicate_bibs"},
    ),
    "missing bib": Fault(
        bib(lambda fleet: None),
        lambda fleet: (
            fleet.hub.sandbox.admin.bib(
                fleet.hub.value("SELECT registration_id FROM start_list WHERE bib IS NULL AND race = %s", NEAR), 61_004
            ),
            fleet.sync(1),
        ),
        {"check every_entrant_has_a_bib"},
    ),
    "count mismatch": Fault(lose_a_row, find_the_row, {"check equals_runsignup", "check events_equal_runsignup"}),
    "quarantined row": Fault(spoil_a_row, unspoil_the_row, {"check no_quarantined_rows", "check no_rows_held_back"}),
    "mass removal": Fault(
        remove_most,
        lambda fleet: fleet.sync(1, force_full_sync=True, confirm_removals=True),
        {"alert removals_held_back"},
    ),
    "budget short": Fault(
        lambda fleet: (fleet.use(RSU_CALLS_PER_HOUR="1000"), fleet.hub.execute(CALLS)),
        sql("DELETE FROM api_calls WHERE endpoint = 'races'"),
        {"alert budget_short"},
    ),
    "stuck run": Fault(hang, end_it, {"alert run_stuck"}),
    "dead watch": Fault(
        sql("UPDATE event_cursors SET last_read_at = now() - interval '6 minutes' WHERE timing_partner_id = 1"),
        lambda fleet: fleet.sync(1),
        {"alert dead_watch"},
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_turns_exactly_its_own_red_until_it_is_mended(fleet: Fleet, name: str) -> None:
    fault = FAULTS[name]
    assert fleet.red(draws=False) == set()
    fault.breaks(fleet)
    assert fleet.red() == fault.red
    fault.mends(fleet)
    assert fleet.red(draws=False) == set()


def test_no_two_faults_share_a_check_or_an_alert() -> None:
    shown = [one for fault in FAULTS.values() for one in fault.red]
    assert len(shown) == len(set(shown))
