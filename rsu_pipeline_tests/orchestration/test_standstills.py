"""The ways in which the hub may stop unnoticed, which docs/guarantees.md lists.

Each is named by `rsu health` and by one alert within two minutes, stays open while other things succeed, and resolves by
itself.

One hub, one Dagster instance and one notifier serve all. Each way is made on the tables that Dagster's daemon writes, at RunSignup,
at the database or at a service, and lasts for AGO when it is evaluated: with an evaluation every 30 s, two minutes at the most.
"""

import datetime as dt
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import grpc  # type: ignore[import-untyped]
import pytest
from dagster._core.scheduler.instigation import TickStatus
from grpc_health.v1 import health as grpc_health  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from benchmarks.race_morning import fast
from rsu_pipeline import installation
from rsu_pipeline.alerts import automation_rules, failing_notifiers, rules
from rsu_pipeline.cli import health_command, watchdog
from rsu_pipeline.definitions import build_definitions, defs
from rsu_pipeline.display import show_times_in
from rsu_pipeline.orchestration.alert_sensors import alerts, alerts_stand_in
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.settings import Settings, project_root
from rsu_pipeline.warehouse import backfill_state, credentials, database
from rsu_pipeline_tests.alerts.notifier import CANARY, Notifier, running_notifier
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.daemon_tables import Daemon
from rsu_pipeline_tests.orchestration.queued import make, queue, report
from rsu_pipeline_tests.orchestration.runs import use_environment
from rsu_pipeline_tests.orchestration.test_fleet_health import A_RACE
from rsu_pipeline_tests.servers import create_database, drop_database
from runsignup_sandbox.process import SandboxProcess

AGO = dt.timedelta(seconds=90)
FREE_GB = 0.001
FEW_CALLS = {"RSU_CALL_ATTEMPTS": "1", "RSU_CALLS_PER_HOUR": "20000"}
A_WEBHOOK = "SELECT 'scoring.test', 'sealed:', 'sealed:', ARRAY['bib.changed']"


