"""Store one page of a race's registrations: build its lines, merge them, quarantine. The caller commits."""

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from psycopg2.extensions import connection as Connection

from rsu_pipeline.runsignup.pages import Page
from rsu_pipeline.runsignup.payloads import Registration
from rsu_pipeline.sync.registration_rows import compute_digest, stage_registration
from rsu_pipeline.sync.session import PartnerSession
from rsu_pipeline.warehouse import cursors, participants, schema_drift
from rsu_pipeline.warehouse.cursors import QuarantinedRow
from rsu_pipeline.warehouse.staging import Counts, RejectedRow, Source, StagedLine

_Merged = tuple[Counts, list[RejectedRow]]


@dataclass
class IngestedPage:
    """A page that was stored.

    `seen` are the (registration, event) ids stored, `held_back` the registration ids that were not. `has_unidentified_row`
    means that a row without readable id was among them. `events_of_held_back` has an event id for each row not stored: its own,
    or every event of the pass if it is unknown.
    """

    counts: Counts
    seen: list[tuple[int, int]]
    held_back: list[int]
    has_unidentified_row: bool
    events_of_held_back: list[int]
    newly_quarantined: int


@dataclass
class StagedPage:
    """The lines of a page's rows, with the rows and their field errors, and what of the page cannot be stored."""

    lines: list[StagedLine] = field(default_factory=list)
    rows: list[Registration] = field(default_factory=list)
    faults: list[list[str]] = field(default_factory=list)
    quarantined: list[QuarantinedRow] = field(default_factory=list)
    events_of_held_back: list[int] = field(default_factory=list)


def stage_page(page: Page, race_id: int, event_ids: Sequence[int], held: Container[int] = ()) -> StagedPage:
    """Return the lines of a page's rows but for the registrations `held`. It needs no connection."""
    staged = StagedPage(
        quarantined=[
            QuarantinedRow(row.raw, row.reason, row.registration_id, is_stored=False) for row in page.unreadable
        ],
        events_of_held_back=list(event_ids) if page.unreadable else [],
    )
    wanted = set(event_ids)
    for row in page.rows:
        if row.event_id not in wanted:
            staged.quarantined.append(
                QuarantinedRow(row.raw, f"event {row.event_id} was not requested", row.registration_id, is_stored=False)
            )
            staged.events_of_held_back += event_ids
            continue
        if row.registration_id in held:
            continue
        try:
            line, wrong = stage_registration(row, race_id)
        except UnicodeDecodeError as error:
            staged.quarantined.append(
                QuarantinedRow(row.raw, f"not UTF-8 ({error.reason})", row.registration_id, is_stored=False)
            )
            staged.events_of_held_back.append(row.event_id or 0)
            continue
        digest = participants.compute_digest(compute_digest(row.raw), has_field_errors=bool(wrong))
        staged.lines.append(line + b"\t%d" % digest)
        staged.rows.append(row)
        staged.faults.append(wrong)
    return staged


def store_page(
    session: PartnerSession,
    source: Source,
    page: Page,
    staged: StagedPage,
    merge: Callable[[Connection, Sequence[StagedLine], Source], _Merged],
    held: Mapping[int, bool] = MappingProxyType({}),
) -> IngestedPage:
    """Merge a staged page. What cannot be stored is quarantined with its reason. `held` are stored unchanged."""
    has_unidentified_row = any(row.registration_id is None for row in page.unreadable)
    quarantined, events_of_held_back = list(staged.quarantined), list(staged.events_of_held_back)
    counts, refused = merge(session.conn, staged.lines, source) if staged.lines else (Counts(), [])
    reasons = {item.index: item.reason for item in refused}
    seen = []
    for index, (row, wrong) in enumerate(zip(staged.rows, staged.faults, strict=True)):
        if index in reasons:
            quarantined.append(QuarantinedRow(row.raw, reasons[index], row.registration_id, is_stored=False))
            events_of_held_back.append(row.event_id or 0)
            continue
        seen.append((row.registration_id, row.event_id or 0))
        if wrong:
            quarantined.append(QuarantinedRow(row.raw, "; ".join(wrong), row.registration_id, is_stored=True))
    _record_drift(session, source, page)
    newly_quarantined = cursors.quarantine(session.conn, source.partner_id, source.race_id, quarantined)
    held_back = [
        item.registration_id for item in quarantined if not item.is_stored and item.registration_id is not None
    ]
    counts.add(Counts(read=len(held), unchanged=len(held)))
    counts.quarantined = sum(not item.is_stored for item in quarantined)
    counts.with_faults = sum(item.is_stored for item in quarantined) + sum(held.values())
    counts.read += counts.quarantined
    return IngestedPage(counts, seen, held_back, has_unidentified_row, events_of_held_back, newly_quarantined)


def _record_drift(session: PartnerSession, source: Source, page: Page) -> None:
    """Count the fields of a page that this program does not know."""
    found = Counter(item for row in page.rows if row.drift for item in row.drift)
    if found:
        schema_drift.record(session.conn, source.partner_id, source.race_id, found)


def find_unchanged(
    session: PartnerSession, source: Source, page: Page, event_ids: Sequence[int], upto: int | None
) -> dict[int, bool]:
    """Return the registrations of a page that are stored unchanged, with whether they have field errors.

    One that is on the page twice is left out.
    """
    times_sent, wanted = Counter(row.registration_id for row in page.rows), set(event_ids)
    sent = [
        (row.registration_id, row.event_id, compute_digest(row.raw))
        for row in page.rows
        if times_sent[row.registration_id] == 1 and row.event_id in wanted
    ]
    return participants.held_as_sent(session.conn, source, sent, upto=upto)
