"""What refusals mean: for a race, for an event, for a credential.

Against a real PostgreSQL and a RunSignup in its own process.
"""

import datetime as dt
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsu_pipeline.runsignup.api_errors import ApiError, Cause
from rsu_pipeline.sync import access, listing, partner_sync
from rsu_pipeline.sync.access import Evidence, Verdict
from rsu_pipeline.sync.session import CredentialRejected
from rsu_pipeline.sync.watch import Watch
from rsu_pipeline.warehouse.events import AccessCandidate
from rsu_pipeline_tests.hub import Hub

MakeHub = Callable[..., Hub]
SPEC = {"partners": 1, "races_per_partner": 2, "events_per_race": 2, "registrations_per_event": 10, "start_in_hours": 1}
NOW = dt.datetime(2027, 6, 1, 12, tzinfo=dt.UTC)
CANDIDATES = st.builds(
    AccessCandidate,
    st.integers(1, 50),
    st.integers(1, 50),
    st.booleans(),
    st.booleans(),
    st.none() | st.datetimes(dt.datetime(2026, 1, 1), dt.datetime(2028, 1, 1), timezones=st.just(dt.UTC)),
)


def race_ids(hub: Hub) -> list[int]:
    return [row["race_id"] for row in hub.rows("SELECT race_id FROM runsignup_races ORDER BY race_id")]


def event_ids(hub: Hub, race_id: int) -> list[int]:
    query = "SELECT event_id FROM runsignup_events WHERE race_id = %s ORDER BY event_id"
    return [row["event_id"] for row in hub.rows(query, race_id)]


def an_entrant(hub: Hub, event_id: int) -> int:
    query = "SELECT min(registration_id) FROM runsignup_participants WHERE removed_at IS NULL AND event_id = %s"
    return int(hub.value(query, event_id))


def bib(hub: Hub, registration_id: int) -> object:
    return hub.value("SELECT bib_num FROM runsignup_participants WHERE registration_id = %s", registration_id)


def is_rejected(hub: Hub) -> bool:
    return bool(hub.value("SELECT rejected_at IS NOT NULL FROM partner_provider_credentials"))


@given(st.lists(CANDIDATES, max_size=5), st.integers(0, 3), st.none() | st.integers(1, 50))
def test_a_credential_is_never_rejected_from_a_sample_of_one(
    refused: list[AccessCandidate], failures: int, readable: int | None
) -> None:
    evidence = Evidence(readable, refused, [ApiError(Cause.SERVER, "HTTP 500")] * failures)
    verdict = access.judge_credential(evidence)
    telling = [race for race in refused if race.was_readable or race.is_upcoming]
    assert (verdict is Verdict.WORKS) == (readable is not None)
    assert (verdict is Verdict.REJECTED) == (readable is None and len(telling) >= 2 and not failures)


@given(st.lists(CANDIDATES, min_size=1, max_size=8))
def test_upcoming_races_are_asked_before_past_ones_and_readable_ones_before_unknown(
    candidates: list[AccessCandidate],
) -> None:
    order = access.order_candidates(candidates, NOW)
    ranks = [(not race.is_upcoming, not race.was_readable) for race in order]
    assert ranks == sorted(ranks) and sorted(map(repr, order)) == sorted(map(repr, candidates))


@pytest.mark.parametrize("code", [6, 7])
def test_one_race_that_refuses_does_not_stop_the_watch_of_the_others(make_hub: MakeHub, code: int) -> None:
    hub = make_hub(spec=SPEC, seed=3)
    hub.environment |= {"RSU_WATCH_INTERVAL": "1"}
    hub.sync()
    refusing, other = race_ids(hub)
    hub.sandbox.admin.fault("error_code", 0, endpoint="participants", race_id=refusing, code=code, message="Denied")
    registration = an_entrant(hub, event_ids(hub, other)[0])
    hub.sandbox.admin.bib(registration, 7)
    watched = Watch(hub.url, hub.secret_box, hub.settings, run_id="watch", log=lambda line: None).run(4)
    assert bib(hub, registration) == "7"
    assert not is_rejected(hub)
    assert list(watched[hub.partners[1]].trouble) == [refusing]
    assert hub.rows("SELECT race_id FROM partner_races WHERE access = 'denied'") == [{"race_id": refusing}]


def test_a_visit_of_one_race_that_refuses_asks_another_before_it_condemns(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC, seed=3)
    hub.sync()
    refusing, _ = race_ids(hub)
    hub.execute("UPDATE partner_provider_credentials SET verified_at = now() - interval '1 day'")
    hub.sandbox.admin.revoke(1, refusing)
    with hub.partner_session() as session:
        outcome = partner_sync.sync_participants(session, partner_sync.make_plan(session, race_ids=[refusing]))
    assert [failure.split(":")[0] for failure in outcome.failures] == [f"race {refusing}"]
    assert not is_rejected(hub)
    assert hub.value("SELECT verified_at > now() - interval '1 minute' FROM partner_provider_credentials")