class Web:
    """A web UI as far as `rsu health` asks it, which answers that its code location is so."""

    def __init__(self) -> None:
        self.location = "RepositoryLocation"
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    def start(self) -> None:
        web = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                entry = {
                    "name": "rsu_pipeline",
                    "loadStatus": "LOADED",
                    "locationOrLoadError": {"__typename": web.location},
                }
                body = json.dumps({"data": {"workspaceOrError": {"locationEntries": [entry]}}}).encode()
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class Code:
    """A code server as far as `rsu health` asks it."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._server: Any = None

    def start(self) -> None:
        servicer = grpc_health.HealthServicer()
        servicer.set("DagsterApi", health_pb2.HealthCheckResponse.SERVING)
        self._server = grpc.server(ThreadPoolExecutor(1))
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)
        assert self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        if self._server:
            self._server.stop(0).wait(30)
            self._server = None


@dataclass
class Installation:
    """A hub with all that may stop. `asleep` are the sensors that do not evaluate."""

    hub: Hub
    instance: dg.DagsterInstance
    notifier: Notifier
    daemon: Daemon
    web: Web
    code: Code
    server: str
    free_gb: float = FREE_GB
    asleep: set[str] = field(default_factory=set)

    @property
    def settings(self) -> Settings:
        return installation.current().settings

    @property
    def target(self) -> watchdog.Target:
        return watchdog.Target(
            self.settings,
            web=f"http://127.0.0.1:{self.web.port}",
            code=f"127.0.0.1:{self.code.port}",
            free_gb=self.free_gb,
        )

    def named(self) -> list[health_command.Reason]:
        """Return what `rsu health` names."""
        return health_command.find_failing_checks(
            self.settings, health_command.CHECKS, self.target.web, self.target.code, self.free_gb
        )

    def evaluate(self) -> list[tuple[str, str]]:
        """Return what is notified within half a minute, by the sensors that tick and by `rsu health --alert`."""
        for sensor in (alerts, alerts_stand_in):
            if sensor.name not in self.asleep:
                with dg.build_sensor_context(
                    instance=self.instance, resources={"warehouse": WarehouseResource()}
                ) as context:
                    sensor(context)
        watchdog.evaluate(self.target, dt.datetime.now(dt.UTC), print, recheck=0)
        return self.notifier.take()

    def begin(self) -> None:
        """Have everything be well, as it has been for two days."""
        for service in (self.web, self.code):
            service.stop()
            service.start()
        self.web.location, self.notifier.status = "RepositoryLocation", 200
        self.free_gb, self.asleep = FREE_GB, set()
        self.hub.execute(
            "DELETE FROM alerts; DELETE FROM api_calls; DELETE FROM hub_clocks; DELETE FROM dagster.job_ticks;"
            " DELETE FROM history_requests; UPDATE sync_history SET finished_at = now() - interval '10 minutes';"
            " UPDATE partner_provider_credentials SET entered_at = now() - interval '1 hour';"
            " DELETE FROM dagster.instigators; DELETE FROM dagster.jobs;"
            " DELETE FROM dagster.runs; DELETE FROM dagster.daemon_heartbeats"
        )
        self.step_database_clock(0)
        self.daemon.live()
        self.daemon.at_work()
        self.quiet()

    def quiet(self) -> None:
        """Have no race be near, so that no watch is needed."""
        self.hub.execute(
            "UPDATE runsignup_events SET starts_at = now() + interval '72 hours', ends_at = now() + interval '75 hours'"
            " WHERE starts_at BETWEEN now() - interval '2 days' AND now() + interval '2 days'"
        )

    def step_database_clock(self, seconds: float) -> None:
        with database.session(self.hub.url, purpose="tests") as conn:
            now = dt.datetime.now(dt.UTC).timestamp()
            fast.set_database_clock(conn, fast.FastClock(now + seconds, 0.0, now, 1.0))

    def run(self, *kinds: str, job: str = "sync_partner", ago: dt.timedelta = AGO, **tags: str) -> dg.DagsterRun:
        """Make a run of that job with this status, which Dagster does not repeat."""
        run = make(self.instance, job, **{"dagster/max_retries": "0"}, **tags)
        report(self.instance, [run], *kinds, ago=ago.total_seconds())
        return run

    def batch(self, *kinds: str, partners: Sequence[int], ago: dt.timedelta = AGO) -> dg.DagsterRun:
        """Make a batch for these partners, as the schedules launch it."""
        job = defs().resolve_job_def("sync_batch")
        keys = [self.hub.partners[partner] for partner in partners]
        run = self.instance.create_run_for_job(
            job,
            run_config={"ops": {"sync_partners": {"config": {"partners": keys}}}},
            tags={"dagster/max_retries": "0", "dagster/schedule_name": "nightly", "lane": "routine"},
        )
        report(self.instance, [run], *kinds, ago=ago.total_seconds())
        return run

    def all_else_goes_well(self) -> None:
        """Let runs of every job succeed and assets be materialized, none of which does the work that has stopped."""
        for job in ("check_fleet", "retention"):
            self.run(*WELL, job=job, ago=dt.timedelta(0))
        self.run(*WELL, job="sync_partner", ago=dt.timedelta(0), partition="99-nobody")
        self.batch(*WELL, partners=[3], ago=dt.timedelta(0))
        for asset in ("fleet_health", "race_day_board"):
            self.instance.report_runless_asset_event(dg.AssetMaterialization(asset))


WELL = ("PIPELINE_START", "PIPELINE_SUCCESS")
BROKEN = ("PIPELINE_START", "PIPELINE_FAILURE")
Step = Callable[[Installation], object]


def sql(statement: str, *parameters: object) -> Step:
    return lambda its: its.hub.execute(statement, *parameters)


def ticks_older(span: str) -> Step:
    return sql(
        f"UPDATE dagster.job_ticks SET timestamp = timestamp - interval '{span}',"
        f" create_timestamp = create_timestamp - interval '{span}'"
    )


def off(name: str) -> Step:
    def do(its: Installation) -> None:
        its.daemon.know(name, is_on=False)
        its.asleep |= {name} & {"alerts"}

    return do


def on(name: str) -> Step:
    def do(its: Installation) -> None:
        its.daemon.know(name)
        its.asleep.clear()

    return do


def stop_daemon(its: Installation) -> None:
    its.daemon.live(AGO)
    ticks_older("90 seconds")(its)
    its.asleep = {"alerts", "alerts_stand_in"}


def start_daemon(its: Installation) -> None:
    its.daemon.live()
    its.daemon.tick("race_day", dt.timedelta(0))
    its.daemon.at_work()
    its.asleep.clear()


def freeze_daemon(its: Installation) -> None:
    ticks_older("90 seconds")(its)
    its.asleep = {"alerts", "alerts_stand_in"}


def hang_a_tick(its: Installation) -> None:
    its.daemon.sql(
        "UPDATE dagster.job_ticks SET timestamp = timestamp - interval '90 s' WHERE tick_body LIKE '%%bib_changes%%'"
    )


def fail_each_tick(its: Installation) -> None:
    for seconds in (80, 50, 20):
        its.daemon.tick("bib_changes", dt.timedelta(seconds=seconds), TickStatus.FAILURE)
    its.daemon.sql(
        "DELETE FROM dagster.job_ticks WHERE tick_body LIKE '%%bib_changes%%' AND status = 'SKIPPED'"
        " AND timestamp > (now() AT TIME ZONE 'UTC') - interval '85 s'"
    )


def tick(name: str) -> Step:
    return lambda its: its.daemon.tick(name, dt.timedelta(0))


def step_back(its: Installation) -> None:
    its.daemon.tick("race_day", -dt.timedelta(hours=3))


def tick_again(its: Installation) -> None:
    its.daemon.sql("DELETE FROM dagster.job_ticks WHERE timestamp > (now() AT TIME ZONE 'UTC') + interval '1 minute'")


def wait_in_queue(its: Installation) -> None:
    queue(its.instance, partition=its.hub.partners[1])
    its.hub.execute(
        "UPDATE dagster.runs SET update_timestamp = update_timestamp - interval '90 s' WHERE status = 'QUEUED'"
    )


def end_runs(its: Installation) -> None:
    statuses = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.CANCELING]
    runs = its.instance.get_runs(dg.RunsFilter(statuses=statuses))
    assert runs
    report(its.instance, runs, "PIPELINE_CANCELED")


def clocks(runsignup: float, database_ahead: float) -> Step:
    """Set RunSignup's and the database's clock ahead of this machine's by this number of seconds."""

    def do(its: Installation) -> None:
        its.step_database_clock(database_ahead)
        its.hub.execute("DELETE FROM hub_clocks")
        if runsignup or database_ahead:
            its.hub.execute(
                "INSERT INTO hub_clocks VALUES (%s, now(), %s, %s)", socket.gethostname(), runsignup, database_ahead
            )

    return do


