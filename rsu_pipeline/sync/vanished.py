"""Decide which events of a race are gone when its detail no longer has them.

One answer is never enough. Each event that a detail lacks is requested alone from the participants feed: RunSignup answers 301
for an event that it does not have, before it checks permissions (seen in recorded exchanges). So 301 beside a detail
without the event are two independent answers. If the feed is inconclusive, a later detail has to lack the event too, and
many events at once are pending confirmation by an operator.
"""

import datetime as dt
import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from rsu_pipeline.runsignup.api_errors import ApiError, Cause, Remedy
from rsu_pipeline.sync.session import PartnerSession
from rsu_pipeline.warehouse.events import VanishedEvent

MAX_REQUESTS = 50
"""Events requested alone after one detail. The rest waits for the next detail, which is read at the next listing."""
CONFIRM_AFTER = dt.timedelta(minutes=10)
"""How much later a second detail has to be, so that both do not come from one transient fault."""
MASS_EVENTS = 2
"""Events that may be gone by two details alone, regardless of their share of the race."""


class EventAnswer(enum.Enum):
    """The participants feed's answer for one event."""

    UNKNOWN_EVENT = "RunSignup has no such event"
    HAS_ENTRANTS = "RunSignup has entrants of it"
    TELLS_NOTHING = "no conclusive answer"


@dataclass
class Findings:
    """The state of events that a detail lacks.

    `gone` are gone for certain, `answering` still have entrants at RunSignup, `pending` wait for a second answer, `mass` means that
    they wait for an operator.
    """

    gone: list[int] = field(default_factory=list)
    answering: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    is_mass: bool = False

    @property
    def unsettled(self) -> list[int]:
        """Events that the next detail has to settle."""
        return self.answering + self.pending


def classify_vanished_events(
    answers: Sequence[tuple[VanishedEvent, EventAnswer]],
    *,
    stored: int,
    share: float,
    now: dt.datetime,
    is_confirmed: bool,
) -> Findings:
    """Return the state of the events.

    Args:
        answers: The events that the detail lacks, each with the answer of the participants feed.
        stored: How many events of the race are stored and not gone.
        share: The share of them that may go by two details alone.
        now: The present.
        is_confirmed: Whether an operator confirmed removals.
    """
    found = Findings()
    untold = [event for event, answer in answers if answer is EventAnswer.TELLS_NOTHING]
    # All events of a race missing at once may just as well be a detail that arrived without them.
    found.is_mass = len(untold) == stored or len(untold) > max(MASS_EVENTS, share * stored)
    for event, answer in answers:
        is_second = event.vanished_at is not None and now - event.vanished_at >= CONFIRM_AFTER
        if answer is EventAnswer.UNKNOWN_EVENT:
            found.gone.append(event.event_id)
        elif answer is EventAnswer.HAS_ENTRANTS:
            found.answering.append(event.event_id)
        elif is_confirmed or (is_second and not found.is_mass):
            found.gone.append(event.event_id)
        else:
            found.pending.append(event.event_id)
    return found


def request_each_event(
    session: PartnerSession, race_id: int, events: Sequence[VanishedEvent]
) -> list[tuple[VanishedEvent, EventAnswer]]:
    """Request each event alone, as far as MAX_REQUESTS allows. The responses are not stored.

    Raises:
        ApiError: the call budget is used up, or the installation itself is rejected.
    """
    asked = [(event, _request_event(session, race_id, event.event_id)) for event in events[:MAX_REQUESTS]]
    return asked + [(event, EventAnswer.TELLS_NOTHING) for event in events[MAX_REQUESTS:]]


def _request_event(session: PartnerSession, race_id: int, event_id: int) -> EventAnswer:
    try:
        page = session.client.participants_page(race_id, [event_id], after=0, size=1)
    except ApiError as error:
        if error.remedy in (Remedy.WAIT_FOR_BUDGET, Remedy.FAIL_CONFIGURATION):
            raise
        return EventAnswer.UNKNOWN_EVENT if error.cause is Cause.EVENT_NOT_FOUND else EventAnswer.TELLS_NOTHING
    return EventAnswer.HAS_ENTRANTS if page.rows else EventAnswer.TELLS_NOTHING
