"""Evaluate each race on race day: its problems, and their urgency.

Everything but `read_board` is a pure function of rows, settings and time.
"""

import datetime as dt
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from psycopg2.extensions import connection as Connection

from rsu_pipeline.runsignup.api_errors import Cause
from rsu_pipeline.settings import Settings
from rsu_pipeline.sync import cadence, failing_watch
from rsu_pipeline.sync.watch_pace import CALL_SECONDS, WatchedRace, calls_per_poll, poll_interval
from rsu_pipeline.warehouse import call_ledger
from rsu_pipeline.warehouse.failed_polls import FailedPoll
from rsu_pipeline.warehouse.near_races import NearRace, read_near_races

MISSED_POLLS = 2
"""Intervals without a read after which a race in its window is late."""
LATE_GRACE = dt.timedelta(seconds=20)
"""Added to them, because a poll takes its time too."""
WATCH_STARTS_WITHIN = dt.timedelta(seconds=60)
"""How long a watch may take to begin once a race has entered its window.

The sensor ticks every 30 s, and a run takes 5 s to start, on a busy machine 20 s.
"""


class Urgency(enum.IntEnum):
    """The urgency of a race's worst problem."""

    BLOCKED = 0
    """Bibs do not arrive."""
    UNTIDY = 1
    """Bibs arrive, but something about them is wrong."""
    WELL = 2
    """There is no problem."""


@dataclass(frozen=True)
class Problem:
    """A problem of a race: in a few characters for a table, and in a sentence with the next step."""

    short: str
    sentence: str
    urgency: Urgency


@dataclass(frozen=True)
class BoardRow:
    """A race on the board. `start` is that of its next event, or of its last one once all have started."""

    race: NearRace
    is_in_window: bool
    start: dt.datetime
    problems: tuple[Problem, ...]

    @property
    def urgency(self) -> Urgency:
        """The urgency of the worst problem."""
        return min((problem.urgency for problem in self.problems), default=Urgency.WELL)

    @property
    def state(self) -> str:
        """The worst problem in a few characters, "ok" if there is none."""
        if not self.problems:
            return "ok"
        more = len(self.problems) - 1
        return self.problems[0].short + (f" +{more}" if more else "")

    def as_object(self, now: dt.datetime) -> dict[str, object]:
        """Return the row for programs, without names of people. Times are instants, durations are seconds."""
        race = self.race
        return {
            "partner": race.key,
            "race_id": race.race_id,
            "race": race.name,
            "start": self.start,
            "zone": race.zone,
            "minutes_to_start": round((self.start - now).total_seconds() / 60),
            "is_in_window": self.is_in_window,
            "seconds_since_read": None if race.read_at is None else round((now - race.read_at).total_seconds(), 1),
            "entrants": race.entrants,
            "with_bib": race.with_bib,
            "without_bib": race.without_bib,
            "duplicate_bibs": race.duplicate_bibs,
            "last_bib": race.last_bib,
            "last_bib_kind": race.last_bib_kind,
            "last_bib_modified_at": race.last_bib_modified_at,
            "last_bib_recorded_at": race.last_bib_recorded_at,
            "urgency": self.urgency.name.lower(),
            "problems": [problem.sentence for problem in self.problems],
        }


def read_board(conn: Connection, now: dt.datetime, settings: Settings) -> list[BoardRow]:
    """Return the board of the whole installation at `now`, worst race first."""
    races = read_near_races(conn, now)
    watched = select_watched(races, now, settings)
    allowed = longest_silence(watched, settings, call_ledger.measure_usual_call_seconds(conn))
    silences = {race.number: allowed[race.call_budget_id] for race in watched}
    late = {race.number: race.call_budget_id for race in races if _is_late(race, now, silences.get(race.number))}
    failing = failing_watch.read_failing_polls(conn, late, allowed, now, settings)
    return build_board(races, now, silences, failing)


def build_board(
    races: Sequence[NearRace],
    now: dt.datetime,
    silences: Mapping[tuple[int, int], dt.timedelta],
    failing: Mapping[tuple[int, int], FailedPoll] | None = None,
) -> list[BoardRow]:
    """Return the near races, worst first, then by the nearest start.

    Args:
        races: the near races.
        now: the present.
        silences: how long each race in its window may go without a read, by partner and race.
        failing: the last poll of each race that the watch goes on polling and cannot read, by partner and race.
    """
    rows = []
    for race in races:
        starts = sorted(start for start, _ in race.times if start is not None)
        following = next((start for start in starts if start >= now), starts[-1])
        problems = _problems(race, now, silences.get(race.number), (failing or {}).get(race.number))
        rows.append(BoardRow(race, race.number in silences, following, problems))
    return sorted(rows, key=lambda row: (row.urgency, row.start, row.race.key, row.race.race_id))


