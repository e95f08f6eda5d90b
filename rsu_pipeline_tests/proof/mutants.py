"""Five rules broken one at a time, each a mistake that pipelines of this kind have made."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rsu_pipeline.included_fields import FLAGS, format_include
from rsu_pipeline.runsignup.api_errors import ApiError
from rsu_pipeline.runsignup.client import Client
from rsu_pipeline.runsignup.pages import Page
from rsu_pipeline.sync import partner_sync, race_pass
from rsu_pipeline.sync.page_requests import PageRequests
from rsu_pipeline.sync.session import PartnerSession
from rsu_pipeline.warehouse import cursors, participants
from rsu_pipeline.warehouse.cursors import Position
from rsu_pipeline.warehouse.staging import Source


def believe_each_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take one empty answer for the end of a feed. It is part of other mutants, whose harm a second read would mend."""

    def broken(self: PageRequests, after: int, *, is_short: bool, again_if_empty: bool) -> Any:
        return self._take(after, is_short)

    monkeypatch.setattr(race_pass, "_unconfirmed_events", lambda *given: [])
    monkeypatch.setattr(PageRequests, "take", broken)
    monkeypatch.setattr(PageRequests, "_read_last", lambda self, after: None)


def cursor_from_last_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take one more than the newest last_modified for the next cursor, not the server's clock less an overlap."""
    advance = cursors.advance

    def broken(conn: Any, position: Position, **how: Any) -> None:
        advance(conn, position, **how)
        with conn.cursor() as cur:
            cur.execute(
                "UPDATE event_cursors c SET modified_after = 1 + coalesce((SELECT max(p.last_modified_epoch)"
                " FROM runsignup_participants p WHERE p.timing_partner_id = c.timing_partner_id"
                " AND p.event_id = c.event_id), c.modified_after)"
                " WHERE timing_partner_id = %s AND event_id = ANY (%s::bigint[])",
                (position.partner_id, position.event_ids),
            )

    monkeypatch.setattr(cursors, "advance", broken)


def cursor_moved_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Move the cursor with the first page, not with the last."""
    commit = race_pass._commit

    def broken(session: PartnerSession, position: Position) -> None:
        if position.mode == "incremental":
            cursors.advance(session.conn, position, overlap=session.settings.cursor_overlap)
        commit(session, position)

    monkeypatch.setattr(race_pass, "_commit", broken)
    # Its companion in the wild: a pass that broke off begins again, since the cursor seems to show how far it came.
    open_pass = cursors.open_pass

    def anew(
        conn: Any, partner_id: int, race_id: int, mode: Any, event_ids: Any, since: Any, *, included: str
    ) -> Position:
        cursors.drop_pass(conn, partner_id, race_id, mode)
        return open_pass(conn, partner_id, race_id, mode, event_ids, since, included=included)

    monkeypatch.setattr(cursors, "open_pass", anew)


def page_numbers_instead_of_keyset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Request pages by number, so that a row removed meanwhile shifts the next page over another.

    The end is believed at once: where the rows fill pages exactly, a second read would find what this one has skipped.
    """

    def broken(
        self: Client,
        race_id: int,
        event_ids: Any,
        *,
        after: int,
        size: int,
        modified_after: int | None = None,
        include: Sequence[str] = (),
    ) -> Page:
        number = getattr(self, "_page", 0) + 1 if after else 1
        self._page = number  # type: ignore[attr-defined]
        params = {"supports_nb": "T", "sort": "registration_id ASC", "page": str(number)}
        params |= {FLAGS[name]: "T" for name in include}
        return self._registrations("participants", race_id, event_ids, params, 0, size, modified_after)

    monkeypatch.setattr(Client, "participants_page", broken)
    believe_each_end(monkeypatch)


def sweep_after_a_partial_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a full pass that failed mark what it did not see as gone."""
    read_race = race_pass.read_race

    def broken(session: PartnerSession, read: Any, outcome: Any, **options: Any) -> None:
        try:
            read_race(session, read, outcome, **options)
        except ApiError:
            position = cursors.open_pass(
                session.conn,
                session.partner_id,
                read.race_id,
                read.mode,
                read.event_ids,
                None,
                included=format_include(session.settings.include),
            )
            if read.mode == "full":
                source = Source(
                    session.partner_id, session.key, read.race_id, position.first_page_at or 0, session.run_id, "full"
                )
                participants.note_missing(
                    session.conn, source, position.event_ids, after=position.after, upto=None, seen=[]
                )
                participants.remove_missing(session.conn, source, position.event_ids)
                cursors.drop_pass(session.conn, session.partner_id, read.race_id, read.mode)
                session.conn.commit()
            raise

    monkeypatch.setattr(partner_sync, "read_race", broken)


def dedupe_by_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count a row as unchanged when its last_modified is unchanged."""
    sql = participants._MERGE_ACTIVE
    assert participants._DIFFERS in sql and participants._TEXT_DIFFERS in sql
    broken = sql.replace(participants._DIFFERS, "i.last_modified_epoch IS DISTINCT FROM t.last_modified_epoch")
    broken = broken.replace(participants._TEXT_DIFFERS, "false")
    monkeypatch.setattr(participants, "_MERGE_ACTIVE", broken)


MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    rule.__name__: rule
    for rule in (
        cursor_from_last_stamp,
        cursor_moved_early,
        page_numbers_instead_of_keyset,
        sweep_after_a_partial_read,
        dedupe_by_stamp,
    )
}
