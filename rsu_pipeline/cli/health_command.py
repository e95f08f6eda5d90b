"""`rsu health`: whether an installation works, as one exit code.

It is quick and does not load Dagster, so that a process manager can run it every few seconds. It starts nothing and
changes nothing.
"""

import datetime as dt
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import click
import psycopg2

from rsu_pipeline import installation
from rsu_pipeline.alerts import alert_store, automation_rules, rules
from rsu_pipeline.cli import backup_age, local_http
from rsu_pipeline.cli.common import show_json, show_line
from rsu_pipeline.display import format_time, show_times_in
from rsu_pipeline.errors import SettingsError
from rsu_pipeline.local import embedded
from rsu_pipeline.local.cluster import Cluster
from rsu_pipeline.local.keeper import data_lock, try_lock
from rsu_pipeline.settings import Settings
from rsu_pipeline.warehouse import addresses, database, liveness, schema_version

CHECKS = (
    "database",
    "daemon",
    "automation",
    "watch",
    "syncs",
    "writes",
    "clock",
    "delivery",
    "code",
    "web",
    "location",
    "disk",
    "backup",
)
AT_DATABASE = frozenset({"database", "daemon", "automation", "watch", "syncs", "writes", "clock", "delivery"})
AT_WEB = frozenset({"web", "location"})

ANSWER_SECONDS = 4.0
"""Time limit of all checks together. A check that has not answered by then fails."""
CALL_SECONDS = 3.0
FREE_GB = 1.0

LOCATIONS = (
    "{workspaceOrError{__typename ... on Workspace{locationEntries{name loadStatus locationOrLoadError{__typename}}}}}"
)

Reason = tuple[str, str]
"""The check that failed, and one sentence."""


def _http_only(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and urlsplit(value).scheme not in ("http", "https"):
        raise click.BadParameter("the web UI's address must begin with http:// or https://")
    return value


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Output JSON.")
@click.option("--only", type=click.Choice(CHECKS), multiple=True, help="Only this check. May be repeated.")
@click.option(
    "--web",
    metavar="URL",
    callback=_http_only,
    help="Address of the Dagster UI. Default: RSU_UI_ADDRESS at RSU_UI_PORT.",
)
@click.option(
    "--code", metavar="HOST:PORT|SOCKET", help="Address of the code server. Default: the one of the last `rsu up`."
)
@click.option("--free-gb", default=FREE_GB, show_default=True, help="Disk space that must be free, in gigabytes.")
@click.option(
    "--alert", is_flag=True, help="Also notify of problems that the sensor alerts cannot report. See docs/alerts.md."
)
@click.option("--every", default=0.0, metavar="SECONDS", help="With --alert: evaluate every SECONDS until interrupted.")
@click.option("--wait", "wait_seconds", default=0.0, metavar="SECONDS", help="Repeat failed checks for up to SECONDS.")
def health(
    as_json: bool,
    only: tuple[str, ...],
    web: str | None,
    code: str | None,
    free_gb: float,
    alert: bool,
    every: float,
    wait_seconds: float,
) -> None:
    """Check whether everything works: exit code 0 if so, 1 if not, 2 for usage or configuration errors.

    \b
    database   PostgreSQL answers, and its schema is this program's
    daemon     Dagster's daemon sends heartbeats
    automation sensors, schedules and the queue are on, tick and do not fail
    watch      races in their window are polled
    syncs      runs, credentials, first syncs, past editions and alerts make progress
    writes     no other program writes to races, events and registrations
    clock      the clocks of hub, database and RunSignup agree
    delivery   webhooks are delivered and accepted, files of start lists written,
               and notifications taken
    code       the code server answers
    web        the Dagster UI answers
    location   the Dagster UI could load the project from the code server
    disk       there is room where RSU_HOME and the embedded database are
    backup     where RSU_BACKUP_DIR is set, its newest backup is of the last night

    Each reason is one sentence. It takes at most 5 s and starts nothing. With --alert it takes up to 40 s longer when
    something fails.
    """
    settings = installation.current().settings
    _refuse_unreadable(settings)
    chosen = [check for check in CHECKS if check in only] or list(CHECKS)
    if alert:
        from rsu_pipeline.cli import watchdog

        checks = [check for check in chosen if check in watchdog.CHECKS]
        target = watchdog.Target(settings, checks, web, code or _address_of_up(settings.home), free_gb)
        watchdog.run(target, lambda line: click.echo(f"Warning: {line}.", err=True), every)
    deadline = time.monotonic() + wait_seconds
    while True:
        began = time.monotonic()
        address = code or _address_of_up(settings.home)  # each time: `rsu up` may just be writing it
        reasons = find_failing_checks(settings, chosen, web, address, free_gb)
        if not reasons or time.monotonic() >= deadline:
            break
        time.sleep(1)
    if as_json:
        _show_json(settings, chosen, reasons, time.monotonic() - began)
    elif reasons:
        for _, sentence in reasons:
            show_line(sentence)
    else:
        show_line(f"Healthy: {', '.join(chosen)}.{backup_age.describe(settings.backup) if 'backup' in chosen else ''}")
    sys.stdout.flush()
    if reasons:
        sys.exit(1)


def _show_json(settings: Settings, chosen: list[str], reasons: list[Reason], seconds: float) -> None:
    hours = backup_age.measure_hours(settings.backup)
    result = {
        "healthy": not reasons,
        "checks": chosen,
        "reasons": [{"check": check, "sentence": sentence} for check, sentence in reasons],
        "seconds": round(seconds, 2),
        "backup_hours": None if hours is None else round(hours, 1),
    }
    show_json("health", result)


def find_failing_checks(
    settings: Settings, chosen: Collection[str], web: str | None, code: str | None, free_gb: float
) -> list[Reason]:
    """Return every failed check with its reason, in the order of the checks. The groups are checked in parallel."""
    asked = set(chosen)
    since: dict[str, dt.datetime] = {}
    groups: dict[str, Callable[[], Iterable[Reason]]] = {
        "database": lambda: _database(settings, asked & AT_DATABASE, since),
        "code": lambda: _code(code),
        "web": lambda: _web(web or settings.ui_url, _own_page(web), asked & AT_WEB),
        "disk": lambda: _disk(settings.home, free_gb),
        "backup": lambda: backup_age.find_problem(settings.backup),
    }
    members = {"database": AT_DATABASE, "web": AT_WEB}
    found: dict[str, list[Reason] | Exception] = {}

    def ask(name: str) -> None:
        try:
            found[name] = list(groups[name]())
        except Exception as error:
            found[name] = error  # raised below, in the main thread

    # Threads that hang do not delay the end of the process.
    wanted = [name for name in groups if members.get(name, {name}) & asked]
    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in wanted]
    deadline = time.monotonic() + ANSWER_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    reasons: list[Reason] = []
    for name in wanted:
        answer = found.get(name, [(name, f"The check {name} got no answer within {ANSWER_SECONDS:g} s.")])
        if isinstance(answer, Exception):
            raise answer
        reasons += answer
    reasons = [
        (check, _with_since(sentence, None if check in AT_DATABASE else since.get(check), settings.timezone))
        for check, sentence in reasons
    ]
    return sorted(reasons, key=lambda reason: CHECKS.index(reason[0]))