def test_a_director_who_takes_several_races_away_does_not_stop_the_partners_other_races(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"races_per_partner": 5, "events_per_race": 1}, seed=3)
    hub.sync()
    *taken, kept = race_ids(hub)
    for race_id in taken:
        hub.sandbox.admin.fault("error_code", 0, endpoint="participants", race_id=race_id, code=7, message="Denied")
    _, (new_event,) = hub.sandbox.admin.add_race(1, [{"name": "New", "start_in_hours": 400}])
    hub.sandbox.admin.register(new_event, count=2)
    outcome = hub.sync()
    assert not is_rejected(hub)
    assert {read.read.race_id for read in outcome.reads if read.error} == set(taken)
    assert kept in {read.read.race_id for read in outcome.reads if not read.error}
    assert hub.value("SELECT count(*) FROM runsignup_participants WHERE event_id = %s", new_event) == 2


def test_several_new_races_that_cannot_be_read_do_not_discard_the_listing(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"races_per_partner": 5, "events_per_race": 1}, seed=3)
    *broken, kept = sorted(race["race_id"] for race in hub.sandbox.admin.truth(1)["races"])
    for race_id in broken:
        hub.sandbox.admin.fault("error_code", 0, endpoint="participants", race_id=race_id, code=8, message="Failed")
    outcome = hub.sync()
    assert kept in {read.read.race_id for read in outcome.reads if not read.error}
    assert race_ids(hub) == [*broken, kept]


def test_a_listing_that_lacks_a_public_race_that_refuses_is_the_partners_own(make_hub: MakeHub) -> None:
    """Its only race is taken away while a new one cannot be read yet. The public list, which a wrong key gets, has both."""
    hub = make_hub(spec=SPEC | {"races_per_partner": 1}, seed=3)
    hub.sync()
    (lost,) = race_ids(hub)
    hub.sandbox.admin.revoke(1, lost)
    new, _ = hub.sandbox.admin.add_race(1, [{"name": "New", "start_in_hours": 48}])
    hub.sandbox.admin.fault("error_code", 0, endpoint="participants", race_id=new, code=7, message="Denied")
    with hub.partner_session() as session:
        assert access.check_access(session) is access.Verdict.UNDECIDED
    hub.sync()
    assert not is_rejected(hub)
    assert hub.value("SELECT lost_reason FROM partner_races WHERE race_id = %s", lost) == "access_lost"
    assert hub.value("SELECT count(*) FROM runsignup_participants WHERE removed_at IS NULL") == 0
    assert race_ids(hub) == sorted([lost, new])


def test_a_race_whose_upcoming_event_is_not_found_is_lost_by_another_event(make_hub: MakeHub) -> None:
    """RunSignup answers that it lacks the upcoming event, before it checks the access to the race."""
    hub = make_hub(spec=SPEC | {"races_per_partner": 2, "events_per_race": 2}, seed=3)
    race_id, _ = sorted(race["race_id"] for race in hub.sandbox.admin.truth(1)["races"])
    hub.sync()
    upcoming, past = event_ids(hub, race_id)
    hub.sandbox.admin.move_event(past, start_time=time.time() // 60 * 60 - 5 * 86400)
    hub.sync()
    hub.sandbox.admin.fault("error_code", 0, event_id=upcoming, code=301, message="Event not found.")
    hub.sandbox.admin.revoke(1, race_id)
    hub.sync()
    hub.sync()
    assert hub.value("SELECT lost_reason FROM partner_races WHERE race_id = %s", race_id) == "access_lost"
    assert (
        hub.value("SELECT count(*) FROM runsignup_participants WHERE removed_at IS NULL AND race_id = %s", race_id) == 0
    )


def test_a_revoked_key_is_rejected_after_a_few_races_not_after_all(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"races_per_partner": 9, "events_per_race": 1}, seed=3)
    hub.sync()
    hub.sandbox.admin.revoke(1)
    hub.sandbox.admin.reset_stats()
    with hub.partner_session() as session, pytest.raises(CredentialRejected):
        partner_sync.sync_participants(session, partner_sync.make_plan(session))
    assert is_rejected(hub)
    assert hub.sandbox.admin.stats()["calls"] <= 2 * access.MAX_REFUSALS


def test_access_that_returns_is_noticed_at_the_next_visit(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC, seed=3)
    hub.sync()
    hub.sandbox.admin.revoke(1)
    with pytest.raises(CredentialRejected):
        hub.sync()
    hub.sandbox.admin.grant(1)
    hub.execute("UPDATE partner_provider_credentials SET rejected_at = now() - interval '5 minutes'")
    assert not hub.sync().failures
    assert not is_rejected(hub)


