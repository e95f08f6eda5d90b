"""The report of a hub at work: the asset's figures, the command's file, and nobody's name in either."""

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from rsu_pipeline import installation
from rsu_pipeline.definitions import build_definitions
from rsu_pipeline.orchestration import partitions
from rsu_pipeline.warehouse import database, report_queries
from rsu_pipeline_tests.cli.shell import refusal, rsu
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import use_environment
from runsignup_sandbox.process import SandboxProcess

NUMBERS = {"events", "entrants", "with_bib", "priced"}
LINES = {"registrations_by_day", "bib_coverage", "amount_by_event"}


@pytest.fixture
def hub(
    make_sandbox: Callable[..., SandboxProcess],
    make_database: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Hub]:
    hub = Hub(make_database(), make_sandbox(scale="small", seed=7), tmp_path / "home")
    use_environment(monkeypatch, hub.environment)
    yield hub
    installation.current.cache_clear()


def materialize(key: str) -> dict[str, Any]:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(partitions.NAME, [key])
        job = build_definitions().resolve_implicit_global_asset_job_def()
        outcome = job.get_subset(asset_selection={dg.AssetKey("registration_report")}).execute_in_process(
            instance=instance, partition_key=key
        )
        (made,) = outcome.asset_materializations_for_node("registration_report")
    return {name: value.value for name, value in made.metadata.items()}


def test_the_asset_tells_what_is_stored(hub: Hub) -> None:
    assert materialize(hub.partners[3])["entrants"] == 0
    hub.sync(3)
    number = min(key for key, row in hub.truth(3).items() if row["bib_num"] is None)
    hub.sandbox.admin.bib(number, 4711)
    hub.sync(3)
    told = materialize(hub.partners[3])
    rows = hub.stored(3).values()
    assert told.keys() >= NUMBERS | {"amount_paid", "by_event"}
    assert told["entrants"] == len(rows)
    assert told["with_bib"] == sum(row["bib_num"] is not None for row in rows)
    amounts = [row["payment_info"].get("amount_paid") for row in rows]
    assert told["amount_paid"] == pytest.approx(sum(amount for amount in amounts if amount is not None))
    assert told["events_shown"] == f"{told['events']} of {told['events']}, the table by_event"
    assert told["bib_coverage"].endswith(f": {told['with_bib']} of {len(rows)} entrants")
    assert f" USD {told['amount_paid']:,.2f} of " in told["amount_by_event"]
    assert " registrations in the " in told["registrations_by_day"]
    others = {name: text for name, text in told.items() if isinstance(text, str) and name not in LINES}
    pictures = [text for name, text in others.items() if name != "events_shown"]
    assert len(pictures) == 3
    assert all(text.startswith("![") and "data:image/png;base64," in text and len(text) < 60_000 for text in pictures)


def test_days_of_a_report_are_of_the_hubs_zone(hub: Hub) -> None:
    hub.sync(3)
    number = min(key for key, row in hub.truth(3).items() if row["bib_num"] is None)
    hub.sandbox.admin.bib(number, 4711)
    hub.sync(3)
    # 22:30 US Eastern is 02:30 UTC of the next day, and 19:30 in Los Angeles.
    hub.execute(
        "UPDATE runsignup_participants SET registration_date = '2026-07-03 22:30', first_seen_at = '2026-07-04 05:30Z'"
        " WHERE registration_id = %s",
        number,
    )
    moment = dt.datetime(2026, 7, 5, 6, 30, tzinfo=dt.UTC).timestamp()
    hub.execute("ALTER TABLE runsignup_bib_changes DISABLE TRIGGER USER")
    hub.execute("UPDATE runsignup_bib_changes SET modified_epoch = %s", moment)

    def read_days(zone: str) -> list[str]:
        with database.session(hub.url, purpose="tests") as conn:
            rows = report_queries.read_registrations(conn, 3, ZoneInfo(zone))
            (change,) = report_queries.read_bib_changes(conn, 3, ZoneInfo(zone))
        (row,) = [row for row in rows if row["registration_id"] == number]
        return [str(row["registered_on"]), str(row["first_seen_on"]), str(change["day"])]

    assert read_days("UTC") == ["2026-07-04", "2026-07-04", "2026-07-05"]
    assert read_days("America/New_York") == ["2026-07-03", "2026-07-04", "2026-07-05"]
    assert read_days("America/Los_Angeles") == ["2026-07-03", "2026-07-03", "2026-07-04"]


def test_the_command_writes_one_page_without_names(hub: Hub, tmp_path: Path) -> None:
    hub.sandbox.admin.add_race(1, [{"name": "5K", "start_in_hours": 90}], name="<script>alert(1)</script>")
    _, (event_id,) = hub.sandbox.admin.add_race(1, [{"name": "10K", "start_in_hours": 90}], name="<script>")
    hub.sandbox.admin.register(
        event_id, {"first_name": "Xanthippe", "last_name": "Quixwood", "email": "x@quixwood.test"}
    )
    hub.sync(1)
    file = tmp_path / "report.html"
    done = rsu("report", "--partner", "1", "--html", str(file), settings=hub.environment)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith(f"{file}: 1 partner, ")
    text = file.read_text(encoding="utf-8")
    assert "&lt;script&gt;" in text and "<script" not in text
    for row in hub.stored(1).values():
        assert not row["email"] or row["email"] not in text
    assert "Xanthippe" not in text and "Quixwood" not in text
    assert rsu("report", "--html", str(file), settings=hub.environment).stdout.startswith(f"{file}: 3 partners")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing option '--html'"),
        (["--html", "/nowhere/at/all.html"], "Cannot write /nowhere/at/all.html: No such file or directory."),
        (["--html", "x.html", "--partner", "77"], "There is no partner '77'"),
    ],
)
def test_bad_input_is_one_sentence(hub: Hub, arguments: list[str], said: str) -> None:
    assert refusal(rsu("report", *arguments, settings=hub.environment)).startswith(said)