def _database(settings: Settings, asked: set[str], services_since: dict[str, dt.datetime]) -> Iterator[Reason]:
    """Yield what fails at the database, the daemon and the watch. If the database fails, that is the only reason.

    The time since when services are alerted, by check, is added to `services_since`.
    """
    try:
        url = database_url(settings)
        with database.session(url, purpose="health") as conn:
            with conn.cursor() as cur:
                cur.execute(f"SET statement_timeout = {int(CALL_SECONDS * 1000)}")
            schema_version.require_current(conn, url)
            now = dt.datetime.now(dt.UTC)
            if "daemon" in asked:
                dead = automation_rules.describe_daemon_failure(liveness.seconds_since_heartbeat(conn, now), now)
                yield from (("daemon", sentence) for sentence in dead.values())
            if asked - {"database", "daemon"}:
                since = {alert.cause: alert.first_seen_at for alert in alert_store.read_open_alerts(conn)}
                services_since |= {key: at for (kind, key), at in since.items() if kind == rules.SERVICE_KIND}
                for problem in rules.find_standstills(conn, settings, now):
                    check = rules.HEALTH_CHECKS[problem.kind]
                    if check in asked - {"daemon"}:
                        yield check, _with_since(problem.sentence, since.get(problem.cause), settings.timezone)
    except (database.DatabaseError, embedded.EmbeddedError) as error:
        yield "database", str(error)
    except psycopg2.Error as error:
        yield "database", f"The database answers with an error: {str(error).splitlines()[0]}."
    except OSError as error:
        yield "database", f"The embedded PostgreSQL in {settings.home / 'postgres'} cannot be examined: {error}."


def _with_since(sentence: str, since: dt.datetime | None, zone: dt.tzinfo) -> str:
    """Return a sentence with the time since when its alert is open, unless it already has one. Times are in the zone."""
    sentence = show_times_in(zone, sentence)
    if since is None or "since" in sentence.lower():
        return sentence
    return f"{sentence} (Since {format_time(since, zone)}.)"


def database_url(settings: Settings) -> str:
    """Return the address of the database.

    Raises:
        EmbeddedError: the database is the embedded one and does not run.
    """
    return settings.database_url or _embedded_url(settings.home / "postgres")