def leave_unwatched(its: Installation) -> None:
    its.hub.execute(
        "UPDATE runsignup_events SET starts_at = now() + interval '1 hour', ends_at = now() + interval '3 hours' WHERE event_id = ("
        "SELECT min(event_id) FROM event_cursors WHERE timing_partner_id = 1)"
    )
    its.hub.execute("UPDATE event_cursors SET last_read_at = now() - interval '90 s' WHERE timing_partner_id = 1")


def sync(partner: int) -> Step:
    def do(its: Installation) -> None:
        its.hub.sync(partner)
        its.quiet()

    return do


def reject(its: Installation) -> None:
    its.hub.sandbox.admin.revoke(3)
    with pytest.raises(Exception, match="rejects"):
        its.hub.sync(3)
    its.quiet()


def enter_again(its: Installation) -> None:
    its.hub.sandbox.admin.grant(3)
    (theirs,) = [item for item in its.hub.sandbox.admin.partners() if item["partner"] == 3]
    with database.session(its.hub.url, purpose="tests") as conn:
        credentials.add(conn, its.hub.secret_box, name=theirs["name"], principal=theirs["key"], secret=theirs["secret"])
        conn.commit()
    sync(3)(its)


def race_of(its: Installation, partner: int) -> int:
    """Return a race of the partner with an upcoming event."""
    return int(its.hub.value("SELECT min(race_id) FROM future_events WHERE timing_partner_id = %s", partner))


def deny(its: Installation) -> None:
    its.hub.sandbox.admin.fault(
        "error_code", 0, endpoint="participants", race_id=race_of(its, 2), partner=2, code=7, message="Denied"
    )
    its.hub.sync(2, full=True)
    its.quiet()


def allow(its: Installation) -> None:
    its.hub.sandbox.admin.clear_faults()
    its.hub.sync(2, full=True)
    its.quiet()