def select_watched(races: Sequence[NearRace], now: dt.datetime, settings: Settings) -> list[WatchedRace]:
    """Return the races in their window. All of the installation count, because they share the calls that a poll waits for."""
    # As if every race were large: the most that polls take.
    calls = calls_per_poll(
        is_small=False,
        removed_every=settings.watch.removed_every,
        refreshes_per_poll=settings.watch.refreshes_per_poll,
    )
    return [
        WatchedRace(race.partner_id, race.key, race.call_budget_id, race.race_id, is_small=False, calls_per_poll=calls)
        for race in races
        if cadence.race_tier(race.times, now) == "window"
    ]


def longest_silence(
    polled: Sequence[WatchedRace], settings: Settings, call_seconds: float | None = None
) -> dict[int, dt.timedelta]:
    """Return how long races in their window may go without a read, by the budget of their calls.

    It is two intervals of the watch and a moment. A poll that finds changes takes one call more.
    """
    polled = [replace(race, calls_per_poll=race.calls_per_poll + 1) for race in polled]
    return {
        call_budget_id: LATE_GRACE
        + MISSED_POLLS
        * dt.timedelta(
            seconds=poll_interval(
                polled,
                call_budget_id,
                target=settings.watch.interval,
                calls_per_hour=settings.budget.calls_per_hour,
                in_flight=settings.budget.max_in_flight,
                call_seconds=call_seconds or CALL_SECONDS,
            )
        )
        for call_budget_id in {race.call_budget_id for race in polled}
    }


def unread_since(
    times: Sequence[tuple[dt.datetime | None, dt.datetime | None]], read_at: dt.datetime | None, now: dt.datetime
) -> dt.datetime:
    """Return since when a race in its window has gone without a read: its last one, or when the watch should have begun.

    A read that is dated in the future does not count.
    """
    opened = min(
        start - cadence.WINDOW_BEFORE + WATCH_STARTS_WITHIN
        for starts_at, ends_at in times
        if cadence.tier(starts_at, ends_at, now) == "window" and (start := starts_at or ends_at)
    )
    return opened if read_at is None or cadence.is_ahead(read_at, now) else max(read_at, opened)


def _problems(
    race: NearRace, now: dt.datetime, allowed: dt.timedelta | None, failing: FailedPoll | None
) -> tuple[Problem, ...]:
    """Return the problems of a race, worst first. `allowed` is None outside its window."""
    found = [*_blocking(race, now, allowed, failing), *_untidy(race)]
    return tuple(sorted(found, key=lambda problem: problem.urgency))


def _is_late(race: NearRace, now: dt.datetime, allowed: dt.timedelta | None) -> bool:
    return allowed is not None and now - unread_since(race.times, race.read_at, now) > allowed


def _blocking(
    race: NearRace, now: dt.datetime, allowed: dt.timedelta | None, failing: FailedPoll | None
) -> list[Problem]:
    if race.is_rejected:
        return [
            _blocked(
                "key rejected",
                "RunSignup rejects the partner's credential: enter the right one with `rsu partners add`",
            )
        ]
    if race.is_denied:
        return [
            _blocked(
                "no access",
                "RunSignup denies access to this race: the race director must give the partner access again",
            )
        ]
    found = []
    is_late = _is_late(race, now, allowed)
    if is_late and failing is not None:
        since = unread_since(race.times, race.read_at, now)
        short = "no calls left" if failing.cause == Cause.BUDGET.value else "read fails"
        found.append(_blocked(short, failing_watch.describe_failing_poll(failing, since)))
    elif race.failed_at is not None:
        found.append(_blocked("read fails", race.failure or "the last read failed: `rsu status` shows the error"))
    if race.refused_events:
        found.append(_blocked("event refused", f"RunSignup refuses {race.refused_events} of its events"))
    if race.read_at is None and failing is None:
        found.append(_blocked("never read", "not read completely yet: `rsu sync` reads it"))
    elif race.read_at is not None and cadence.is_ahead(race.read_at, now):
        found.append(_blocked("clock off", "its last read is in the future: correct the clock of this machine"))
    elif race.read_at is not None and is_late and allowed is not None and failing is None:
        late = (
            f"not read for {(now - race.read_at).total_seconds():.0f} s, expected every {allowed.total_seconds():.0f} s"
        )
        found.append(_blocked("not polled", f"{late}: `rsu health` names what has stopped"))
    return found


def _untidy(race: NearRace) -> list[Problem]:
    counts = (
        (race.held_back, "quarantined", "rows could not be stored: `rsu db psql` on quarantined_rows shows them"),
        (race.duplicate_bibs, "dup", "entrants share a bib: `rsu start-list EVENT --problems` names them"),
        (race.events_without_list, "no list", "events have no start list yet: the next sync builds it"),
    )
    return [
        Problem(f"{number:,} {short}", f"{number:,} {sentence}", Urgency.UNTIDY)
        for number, short, sentence in counts
        if number
    ]


def _blocked(short: str, sentence: str) -> Problem:
    return Problem(short, sentence, Urgency.BLOCKED)
