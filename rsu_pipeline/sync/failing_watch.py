"""Distinguish a race whose polls fail from one that nothing polls.

A race in its window that is not read has one of three causes: the watch polls it and fails, the watch has no call left, or the
watch has stopped. What is recorded decides: a race is polled while failed polls of it keep being recorded, and the watch has no
call left while the call ledger has none for any lane.
"""

import datetime as dt
from collections import Counter
from collections.abc import Collection, Mapping

from psycopg2.extensions import connection as Connection

from rsu_pipeline.display import format_utc
from rsu_pipeline.runsignup.api_errors import REMEDIES, Cause, Remedy
from rsu_pipeline.settings import Settings
from rsu_pipeline.sync.silent_races import REST
from rsu_pipeline.warehouse import call_ledger
from rsu_pipeline.warehouse.failed_polls import FailedPoll, read_failed_polls

_UNANSWERED = frozenset({Cause.CONNECTION.value, Cause.TIMEOUT.value})
UNANSWERED_CAUSES = frozenset(cause.value for cause, remedy in REMEDIES.items() if remedy is Remedy.RETRY)
"""Causes that are at RunSignup, or on the way to it: it does not answer, or answers with errors of its own."""


def read_failing_polls(
    conn: Connection,
    late: Mapping[tuple[int, int], int],
    allowed: Mapping[int, dt.timedelta],
    now: dt.datetime,
    settings: Settings,
) -> dict[tuple[int, int], FailedPoll]:
    """Return the failed polls of those of the late races that the watch goes on polling, by partner and race.

    A race that the watch cannot poll, because no call is left, counts as one whose poll has just failed.

    Args:
        conn: the hub's database.
        late: the call budget of each late race, by partner and race.
        allowed: how long a race may go without a read, by call budget.
        now: the present.
        settings: for the pace of the watch, and the calls of an hour.
    """
    if not late:
        return {}
    failing = select_going_on(read_failed_polls(conn, late), allowed, now, settings)
    waiting = {number: budget for number, budget in late.items() if number not in failing}
    within = {budget: allowed[budget] for budget in set(waiting.values())}
    used_up = call_ledger.find_used_up(conn, within, settings.budget.calls_per_hour) if within else set()
    for (partner_id, race_id), budget in waiting.items():
        if budget in used_up:
            failing[partner_id, race_id] = FailedPoll(partner_id, race_id, budget, Cause.BUDGET.value, now)
    return failing


def select_going_on(
    found: Collection[FailedPoll], allowed: Mapping[int, dt.timedelta], now: dt.datetime, settings: Settings
) -> dict[tuple[int, int], FailedPoll]:
    """Return the failed polls that the watch repeats: each recent enough, and the newest of its shard too.

    A poll that times out takes `race_day_timeout`, and a rest follows. Races that do not answer are polled one after another.
    """
    turn = dt.timedelta(seconds=settings.api.race_day_timeout * (1 + REST))
    shards = settings.watch.shards
    failing = Counter(poll.call_budget_id % shards for poll in found)
    newest: dict[int, dt.datetime] = {}
    for poll in found:
        shard = poll.call_budget_id % shards
        newest[shard] = max(poll.failed_at, newest.get(shard, poll.failed_at))
    going_on = {}
    for poll in found:
        shard = poll.call_budget_id % shards
        silence = allowed[poll.call_budget_id]
        if now - newest[shard] <= silence + turn and now - poll.failed_at <= silence + failing[shard] * turn:
            going_on[poll.partner_id, poll.race_id] = poll
    return going_on


def is_at_runsignup(poll: FailedPoll) -> bool:
    """Return whether polls fail because RunSignup does not answer, or answers with errors of its own."""
    return poll.cause in UNANSWERED_CAUSES


def describe_failing_poll(poll: FailedPoll, since: dt.datetime) -> str:
    """Return what fails since when, and what to do."""
    at = f"{format_utc(since)} ({poll.cause})"
    if poll.cause == Cause.BUDGET.value:
        return (
            f"race {poll.race_id} has not been polled since {at}, because its API key has no call left in this hour. The watch"
            " polls it as calls become free. Start nothing else with this key: cancel its backfills and syncs"
        )
    if not is_at_runsignup(poll):
        return f"polls of race {poll.race_id} have failed since {at}. The watch goes on polling. `rsu log --failed` shows the error"
    failing = (
        f"RunSignup has not answered race {poll.race_id} since {at}"
        if poll.cause in _UNANSWERED
        else f"RunSignup has answered race {poll.race_id} with errors since {at}"
    )
    where = "RunSignup's status and the network" if poll.cause == Cause.CONNECTION.value else "RunSignup's status"
    return f"{failing}. The watch goes on polling. There is nothing to do here: check {where}"