def use_up_calls(its: Installation) -> None:
    its.hub.execute(
        "INSERT INTO api_calls (credential_id, api_key_id, lane, endpoint, settled_at)"
        " SELECT c.partner_provider_credential_id, c.api_key_id, 'routine', 'races', now()"
        " FROM partner_provider_credentials c, generate_series(1, 17800) WHERE c.timing_partner_id = 3"
    )


def fail_a_materialization(its: Installation) -> None:
    """Make a materialization of start lists fail, as the web UI launches one."""
    job = (
        build_definitions().get_implicit_global_asset_job_def().get_subset(asset_selection={dg.AssetKey("start_lists")})
    )
    run = its.instance.create_run_for_job(
        job,
        tags={"dagster/max_retries": "0", "dagster/partition": its.hub.partners[1]},
        asset_selection=frozenset({dg.AssetKey("start_lists")}),
    )
    report(its.instance, [run], *BROKEN, ago=AGO.total_seconds())


def materialize(its: Installation) -> None:
    its.instance.report_runless_asset_event(dg.AssetMaterialization("start_lists", partition=its.hub.partners[1]))


def wait_for_backfill(its: Installation) -> None:
    with database.session(its.hub.url, purpose="tests") as conn:
        backfill_state.request_backfill(conn, 1)
        conn.commit()
    its.hub.execute("UPDATE history_requests SET not_before = now() - interval '90 s'")


def slice_begins(its: Installation) -> None:
    queue(its.instance, "backfill_history", lane="backfill", partition=its.hub.partners[1])


def forget_syncs(its: Installation) -> None:
    """Forget the syncs of partner 2, as if it had been entered 90 s ago."""
    its.hub.execute("DELETE FROM sync_history WHERE timing_partner_id = 2")
    its.hub.execute(
        "UPDATE partner_provider_credentials SET entered_at = now() - interval '90 s' WHERE timing_partner_id = 2"
    )


def do(change: Callable[[Installation], object]) -> Step:
    return change


@dataclass(frozen=True)
class Way:
    """A way to stop.

    Attributes:
        kind: kind of the alert.
        check: check of `rsu health` that names it.
        words: what its sentence must have, beside since when: what it is, and what to do.
    """

    kind: str
    check: str
    breaks: Step
    mends: Step
    words: tuple[str, str]


