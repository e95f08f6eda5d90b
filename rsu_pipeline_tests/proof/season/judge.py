"""What must hold after the night: the copy equals RunSignup, and nothing is claimed that is not so."""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from rsu_pipeline.sync import forecast
from rsu_pipeline.warehouse import backfill_progress, fleet_facts, freshness
from rsu_pipeline_tests.hub import FIELDS, expected
from rsu_pipeline_tests.proof.season.world import World, starts_at

Row = dict[str, Any]
YEAR_HOURS = 365 * 24.0
PERSONAL = "first_name middle_name last_name email dob phone profile_image_url address".split()
CONTACT = "email phone profile_image_url dob address".split()
KEPT = "race_id event_id registration_id bib_num last_modified_epoch".split()


def judge(world: World, left_out: Collection[str] = ()) -> None:
    """Raise AssertionError, which names partner, registration and fields, when something does not hold."""
    for partner in world.partners:
        assert_registrations_equal(world, partner)
    for partner in world.partners:
        assert_removals_are_true(world, partner)
        world.hub.assert_bib_log_replays(partner)
        assert_no_claim_is_ahead(world, partner)
    if "views" not in left_out:
        assert_views_show_each_registration_once(world)
    assert_no_check_is_red(world)


def assert_registrations_equal(world: World, partner: int) -> None:
    """Assert that every registration the partner can read is stored as sent, bibs first, and no other is active."""
    truth = truth_of(world, partner)
    stored = world.hub.stored(partner)
    judged = {event["event_id"] for event, race in events_of(world, partner) if is_answered_for(world, event, race)}
    ignored = {event["event_id"] for event, race in events_of(world, partner)} - judged | world.refused_events.keys()
    stored = {key: row for key, row in stored.items() if row["event_id"] not in ignored}
    wrong_bibs = {
        key: (stored[key]["bib_num"], row["bib_num"])
        for key, row in truth.items()
        if key in stored and stored[key]["bib_num"] != row["bib_num"]
    }
    missing, extra = sorted(truth.keys() - stored.keys()), sorted(stored.keys() - truth.keys())
    assert not missing, (
        f"partner {partner}: registrations {missing} only at RunSignup, of events {_events(truth, missing)}"
    )
    assert not extra, f"partner {partner}: registrations {extra} only stored, of events {_events(stored, extra)}"
    assert not wrong_bibs, f"partner {partner}: registrations with a wrong bib: {wrong_bibs}"
    over = {event["event_id"] for event, race in events_of(world, partner) if world.is_over(event, race)}
    for key, row in truth.items():
        names = FIELDS
        if key in world.erased:
            names = KEPT
            known = {name: stored[key][name] for name in PERSONAL if stored[key][name]}
            assert not known, f"partner {partner}: registration {key} is an erased person's and has {known}"
        elif world.is_purged and row["event_id"] in over:
            names = [name for name in FIELDS if name not in CONTACT]
        wrong = {name: (stored[key][name], row[name]) for name in names if stored[key][name] != row[name]}
        assert not wrong, f"partner {partner}: registration {key}: stored and true values differ: {wrong}"


def truth_of(world: World, partner: int) -> dict[int, Row]:
    """Return the partner's active registrations as they should be stored, of the events that the hub answers for."""
    judged = {event["event_id"] for event, race in events_of(world, partner) if is_answered_for(world, event, race)}
    return {
        row["registration_id"]: expected(row) for row in world.truth(partner)["active"] if row["event_id"] in judged
    }


def events_of(world: World, partner: int) -> list[tuple[Row, Row]]:
    """Return the events that the partner can read, each with its race."""
    return [
        (event, race)
        for race in world.races(partner)
        if race["race_id"] not in world.unreadable
        for event in race["events"]
        if event["event_id"] not in world.refused_events
    ]


def is_answered_for(world: World, event: Row, race: Row) -> bool:
    """Return whether the event is upcoming or was over within the year that RunSignup answers for."""
    return world.hours_since_over(event, race) < YEAR_HOURS


def _events(rows: dict[int, Row], keys: Iterable[int]) -> list[int]:
    return sorted({rows[key]["event_id"] for key in keys})


def assert_removals_are_true(world: World, partner: int) -> None:
    """Assert that a registration that RunSignup names as removed has its reason and pointer."""
    truth = {row["registration_id"]: row for row in world.truth(partner)["removed"]}
    rows = world.hub.rows(
        "SELECT registration_id, event_id, removed_reason, new_registration_id FROM runsignup_participants"
        " WHERE timing_partner_id = %s AND removed_at IS NOT NULL",
        partner,
    )
    readable = {event["event_id"] for event, _ in events_of(world, partner)}
    for row in rows:
        assert row["removed_reason"], row
        named = truth.get(row["registration_id"])
        if named is not None and row["event_id"] in readable and row["registration_id"] not in world.erased:
            found = (row["removed_reason"], row["new_registration_id"])
            assert found == (named["removed_reason"], named["new_registration_id"]), (row, named)


