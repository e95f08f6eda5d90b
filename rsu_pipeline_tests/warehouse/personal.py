"""Hubs with people whose data is to be blanked, and where it is searched."""

import datetime as dt
from collections.abc import Callable
from typing import Any

from rsu_pipeline.start_lists import start_list_store
from rsu_pipeline.warehouse import database, privacy
from rsu_pipeline.warehouse.privacy import Done
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

SPEC = estate(partners=2, events=2, registrations=12)
UNKNOWN = {"question_responses": [{"question_text": "In case of emergency", "response": "555-0142 Aunt Ottoline"}]}
CONTACT = ("email", "phone", "dob")
Person = dict[str, Any]


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def hub_with_past(make_hub: Callable[..., Hub]) -> Hub:
    """Return a hub with two partners. The first partner's race has a past edition, all of it read."""
    hub = make_hub(spec=SPEC, seed=7)
    (race,) = hub.sandbox.admin.truth(1)["races"]
    event = hub.sandbox.admin.add_event(race["race_id"], "Last year", start_in_hours=-24 * 360)
    hub.sandbox.admin.register(event, count=10)
    key = min(row["registration_id"] for row in people(hub, past=True))
    hub.sandbox.admin.edit(key, {"bib_num": 17}, extra=UNKNOWN)
    hub.sync(1)
    hub.history()
    hub.assert_equal(past_too=True)
    return hub


def people(hub: Hub, *, past: bool) -> list[Person]:
    """Return the first partner's registrations at RunSignup, of past events or of those ahead."""
    over = {event["event_id"] for event in hub.rows("SELECT event_id FROM runsignup_events WHERE start_time < now()")}
    rows = hub.sandbox.admin.truth(1)["active"]
    if not over:
        newest = max(row["event_id"] for row in rows)  # nothing is stored yet, and the past edition was made last
        return [row for row in rows if (row["event_id"] == newest) == past]
    return [row for row in rows if (row["event_id"] in over) == past]


def values(persons: list[Person], names: tuple[str, ...] = CONTACT) -> set[str]:
    """Return what must not be found, unchanged.

    What several people share, a telephone number for one, shows nothing.
    """
    found = [str(row["user"][name]) for row in persons for name in names if row["user"].get(name)]
    found += [row["user"]["address"]["street"] for row in persons if row["user"]["address"].get("street")]
    return {value for value in found if len(value) > 5}


def everything(hub: Hub) -> str:
    """Return every row of every table and view of the hub, as text."""
    names = hub.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')"
    )
    texts = []
    for name in sorted(row["relname"] for row in names):
        texts += [row["text"] for row in hub.rows(f"SELECT t::text AS text FROM {name} t ORDER BY 1")]
    return "\n".join(texts)


def past_rows(hub: Hub) -> str:
    rows = hub.rows(
        "SELECT p::text AS text FROM runsignup_participants p JOIN runsignup_events e USING (event_id) WHERE e.start_time < now()"
    )
    return "\n".join(row["text"] for row in rows)


def purge(hub: Hub, before: dt.date | None = None, **options: Any) -> Done:
    with database.session(hub.url, purpose="tests") as conn:
        return privacy.purge_contact_rows(conn, before or now().date(), now=now(), who="tests", **options)


def erase(hub: Hub, **options: Any) -> Done:
    with database.session(hub.url, purpose="tests") as conn:
        return privacy.erase_person(conn, who="tests", **options)


def assert_proved(hub: Hub) -> None:
    """Assert that every event that was read in full, past ones too, has what it was sent."""
    unequal = hub.rows(
        "SELECT event_id FROM event_cursors WHERE (read_rows, read_hash) IS DISTINCT FROM (stored_rows, stored_hash)"
    )
    assert unequal == []


def read_all_again(hub: Hub) -> tuple[int, int]:
    """Read coming and past events in full, and return the rows read and the rows written."""
    outcome = hub.sync(1, full=True)
    assert (outcome.failures, outcome.unequal_events) == ([], [])
    before = hub.value("SELECT max(changed_at) FROM runsignup_participants")
    read = hub.history(reload=True)
    assert read.finished and not read.problems
    assert_proved(hub)
    written = hub.value("SELECT count(*) FROM runsignup_participants WHERE changed_at > %s", before)
    counts = outcome.counts
    return counts.read + read.events, counts.inserted + counts.updated + counts.reactivated + written


def somebody(hub: Hub) -> Person:
    """Return somebody with an account and a registration ahead and one in the past edition."""
    coming = next(row for row in people(hub, past=False) if row["user"]["user_id"] and row["user"]["email"])
    old = next(row for row in people(hub, past=True) if row["registration_id"])
    who = {name: coming["user"][name] for name in coming["user"]} | {
        "first_name": "Wilhelmina",
        "last_name": "Thistlewaite",
        "email": "wt@example.test",
    }
    for row in (coming, old):
        hub.sandbox.admin.edit(row["registration_id"], {"user": who, "team_name": "Team Thistlewaite"}, extra=UNKNOWN)
    hub.sync(1)
    hub.history(reload=True)
    hub.assert_equal(past_too=True)
    return {"user_id": who["user_id"], "coming": coming["registration_id"], "old": old["registration_id"]}


GONE = ("Wilhelmina", "Thistlewaite", "wt@example.test", "Ottoline")


def assert_gone(hub: Hub, person: Person) -> None:
    text = everything(hub)
    # Somebody else's answer to the same question is in the past edition.
    assert [value for value in GONE[:3] if value in text] == []
    rows = hub.rows(
        "SELECT * FROM runsignup_participants WHERE registration_id IN (%s, %s)", person["coming"], person["old"]
    )
    assert len(rows) == 2
    for row in rows:
        blank = (
            "user_id first_name middle_name last_name email dob gender phone age address team_info profile_image_url"
        )
        assert [name for name in blank.split() if row[name] is not None] == []
        assert not {"user", "team_name", "age", "question_responses"} & row["payload"].keys()


def build_lists(hub: Hub) -> None:
    with database.session(hub.url, purpose="tests") as conn:
        start_list_store.rebuild(conn, 1, now())
        conn.commit()