AUTOMATION, SERVICE = automation_rules.KIND, rules.SERVICE_KIND
WAYS = {
    "a sensor is switched off": Way(
        AUTOMATION,
        "automation",
        off("race_day"),
        on("race_day"),
        ("race_day is switched off", "switch it on in the Dagster UI"),
    ),
    "a schedule is switched off": Way(
        AUTOMATION,
        "automation",
        off("nightly"),
        on("nightly"),
        ("nightly is switched off", "switch it on in the Dagster UI"),
    ),
    "the sensor alerts is switched off": Way(
        AUTOMATION,
        "automation",
        off("alerts"),
        on("alerts"),
        ("alerts is switched off", "switch it on in the Dagster UI"),
    ),
    "the daemon is dead": Way(
        automation_rules.DAEMON_KIND,
        "daemon",
        stop_daemon,
        start_daemon,
        ("The Dagster daemon's last heartbeat was", "Start the daemon"),
    ),
    "the daemon lives and does not tick": Way(
        AUTOMATION,
        "automation",
        freeze_daemon,
        start_daemon,
        ("No sensor or schedule has ticked", "restart the daemon"),
    ),
    "a sensor does not tick while others do": Way(
        AUTOMATION, "automation", hang_a_tick, tick("bib_changes"), ("bib_changes has not ticked", "restart the daemon")
    ),
    "each tick fails": Way(
        AUTOMATION,
        "automation",
        fail_each_tick,
        tick("bib_changes"),
        ("bib_changes has failed at every tick", "the Dagster UI shows the error"),
    ),
    "a tick is in the future": Way(
        AUTOMATION,
        "automation",
        step_back,
        tick_again,
        ("race_day has ticked at", "correct the clock of the daemon's machine"),
    ),
    "the queue does not move": Way(
        AUTOMATION, "automation", wait_in_queue, end_runs, ("The queue has stopped", "Restart the daemon")
    ),
    "a run hangs while it starts": Way(
        "run_stuck",
        "syncs",
        do(lambda its: its.run("PIPELINE_STARTING", partition=its.hub.partners[1])),
        end_runs,
        ("has been starting", "Terminate it"),
    ),
    "a run hangs while it ends": Way(
        "run_stuck",
        "syncs",
        do(lambda its: its.run("PIPELINE_START", "PIPELINE_CANCELING", job="watch")),
        end_runs,
        ("has been ending", "Terminate it"),
    ),
    "the hub's clock is wrong": Way(
        "clock_skew", "clock", clocks(10_800, 10_800), clocks(0, 0), ("The clock of the hub on", "Set the clock right")
    ),
    "the database's clock is wrong": Way(
        "clock_skew", "clock", clocks(1, 10_800), clocks(0, 0), ("The database's clock is", "Set the clock right")
    ),
    "a race in its window is not polled": Way(
        "dead_watch", "watch", leave_unwatched, sync(1), ("is in its window and has not been read", "Run `rsu sync")
    ),
    "RunSignup rejects a key": Way(
        "credential_rejected", "syncs", reject, enter_again, ("RunSignup has rejected the key", "`rsu partners add`")
    ),
    "RunSignup denies one race": Way(
        "access_denied", "syncs", deny, allow, ("RunSignup denies access to race", "Ask the partner to allow its key")
    ),
    "a partner loses access to a race": Way(
        "access_lost",
        "syncs",
        sql(f"UPDATE partner_races SET lost_at = now(), lost_reason = 'access_lost' WHERE {A_RACE}"),
        sql(f"UPDATE partner_races SET lost_at = NULL, lost_reason = NULL WHERE {A_RACE}"),
        ("lost access to race", "Ask the race's director"),
    ),
    "the calls of the hour are used up": Way(
        "budget_short",
        "syncs",
        use_up_calls,
        sql("DELETE FROM api_calls"),
        ("calls of this hour are left", "docs/alerts.md explains"),
    ),
    "a nightly sync fails": Way(
        "run_failed",
        "syncs",
        do(lambda its: its.batch(*BROKEN, partners=[1, 2])),
        do(lambda its: [sync(partner)(its) for partner in (1, 2)]),
        ("job sync_batch failed", "Open the run"),
    ),
    "a materialization fails": Way(
        "run_failed", "syncs", fail_a_materialization, materialize, ("left start_lists unchanged", "Open the run")
    ),
    "a watch fails": Way(
        "run_failed",
        "syncs",
        do(lambda its: its.run(*BROKEN, job="watch", watch_shard="1")),
        do(lambda its: its.run(*WELL, job="watch", watch_shard="1", ago=dt.timedelta(0))),
        ("job watch failed", "Open the run"),
    ),
    "a backfill has stopped": Way(
        "backfill_stopped",
        "syncs",
        wait_for_backfill,
        slice_begins,
        ("the next slice of its backfill has been due", "Run `rsu backfill"),
    ),
    "a partner was never synced": Way(
        "never_synced",
        "syncs",
        forget_syncs,
        sync(2),
        ("nothing has been synced since the credential", "Run `rsu sync"),
    ),
    "webhooks are not delivered": Way(
        "delivery_stopped",
        "delivery",
        sql(f"INSERT INTO webhooks (host, url, secret, kinds, created_at) {A_WEBHOOK}, now() - interval '90 seconds'"),
        sql("DELETE FROM webhooks"),
        ("No process has delivered webhooks for", "check its log, and start it again"),
    ),
    "a webhook accepts nothing": Way(
        "webhook_failing",
        "delivery",
        sql(
            "INSERT INTO webhooks (host, url, secret, kinds, last_error, failing_since)"
            f" {A_WEBHOOK}, 'HTTP 500', now() - interval '6 minutes'"
        ),
        sql("DELETE FROM webhooks"),
        ("has accepted nothing since", "tries it now"),
    ),
    "messages to a webhook were given up": Way(
        "webhook_dead_letters",
        "delivery",
        sql(
            f"WITH w AS (INSERT INTO webhooks (host, url, secret, kinds) {A_WEBHOOK} RETURNING webhook_id)"
            " INSERT INTO webhook_messages (webhook_id, kind, subject, body, dead_at)"
            " SELECT webhook_id, 'bib.changed', '1', '{}', now() FROM w"
        ),
        sql("DELETE FROM webhooks"),
        ("1 message to webhook", "`rsu webhooks redeliver"),
    ),
    "files of start lists are not written": Way(
        "list_files_failing",
        "delivery",
        sql(
            "INSERT INTO start_list_folders VALUES ('/srv/lists', 'clock:7', now(), now() - interval '2 minutes',"
            " '[Errno 28] No space left on device')"
        ),
        sql("DELETE FROM start_list_folders"),
        ("in /srv/lists on clock have not all been written since", "make room"),
    ),
    "the disk is full": Way(
        SERVICE,
        "disk",
        do(lambda its: setattr(its, "free_gb", 1e6)),
        do(lambda its: setattr(its, "free_gb", FREE_GB)),
        ("GB are free at", "Free some space"),
    ),
    "the web UI is down": Way(
        SERVICE,
        "web",
        do(lambda its: its.web.stop()),
        do(lambda its: its.web.start()),
        ("The Dagster UI does not answer", "Check its log, and start it again"),
    ),
    "the code server is down": Way(
        SERVICE,
        "code",
        do(lambda its: its.code.stop()),
        do(lambda its: its.code.start()),
        ("The code server does not answer", "Check its log, and start it again"),
    ),
    "the code location is broken": Way(
        SERVICE,
        "location",
        do(lambda its: setattr(its.web, "location", "PythonError")),
        do(lambda its: setattr(its.web, "location", "RepositoryLocation")),
        ("The code location rsu_pipeline cannot be loaded", "The Dagster UI shows the error"),
    ),
}


