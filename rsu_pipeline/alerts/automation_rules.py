"""Detect sensors, schedules, daemon threads and queues that have stopped, and name the time and the next step."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence

from psycopg2.extensions import connection as Connection

from rsu_pipeline.alerts.alert_store import Problem
from rsu_pipeline.display import counted, format_utc
from rsu_pipeline.warehouse import automation, liveness
from rsu_pipeline.warehouse.automation import Automation, Waiting

KIND = "automation_stopped"
DAEMON_KIND = "daemon_dead"
THREADS = frozenset({"SENSOR", "SCHEDULER", "QUEUED_RUN_COORDINATOR", "MONITORING", "EVENT_LOG_CONSUMER"})
"""Daemon threads, by Dagster's names, that the pipeline depends on."""
DEAD_AFTER = 80.0
"""Seconds after the newest heartbeat of any thread. Each thread sends one every 30 s."""
STUCK_AFTER = 600.0
"""The same for one thread while others are alive. It may be busy with a long task."""
CLOCK_TOLERANCE = dt.timedelta(seconds=30)
"""How far in the future a tick may be dated, because the clocks of two machines differ a little."""
PAUSE = dt.timedelta(seconds=80)
"""Without any tick for this long the daemon has stopped. Some sensor is due every 30 s."""
STARTING_FOR = dt.timedelta(minutes=15)
"""How long each sensor and schedule has for its first tick after the daemon resumed."""
FAILING_FOR = dt.timedelta(seconds=30)
"""How long ticks may fail before an alert. A failed tick is repeated at the next interval."""


def _minutes(number: float) -> dt.timedelta:
    return dt.timedelta(minutes=number)


LONGEST_SILENCE = {
    "race_day": _minutes(1.5),
    "bib_changes": _minutes(1.5),
    "race_day_board_refresh": _minutes(2),
    "new_credentials": _minutes(2),
    "history": _minutes(2),
    "alerts": _minutes(1.5),
    "alerts_stand_in": _minutes(2),
    "registration_reports": _minutes(5),
    "fleet_health_refresh": _minutes(2),
    "race_proximity": _minutes(7),
    "fleet_check": _minutes(32),
    "nightly": _minutes(25 * 60 + 2),
    "nightly_retention": _minutes(25 * 60 + 2),
    "nightly_backup": _minutes(25 * 60 + 2),
}
"""How long each sensor and schedule may go without a completed tick.

A sensor gets two of its intervals, a schedule two minutes after a tick that was due. A night lasts 25 h when the clocks go back.
"""
WITHOUT_IT = {
    "race_day": "races in their window are not watched",
    "bib_changes": "start lists do not follow new bibs",
    "race_day_board_refresh": "the race-day board in the Dagster UI is out of date",
    "new_credentials": "new partners are not synced",
    "history": "past editions are not backfilled",
    "alerts": "no notifications are sent",
    "alerts_stand_in": "nothing replaces the sensor alerts if it stops",
    "registration_reports": "the registration reports are out of date",
    "fleet_health_refresh": "fleet_health is evaluated every 30 minutes only",
    "race_proximity": "races are read by the nightly sync only",
    "fleet_check": "the fleet checks are out of date",
    "nightly": "no race is read in full at night",
    "nightly_retention": "old runs and contact data are not deleted",
    "nightly_backup": "no backups are written",
}
"""What does not happen while each of them has stopped."""


def find_stopped_automation(conn: Connection, now: dt.datetime) -> Iterator[Problem]:
    """Yield a problem for each part of Dagster's automation that has stopped.

    Nothing is yielded where Dagster never started on this database: the daemon check reports that. If the daemon is
    down, only that is yielded, because nothing below it can work. `now` is by the hub's clock, as Dagster's stamps are.
    """
    if not automation.has_dagster(conn):
        return
    silence = liveness.seconds_since_heartbeat(conn, now)
    if silence and (dead := describe_daemon_failure(silence, now)):
        yield from (Problem(DAEMON_KIND, key, None, sentence) for key, sentence in dead.items())
        if "daemon" in dead:
            return
    found = automation.read_automations(conn, list(LONGEST_SILENCE))
    yield from judge_automations(found, automation.read_recent_ticks(conn, STARTING_FOR + PAUSE, now), now)
    yield from (_queue(waiting) for waiting in automation.find_runs_waiting_for_nothing(conn, now))


