"""Decide which clock is believed. The hub's, the database's and RunSignup's are compared wherever a sync needs the present.

RunSignup's clock, the `Date` of its responses, decides between the other two: the one that agrees with it is believed. Hub
and database alone decide nothing if RunSignup's clock contradicts both, because they are often clocks of one machine. While
it is open which clock is right, several moments may be the present: a checkpoint takes the earliest, and what is due at any
of them is due.

Everything here but `Clock` is pure. `Clock` reads the three clocks and is shared within a process.
"""

import datetime as dt
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse import hub_clocks
from rsu_pipeline.warehouse.hub_clocks import HubClock

MAX_BELIEVED_DISTANCE = 31 * 86400.0
"""Seconds. A `Date` further than this from both other clocks is not RunSignup's.

No TLS certificate is valid for a clock that is wrong by this much.
"""
HEARD_FOR_SECONDS = 900.0
"""How long the `Date` of a response, plus the time since, counts as RunSignup's present."""
STORED_FOR = dt.timedelta(days=1)
"""How long a comparison that another process stored is used."""
REPORTED_FOR = dt.timedelta(hours=6)
"""How long a comparison of another machine is reported. A working machine compares at each sync."""
DATABASE = "database"
_BOTH = "Until they agree, races are read by whichever clock has them due earlier."
_SET_RIGHT = "Set the clock right, best by NTP."


@dataclass(frozen=True)
class Readings:
    """The three clocks at one moment, in Unix seconds. `runsignup` is None if no usable `Date` is known."""

    hub: float
    database: float
    runsignup: float | None = None


class PageMoment(NamedTuple):
    """When a page was read, in Unix seconds. `is_confirmed` means that two clocks show it, one of them RunSignup's."""

    at: int
    is_confirmed: bool


@dataclass(frozen=True)
class Present:
    """The present: `now`, and in `also` the later moments that it may be as well while clocks disagree."""

    now: dt.datetime
    also: tuple[dt.datetime, ...] = ()


def confirmed(readings: Readings, max_skew: float) -> list[float]:
    """Return the hub's and the database's clock as far as they agree with RunSignup's."""
    if readings.runsignup is None:
        return []
    return [own for own in (readings.hub, readings.database) if abs(own - readings.runsignup) <= max_skew]


def moments(readings: Readings, max_skew: float) -> list[float]:
    """Return what the present may be, earliest first: one moment, or several while it is open which clock is right."""
    if agreeing := confirmed(readings, max_skew):
        return [agreeing[0]]
    found = [readings.hub]
    if abs(readings.database - readings.hub) > max_skew:
        found.append(readings.database)
    if (theirs := _believable(readings)) is not None:
        found.append(theirs)
    return sorted(found)


def page_moment(readings: Readings, date: int | None, seconds: float, max_skew: float) -> PageMoment:
    """Return when a page was read, the earliest that the clocks allow: what is skipped would be lost.

    Args:
        readings: the clocks when the page arrived.
        date: the page's `Date`, None if it is absent or not credible.
        seconds: how long the call took. The page may show the state at its beginning, which its `Date` shows.
        max_skew: seconds by which clocks may differ and still agree.
    """
    if date is not None and (agreeing := confirmed(readings, max_skew)):
        return PageMoment(int(min(date, *agreeing)), True)
    known = [readings.hub - seconds, readings.database - seconds]
    if date is not None and _believable(readings) is not None:
        known.append(date)
    return PageMoment(int(min(known)), False)


def _believable(readings: Readings) -> float | None:
    theirs = readings.runsignup
    if theirs is None:
        return None
    distance = min(abs(theirs - readings.hub), abs(theirs - readings.database))
    return theirs if distance <= MAX_BELIEVED_DISTANCE else None


def estimate_present(hub: float, database: float, stored: HubClock | None, max_skew: float) -> float | None:
    """Return RunSignup's clock by a stored comparison, or None if none is known.

    None is also returned if hub or database stepped since, so that the comparison is no longer valid.
    """
    if stored is None or stored.runsignup_seconds is None:
        return None
    by_hub = hub + stored.runsignup_seconds
    by_database = database + stored.runsignup_seconds - stored.database_seconds
    return by_hub if abs(by_hub - by_database) <= max_skew else None


@dataclass(frozen=True)
class Disagreement:
    """Clocks that differ by more than they may. `machine` has the wrong clock: a hub's name, `database`, or several of them."""

    machine: str
    sentence: str


def disagreement(item: HubClock, max_skew: float) -> Disagreement | None:
    """Return what is wrong with the clocks of a comparison, by the two of three that agree, or None if nothing is."""
    base, theirs = item.database_seconds, item.runsignup_seconds
    hub = f"the hub on {item.hub}"
    agreeing = confirmed(Readings(0.0, base, theirs), max_skew)
    if len(agreeing) == 2 or (theirs is None and abs(base) <= max_skew):
        return None
    if theirs is None:
        what = (
            f"The clock of {hub} is {_difference(-base)} the database's, and RunSignup's answers have no usable Date."
        )
        return Disagreement(f"{item.hub} or database", f"{what} {_BOTH} {_SET_RIGHT}")
    if agreeing == [0.0]:
        what = f"The database's clock is {_difference(base - theirs)} RunSignup's and that of {hub}, which are used."
        return Disagreement(DATABASE, f"{what} {_SET_RIGHT}")
    if agreeing:
        what = f"The clock of {hub} is {_difference(-theirs)} RunSignup's and the database's, which are used."
        return Disagreement(item.hub, f"{what} {_SET_RIGHT}")
    if abs(base) <= max_skew:
        what = f"The clocks of {hub} and of the database are {_difference(-theirs)} RunSignup's."
        return Disagreement(f"{item.hub} and database", f"{what} {_BOTH} {_SET_RIGHT}")
    what = f"The clock of {hub} is {_difference(-theirs)} RunSignup's, and the database's is {_difference(base - theirs)} it."
    return Disagreement(f"{item.hub} and database", f"{what} {_BOTH} {_SET_RIGHT}")


