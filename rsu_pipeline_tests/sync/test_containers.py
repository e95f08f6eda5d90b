"""What is gone or lost beside the sandbox: visits, past editions, freshness, erased people.

`field/test_containers.py` has the cases that need a scripted RunSignup.
"""

import contextlib
import datetime as dt
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsu_pipeline.sync import losses, partner_sync, vanished
from rsu_pipeline.sync.session import CredentialRejected
from rsu_pipeline.sync.vanished import EventAnswer
from rsu_pipeline.sync.watch import Watch
from rsu_pipeline.warehouse import database, freshness, privacy
from rsu_pipeline.warehouse.containers import PartnerRace
from rsu_pipeline.warehouse.events import VanishedEvent
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

MakeHub = Callable[..., Hub]
SPEC = estate(partners=2, races=2, events=2, registrations=4)
NOW = dt.datetime(2027, 6, 1, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def races_of(hub: Hub, partner: int = 1) -> list[int]:
    query = "SELECT race_id FROM partner_races WHERE timing_partner_id = %s AND lost_at IS NULL ORDER BY race_id"
    return [row["race_id"] for row in hub.rows(query, partner)]


def reasons(hub: Hub, race_id: int, partner: int = 1) -> set[str | None]:
    query = "SELECT removed_reason FROM runsignup_participants WHERE timing_partner_id = %s AND race_id = %s"
    return {row["removed_reason"] for row in hub.rows(query, partner, race_id)}


def lost(hub: Hub, partner: int = 1) -> dict[int, str]:
    query = "SELECT race_id, lost_reason FROM partner_races WHERE timing_partner_id = %s AND lost_at IS NOT NULL"
    return {row["race_id"]: row["lost_reason"] for row in hub.rows(query, partner)}


STATES = st.builds(
    PartnerRace,
    st.just(1),
    st.sampled_from(["denied", "not_found"]),
    st.integers(0, 100).map(lambda hours: NOW - dt.timedelta(hours=hours)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.none(),
)


@given(STATES, st.booleans())
def test_a_race_is_lost_by_two_answers_that_agree_and_never_by_a_bad_credential(race: PartnerRace, works: bool) -> None:
    reason = losses.judge_loss(race, NOW, credential_works=works)
    agrees = not race.is_listed or (race.since is not None and NOW - race.since >= DAY)
    if race.access == "not_found":
        assert reason == ("race_deleted" if agrees else None)
    else:
        is_accepted = works or (race.is_public and not race.is_listed)
        assert reason == ("access_lost" if agrees and is_accepted else None)


@given(
    st.lists(st.tuples(st.sampled_from(EventAnswer), st.none() | st.integers(0, 60)), max_size=12),
    st.integers(0, 20),
    st.booleans(),
)
def test_an_event_is_gone_by_two_answers_only(
    sent: list[tuple[EventAnswer, int | None]], present: int, is_confirmed: bool
) -> None:
    answers = [
        (VanishedEvent(number, None if ago is None else NOW - dt.timedelta(minutes=ago)), answer)
        for number, (answer, ago) in enumerate(sent)
    ]
    found = vanished.classify_vanished_events(
        answers, stored=len(sent) + present, share=0.2, now=NOW, is_confirmed=is_confirmed
    )
    assert sorted(found.gone + found.answering + found.pending) == list(range(len(sent)))
    for event, answer in answers:
        if answer is EventAnswer.HAS_ENTRANTS:
            assert event.event_id in found.answering
        elif answer is EventAnswer.TELLS_NOTHING and not is_confirmed:
            is_second = event.vanished_at is not None and NOW - event.vanished_at >= vanished.CONFIRM_AFTER
            assert (event.event_id in found.gone) == (is_second and not found.is_mass)
    untold = sum(answer is EventAnswer.TELLS_NOTHING for answer, _ in sent)
    assert found.is_mass or untold <= max(vanished.MASS_EVENTS, 0.2 * (len(sent) + present))


def test_a_partner_whose_only_race_was_handed_on_loses_it(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"races_per_partner": 1}, seed=3)
    hub.sync(1)
    hub.sync(2)
    (race,) = races_of(hub)
    hub.sandbox.admin.revoke(1, race)
    hub.sandbox.admin.grant(2, race)
    hub.sync(1)
    hub.sync(2)
    assert lost(hub) == {race: "access_lost"} and reasons(hub, race) == {"access_lost"}
    assert reasons(hub, race, partner=2) == {None}
    hub.assert_equal(2)
    query = (
        "SELECT DISTINCT u.timing_partner_id FROM unified_participants u"
        " JOIN runsignup_events e ON e.event_id::varchar = u.event_id WHERE e.race_id = %s"
    )
    assert hub.rows(query, race) == [{"timing_partner_id": 2}]
    assert hub.value("SELECT timing_partner_id FROM runsignup_races WHERE race_id = %s", race) == 2
    hub.sandbox.admin.grant(1, race)
    hub.sync(1)
    hub.assert_equal(1)


@pytest.mark.parametrize("races", [1, 2])
def test_a_revoked_key_loses_no_race_however_long(make_hub: MakeHub, races: int) -> None:
    hub = make_hub(spec=SPEC | {"races_per_partner": races}, seed=3)
    hub.sandbox.admin.clock(rate=0)
    hub.sync(1)
    held = hub.stored(1)
    hub.sandbox.admin.revoke(1)
    for _ in range(3):
        with contextlib.suppress(CredentialRejected):
            assert hub.sync(1, retry_rejected=True).failures
        hub.sandbox.admin.clock(advance=30 * 3600)
    assert lost(hub) == {} and hub.stored(1) == held


def test_a_deleted_race_fails_until_the_listing_agrees_and_is_quiet_then(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"start_in_hours": 1, "partners": 1}, seed=3)
    hub.environment |= {"RSU_WATCH_INTERVAL": "1"}
    hub.sync()
    gone, other = races_of(hub)
    hub.sandbox.admin.delete_race(gone)
    with hub.partner_session() as session:
        outcome = partner_sync.sync_participants(session, partner_sync.make_plan(session, race_ids=[gone]))
    assert "race not found" in outcome.failures[0] and reasons(hub, gone) == {None}
    assert not hub.sync().failures
    assert lost(hub) == {gone: "race_deleted"} and reasons(hub, gone) == {"race_deleted"}
    assert hub.rows("SELECT race_id FROM future_events WHERE race_id = %s", gone) == []
    hub.sandbox.admin.reset_stats()
    watched = Watch(hub.url, hub.secret_box, hub.settings, run_id="watch", log=lambda line: None).run(2)
    assert watched[hub.partners[1]].trouble == {}
    assert {call["race_id"] for call in hub.sandbox.admin.stats()["log"]} == {other}
    with database.session(hub.url, purpose="tests") as conn:
        now = dt.datetime.fromtimestamp(hub.sandbox.admin.clock(), dt.UTC)
        assert {read.race_id for read in freshness.read_event_reads(conn, now)} == {other}
        assert freshness.read_partner_health(conn, now)[0].failures == 0


