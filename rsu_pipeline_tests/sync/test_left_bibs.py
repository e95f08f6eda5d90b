"""A bib that was given here stays with the registration, which a transfer at RunSignup replaces by another."""

from collections.abc import Callable

from rsu_pipeline.alerts import rules
from rsu_pipeline.start_lists import start_list_store
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

MakeHub = Callable[..., Hub]


def left(hub: Hub) -> list[str]:
    """Build the start lists as a sync does, and return what the alert rule finds."""
    with hub.partner_session() as session:
        start_list_store.rebuild(session.conn, 1, session.now())
        session.conn.commit()
        now = session.now()
    with database.session(hub.url, purpose="tests") as conn:
        return [one.sentence for one in rules.find_problems(conn, hub.settings, now) if one.kind == "bibs_left"]


def test_a_bib_given_here_that_a_transfer_leaves_behind_is_named_until_it_is_given_again(make_hub: MakeHub) -> None:
    hub = make_hub(spec=estate(races=1, events=3, registrations=6, start_in_hours=30), seed=3)
    hub.sync()
    events = sorted({row["event_id"] for row in hub.stored().values()})
    first = min(key for key, row in hub.stored().items() if row["event_id"] == events[0])
    give = "UPDATE runsignup_participants SET local_bib = %s WHERE registration_id = %s"
    hub.execute(give, " 1234 ", first)
    assert left(hub) == []

    second = hub.sandbox.admin.transfer(first, events[1], transfer_bib=False)
    hub.sync()
    (sentence,) = left(hub)
    assert f"event {events[1]}: 1 entrant without a bib had one that was given here" in sentence
    assert f"`rsu bibs give {second} 1234 --partner 1`" in sentence

    third = hub.sandbox.admin.transfer(second, events[2], transfer_bib=False)
    hub.sync()
    (sentence,) = left(hub)
    assert f"event {events[2]}: " in sentence and f"`rsu bibs give {third} 1234 --partner 1`" in sentence

    hub.execute(give, "1234", third)
    assert left(hub) == []
    hub.execute(give, None, third)
    assert len(left(hub)) == 1
    hub.sandbox.admin.bib(third, 77)
    hub.sync()
    assert left(hub) == []


def test_a_registration_that_left_without_another_keeps_its_bib_to_itself(make_hub: MakeHub) -> None:
    hub = make_hub(spec=estate(races=1, events=1, registrations=6, start_in_hours=30), seed=3)
    hub.sync()
    gone = min(hub.stored())
    hub.execute("UPDATE runsignup_participants SET local_bib = '1234' WHERE registration_id = %s", gone)
    hub.sandbox.admin.remove(gone)
    hub.sync()
    assert gone not in hub.stored() and left(hub) == []
