"""The first load of an event inserts without comparing, and only what is not stored."""

from collections.abc import Callable

import pytest

from rsu_pipeline.warehouse import participants
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate

SPEC = estate(events=2, registrations=15)


def test_a_first_load_compares_nothing(make_hub: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment["RSU_PAGE_SIZE"] = "7"
    monkeypatch.setattr(participants, "_MERGE_ACTIVE", "a statement that is not sent")
    outcome = hub.sync()
    assert (outcome.counts.inserted, outcome.counts.read, outcome.counts.bib_changes) == (30, 30, 0)
    assert outcome.unequal_events == []
    hub.assert_equal()
    hub.assert_bib_log_replays()


def test_what_a_first_load_finds_stored_is_compared_and_keeps_its_history(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.sync()
    lost, changed, back, *_ = sorted(row["registration_id"] for row in hub.sandbox.admin.truth(1)["active"])
    hub.execute("DELETE FROM runsignup_participants WHERE registration_id = %s", lost)
    hub.execute("UPDATE runsignup_participants SET removed_at = now() WHERE registration_id = %s", back)
    hub.sandbox.admin.bib(changed, 4711)
    hub.execute("DELETE FROM event_cursors")
    counts = (outcome := hub.sync()).counts
    assert outcome.failures == [] and outcome.unequal_events == []
    assert (counts.read, counts.inserted, counts.updated, counts.reactivated, counts.unchanged) == (30, 1, 1, 1, 27)
    hub.assert_equal()
    assert hub.rows("SELECT registration_id, new_bib FROM runsignup_bib_changes") == [
        {"registration_id": changed, "new_bib": "4711"}
    ]


def test_a_registration_quarantined_before_the_first_load_ended_comes_through(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    key, *_ = sorted(row["registration_id"] for row in hub.sandbox.admin.truth(1)["active"])
    hub.execute(
        "INSERT INTO quarantined_rows (timing_partner_id, race_id, registration_id, is_stored, reason, row_digest)"
        " SELECT 1, 1, %s, false, 'of an earlier try', 'x'",
        key,
    )
    hub.sync()
    assert hub.value("SELECT count(*) FROM quarantined_rows WHERE resolved_at IS NULL") == 0
    hub.assert_equal()
