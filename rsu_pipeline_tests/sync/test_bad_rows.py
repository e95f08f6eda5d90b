"""Promise 5, at its smallest: a bad row never stops other rows, and is never silent."""

from collections.abc import Callable, Mapping
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest

from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

SPEC = estate(registrations=30)

# What is wrong with a row, the reason given for it, and the columns that are NULL for it.
STORED: dict[str, tuple[Mapping[str, Any], str, tuple[str, ...]]] = {
    "malformed money": ({"race_fee": "abc"}, "race_fee: not an amount of money", ()),
    "impossible date": ({"dob": "1990-02-31"}, "dob: day", ("dob",)),
    "impossible time": ({"registration_date": "13/45/2026 99:99"}, "registration_date: ", ("registration_date",)),
    "NUL byte": ({"first_name": "A\x00da"}, "a NUL character was replaced", ()),
    "over-long e-mail": ({"email": "x" * 5000}, "email: longer than 1000 bytes", ("email",)),
    "age beyond int32": ({"age": 3_000_000_000}, "age: out of range", ("age",)),
    "age beyond int64": ({"age": 10**30}, "age", ("age",)),
    "age in words": ({"age": "forty"}, "age: ", ("age",)),
    "a list for a name": ({"first_name": ["Ada"]}, "user.first_name: ", ("first_name",)),
}
HELD_BACK: dict[str, tuple[Mapping[str, Any], str]] = {
    "another event": ({"event_id": 4}, "event 4 was not requested"),
    "no event": ({"event_id": "none"}, "event_id"),
}


def sync_with(
    make_hub: Callable[..., Hub], fields: Mapping[str, Any], drop: tuple[str, ...] = ()
) -> tuple[Hub, int, Any]:
    hub = make_hub(spec=SPEC, seed=7)
    keys = sorted(row["registration_id"] for row in hub.sandbox.admin.truth(1)["active"])
    hub.sandbox.admin.edit(keys[12], fields, drop=drop)
    return hub, keys[12], hub.sync()


@pytest.mark.parametrize("what", STORED)
def test_a_member_that_does_not_fit_is_left_out_and_the_row_stored(make_hub: Callable[..., Hub], what: str) -> None:
    fields, reason, empty = STORED[what]
    hub, key, outcome = sync_with(make_hub, fields)
    assert not outcome.failures
    assert (outcome.counts.with_faults, outcome.counts.quarantined, outcome.counts.inserted) == (1, 0, 30)
    (row,) = hub.rows("SELECT * FROM runsignup_participants WHERE registration_id = %s", key)
    assert [row[name] for name in empty] == [None] * len(empty)
    (noted,) = hub.rows("SELECT * FROM quarantined_rows")
    assert noted["registration_id"] == key and noted["is_stored"] and noted["resolved_at"] is None
    assert reason in noted["reason"]
    assert [row["status"] for row in hub.rows("SELECT status FROM sync_history WHERE race_id IS NOT NULL")] == [
        "partial"
    ]


def test_an_over_long_name_is_stored_whole(make_hub: Callable[..., Hub]) -> None:
    hub, key, outcome = sync_with(make_hub, {"last_name": "Ö" * 100_000})
    assert (outcome.counts.with_faults, outcome.counts.quarantined) == (0, 0)
    assert len(hub.stored()[key]["last_name"]) == 100_000
    hub.assert_equal()


def test_missing_members_and_a_missing_person_are_stored_as_unknown(make_hub: Callable[..., Hub]) -> None:
    hub, key, outcome = sync_with(make_hub, {}, drop=("user",))
    assert (outcome.counts.with_faults, outcome.counts.inserted) == (1, 30)
    assert hub.stored()[key]["last_name"] is None
    assert hub.value("SELECT reason FROM quarantined_rows") == "user: missing"