@pytest.fixture(scope="module")
def running(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("standstills")
    name = "rsu_standstills"
    create_database(server, name, "template1")
    url = f"{server.rsplit('/', 1)[0]}/{name}"
    with database.session(url, purpose="tests") as conn:
        fast.prepare_database(conn)
    with database.session(url, purpose="tests") as conn:
        database.migrate(conn)
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        SandboxProcess.start("small", seed=7) as sandbox,
        running_notifier() as notifier,
    ):
        hub = Hub(url, sandbox, folder / "home", RSU_ALERT_URLS=notifier.url, **FEW_CALLS)
        (folder / "home").mkdir()
        use_environment(monkeypatch, hub.environment)
        with (
            dg.DagsterInstance.from_config(str(_dagster_home(folder))) as instance,
            database.session(url, purpose="tests") as conn,
        ):
            its = Installation(hub, instance, notifier, Daemon(instance, conn), Web(), Code(), server)
            for partner in hub.partners:
                hub.sync(partner)
            hub.execute("UPDATE sync_history SET finished_at = finished_at - interval '3 minutes'")
            hub.execute("UPDATE partner_provider_credentials SET entered_at = now() - interval '1 hour'")
            yield its
            its.web.stop()
            its.code.stop()
        installation.current.cache_clear()
    drop_database(server, name)


def _dagster_home(folder: Path) -> Path:
    home = folder / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text((project_root() / "dagster.yaml").read_text())
    return home