@pytest.mark.parametrize("is_revoked", [False, True])
def test_access_that_returns_is_noticed_though_no_event_is_upcoming(make_hub: MakeHub, is_revoked: bool) -> None:
    hub = make_hub(spec=SPEC | {"start_in_hours": -900}, seed=3)
    hub.sync()
    assert not hub.sync().reads
    hub.execute("UPDATE partner_provider_credentials SET rejected_at = now() - interval '5 minutes'")
    if is_revoked:
        hub.sandbox.admin.revoke(1)
    hub.sync()
    assert is_rejected(hub) is is_revoked
    hub.sandbox.admin.reset_stats()
    if not is_revoked:
        hub.sync()
        assert "participants" not in hub.sandbox.admin.stats()["by_endpoint"], "once is enough"


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "error_code", "code": 7},
        {"kind": "error_code", "code": 301},
        {"kind": "error_code", "code": 4},
        {"kind": "error_code", "code": 8},
        {"kind": "http_500"},
        {"kind": "unknown_shape"},
        {"kind": "raw", "status": 403, "body": ""},
    ],
    ids=lambda fault: f"{fault['kind']}{fault.get('code', fault.get('status', ''))}",
)
def test_a_new_race_that_cannot_be_read_leaves_the_partners_other_races(
    make_hub: MakeHub, fault: dict[str, object]
) -> None:
    hub = make_hub(spec=SPEC, seed=3)
    hub.sync()
    registration = an_entrant(hub, event_ids(hub, race_ids(hub)[0])[0])
    hub.sandbox.admin.bib(registration, 5)
    new, _ = hub.sandbox.admin.add_race(1, [{"name": "New", "start_in_hours": 0.5}])
    hub.sandbox.admin.fault(times=0, endpoint="participants", race_id=new, **fault)  # type: ignore[arg-type]
    outcome = hub.sync()
    assert bib(hub, registration) == "5"
    assert new in race_ids(hub)
    assert [failure.split(":")[0].split(",")[0] for failure in outcome.failures] == [f"race {new}"]
    assert not is_rejected(hub)


def test_the_first_race_of_a_new_partner_that_fails_is_stored_and_reported(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"races_per_partner": 1}, seed=3)
    hub.sandbox.admin.fault("error_code", 0, endpoint="participants", code=7)
    outcome = hub.sync()
    assert len(race_ids(hub)) == 1 and len(outcome.failures) == 1
    assert not is_rejected(hub)


def test_a_gateway_that_answers_403_says_nothing_about_the_credential(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC, seed=3)
    hub.sync()
    hub.sandbox.admin.fault("raw", 0, endpoint="participants", status=403, body="")
    outcome = hub.sync()
    assert len(outcome.failures) == 2 and not is_rejected(hub)
    assert not hub.rows("SELECT FROM partner_races WHERE access = 'denied'")


def test_one_refused_event_leaves_the_races_other_events(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"races_per_partner": 1, "events_per_race": 5}, seed=3)
    hub.sync()
    (race,) = race_ids(hub)
    first, *_, refused = event_ids(hub, race)
    registration = an_entrant(hub, first)
    hub.sandbox.admin.bib(registration, 99)
    hub.sandbox.admin.fault("error_code", 0, endpoint="participants", event_id=refused, code=301)
    outcome = hub.sync()
    assert bib(hub, registration) == "99"
    assert [failure.split(":")[0] for failure in outcome.failures] == [f"race {race}, event {refused}"]
    assert hub.rows("SELECT event_id FROM refused_events") == [{"event_id": refused}]
    # From now on the others are requested without it.
    hub.sandbox.admin.reset_stats()
    with hub.partner_session() as session:
        again = partner_sync.sync_participants(session, partner_sync.make_plan(session))
    assert [len(read.read.event_ids) for read in again.reads] == [4, 1]
    hub.sandbox.admin.clear_faults()
    assert not hub.sync().failures
    assert not hub.rows("SELECT FROM refused_events")


def test_a_backfill_reads_the_other_events_of_an_edition_with_a_refused_one(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC | {"races_per_partner": 1, "events_per_race": 3, "start_in_hours": -900}, seed=3)
    with hub.partner_session() as session:
        listing.refresh_events(session)
    (race,) = race_ids(hub)
    refused, *others = event_ids(hub, race)
    hub.sandbox.admin.fault("error_code", 0, endpoint="participants", event_id=refused, code=301)
    done = hub.history()
    assert len(done.problems) == 1
    loaded = {row["event_id"] for row in hub.rows("SELECT DISTINCT event_id FROM runsignup_participants")}
    assert loaded == set(others)


def test_a_race_that_is_listed_again_counts_as_one_that_can_be_read(make_hub: MakeHub) -> None:
    hub = make_hub(spec=SPEC, seed=3)
    hub.sync()
    admin = hub.sandbox.admin
    refusing, returning = race_ids(hub)
    admin.revoke(1, returning)
    hub.sync()
    assert hub.value("SELECT unlisted_at IS NOT NULL FROM partner_races WHERE race_id = %s", returning)
    admin.grant(1, returning)
    new, _ = admin.add_race(1, [{"name": "New", "start_in_hours": 300}])
    for race_id in (refusing, new):
        admin.fault("error_code", 0, endpoint="participants", race_id=race_id, code=7, message="Denied")
    outcome = hub.sync()
    assert {int(failure.split()[1].rstrip(":,")) for failure in outcome.failures} == {refusing, new}
    assert not is_rejected(hub)
