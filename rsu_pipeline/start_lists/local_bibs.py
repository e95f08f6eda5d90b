"""Give entrants a bib here, at check-in, and take it back. The start lists are rebuilt in the same transaction.

No sync writes such a bib, and RunSignup's counts where it has one. No call is made to RunSignup.
"""

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.display import MAX_NAME_CHARS, make_printable, sanitize_for_display
from rsu_pipeline.errors import RsuError
from rsu_pipeline.sql_files import load
from rsu_pipeline.start_lists import start_list_store

MAX_BIB_CHARS = 20
"""Characters of a bib given here. Bibs are printed on paper and typed by people."""
_BIB = re.compile(r"[0-9A-Za-z]+([-./][0-9A-Za-z]+)*")
"""ASCII alone: digits of other scripts resemble these, and no program would find the entrant by them."""


class LocalBibError(RsuError):
    """A bib cannot be given or taken back. The text is one sentence: why, and the next step."""


@dataclass(frozen=True)
class Registration:
    """A registration as one partner has it.

    `local_bib` was given here. `bib` is the one that counts, with `bib_source` as in `partner_entrants`. `problems` are those
    on the start list.
    """

    partner_id: int
    partner: str
    race_id: int
    race: str
    event_id: int
    event: str
    registration_id: int
    name: str
    is_active: bool
    local_bib: str | None
    bib: str | None
    bib_source: str | None
    has_start_list: bool
    problems: list[str]


@dataclass(frozen=True)
class Holder:
    """An entrant of the same event that has the bib too."""

    registration_id: int
    name: str


@dataclass(frozen=True)
class LocalBibChange:
    """A bib given or taken back: the registration afterwards, the bib given here before, and who else has the new one."""

    registration: Registration
    previous: str | None
    holders: tuple[Holder, ...] = ()


def parse_local_bib(text: str) -> str:
    """Return a bib as it is stored: without blanks around it.

    Raises:
        LocalBibError: it is empty, too long, or has characters that no bib has.
    """
    bib = text.strip()
    if not bib:
        raise LocalBibError("The bib is empty. `rsu bibs take REGISTRATION` takes a bib back.")
    if len(bib) > MAX_BIB_CHARS or not _BIB.fullmatch(bib):
        shown = sanitize_for_display(bib, MAX_NAME_CHARS)
        raise LocalBibError(
            f"'{shown}' is no bib: it has digits and letters from A to Z, such as 101 or A-12, and at most {MAX_BIB_CHARS}"
            " characters."
        )
    return bib


def give_bib(
    conn: Connection,
    registration_id: int,
    text: str,
    now: dt.datetime,
    *,
    partner_id: int | None = None,
    even_if_taken: bool = False,
) -> LocalBibChange:
    """Give an entrant a bib and rebuild the partner's start lists. The caller commits.

    Args:
        conn: the hub's database.
        registration_id: RunSignup's id.
        text: the bib, as somebody typed it.
        now: the present, which decides which events have a list.
        partner_id: the partner, needed if several have the registration.
        even_if_taken: whether another entrant of the event may have the bib.

    Raises:
        LocalBibError: the bib, the registration or the partner is wrong, or the bib is taken. The caller rolls back.
    """
    bib = parse_local_bib(text)
    before = choose_registration(_find(conn, registration_id, partner_id), registration_id, partner_id)
    if not before.is_active:
        raise LocalBibError(f"Registration {registration_id} is no longer active at RunSignup, so it gets no bib.")
    after = _set(conn, before, bib, now)
    if after.bib == bib and after.bib_source != "local":
        return LocalBibChange(after, before.local_bib)
    holders = _find_holders(conn, after, bib)
    if holders and not even_if_taken:
        first = holders[0]
        raise LocalBibError(
            f"Bib {bib} is taken in event {after.event_id}, by registration {first.registration_id}"
            f" ({make_printable(first.name)}). Give another one, or repeat the command with --even-if-taken."
        )
    return LocalBibChange(after, before.local_bib, holders)


def take_bib(
    conn: Connection, registration_id: int, now: dt.datetime, *, partner_id: int | None = None
) -> LocalBibChange:
    """Take back the bib that an entrant was given here, and rebuild the partner's start lists. The caller commits.

    Raises:
        LocalBibError: no bib was given to the registration here, or the partner is needed.
    """
    found = _find(conn, registration_id, partner_id)
    before = choose_registration([item for item in found if item.local_bib] or found, registration_id, partner_id)
    if before.local_bib is None:
        raise LocalBibError(f"Registration {registration_id} has no bib that was given here.")
    return LocalBibChange(_set(conn, before, None, now), before.local_bib)


def choose_registration(
    found: Sequence[Registration], registration_id: int, partner_id: int | None = None
) -> Registration:
    """Return the only registration of this id, or the only one of them that is active.

    Raises:
        LocalBibError: there is none, or there are several.
    """
    if not found:
        whose = "" if partner_id is None else f" of partner {partner_id}"
        raise LocalBibError(
            f"There is no registration {registration_id}{whose}. `rsu start-list EVENT` shows them, and `rsu sync` reads new ones."
        )
    chosen = [item for item in found if item.is_active] or found
    if len(chosen) > 1:
        partners = ", ".join(item.partner for item in chosen)
        raise LocalBibError(
            f"Registration {registration_id} belongs to several partners ({partners}). Name one with --partner."
        )
    return chosen[0]


def _find(conn: Connection, registration_id: int, partner_id: int | None) -> list[Registration]:
    with conn.cursor() as cur:
        cur.execute(_SQL["find_registrations"], {"registration": registration_id, "partner": partner_id})
        return [Registration(*row) for row in cur.fetchall()]


def _set(conn: Connection, registration: Registration, bib: str | None, now: dt.datetime) -> Registration:
    """Set or clear the bib given here, rebuild the lists, and return the registration afterwards."""
    whose = {"partner": registration.partner_id, "registration": registration.registration_id}
    with conn.cursor() as cur:
        cur.execute(_SQL["set_local_bib"], whose | {"bib": bib})
    # It waits for another rebuild of the partner, so two bibs given at the same moment are seen by the later of the two.
    start_list_store.rebuild(conn, registration.partner_id, now)
    (after,) = _find(conn, registration.registration_id, registration.partner_id)
    return after


def _find_holders(conn: Connection, registration: Registration, bib: str) -> tuple[Holder, ...]:
    with conn.cursor() as cur:
        cur.execute(
            _SQL["find_holders"],
            {
                "partner": registration.partner_id,
                "event": registration.event_id,
                "registration": registration.registration_id,
                "bib": bib,
            },
        )
        return tuple(Holder(*row) for row in cur.fetchall())


_SQL = load(__file__)
