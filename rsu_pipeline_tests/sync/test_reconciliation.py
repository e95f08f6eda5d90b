"""The equality proof can fail: it sees what is stored, not what was meant to be."""

from collections.abc import Callable

import pytest

from rsu_pipeline.warehouse import database, reconciliation
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

SPEC = estate(events=2, registrations=10)

SABOTAGE = {
    "a field changed": "NEW.first_name := 'Somebody Else'; RETURN NEW;",
    "a bib lost": "NEW.bib_num := NULL; NEW.payload := NEW.payload::jsonb - 'bib_num'; RETURN NEW;",
    "a row lost": "RETURN NULL;",
    "a row marked removed": "NEW.removed_at := now(); RETURN NEW;",
}


@pytest.mark.parametrize("what", SABOTAGE)
def test_a_store_that_does_not_hold_what_was_sent_is_not_proved_equal(make_hub: Callable[..., Hub], what: str) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.execute(
        f"CREATE FUNCTION sabotage() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {SABOTAGE[what]} END $$;"
        "CREATE TRIGGER sabotage BEFORE INSERT ON runsignup_participants FOR EACH ROW"
        " WHEN (NEW.registration_id %% 10 = 3) EXECUTE FUNCTION sabotage()",
        None,
    )
    outcome = hub.sync()
    assert outcome.unequal_events
    with database.session(hub.url, purpose="test") as conn:
        assert [
            item.event_id for item in reconciliation.read_reconciliations(conn, 1) if item.verdict != "equal"
        ] == outcome.unequal_events
    assert hub.value("SELECT count(*) FROM event_cursors WHERE proved_equal_at IS NULL") == len(outcome.unequal_events)
    hub.execute("DROP TRIGGER sabotage ON runsignup_participants")
    healed = hub.sync()
    assert healed.reads[0].read.reason == "last full read was not proved equal"
    assert healed.unequal_events == []
    hub.assert_equal()


def test_several_pages_and_a_resumed_pass_prove_equal(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment |= {"RSU_PAGE_SIZE": "3", "RSU_CALL_ATTEMPTS": "1"}
    hub.sandbox.admin.fault("http_500", 1, endpoint="participants", after_page=True)
    assert hub.sync().failures
    assert hub.value("SELECT pages FROM read_passes") == 1
    outcome = hub.sync()
    assert outcome.reads[0].is_resumed and outcome.unequal_events == []
    rows = hub.rows("SELECT read_rows, stored_rows, read_hash = stored_hash AS same FROM event_cursors")
    assert [(row["read_rows"], row["stored_rows"], row["same"]) for row in rows] == [(10, 10, True)] * 2


def test_a_row_held_back_keeps_its_event_from_being_proved(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    key = min(row["registration_id"] for row in hub.sandbox.admin.truth(1)["active"])
    hub.sandbox.admin.edit(key, {"event_id": 1})
    outcome = hub.sync()
    assert outcome.counts.quarantined == 1
    assert len(outcome.unequal_events) == 2, "which of the events it belongs to is unknown"