def test_a_past_race_that_was_deleted_is_noticed_though_nothing_of_it_is_due(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"start_in_hours": -24 * 100, "partners": 1}, seed=3)
    hub.history()
    gone, _ = races_of(hub)
    assert hub.history_progress().is_complete
    hub.sandbox.admin.delete_race(gone)
    with hub.partner_session() as session:
        partner_sync.refresh_events(session)
    assert reasons(hub, gone) == {"race_deleted"}
    hub.history(reload=True)
    progress = hub.history_progress()
    assert (progress.is_complete, progress.failing, progress.events) == (True, 0, 2)
    hub.assert_equal(past_too=True)


def test_a_deleted_past_event_does_not_keep_a_backfill_from_its_end(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"start_in_hours": -24 * 100, "partners": 1}, seed=3)
    hub.history()
    event = hub.value("SELECT min(event_id) FROM runsignup_events")
    hub.sandbox.admin.delete_event(event)
    hub.history(reload=True)
    assert hub.history_progress().is_complete
    hub.assert_equal(past_too=True)
    query = "SELECT DISTINCT removed_reason FROM runsignup_participants WHERE event_id = %s"
    assert hub.rows(query, event) == [{"removed_reason": "event_deleted"}]


def test_an_old_race_that_is_back_is_shown_as_it_was(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"start_in_hours": -24 * 500, "partners": 1}, seed=3)
    hub.history()
    held = hub.stored()
    race, _ = races_of(hub)
    hub.sandbox.admin.revoke(1, race)
    with hub.partner_session() as session:
        partner_sync.refresh_events(session)
    assert reasons(hub, race) == {"access_lost"}
    hub.sandbox.admin.grant(1, race)
    with hub.partner_session() as session:
        partner_sync.refresh_events(session)
    assert hub.stored() == held


def test_an_erased_person_stays_erased_while_a_race_goes_and_comes(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"partners": 1}, seed=3)
    hub.sync()
    race, _ = races_of(hub)
    person = next(row for row in hub.stored().values() if row["race_id"] == race)
    hub.sandbox.admin.revoke(1, race)
    hub.sync()
    with database.session(hub.url, purpose="tests") as conn:
        privacy.erase_person(conn, who="tests", user_id=person["user_id"])
    hub.sandbox.admin.grant(1, race)
    hub.sync()
    rows = hub.rows(
        "SELECT last_name, removed_at FROM runsignup_participants WHERE registration_id = %s", person["registration_id"]
    )
    assert rows == [{"last_name": None, "removed_at": None}]


def test_a_lost_race_is_noticed_though_the_event_it_is_asked_by_was_deleted(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"start_in_hours": -24 * 100, "partners": 1}, seed=3)
    hub.history()
    race, _ = races_of(hub)
    newest = "SELECT event_id FROM runsignup_events WHERE race_id = %s ORDER BY starts_at DESC, event_id LIMIT 1"
    hub.sandbox.admin.revoke(1, race)
    hub.sandbox.admin.delete_event(hub.value(newest, race))
    for _ in range(2):
        with hub.partner_session() as session:
            partner_sync.refresh_events(session)
    assert reasons(hub, race) == {"event_deleted", "access_lost"}
