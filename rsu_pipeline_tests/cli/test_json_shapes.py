"""What `--json` prints has the declared shape, on a hub that has something of everything.

`shell.rsu` checks every other call with --json in the same way: `rsu sync`, `backfill`, `db adopt` and `partners import` in their
own modules.
"""

import json
from typing import Any

import pytest

from rsu_pipeline.cli import json_outputs, json_types
from rsu_pipeline.sync import start_list_rebuild
from rsu_pipeline_tests.cli.json_shapes import misfits, output_of
from rsu_pipeline_tests.cli.shell import rsu
from rsu_pipeline_tests.hub import Hub
from runsignup_sandbox.process import SandboxProcess

SPEC = {"partners": 1, "races_per_partner": 1, "events_per_race": 1, "registrations_per_event": 4, "start_in_hours": 2}
CALLS = {
    "status": ("status",),
    "partners list": ("partners", "list"),
    "alerts list": ("alerts", "list"),
    "health": ("health", "--only", "database", "--only", "daemon"),
    "log": ("log",),
    "race-day": ("race-day",),
    "race-day --changes": ("race-day", "--changes", "60"),
    "race-day --missing": ("race-day", "--missing"),
    "schema": ("schema",),
    "start-list": ("start-list",),
    "start-list EVENT": ("start-list",),
    "webhooks list": ("webhooks", "list"),
}


@pytest.fixture(scope="module")
def near(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Provide a hub with one race that starts in two hours, a bib that changed, an open alert and a backfill."""
    with SandboxProcess.start(spec=SPEC, seed=7) as sandbox:
        hub = Hub(module_database, sandbox, tmp_path_factory.mktemp("home"))
        hub.sync(1)
        first, second, *_ = sorted(row["registration_id"] for row in sandbox.admin.truth(1)["active"])
        sandbox.admin.bib(first, 4711)
        sandbox.admin.bib(second, None)
        hub.sync(1)
        with hub.partner_session(1) as session:
            start_list_rebuild.rebuild_start_lists(session, anyway=True)
        hub.execute(
            "INSERT INTO alerts (kind, cause, partner, sentence, first_seen_at, last_seen_at)"
            " VALUES ('credential', '1', NULL, 'A sentence.', now(), now())"
        )
        hub.execute(
            "INSERT INTO schema_drift (timing_partner_id, race_id, field, kind, occurrences)"
            " VALUES (1, 1, 'pronouns', 'unknown', 1)"
        )
        hub.execute("INSERT INTO history_requests (timing_partner_id, requested_at) VALUES (1, now())")
        hub.execute(
            "INSERT INTO webhooks (host, url, secret, kinds) VALUES ('x', 'sealed:', 'sealed:', ARRAY['bib.changed'])"
        )
        yield hub


@pytest.mark.parametrize("name", CALLS)
def test_what_is_printed_has_the_declared_shape(near: Hub, name: str) -> None:
    event = str(near.value("SELECT min(event_id) FROM start_lists"))
    arguments = (*CALLS[name], *((event,) if name == "start-list EVENT" else ()), "--json")
    assert output_of(arguments) == name
    done = rsu(*arguments, settings=near.environment)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found, "an empty list shows nothing"
    assert misfits(json_outputs.OUTPUTS[name], found, name) == []


def test_every_output_is_checked_by_a_test() -> None:
    elsewhere = {"sync", "backfill", "bibs give", "bibs list", "bibs push", "bibs take", "db adopt", "partners import"}
    assert CALLS.keys() | elsewhere == json_outputs.OUTPUTS.keys()


def test_a_field_too_many_too_few_or_of_another_type_is_noticed() -> None:
    good: dict[str, Any] = {
        "healthy": True,
        "checks": ["web"],
        "reasons": [{"check": "web", "sentence": "x"}],
        "seconds": 1.5,
        "backup_hours": None,
    }
    shape = json_types.HealthOutput
    assert misfits(shape, good, "h") == []
    assert misfits(shape, good | {"more": 1}, "h") == ["h.more is not declared"]
    assert misfits(shape, {name: good[name] for name in good if name != "checks"}, "h") == ["h.checks is missing"]
    assert misfits(shape, good | {"healthy": 1}, "h") == ["h.healthy is 1, not bool"]
    assert misfits(shape, good | {"backup_hours": 3}, "h") == []
    assert misfits(shape, good | {"backup_hours": "3"}, "h") == ["h.backup_hours is '3', not float"]
    assert misfits(shape, good | {"reasons": [{"check": "web"}]}, "h") == ["h.reasons[].sentence is missing"]
    assert misfits(list[int | None], [1, None, True], "n") == ["n[] is True, not int"]
    with pytest.raises(ValueError, match="isoformat"):
        misfits(json_types.OpenAlert, {name: "x" for name in json_types.OpenAlert.__annotations__}, "a")


def test_what_is_not_declared_is_not_printed() -> None:
    row = json_outputs.select_declared(json_types.FailedCheck, {"check": "a", "sentence": "b", "secret": "c"})
    assert row == {"check": "a", "sentence": "b"}
    with pytest.raises(KeyError, match="sentence"):
        json_outputs.select_declared(json_types.FailedCheck, {"check": "a"})