def assert_no_claim_is_ahead(world: World, partner: int) -> None:
    """Assert that nothing claims more than was read.

    No cursor is in the future, a backfill is complete only if every past event was read after its end, and a race that was
    never readable is not called read.
    """
    cursors = world.hub.rows(
        "SELECT event_id, race_id, modified_after, removed_after, extract(epoch FROM last_full_at)::float AS last_full,"
        " read_rows IS NOT DISTINCT FROM stored_rows AND read_hash IS NOT DISTINCT FROM stored_hash AS is_reconciled"
        " FROM event_cursors WHERE timing_partner_id = %s",
        partner,
    )
    for row in cursors:
        latest = max(row["modified_after"], row["removed_after"], row["last_full"])
        assert latest <= world.clocks.time + 1, (
            f"partner {partner}: a cursor is {latest - world.clocks.time} s ahead: {row}"
        )
        assert row["race_id"] not in world.unreadable, (
            f"partner {partner}: a race that cannot be read is called read: {row}"
        )
    judged = {
        event["event_id"]: starts_at(event, race)
        for event, race in events_of(world, partner)
        if is_answered_for(world, event, race)
    }
    unequal = [row["event_id"] for row in cursors if not row["is_reconciled"] and row["event_id"] in judged]
    assert not unequal, f"partner {partner}: events {unequal} equal RunSignup and are called unequal"
    progress = backfill_progress.read_progress(world.conn, partner, world.clocks.true_now())
    world.conn.rollback()
    if progress is not None and not world.unreadable and not world.refused_events:
        assert progress.is_complete, f"partner {partner}: the backfill does not end: {progress}"
        assert progress.settled == progress.events, f"partner {partner}: complete with events left: {progress}"


def assert_views_show_each_registration_once(world: World) -> None:
    """Assert that the unified views show once what some partner can read, with its bib and a partner that can read it."""
    truth: dict[int, Row] = {}
    readers: dict[int, set[int]] = {}
    for partner in world.partners:
        truth |= truth_of(world, partner)
        for event, race in events_of(world, partner):
            if is_answered_for(world, event, race):
                readers.setdefault(event["event_id"], set()).add(partner)
    wanted = Counter((str(row["event_id"]), row["bib_num"]) for row in truth.values())
    rows = world.hub.rows(
        "SELECT timing_partner_id, event_id, bib_number FROM unified_participants WHERE timing_partner_id = ANY (%s)",
        world.partners,
    )
    ignored = world.refused_events.keys()
    shown = Counter((row["event_id"], row["bib_number"]) for row in rows if int(row["event_id"]) not in ignored)
    assert shown == wanted, f"unified_participants: {shown - wanted} too many, {wanted - shown} missing"
    for row in world.hub.rows(
        "SELECT timing_partner_id, event_id FROM unified_events WHERE event_id = ANY (%s)",
        [str(key) for key in readers],
    ):
        owners = readers[int(row["event_id"])]
        assert row["timing_partner_id"] in owners, (
            f"unified_events: {row} cannot be read by that partner but by {owners}"
        )


def assert_no_check_is_red(world: World) -> None:
    """Assert that no check of the fleet is red with everything read and equal.

    A race that cannot be read may be overdue.
    """
    conn, now = world.conn, world.clocks.true_now()
    equality, replay, held = (
        fleet_facts.read_equality(conn, 5),
        fleet_facts.replay_bib_log(conn, 5),
        fleet_facts.read_unstored_rows(conn, 5),
    )
    assert equality.unequal == 0, f"events_equal_runsignup is red: {equality}"
    assert replay.wrong + replay.unlogged == 0, f"bib_log_replays is red: {replay}"
    assert held.held_back == 0, f"no_rows_held_back is red: {held}"
    own = [item for item in freshness.read_partner_health(conn, now) if item.partner_id in world.partners]
    for item in own:
        # A partner whose every race refuses has a wrong key by all evidence.
        readable = [race for race in world.races(item.partner_id) if race["race_id"] not in world.unreadable]
        assert item.credential in ("works", "untried", "unverified") or not readable, (
            f"a credential is called refused: {item}"
        )
    fresh = forecast.measure_freshness(freshness.read_event_reads(conn, now), now, world.hub.settings.cadence)
    conn.rollback()
    excused = world.unreadable.keys() | world.refused_events.keys()
    stale = [item for item in fresh if item.is_stale and not excused & {item.read.race_id, item.read.event_id}]
    assert not stale, f"every_partner_fresh is red: {stale[:2]}"
