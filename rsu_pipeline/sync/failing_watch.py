"""Distinguish a race whose polls fail from one that nothing polls.

A race in its window that is not read has one of two causes: the watch polls it and fails, or the watch has stopped. Recorded polls
decide: a race is polled while failed polls of it keep being recorded.
"""

import datetime as dt
from collections import Counter
from collections.abc import Collection, Mapping

from psycopg2.extensions import connection as Connection

from rsu_pipeline.runsignup.api_errors import REMEDIES, Cause, Remedy
from rsu_pipeline.settings import Settings
from rsu_pipeline.sync.silent_races import REST
from rsu_pipeline.warehouse.failed_polls import FailedPoll, read_failed_polls

_UNANSWERED = frozenset({Cause.CONNECTION.value, Cause.TIMEOUT.value})
_AT_RUNSIGNUP = frozenset(cause.value for cause, remedy in REMEDIES.items() if remedy is Remedy.RETRY)


def read_failing_polls(
    conn: Connection,
    late: Collection[tuple[int, int]],
    allowed: Mapping[int, dt.timedelta],
    now: dt.datetime,
    settings: Settings,
) -> dict[tuple[int, int], FailedPoll]:
    """Return the failed polls of those of the late races that the watch goes on polling, by partner and race.

    `allowed` is how long a race may go without a read, by call budget.
    """
    found = read_failed_polls(conn, late) if late else []
    return select_going_on(found, allowed, now, settings)


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


def describe_failing_poll(poll: FailedPoll, since: dt.datetime) -> str:
    """Return what fails since when, and what to do."""
    at = f"{since.astimezone(dt.UTC):%H:%M} UTC ({poll.cause})"
    if poll.cause not in _AT_RUNSIGNUP:
        return f"polls of race {poll.race_id} have failed since {at}. The watch goes on polling. `rsu log --failed` shows the error"
    failing = (
        f"RunSignup has not answered race {poll.race_id} since {at}"
        if poll.cause in _UNANSWERED
        else f"RunSignup has answered race {poll.race_id} with errors since {at}"
    )
    where = "RunSignup's status and the network" if poll.cause == Cause.CONNECTION.value else "RunSignup's status"
    return f"{failing}. The watch goes on polling. There is nothing to do here: check {where}"