@pytest.mark.parametrize("what", HELD_BACK)
def test_a_row_that_cannot_be_placed_is_held_back_with_its_reason_and_the_rest_stored(
    make_hub: Callable[..., Hub], what: str
) -> None:
    fields, reason = HELD_BACK[what]
    hub, key, outcome = sync_with(make_hub, fields)
    assert (outcome.counts.quarantined, outcome.counts.inserted) == (1, 29)
    assert key not in hub.stored()
    (noted,) = hub.rows("SELECT * FROM quarantined_rows")
    assert not noted["is_stored"] and reason in noted["reason"]
    assert str(key) in noted["row_text"]


def test_a_row_that_comes_through_whole_leaves_quarantine_and_a_second_reading_adds_nothing(
    make_hub: Callable[..., Hub],
) -> None:
    hub, key, _ = sync_with(make_hub, {"dob": "1990-02-31"})
    hub.sync(full=True)
    assert hub.value("SELECT count(*) FROM quarantined_rows WHERE resolved_at IS NULL") == 1
    hub.sandbox.admin.edit(key, {"dob": "1990-02-28"})
    hub.sync(full=True)
    assert hub.value("SELECT count(*) FROM quarantined_rows WHERE resolved_at IS NULL") == 0
    assert str(hub.stored()[key]["dob"]) == "1990-02-28"


def test_a_registration_twice_in_one_page_is_stored_once(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.sandbox.admin.switch(duplicate_row=True)
    outcome = hub.sync()
    assert not outcome.failures and outcome.counts.inserted == 30
    hub.assert_equal()


def test_rows_that_postgresql_refuses_are_found_by_halving(make_hub: Callable[..., Hub]) -> None:
    """A constraint of the installation's own, which no check of the pipeline can foresee."""
    hub = make_hub(spec=SPEC, seed=7)
    keys = sorted(row["registration_id"] for row in hub.sandbox.admin.truth(1)["active"])
    bad = [keys[3], keys[4], keys[29]]
    hub.execute("ALTER TABLE runsignup_participants ADD CONSTRAINT house_rule CHECK (last_name <> 'Refused')")
    for key in bad:
        hub.sandbox.admin.edit(key, {"last_name": "Refused"})
    outcome = hub.sync()
    assert (outcome.counts.quarantined, outcome.counts.inserted) == (3, 27)
    assert sorted(row["registration_id"] for row in hub.rows("SELECT registration_id FROM quarantined_rows")) == bad
    assert all("house_rule" in row["reason"] for row in hub.rows("SELECT reason FROM quarantined_rows"))
    assert outcome.unequal_events, "and the event is not called equal"


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Provide what the sessions execute from now on."""
    executed: list[str] = []

    class Cursor(psycopg2.extensions.cursor):
        def execute(self, *args: Any, **kwargs: Any) -> Any:
            executed.append(str(args[0]))
            return super().execute(*args, **kwargs)

    connect = psycopg2.connect
    monkeypatch.setattr(
        database.psycopg2, "connect", lambda *args, **more: connect(*args, cursor_factory=Cursor, **more)
    )
    return executed


@pytest.mark.parametrize("fields", [{"dob": "1990-02-31"}, {"event_id": 4}], ids=["field errors", "quarantined whole"])
def test_rows_that_do_not_fit_cost_a_statement_a_page(
    make_hub: Callable[..., Hub], statements: list[str], fields: Mapping[str, Any]
) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    for row in hub.sandbox.admin.truth(1)["active"]:
        hub.sandbox.admin.edit(row["registration_id"], fields)
    statements.clear()
    outcome = hub.sync()
    assert (outcome.counts.with_faults + outcome.counts.quarantined, outcome.reads[0].newly_quarantined) == (30, 30)
    assert sum("INSERT INTO quarantined_rows" in statement for statement in statements) == 1
    again = hub.sync(full=True)
    assert (again.counts.with_faults + again.counts.quarantined, again.reads[0].newly_quarantined) == (30, 0)
    assert hub.value("SELECT count(*) FROM quarantined_rows WHERE resolved_at IS NULL") == 30
