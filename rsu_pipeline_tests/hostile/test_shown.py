"""What RunSignup sends and people see: inert in the web UI, in a page, a spreadsheet, a terminal, a log, a message, a metric."""

import base64
import csv
import datetime as dt
import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from rsu_pipeline import installation
from rsu_pipeline.alerts import rules
from rsu_pipeline.alerts.evaluate import evaluate_alerts
from rsu_pipeline.alerts.notify import send
from rsu_pipeline.reports import page
from rsu_pipeline.service_settings import AlertSettings
from rsu_pipeline.start_lists import start_list_store
from rsu_pipeline.warehouse import credentials, database
from rsu_pipeline_tests.alerts.notifier import running_notifier
from rsu_pipeline_tests.cli.shell import rsu
from rsu_pipeline_tests.hostile.conftest import SPEC
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.orchestration.runs import sync_partner, use_environment
from runsignup_sandbox.process import SandboxProcess

EVIL = "<img src=x onerror=alert(1)>[x](javascript:alert(1))`$\\frac{` \u202e\x1b[2J\r\n2026-01-01 ERROR forged"
PARTNER = '</h2><script>alert(2)</script> "acme" \\'
# A first name, and the cell it becomes.
CELLS = {
    "=1+1": "'=1+1",
    " =1+1": "' =1+1",
    "+1": "'+1",
    "-1": "'-1",
    "@SUM(A1)": "'@SUM(A1)",
    "\t=1": "' =1",
    "\r=1": "' =1",
    "＝1+1": "'＝1+1",
    "＠x": "'＠x",
    "x;=1+1": "x;'=1+1",
    "x\t@y": "x @y",
    "x\n-1": "x -1",
    "x\x1b[31m": "x\ufffd[31m",
    "x\u202ey": "x\ufffdy",
    # A name's own characters stay, also those that this program's Unicode has no name for.
    "\U0001f3c3\u200d\u2640\ufe0f": "\U0001f3c3\u200d\u2640\ufe0f",
    "x\u200cy\u200fz": "x\u200cy\u200fz",
    "x\U0001fffd": "x\U0001fffd",
    "x;y": "x;y",
    'a"b,c': 'a"b,c',
    "Jean-Luc": "Jean-Luc",
    "a=b": "a=b",
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    """Provide a race and an event with evil names and an evil zone.

    RunSignup refuses the registrations of another race with an evil message.
    """
    with SandboxProcess.start(spec=SPEC, seed=7) as made:
        race_id, (event_id,) = made.admin.add_race(1, [{"name": EVIL, "start_in_hours": 30}], name=EVIL)
        made.admin.edit_race(race_id, {"timezone": EVIL, EVIL: 10**400, "description": EVIL})
        for name in CELLS:
            made.admin.register(event_id, {"first_name": name, "last_name": EVIL, "bib_num": name})
        made.admin.register(event_id, {"registration_date": "1/1/1500 00:00", "amount_paid": "$12.00"})
        made.admin.register(event_id, {"registration_date": "1/1/9000 00:00", "bib_num": 5})
        yield made


@pytest.fixture
def evil(
    sandbox: SandboxProcess, make_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    hub = Hub(make_database(), sandbox, tmp_path / "home")
    hub.execute("UPDATE timing_partners SET company_name = %s", PARTNER)
    use_environment(monkeypatch, hub.environment)
    refused = hub.sandbox.admin.truth(1)["races"][0]["race_id"]
    body = json.dumps({"error": {"error_code": 3, "error_msg": EVIL}}).encode()
    sandbox.admin.fault(
        "raw", 0, endpoint="participants", race_id=refused, body=base64.b64encode(body).decode(), status=400
    )
    yield hub
    sandbox.admin.clear_faults()
    installation.current.cache_clear()


def event_of(hub: Hub) -> int:
    return int(hub.value("SELECT event_id FROM runsignup_events WHERE name = %s", EVIL))


def is_inert(text: str) -> bool:
    return not set(text) & set("<>[]`") and all(line.isprintable() for line in text.split("\n"))


def test_the_web_ui_is_given_nothing_that_it_would_run(evil: Hub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with dg.DagsterInstance.ephemeral() as instance:
        run = sync_partner(instance, evil.partners[1])
        entries = instance.all_logs(run.run_id)
        made = {
            entry.dagster_event.asset_key: entry.dagster_event.step_materialization_data.materialization.metadata
            for entry in entries
            if entry.dagster_event and entry.dagster_event.is_step_materialization
        }
    problems = made[dg.AssetKey("partner_events")]["problems"]
    assert isinstance(problems, dg.MarkdownMetadataValue)
    # The zone and the unknown member are in it, as words.
    assert "onerror" in str(problems.value) and "is not known" in str(problems.value)
    assert is_inert(str(problems.value))
    # Each line of the list is one problem.
    assert all(line.startswith("- ") for line in str(problems.value).split("\n"))
    assert run.failure is not None and "onerror" in run.failure.description and is_inert(run.failure.description)
    # Names are cells of a table, which is text, as they are.
    table = made[dg.AssetKey("future_events")]["events"]
    assert isinstance(table, dg.TableMetadataValue)
    assert EVIL in [record.data["race"] for record in table.records]
    lines = [entry.user_message for entry in entries]
    assert any("onerror" in line for line in lines)
    assert not [line for line in lines if "\x1b" in line or "\u202e" in line or "ERROR forged\n" in line]
    assert not [line for line in lines for part in line.split("\n") if part.startswith("2026-01-01")]


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_a_report_shows_names_and_runs_nothing(evil: Hub, tmp_path: Path) -> None:
    evil.sync()
    file = tmp_path / "report.html"
    done = rsu("report", "--html", str(file), settings=evil.environment)
    assert (done.returncode, done.stderr) == (0, "")
    shown = Page(file.read_text(encoding="utf-8"))
    assert shown.tags <= set("html head meta title style body h1 h2 p table tr th td bdi img".split())
    assert shown.attributes <= set("lang charset http-equiv content class alt src".split())
    assert PARTNER in shown.text
    # As it is, but for what steers a terminal; the mark of direction ends with its element.
    assert any("<img src=x onerror=alert(1)>[x](javascript" in text and "\x1b" not in text for text in shown.text)


@pytest.mark.parametrize("year", [1500, 9000])
def test_a_day_that_cannot_be_stretches_no_picture(year: int) -> None:
    today = dt.date(2026, 10, 1)

    def made(registered_on: dt.date | None, changed_on: dt.date) -> dict[str, bytes]:
        common = {
            "event_id": 1,
            "race": EVIL,
            "event": EVIL,
            "came_with_bib": False,
            "has_bib": True,
            "amount_paid": 5.0,
        }
        rows = [
            common | {"registration_id": number, "registered_on": day, "first_seen_on": today}
            for number, day in enumerate([today, today - dt.timedelta(days=3), registered_on])
        ]
        return page.build_report(
            PARTNER, rows, [{"registration_id": 0, "day": changed_on, "change": 1}], today
        ).pictures

    odd = dt.date(year, 1, 1)
    assert len(made(odd, odd)) == 3
    assert made(odd, odd) == made(None, today)


def test_a_start_list_starts_no_formula_and_steers_no_terminal(evil: Hub) -> None:
    evil.sync()
    with database.session(evil.url, purpose="tests") as conn:
        start_list_store.rebuild(conn, 1, dt.datetime.now(dt.UTC))
        conn.commit()
    event = str(event_of(evil))
    done = rsu("start-list", event, "--csv", settings=evil.environment)
    assert (done.returncode, done.stderr) == (0, "")
    rows = list(csv.DictReader(io.StringIO(done.stdout, newline="")))
    found = {row["registration_id"]: row for row in rows}
    stored = evil.rows("SELECT registration_id, first_name FROM start_list_entries WHERE event_id = %s", int(event))
    cells = {row["first_name"]: found[str(row["registration_id"])]["first_name"] for row in stored}
    assert {name: cell for name, cell in cells.items() if name in CELLS} == {
        name: CELLS[name] for name in CELLS if name in cells
    }
    assert len(set(CELLS) & set(cells)) >= len(CELLS) - 3, "lists are without the white space around a name"
    # However the program cuts lines into cells, none begins a formula.
    for separator in ",;\t":
        for line in done.stdout.replace("\r", "\n").split("\n"):
            for cell in line.split(separator):
                assert not cell.strip().strip('"').startswith(tuple("=+@＝＋＠")), (separator, line)
    shown = rsu("start-list", event, settings=evil.environment)
    assert shown.returncode == 0 and "\x1b" not in shown.stdout and "\u202e" not in shown.stdout
    assert not [line for line in shown.stdout.splitlines() if line.startswith("2026-01-01")]


def test_metrics_stay_lines_of_metrics(evil: Hub) -> None:
    with database.session(evil.url, purpose="tests") as conn:
        partner_id = credentials.add(
            conn, evil.secret_box, name="x", principal="another-key", secret="another-secret", scheme="api_key"
        )
        conn.commit()
    name = 'a"} 1\nforged{partner="b'
    evil.execute("UPDATE timing_partners SET company_name = %s WHERE timing_partner_id = %s", name, partner_id)
    with database.session(evil.url, purpose="tests") as conn:
        key = credentials.ensure_key(conn, partner_id)
        conn.commit()
    done = rsu("status", "--prometheus", "-", settings=evil.environment)
    families = list(text_string_to_metric_families(done.stdout))
    assert {family.name.split("_")[0] for family in families} == {"rsu"}
    labels = {sample.labels.get("partner") for family in families for sample in family.samples}
    assert labels == {None, evil.partners[1], key}
    assert '"' not in key and "\n" not in key


def test_the_command_line_and_its_table_show_one_line_for_each_thing(evil: Hub) -> None:
    evil.sync()
    done = rsu("status", settings=evil.environment)
    assert done.returncode == 0 and "\x1b" not in done.stdout and "\u202e" not in done.stdout
    assert not [line for line in done.stdout.splitlines() if line.startswith("2026-01-01")]
    told: list[str] = []
    with evil.partner_session() as session:
        session.log = told.append
        from rsu_pipeline.sync import partner_sync

        partner_sync.sync_participants(session, partner_sync.make_plan(session, force_full=True))
    assert len(told) == 3 and all(line.isprintable() for line in told), told


def test_a_company_name_and_a_credentials_error_steer_no_terminal(evil: Hub) -> None:
    evil.execute("UPDATE timing_partners SET company_name = %s, partition_key = %s", EVIL, "1-\x1b[31mx")
    evil.execute("UPDATE partner_provider_credentials SET rejected_at = now(), rejected_reason = %s", EVIL)
    evil.execute(
        "INSERT INTO sync_history (timing_partner_id, race_id, status, reason, finished_at, operation_type)"
        " VALUES (1, 1, 'failed', %s, now(), 'participants')",
        EVIL,
    )
    for command in (("partners", "list"), ("status",), ("alerts", "list")):
        done = rsu(*command, settings=evil.environment)
        assert done.returncode in (0, 1), done.stderr
        assert all(line.isprintable() for line in done.stdout.splitlines()), command
        assert not [line for line in done.stdout.splitlines() if line.startswith("2026-01-01")], command
    assert "onerror" in rsu("partners", "list", settings=evil.environment).stdout
    again = rsu("partners", "add", EVIL.upper().strip(), "--key", "k", settings=evil.environment, stdin="s\n")
    assert again.returncode == 2 and all(line.isprintable() for line in again.stderr.splitlines())


def test_a_message_names_numbers_only_and_no_service_is_given_markup(evil: Hub) -> None:
    evil.sync()
    evil.execute("UPDATE partner_provider_credentials SET rejected_at = now(), rejected_reason = %s", EVIL)
    said: list[str] = []
    with running_notifier() as notifier, database.session(evil.url, purpose="tests") as conn:
        now = dt.datetime.now(dt.UTC)
        problems = rules.find_problems(conn, evil.settings, now)
        settings = AlertSettings(urls=(notifier.url,), link="http://127.0.0.1:3000")
        evaluate_alerts(conn, problems, settings, now, said.append, zone=dt.UTC)
        messages: list[Any] = notifier.take()
        assert messages and problems
        for title, text in messages:
            assert title.removeprefix("RunSignup hub: ") in rules.TITLES.values()
            # What comes from outside has no backtick. An rsu command has.
            outside = re.sub(r"`rsu [^`]+`", "", text)
            assert "onerror" not in text and "script" not in text and is_inert(outside)
        # And were there any, a service that shows HTML would be given it as text.
        assert send([f"json://127.0.0.1:{notifier.port}/?format=html"], "x", EVIL)[0].is_accepted
        ((_, body),) = notifier.take()
        assert "<img" not in body and "&lt;img" in body