def _embedded_url(folder: Path) -> str:
    """Return the address of the embedded PostgreSQL, which is not started for a check.

    Raises:
        EmbeddedError: it does not run.
    """
    refusal = embedded.EmbeddedError(f"The embedded PostgreSQL in {folder} does not run. Start it with `rsu up`.")
    if not folder.is_dir():
        raise refusal
    held = try_lock(data_lock(Cluster(folder, None).data))
    if held is not None:
        os.close(held)
        raise refusal
    return embedded.ensure_running(folder)


def _code(address: str | None) -> Iterator[Reason]:
    if address is None:
        yield "code", "No code server is known. `rsu up` has not run with this RSU_HOME, and --code is not given."
        return
    import grpc  # type: ignore[import-untyped]
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

    serving = health_pb2.HealthCheckResponse.SERVING
    target = f"unix:{address}" if address.startswith("/") else address
    # The answer must be that server's, not that of a proxy that the environment names.
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            question = health_pb2.HealthCheckRequest(service="DagsterApi")
            answer = health_pb2_grpc.HealthStub(channel).Check(question, timeout=CALL_SECONDS)
        except grpc.RpcError:
            yield (
                "code",
                f"The code server does not answer at {address}: nothing can be launched. Check its log, and start it again.",
            )
            return
    if answer.status != serving:
        yield "code", f"The code server at {address} reports that it is not serving."


def _own_page(web: str | None) -> dict[str, str]:
    """Return the headers by which the web UI recognises a request of its own page (docs/security.md)."""
    if web is None:
        return {"Host": "localhost"}
    parts = urlsplit(web)
    return {"Origin": f"{parts.scheme}://{parts.netloc}"}


def _web(url: str, headers: Mapping[str, str], asked: Collection[str]) -> Iterator[Reason]:
    check = min(asked, key=CHECKS.index)
    try:
        if "web" in asked:
            local_http.fetch(f"{url}/server_info", headers, timeout=CALL_SECONDS)
        if "location" in asked:
            check = "location"
            query = json.dumps({"query": LOCATIONS}).encode()
            as_json = {**headers, "Content-Type": "application/json"}
            answer = json.loads(local_http.fetch(f"{url}/graphql", as_json, query, timeout=CALL_SECONDS))
            yield from (("location", sentence) for sentence in describe_location_failure(answer))
    except HTTPError as error:
        yield check, f"The Dagster UI at {url} answers with an error: HTTP {error.code}."
    except (OSError, HTTPException, ValueError):
        yield check, f"The Dagster UI does not answer at {url}. Check its log, and start it again."


def describe_location_failure(answer: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the code locations, from the web UI's answer to LOCATIONS."""
    workspace = (answer.get("data") or {}).get("workspaceOrError") or {}
    entries = workspace.get("locationEntries")
    if not entries:
        return ["The Dagster UI has no code location. Check that its workspace file names one."]
    broken = [
        entry["name"]
        for entry in entries
        if entry["loadStatus"] == "LOADED"
        and (entry["locationOrLoadError"] or {}).get("__typename") != "RepositoryLocation"
    ]
    return [
        f"The code location {name} cannot be loaded. The Dagster UI shows the error under Deployment."
        for name in broken
    ]


def _disk(home: Path, free_gb: float) -> Iterator[Reason]:
    """Yield the disks without room where the installation writes: its home, and the data of the embedded PostgreSQL."""
    places = [home]
    if (home / "postgres").is_dir():
        places.append(Cluster(home / "postgres", None).data)
    low: dict[int, Reason] = {}
    for place in places:
        there = next(path for path in (place, *place.parents) if path.exists())
        free = shutil.disk_usage(there).free / 1e9
        if free < free_gb:
            low[there.stat().st_dev] = (
                "disk",
                f"Only {free:.2f} GB are free at {place}, less than {free_gb:g} GB. Free some space.",
            )
    yield from low.values()


def _address_of_up(home: Path) -> str | None:
    """Return the code server's socket as `rsu up` recorded it for web UI and daemon."""
    path = home / "workspace.yaml"
    if not path.is_file():
        return None
    try:
        (location,) = json.loads(path.read_text())["load_from"]
        return str(location["grpc_server"]["socket"])
    except (ValueError, KeyError, TypeError, OSError):
        raise SettingsError(
            f"{path} is not a file that `rsu up` wrote. Give the address of the code server with --code."
        ) from None


def _refuse_unreadable(settings: Settings) -> None:
    """Refuse an address that can never work, which is a configuration error and no failed check.

    Raises:
        SettingsError: RSU_DATABASE_URL cannot be parsed.
    """
    if settings.database_url is None:
        return
    try:
        addresses.parse(settings.database_url)
    except database.DatabaseError as error:
        raise SettingsError(str(error)) from None
