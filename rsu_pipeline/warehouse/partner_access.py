"""The access of each partner: which races its credential can read, lost, never had or got back.

A credential that RunSignup accepts may have no race to read. So this is a state of its own beside the credential's. With a
wrong key RunSignup lists every public race, so a listing without any race was made for the partner, and its key is fine.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Literal

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse.credentials import PROVIDER
from rsu_pipeline.warehouse.event_times import IS_UPCOMING

_SQL = load(__file__, IS_UPCOMING=IS_UPCOMING)

State = Literal[
    "archived",
    "switched off",
    "none",
    "rejected",
    "not tried yet",
    "not verified",
    "no races yet",
    "no races any more",
    "lost some",
    "works",
]
REPORTED_FOR = dt.timedelta(days=7)
"""How long the loss of a race is a problem to act on. It is shown for longer."""
BACK_SHOWN_FOR = dt.timedelta(days=3)
"""How long it is shown that a partner got races back."""
MAX_NAMED = 10
"""Races that a sentence names."""
ASK = "Ask the race's director to give the partner access again. It is tried again automatically."


@dataclass(frozen=True)
class PartnerAccess:
    """What a partner's credential gives access to.

    Attributes:
        is_off: whether the partner is disabled.
        is_archived: whether it was removed with its credential and its races, of which it had some. The database does not show
            whether people were erased too.
        has_credential: whether it has a key and secret. `is_rejected`, `is_tried` and `is_verified` are about the present ones.
        rejected_reason: why RunSignup rejects them.
        is_listed: whether the last listing with them is complete.
        listed: races that RunSignup lists and that are not lost.
        known: races it ever listed, without those that RunSignup deleted.
        lost: races to which access was lost and that no other partner of the hub has. `lost_upcoming` are those of them with an
            upcoming event.
        is_recent: whether the last of them was lost so recently that an operator must act.
        back_at: when lost access came back, if recently.
    """

    partner_id: int
    key: str | None
    is_off: bool
    is_archived: bool
    has_credential: bool
    is_rejected: bool
    rejected_reason: str | None
    is_tried: bool
    is_verified: bool
    is_listed: bool
    listed: int
    known: int
    lost: list[int]
    lost_upcoming: list[int]
    is_recent: bool
    back_at: dt.datetime | None

    @property
    def state(self) -> State:
        """The state, the first that applies."""
        states: tuple[tuple[bool, State], ...] = (
            (self.is_archived, "archived"),
            (self.is_off, "switched off"),
            (not self.has_credential, "none"),
            (self.is_rejected, "rejected"),
            (not self.is_tried, "not tried yet"),
            (self.is_listed and self.listed == 0 and self.known > 0, "no races any more"),
            (self.is_listed and self.listed == 0, "no races yet"),
            (bool(self.lost_upcoming), "lost some"),
            (self.is_verified, "works"),
        )
        return next((state for applies, state in states if applies), "not verified")

    @property
    def summary(self) -> str:
        """The state in a few words, with its numbers."""
        words: dict[State, str] = {
            "none": "none: not synced",
            "rejected": "rejected: RunSignup rejects key or secret",
            "no races any more": f"lost all {self.known}",
            "lost some": f"lost {len(self.lost_upcoming)} of {self.known}",
        }
        return words.get(self.state, self.state)

    @property
    def has_lost(self) -> bool:
        """Whether access was lost that an operator must request again.

        A race that was handed on for good is reported for a week.
        """
        return self.state == "no races any more" or (self.state == "lost some" and self.is_recent)

    @property
    def sentence(self) -> str | None:
        """What an operator must know and do, None if nothing."""
        sentences: dict[State, str] = {
            "no races any more": f"RunSignup lists no race any more, had {self.known}. The key is fine. {ASK}",
            "no races yet": "RunSignup lists no race yet. The key is fine. Ask the race's director to give the partner access.",
            "lost some": f"lost access to {self._named()} (of {self.known}). The key is fine, other races are read. {ASK}",
            "not verified": "the credential was tried, and no race could be read yet. `rsu log --failed` shows why.",
        }
        return sentences.get(self.state)

    def _named(self) -> str:
        races = self.lost_upcoming
        more = f" and {len(races) - MAX_NAMED} more" if len(races) > MAX_NAMED else ""
        return f"race{'s' if len(races) > 1 else ''} {', '.join(map(str, races[:MAX_NAMED]))}{more}"


def read_access(conn: Connection, now: dt.datetime, partner_id: int | None = None) -> dict[int, PartnerAccess]:
    """Return the access of every partner, or of one, by id and in order of it."""
    with conn.cursor() as cur:
        cur.execute(
            _SQL["read_access"],
            {
                "provider": PROVIDER,
                "now": now,
                "shown": BACK_SHOWN_FOR,
                "reported": REPORTED_FOR,
                "partner": partner_id,
            },
        )
        return {row[0]: PartnerAccess(*row) for row in cur.fetchall()}