@pytest.fixture
def its(running: Installation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    use_environment(monkeypatch, running.hub.environment)
    running.begin()
    assert running.named() == []
    assert running.evaluate() == []
    yield running
    installation.current.cache_clear()


def open_alerts(its: Installation) -> list[tuple[str, str]]:
    return [
        (row["kind"], row["sentence"])
        for row in its.hub.rows("SELECT kind, sentence FROM alerts WHERE cleared_at IS NULL")
    ]


@pytest.mark.parametrize("name", WAYS)
def test_a_standstill_is_named_alerted_once_and_closes_by_itself(its: Installation, name: str) -> None:
    way = WAYS[name]
    way.breaks(its)
    ((title, text),) = its.evaluate()
    assert title == f"RunSignup hub: {rules.TITLES[way.kind]}"
    ((check, sentence),) = its.named()
    assert check == way.check
    assert "since " in sentence.lower()
    assert way.words[0] in sentence and way.words[1] in sentence
    ((kind, stored),) = open_alerts(its)
    assert kind == way.kind and show_times_in(its.hub.settings.timezone, stored) in text and way.words[1] in text

    its.all_else_goes_well()
    assert [its.evaluate(), its.evaluate(), its.evaluate()] == [[], [], []]
    assert [kind for kind, _ in open_alerts(its)] == [way.kind]

    way.mends(its)
    assert its.named() == []
    its.evaluate()
    its.evaluate()
    assert open_alerts(its) == []
    assert its.hub.rows("SELECT kind FROM alerts WHERE cleared_told_at IS NULL") == []
    assert its.evaluate() == []


def test_a_database_that_is_away_is_named_notified_once_and_closes_by_itself(its: Installation) -> None:
    """Nothing can be stored of it: that it was notified is in a file, for all processes that evaluate."""
    name = its.hub.url.rsplit("/", 1)[1]

    def allow_connections(allowed: bool) -> None:
        with database.session(its.server, purpose="tests") as conn, conn.cursor() as cur:
            conn.autocommit = True
            cur.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {str(allowed).lower()}")

    its.asleep = {"alerts", "alerts_stand_in"}
    allow_connections(False)
    try:
        ((title, text),) = its.evaluate()
        assert title == f"RunSignup hub: {rules.TITLES[SERVICE]}"
        assert name in text and " Since 2" in text and "Check the server" in text
        ((check, _),) = its.named()
        assert check == "database"
        assert [its.evaluate(), its.evaluate()] == [[], []]
    finally:
        allow_connections(True)
    ((title, text),) = its.evaluate()
    assert title == f"Resolved: {rules.TITLES[SERVICE]}" and text.startswith(
        "The database is back. It was down since 2"
    )
    assert its.named() == [] and its.evaluate() == []


def test_notifiers_that_take_nothing_are_named_and_notified_of_once_they_do(its: Installation) -> None:
    its.notifier.status = 500
    off("nightly")(its)
    assert [its.evaluate() for _ in range(3)] == [[], [], []]
    assert {kind for kind, _ in open_alerts(its)} == {AUTOMATION, "notifier_failing"}
    ((_, sentence),) = [reason for reason in its.named() if reason[0] == "syncs"]
    assert (
        sentence.startswith("No notifier of RSU_ALERT_URLS has accepted a message since 2")
        and "`rsu alerts test`" in sentence
    )
    on("nightly")(its)
    its.evaluate()
    its.evaluate()
    # That nothing is wrong otherwise does not close it: only a message that is taken does.
    assert [kind for kind, _ in open_alerts(its)] == ["notifier_failing"]
    its.notifier.status = 200
    titles = [title for title, _ in its.evaluate()]
    assert f"RunSignup hub: {rules.TITLES['notifier_failing']}" in titles
    assert its.named() == []
    its.evaluate()
    its.evaluate()
    assert open_alerts(its) == [] and its.evaluate() == []


def test_a_notifier_that_takes_nothing_while_others_do_is_named_notified_of_once_and_closes_by_itself(
    its: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def later(interval: dt.timedelta) -> list[str]:
        its.hub.execute("UPDATE failing_notifiers SET tried_at = tried_at - %s", interval)
        return [title for title, _ in its.evaluate()]

    with running_notifier() as other:
        use_environment(monkeypatch, {"RSU_ALERT_URLS": f"{its.notifier.url} {other.url}"})
        other.status = 500
        off("nightly")(its)
        assert [len(its.evaluate()), later(failing_notifiers.FIRST_RETRY)] == [1, []]
        assert its.evaluate()[0][0] == f"RunSignup hub: {rules.TITLES['notifier_failing']}" and its.evaluate() == []
        (sentence,) = [text for name, text in its.named() if name == "syncs" and text.startswith("Notifier")]
        assert sentence.startswith("Notifier 2 of RSU_ALERT_URLS (json) has accepted no message since 2")
        assert CANARY not in sentence
        on("nightly")(its)
        other.status = 200
        titles = [*later(failing_notifiers.RETRY_INTERVAL), *later(AGO), *later(AGO)]
        assert titles.count(f"Resolved: {rules.TITLES['notifier_failing']}") == 1
        assert other.take()[0][0] == "RunSignup hub: this notifier accepts messages again"
        assert its.named() == [] and open_alerts(its) == [] and its.evaluate() == []


def test_every_kind_that_stops_something_is_made_to_stop_here() -> None:
    # What else stops is made in alerts/test_rules.py.
    others = {
        "partner_stale",
        "polls_failing",
        "history_failing",
        "foreign_writes",
        "notifier_failing",
        "notification_queue",
    }
    assert {way.kind for way in WAYS.values()} | others == rules.HEALTH_CHECKS.keys() | {SERVICE}
    assert len(WAYS) >= 20
