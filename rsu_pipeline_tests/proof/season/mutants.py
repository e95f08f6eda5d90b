"""Rules of the season broken one at a time: each is what an earlier version did, and lost bibs by.

Rule 16 has none: the passes it bounds cost calls and lose nothing, which `sync/test_partner_sync.py` counts.
"""

from collections.abc import Callable
from typing import Any

import pytest

from rsu_pipeline.runsignup.pages import Page
from rsu_pipeline.sync import (
    access,
    clocks,
    event_refresh,
    listing,
    partner_sync,
    race_details,
    race_pass,
    read_plan,
    vanished,
)
from rsu_pipeline.sync.access import Evidence, Verdict
from rsu_pipeline.sync.clocks import PageMoment
from rsu_pipeline.sync.session import PartnerSession
from rsu_pipeline.sync.vanished import Findings
from rsu_pipeline.warehouse import backfill_progress, backfill_state, containers, erasures, participants
from rsu_pipeline.warehouse.event_times import OVER_AT
from rsu_pipeline_tests.proof.mutants import believe_each_end

Mutant = Callable[[pytest.MonkeyPatch], None]


def one_refusal_rejects_the_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let code 7 from one race stop the whole partner."""
    monkeypatch.setattr(
        access, "judge_credential", lambda evidence: Verdict.REJECTED if evidence.refused else Verdict.WORKS
    )
    monkeypatch.setattr(access, "find_readable_race", lambda session, candidates: Evidence())
    monkeypatch.setattr(access, "_is_verified_recently", lambda session: False)


def one_new_race_discards_the_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept a listing with new races only if the first of them can be read."""
    find = access.find_readable_race

    def verify(session: PartnerSession, listed: Any, known: Any) -> bool:
        new = [
            found for race in listed if race.race_id not in known and (found := access._candidate(race, session.now()))
        ]
        if not new:
            return False
        evidence = find(session, new[:1])
        if evidence.failures:
            raise evidence.failures[0]
        if evidence.refused:
            access.mark_credential_rejected(session, access.REFUSED_EVERY_RACE)
        return True

    monkeypatch.setattr(listing.access, "verify_listing", verify)


def the_clock_says_when_an_event_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop reading an event whose end has passed, and let a backfill take any earlier read of it for the last."""
    monkeypatch.setattr(read_plan.cadence, "closing_read", lambda *times: None)
    after_its_end = f"AND k.last_full_at >= {OVER_AT}"
    queries = [
        (module._SQL, name, text)
        for module in (backfill_state, backfill_progress)
        for name, text in module._SQL.items()
        if after_its_end in text
    ]
    assert queries
    for statements, name, text in queries:
        monkeypatch.setitem(statements, name, text.replace(after_its_end, ""))


def a_short_page_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a page with fewer rows than requested end its feed."""

    def broken(session: PartnerSession, position: Any, page: Page, loaded: Any) -> bool:
        return page.next.is_short

    monkeypatch.setattr(race_pass, "_is_end_shown", broken)


def removals_are_not_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mark as missing whatever a full read does not see, however much it is, and believe one empty answer.

    Each of the two rules alone keeps what a transient empty response hides.
    """
    monkeypatch.setattr(race_pass, "_is_plausible", lambda session, missing, held: True)
    believe_each_end(monkeypatch)


def a_detail_without_events_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mark all events of a race gone at an answer without the key `events`."""

    def broken(answers: Any, **options: Any) -> Findings:
        return Findings(gone=[event.event_id for event, _ in answers])

    monkeypatch.setattr(vanished, "classify_vanished_events", broken)


def rows_stay_when_their_race_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep registrations of deleted events and lost races active."""
    monkeypatch.setattr(containers, "update_registrations", lambda conn, partner_id, race_id, now: 0)


def a_reactivation_has_to_move_its_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a registration removed that a full read gets as active when its stamp is older than the removal."""
    merge = participants._MERGE_ACTIVE
    assert "(NOT %(full)s AND " in merge
    monkeypatch.setattr(participants, "_MERGE_ACTIVE", merge.replace("(NOT %(full)s AND ", "(true AND "))


def a_stamp_is_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a race's detail again only when `last_modified` differs."""
    monkeypatch.setattr(race_details, "is_ambiguous", lambda detail, overlap: False)
    monkeypatch.setattr(race_details, "is_too_old", lambda detail, now, age: detail is None or detail.read_at is None)


def one_clock_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let cursors go by the hub's own clock."""
    monkeypatch.setattr(clocks, "page_moment", lambda readings, date, *rest: PageMoment(int(readings.hub), True))


def an_erased_person_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store pages as sent, even those of erased people."""
    monkeypatch.setattr(erasures, "suppress_staged", lambda cur, params, row_hash: None)


def one_refused_event_stops_its_race(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not repeat a request without the event that RunSignup refuses."""
    monkeypatch.setattr(partner_sync, "split_read", lambda result, error: [])


def a_moved_start_is_seen_at_the_next_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the watch poll a race without reading its events again."""
    monkeypatch.setattr(event_refresh, "is_refresh_due", lambda *times: False)


def small_races_are_read_incrementally(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a visit request only what changed, however small the race is."""
    monkeypatch.setattr(read_plan, "is_small", lambda *rows: False)


MUTANTS: dict[str, Mutant] = {
    mutant.__name__: mutant
    for mutant in (
        one_refusal_rejects_the_credential,
        one_new_race_discards_the_listing,
        the_clock_says_when_an_event_is_over,
        a_short_page_is_the_last,
        removals_are_not_guarded,
        a_detail_without_events_is_believed,
        rows_stay_when_their_race_is_gone,
        a_reactivation_has_to_move_its_stamp,
        a_stamp_is_a_version,
        one_clock_is_believed,
        an_erased_person_comes_back,
        one_refused_event_stops_its_race,
        a_moved_start_is_seen_at_the_next_listing,
        small_races_are_read_incrementally,
    )
}