def _difference(seconds: float) -> str:
    amount, word = abs(seconds), "ahead of" if seconds > 0 else "behind"
    for unit, size in (("days", 2 * 86400.0), ("h", 7200.0), ("min", 120.0)):
        if amount >= size:
            return f"{amount / {'days': 86400.0, 'h': 3600.0, 'min': 60.0}[unit]:.1f} {unit} {word}"
    return f"{amount:.0f} s {word}"


def find_disagreements(conn: Connection, max_skew: float) -> list[Disagreement]:
    """Return what is wrong with the clocks of this machine now, and of the other hubs as last compared.

    Leaves a transaction open.
    """
    clock = Clock(max_skew)
    clock.compare(conn)
    now = clock.readings()
    here = HubClock(
        socket.gethostname(),
        utc_now(),
        None if now.runsignup is None else now.runsignup - now.hub,
        now.database - now.hub,
    )
    others = [item for item in hub_clocks.read_recent_clocks(conn, REPORTED_FOR) if item.hub != here.hub]
    own = disagreement(here, max_skew)
    # This machine's own, present comparison decides about the database's clock.
    theirs = [wrong for item in others if (wrong := disagreement(item, max_skew)) and wrong.machine != DATABASE]
    return [*([own] if own else []), *theirs]


def utc_now() -> dt.datetime:
    """Return the hub's present by its own clock."""
    return dt.datetime.now(dt.UTC)


class Clock:
    """The clocks as one process sees them.

    A given `hub` clock is trusted: without a `database` clock it also counts as the database's.
    """

    def __init__(
        self,
        max_skew: float,
        *,
        hub: Callable[[], dt.datetime] | None = None,
        database: Callable[[], dt.datetime] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_skew = max_skew
        self._hub = hub or utc_now
        self._database = database or hub
        self._monotonic = monotonic
        self._database_at: tuple[float, float] | None = None
        self._heard: tuple[float, float] | None = None
        self._is_news = False
        self._stored: HubClock | None = None

    def compare(self, conn: Connection) -> None:
        """Read the database's clock, and this hub's last stored comparison of the three. Leaves a transaction open."""
        self.read_database(conn)
        self._stored = hub_clocks.read_clock_of_hub(conn, socket.gethostname(), STORED_FOR)

    def read_database(self, conn: Connection) -> None:
        """Read the database's clock. Leaves a transaction open."""
        if self._database is None:
            self._database_at = (hub_clocks.read_database_time(conn), self._monotonic())

    def hear(self, date: int | None, elapsed: float) -> None:
        """Record RunSignup's clock from a response that has just arrived: its `Date`, and how long ago that was written."""
        self._is_news = True
        if date is not None:
            # A `Date` is cut to the second.
            self._heard = (date + 0.5 + elapsed, self._monotonic())

    def readings(self) -> Readings:
        """Return the clocks now."""
        hub = self._hub().timestamp()
        since = self._monotonic()
        if self._database is not None:
            database = self._database().timestamp()
        else:
            database = self._database_at[0] + since - self._database_at[1] if self._database_at else hub
        if self._heard is not None and since - self._heard[1] <= HEARD_FOR_SECONDS:
            return Readings(hub, database, self._heard[0] + since - self._heard[1])
        return Readings(hub, database, estimate_present(hub, database, self._stored, self._max_skew))

    def present(self) -> Present:
        """Return the present as far as the clocks show it."""
        now, *also = (dt.datetime.fromtimestamp(moment, dt.UTC) for moment in moments(self.readings(), self._max_skew))
        return Present(now, tuple(also))

    def page_moment(self, date: int | None, elapsed: float, seconds: float) -> PageMoment:
        """Return when the page that has just arrived was read. See the function of this name."""
        readings = self.readings()
        theirs = None if date is None else date + 0.5 + elapsed
        return page_moment(Readings(readings.hub, readings.database, theirs), date, seconds, self._max_skew)

    def store(self, conn: Connection) -> None:
        """Store the comparison for other processes if a response brought something new. Commits."""
        if not self._is_news:
            return
        self._is_news = False
        found = self.readings()
        theirs = found.runsignup if self._heard is not None else None
        item = HubClock(
            socket.gethostname(),
            dt.datetime.fromtimestamp(found.database, dt.UTC),
            None if theirs is None else theirs - found.hub,
            found.database - found.hub,
        )
        if not item.repeats(self._stored):
            hub_clocks.store_clock(conn, item)
            conn.commit()


def corrected(moment: dt.datetime, conn: Connection, max_skew: float) -> tuple[dt.datetime, tuple[dt.datetime, ...]]:
    """Convert a moment of the hub's clock, such as a schedule's, to the believed clocks: the earliest it may be, and later ones.

    For code that does not call RunSignup itself. Leaves a transaction open.
    """
    clock = Clock(max_skew)
    clock.compare(conn)
    readings = clock.readings()
    first, *others = (
        moment + dt.timedelta(seconds=round(believed - readings.hub, 3)) for believed in moments(readings, max_skew)
    )
    return first, tuple(others)


def present(conn: Connection, max_skew: float) -> dt.datetime:
    """Return the present by the believed clocks, the earliest that it may be. Leaves a transaction open."""
    return corrected(utc_now(), conn, max_skew)[0]
