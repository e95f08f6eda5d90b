"""Every table of a command on a real terminal of 80 x 24, for a hub with long names: nothing is cut.

`rsu status`, `rsu log` and `rsu start-list` are in test_status.py, `rsu race-day` in test_race_day.py.
"""

import itertools
import re
from collections.abc import Iterator

import pytest

from rsu_pipeline.cli.common import show_line
from rsu_pipeline_tests.cli.shell import rsu
from rsu_pipeline_tests.cli.terminal import on_a_terminal
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.specs import estate
from runsignup_sandbox.process import SandboxProcess

SPEC = estate(partners=3, registrations=3, start_in_hours=200)
NAME = "The Extraordinarily Long-Named Timing Company of the Upper Lake District and Surroundings"
KEY = "1-the-extraordinarily-long-named-timing-company"
HOST = "results-receiver.the-extraordinarily-long-named-running-club.example.org"
SENTENCE = (
    f"{KEY}: RunSignup answers with HTTP 503 since 2026-03-01 04:05 UTC. Its 1,234 registrations are not read."
    " Nothing needs to be done while other partners are synced."
)
ROWS = f"""
INSERT INTO alerts (kind, cause, sentence, first_seen_at, last_seen_at) VALUES ('late', 'a', '{SENTENCE}', now(), now());
INSERT INTO schema_drift (timing_partner_id, race_id, field, kind, occurrences)
    VALUES (1, 1, 'registration_of_the_second_household_member.emergency_contact', 'unknown', 1234567),
           (1, 2, 'shirt', 'form', 89);
INSERT INTO webhooks (timing_partner_id, host, url, secret, kinds, failures, failing_since, retry_at, last_error, delivered_at)
    VALUES (1, '{HOST}', 'sealed', 'sealed', '{{bib.changed,start_list.rebuilt}}', 12345, now() - interval '2 days',
            now() + interval '1 hour', 'The receiver answered with HTTP status 503', now() - interval '3 days'),
           (NULL, 'b.example.org', 'sealed', 'sealed', '{{bib.changed}}', 0, NULL, NULL, NULL, NULL);
INSERT INTO webhook_messages (webhook_id, kind, subject, body) SELECT 1, 'bib.changed', n::text, '{{}}'
    FROM generate_series(1, 1234) n;
"""
COMMANDS = (
    "partners list",
    "partners check --all",
    "webhooks list",
    "alerts list",
    "schema",
    "health",
    "sync --partner 1",
    "backfill --partner 1 --partner 2 --wait",
)
VARIES = re.compile(r"\d+ s\b|\d+:\d+:\d+|━+|\d+ calls|\d+ left|\d+ unchanged")


@pytest.fixture(scope="module")
def hub(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Provide three synced partners, the first with a long name, and something for each table to show."""
    with SandboxProcess.start(spec=SPEC, seed=7) as sandbox:
        hub = Hub(module_database, sandbox, tmp_path_factory.mktemp("terminals"), RSU_TIMEZONE="America/Denver")
        for partner in hub.partners:
            hub.sync(partner)
        hub.execute(
            "UPDATE timing_partners SET company_name = %s, partition_key = %s WHERE timing_partner_id = 1", NAME, KEY
        )
        hub.execute(ROWS)
        yield hub


def words_of(text: str) -> set[str]:
    """Return the words of an output, without what changes between two runs of a command."""
    return set(VARIES.sub(" ", text).split())


def cells_of(table: str, columns: list[str]) -> set[str]:
    """Return the words of columns of a table that nothing was cut of, with their names."""
    head, *rows = table.splitlines()
    starts = [*(found.start() for found in re.finditer(r"(?:^|(?<=  ))\S", head)), None]
    found: set[str] = set()
    for begin, end in itertools.pairwise(starts):
        if head[begin:end].strip() in columns:
            found |= {word for row in (head, *rows) for word in row[begin:end].split()}
    return found


def assert_times_in_zone(text: str) -> None:
    """Assert that each time is in the zone of the hub, and names it."""
    assert not re.search(r"\d\d:\d\d(?::\d\d)? UTC", text), text
    for moment in re.finditer(r"\d{4}-\d\d-\d\d \d\d:\d\d(.{0,4})", text):
        assert moment[1].strip() in ("MST", "MDT"), (moment[0], text)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_figure_and_no_name_is_cut_on_80_columns_and_times_are_those_of_the_hub(command: str, hub: Hub) -> None:
    wide = rsu(*command.split(), settings=hub.environment)
    shown, code = on_a_terminal(hub.environment, *command.split())
    assert code == wide.returncode, shown
    assert "\u2026" not in shown, shown
    lacking = words_of(wide.stdout + wide.stderr) - words_of(shown)
    left_out = re.search(r"Not shown in 80 columns: (.+?)\s\(`--json` has them\)", shown, re.DOTALL)
    if left_out:
        lacking -= cells_of(wide.stdout, re.split(r",\s+", left_out[1]))
    elif wide.stdout:
        # Rows that are stacked begin with their first cell, without its name.
        lacking -= {wide.stdout.split()[0]}
    assert not lacking, (lacking, shown)
    assert_times_in_zone(wide.stdout + wide.stderr)


def test_the_columns_of_a_terminal_hold_whole_lines(hub: Hub) -> None:
    """Lines end within 80 columns, those of sentences too."""
    for command in ("partners list", "webhooks list", "alerts list", "schema", "status", "health"):
        shown, _ = on_a_terminal(hub.environment, *command.split())
        assert all(len(line.rstrip()) <= 80 for line in shown.splitlines()), (command, shown)


def test_a_sentence_is_wrapped_between_words_and_in_no_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = f"{KEY}: nothing was read. Run `rsu sync --partner 1 --race 190001`, which reports the cause."
    show_line(sentence)
    assert capsys.readouterr().out == f"{sentence}\n", "programs read whole lines"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    show_line(sentence)
    assert capsys.readouterr().out.splitlines() == [
        f"{KEY}: nothing was read. Run",
        "`rsu sync --partner 1 --race 190001`, which reports the cause.",
    ]
