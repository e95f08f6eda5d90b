"""`rsu status --prometheus`: figures that Prometheus' own parser reads, of partition keys and nothing else."""

import math
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rsu_pipeline_tests.cli.shell import refusal, rows, rsu
from rsu_pipeline_tests.hub import Hub

Figures = dict[str, dict[str | None, float]]


def parsed(text: str) -> Figures:
    """Return values by name and partition key. The key is None for a figure of the whole fleet."""
    found: Figures = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation and family.type == "gauge", family.name
        for sample in family.samples:
            assert sample.labels.keys() <= {"partner"}, sample
            found.setdefault(sample.name, {})[sample.labels.get("partner")] = sample.value
    return found


@pytest.fixture(scope="module")
def synced(hub: Hub) -> Hub:
    """Provide a hub whose first partner is up to date, with a new bib, and whose others were never synced."""
    hub.sync(1)
    hub.execute(
        "INSERT INTO runsignup_bib_changes (timing_partner_id, race_id, event_id, registration_id, kind, new_bib,"
        " modified_epoch, first_seen_new) VALUES (1, 1, 1, 1, 'assigned', '7', extract(epoch FROM now())::bigint - 20, now())"
    )
    hub.execute("UPDATE event_cursors SET last_read_at = last_read_at - interval '12 hours' WHERE event_id ="
                " (SELECT min(event_id) FROM future_events WHERE tier = 'later')")  # fmt: skip
    return hub


def test_the_figures_are_those_of_the_database(synced: Hub) -> None:
    done = rsu("status", "--prometheus", "-", settings=synced.environment)
    assert (done.returncode, done.stderr) == (0, "")
    found = parsed(done.stdout)
    one, two, three = (synced.partners[number] for number in (1, 2, 3))
    active = synced.value("SELECT count(*) FROM runsignup_participants WHERE removed_at IS NULL")
    assert found["rsu_partner_registrations"] == {one: active, two: 0, three: 0}
    assert found["rsu_partner_rows_changed_24h"][one] >= active
    calls = synced.value("SELECT count(*) FROM api_calls")
    assert found["rsu_partner_calls_last_hour"] == {one: calls, two: 0, three: 0}
    assert found["rsu_calls_per_hour_limit"] == {None: 1_000_000}
    assert found["rsu_partner_calls_needed_next_hour"][one] > 210
    assert found["rsu_partners"] == {None: 3}
    assert found["rsu_partner_bib_changes_24h"] == {one: 1, two: 0, three: 0}
    assert 19 <= found["rsu_partner_bib_detection_p95_seconds"][one] < 60
    assert found["rsu_partner_bib_detection_p95_seconds"].keys() == {one}
    assert found["rsu_partner_events_stale"] == {one: 1, two: 0, three: 0}
    assert 43_200 <= found["rsu_partner_oldest_read_age_seconds"][one] < 43_200 + 600
    assert 13_800 <= found["rsu_partner_overdue_seconds"][one] < 13_800 + 600
    assert found["rsu_partner_open_failures"] == {one: 0, two: 0, three: 0}
    assert found["rsu_partner_last_sync_timestamp_seconds"].keys() == {one}
    assert not any(math.isnan(value) for family in found.values() for value in family.values())


def test_they_hold_no_secret_and_nobodys_name(synced: Hub) -> None:
    text = rsu("status", "--prometheus", "-", settings=synced.environment).stdout
    for partner in synced.sandbox.admin.partners():
        assert partner["key"] not in text and partner["secret"] not in text
    for principal, secret in rows(synced.environment, "SELECT principal, secret FROM partner_provider_credentials"):
        assert principal not in text and secret not in text
    people = rows(synced.environment, "SELECT email, phone FROM runsignup_participants WHERE email IS NOT NULL")
    assert people and not [email for email, _ in people if email in text]


def test_a_partner_that_is_switched_off_has_no_figures_and_a_refused_one_says_so(synced: Hub) -> None:
    one, two, three = (synced.partners[number] for number in (1, 2, 3))
    synced.execute("UPDATE timing_partners SET disabled_at = now() WHERE timing_partner_id = 2")
    synced.execute("UPDATE partner_provider_credentials SET rejected_at = now() WHERE timing_partner_id = 3")
    found = parsed(rsu("status", "--prometheus", "-", settings=synced.environment).stdout)
    synced.execute("UPDATE timing_partners SET disabled_at = NULL")
    synced.execute("UPDATE partner_provider_credentials SET rejected_at = NULL")
    assert found["rsu_partner_credential_refused"] == {one: 0, three: 1}
    assert not any(two in family for family in found.values())


def test_a_file_is_written_whole_in_place_of_the_one_before(synced: Hub, tmp_path: Path) -> None:
    target = tmp_path / "rsu.prom"
    target.write_text("old")
    before = target.stat().st_ino
    done = rsu("status", "--prometheus", str(target), settings=synced.environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert parsed(target.read_text())["rsu_partners"] == {None: 3}
    assert target.stat().st_ino != before and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("place", ["missing/rsu.prom", "."])
def test_a_place_that_cannot_be_written_is_refused_in_a_sentence(synced: Hub, tmp_path: Path, place: str) -> None:
    assert "Cannot write" in refusal(rsu("status", "--prometheus", str(tmp_path / place), settings=synced.environment))
    assert list(tmp_path.rglob("*")) == []


def test_a_hub_without_partners_has_figures_too(settings: dict[str, str]) -> None:
    assert parsed(rsu("status", "--prometheus", "-", settings=settings).stdout)["rsu_partners"] == {None: 0}


def test_two_forms_at_once_are_refused(settings: dict[str, str]) -> None:
    assert "exclude each other" in refusal(rsu("status", "--json", "--prometheus", "-", settings=settings))