def describe_daemon_failure(silence: Mapping[str, float], now: dt.datetime) -> dict[str, str]:
    """Return what is wrong with the daemon, by part: `daemon` for the whole, else the name of a thread.

    Args:
        silence: seconds since the last heartbeat of each thread. A heartbeat dated in the future does not count.
        now: the present, by the clock of the heartbeats.
    """
    if not silence:
        return {
            "daemon": "The daemon has never run on this database: sensors, schedules and queued runs are not processed."
        }
    known = {name: seconds for name, seconds in silence.items() if seconds >= -CLOCK_TOLERANCE.total_seconds()}
    if not known:
        return {
            "daemon": f"The Dagster daemon's last heartbeat is dated {-min(silence.values()):.0f} s in the future: correct the"
            " clock of its machine, and restart the daemon if this lasts for more than two minutes."
        }
    newest = min(known.values())
    if newest > DEAD_AFTER:
        return {
            "daemon": f"The Dagster daemon's last heartbeat was {newest:.0f} s ago. It has been silent since"
            f" {format_utc(now - dt.timedelta(seconds=newest))}. Sensors, schedules and queued runs are not processed. Start the"
            " daemon."
        }
    stuck = sorted(name for name in THREADS if known.get(name, newest) > STUCK_AFTER)
    return {
        name: f"The daemon's thread {name} has sent no heartbeat for {known[name]:.0f} s: restart the daemon."
        for name in stuck
    }


def judge_automations(
    found: Mapping[str, Automation], ticks: Sequence[dt.datetime], now: dt.datetime
) -> Iterator[Problem]:
    """Yield a problem for each sensor and schedule that is off, does not tick, or whose ticks fail.

    Args:
        found: the state of each sensor and schedule, by name.
        ticks: the times of all their ticks since STARTING_FOR and PAUSE before `now`, in order.
        now: the present.
    """
    newest = max((item.ticked_at for item in found.values() if item.ticked_at), default=None)
    last = max((tick for tick in (newest, *ticks[-1:]) if tick and tick <= now + CLOCK_TOLERANCE), default=None)
    has_stopped = newest is not None and (last is None or now - last > PAUSE)
    if has_stopped and any(item.is_on for item in found.values()):
        ticked = format_utc(last) if last else "a moment in the future"
        stopped = f"No sensor or schedule has ticked since {ticked}: restart the daemon. Until then nothing is synced."
        yield Problem(KIND, "daemon", None, stopped)
        return
    resumed = resumed_at(ticks, now)
    oldest = min((item.known_since for item in found.values()), default=now)
    for name, silence in LONGEST_SILENCE.items():
        item = found.get(name)
        if item is None:
            since = max(oldest, resumed or oldest)
            sentence = _never(now - since, silence)
        else:
            sentence = _describe_failure(item, silence, resumed, now)
        if sentence:
            yield Problem(KIND, name, None, f"{name} {sentence}. Until then {WITHOUT_IT[name]}.")


def resumed_at(ticks: Sequence[dt.datetime], now: dt.datetime) -> dt.datetime | None:
    """Return when ticks began again after the last standstill within STARTING_FOR, None when there was none."""
    before, found = now - STARTING_FOR - PAUSE, None
    for tick in ticks:
        if tick - before > PAUSE:
            found = tick
        before = tick
    return found


def _never(running_for: dt.timedelta, silence: dt.timedelta) -> str | None:
    if running_for <= silence:
        return None
    return "has never ticked: restart the daemon, and check its log if that does not help"


def _describe_failure(
    item: Automation, silence: dt.timedelta, resumed: dt.datetime | None, now: dt.datetime
) -> str | None:
    if not item.is_on:
        return f"is switched off since {format_utc(item.changed_at)}: switch it on in the Dagster UI under Automation"
    if item.failing_since is not None and now - item.failing_since > FAILING_FOR:
        return f"has failed at every tick since {format_utc(item.failing_since)}: the Dagster UI shows the error under Automation"
    ticked_at = item.ticked_at or item.known_since
    if ticked_at > now + CLOCK_TOLERANCE:
        return (
            f"has ticked at {format_utc(ticked_at)}, in the future: correct the clock of the daemon's machine, then restart"
            " the daemon"
        )
    if now - max(ticked_at, resumed or ticked_at) > silence:
        return f"has not ticked since {format_utc(ticked_at)}: restart the daemon"
    return None


def _queue(waiting: Waiting) -> Problem:
    return Problem(
        KIND,
        f"queue:{waiting.lane}",
        None,
        f"The queue has stopped: {counted(waiting.runs, 'run')} of lane {waiting.lane} waiting since {format_utc(waiting.since)},"
        f" though no"
        " run is ahead of them. Restart the daemon, and check its log if that does not help.",
    )
