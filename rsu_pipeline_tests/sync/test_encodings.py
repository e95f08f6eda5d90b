"""Names are stored unchanged whatever sets a session's encoding, and rows stored otherwise are repaired."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from rsu_pipeline.sync import registration_rows
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

SPEC = estate(events=2, registrations=15)
NAMES = {"first_name": "Zo\u00eb", "last_name": "M\u00fcller-\u0141ukasiewicz"}


@pytest.fixture
def hub(make_hub: Callable[..., Hub]) -> Hub:
    """Provide a hub with one registration whose name is not ASCII, that has read nothing yet."""
    made = make_hub(spec=SPEC, seed=7)
    made.sandbox.admin.edit(key_of(made), NAMES)
    return made


def key_of(hub: Hub) -> int:
    return int(min(row["registration_id"] for row in hub.sandbox.admin.truth(1)["active"]))


def name_in(hub: Hub) -> tuple[str, str]:
    (row,) = hub.rows(
        "SELECT first_name, last_name FROM runsignup_participants WHERE registration_id = %s", key_of(hub)
    )
    return row["first_name"], row["last_name"]


@pytest.mark.parametrize("source", ["environment", "address", "role", "database"])
def test_names_are_stored_as_sent_whatever_encoding_is_asked_for(hub: Hub, source: str) -> None:
    name = hub.url.rsplit("/", 1)[1]
    with pytest.MonkeyPatch.context() as patch:
        if source == "environment":
            patch.setenv("PGCLIENTENCODING", "LATIN1")
        elif source == "address":
            hub.url += "?client_encoding=LATIN1"
        else:
            whose = "ROLE CURRENT_USER IN DATABASE" if source == "role" else "DATABASE"
            hub.execute(f"ALTER {whose} {name} SET client_encoding = 'LATIN1'")
        assert hub.sync(full=True).failures == []
    assert name_in(hub) == tuple(NAMES.values())
    hub.assert_equal()


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch) -> Callable[[Hub], AbstractContextManager[None]]:
    """Provide sessions and rules as they were: the client's encoding is what somebody set, and nothing checks it.

    Sessions that the hub keeps are ended before and after.
    """
    connect = database.connect

    def connect_as_before(url: str, **options: Any) -> Any:
        conn = connect(url, **options)
        conn.set_client_encoding("LATIN1")
        return conn

    @contextmanager
    def before(hub: Hub) -> Iterator[None]:
        hub.close()
        with monkeypatch.context() as patch:
            patch.setattr(database, "connect", connect_as_before)
            patch.setattr(registration_rows, "RULES", b"1")
            yield
        hub.close()

    return before


def test_rows_that_were_stored_in_another_encoding_are_repaired_by_the_next_full_read(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, as_before: Callable[[Hub], AbstractContextManager[None]]
) -> None:
    with as_before(hub):
        broken = hub.sync(full=True)
        assert broken.failures == [] and broken.unequal_events == [], "and it was called equal"
    assert name_in(hub)[0] == "Zo\u00c3\u00ab"
    sealed = "SELECT count(*) FROM runsignup_participants WHERE seal IS NOT NULL"
    assert hub.value(sealed) == 30

    with monkeypatch.context() as right_session:
        right_session.setattr(registration_rows, "RULES", b"1")
        assert hub.sync(full=True).counts.updated == 0, "which is why the rules have another name"

    counts = hub.sync(full=True).counts
    assert counts.updated >= 1
    assert name_in(hub) == tuple(NAMES.values())
    hub.assert_equal()
    assert hub.sync(full=True).counts.updated == 0


def test_past_editions_that_were_stored_in_another_encoding_are_repaired_by_a_backfill_from_the_start(
    make_hub: Callable[..., Hub], as_before: Callable[[Hub], AbstractContextManager[None]]
) -> None:
    hub = make_hub(scale="small", seed=7)
    broken = "SELECT count(*) FROM runsignup_participants WHERE first_name = 'Zo\u00c3\u00ab'"
    hub.sync()
    with as_before(hub):
        assert hub.history().finished
    assert hub.value(broken) > 0
    assert hub.history(reload=True).finished
    assert hub.value(broken) == 0
    hub.assert_equal(past_too=True)
