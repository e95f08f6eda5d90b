"""Decide which bibs given here are sent to RunSignup: a pure function of the rows before and after the read before the call.

Only a registration without a bib at RunSignup is sent one. A bib that RunSignup has is never replaced, because a bib given here
counts only until RunSignup has one.
"""

from collections import defaultdict
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Literal

from rsu_pipeline.runsignup.bib_writes import parse_bib
from rsu_pipeline.warehouse.bib_pushes import BibRow

Kind = Literal["send", "present", "conflict", "invalid"]
"""`send`: to be sent. `present`: RunSignup has it. `conflict`: RunSignup has something else. `invalid`: it cannot be sent."""


@dataclass(frozen=True)
class Decision:
    """What is to be done about one bib given here, and why. `number` is the bib as RunSignup has it if it is to be sent."""

    registration_id: int
    name: str
    bib: str
    kind: Kind
    reason: str = ""
    number: int = 0


def plan_pushes(
    rows: Mapping[int, BibRow], before: Mapping[int, BibRow] | None = None, only: Container[int] | None = None
) -> list[Decision]:
    """Return a decision for each bib given here, in the order of registration ids.

    Args:
        rows: the event's registrations with bibs, as they were read last.
        before: the same as they were stored before that read. A difference between both is a conflict.
        only: the registrations that may be sent. None: all.
    """
    holders: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows.values():
        if row.is_active and (bib := row.bib or row.local_bib):
            holders[bib].append(row.registration_id)
    return [
        _decide(row, None if before is None else before.get(number), holders[row.local_bib])
        for number, row in sorted(rows.items())
        if row.local_bib is not None and (only is None or number in only)
    ]


def _decide(row: BibRow, before: BibRow | None, holders: list[int]) -> Decision:
    bib = row.local_bib or ""
    number = parse_bib(bib)
    if not row.is_active:
        has_changed = before is not None and before.is_active
        since = " since it was read" if has_changed else ""
        kind, reason = ("conflict", f"the registration was removed at RunSignup{since}")
    elif row.bib == bib:
        kind, reason = ("present", "")
    elif row.bib is not None:
        since = ", given since it was read" if before is not None and before.bib != row.bib else ""
        kind, reason = ("conflict", f"RunSignup has bib {row.bib}{since}")
    elif number is None:
        kind, reason = ("invalid", "RunSignup's bibs are whole numbers without leading zeros")
    elif others := [str(other) for other in holders if other != row.registration_id]:
        kind, reason = ("invalid", f"registration {others[0]} has the same bib")
    else:
        return Decision(row.registration_id, row.name, bib, "send", number=number or 0)
    return Decision(row.registration_id, row.name, bib, kind, reason)  # type: ignore[arg-type]
