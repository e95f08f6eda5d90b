"""Every command and every SQL statement in a fenced block of README.md and docs/ works.

Each block is run against a hub of its own, a copy of one that was onboarded from the sandbox and synced. What cannot be run
here is in NOT_RUN, with the reason and the test that does it instead.
"""

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from rsu_pipeline.settings import load_settings
from rsu_pipeline_tests.docs.conftest import Worked
from tools.pages import PROJECT, SHELL, SQL, Block, blocks, files

NOT_RUN = {
    "git clone": "the checkout is there; .ci/run begins with one",
    "cd rsu-pipeline": "the same",
    "make setup": "made the environment that the tests run in",
    "make demo": "`rsu demo`, which cli/test_up.py plays",
    "make up": "`rsu up`, which cli/test_up.py plays",
    "make test": "runs this test",
    "rsu up": "cli/test_up.py plays it",
    'eval "$(rsu demo --env)"': "cli/test_up.py does it beside a demo",
    "export RSU_ALERT_URLS": "would notify strangers; the address is read below, and a notifier replaces it",
    "pg_restore": "PostgreSQL's own; cli/test_backup.py restores",
    "createdb": "PostgreSQL's own; each test makes databases",
    "rsu db adopt --undo": "wants an adopted database; the tests of adoption go back",
    "rsu db roles --read-only": "wants the old program's role; warehouse/test_foreign_writes.py has one",
    "rsu health": "an answer needs `rsu up`; cli/test_health.py asks beside one",
    "rsu db import": "wants that dump; cli/test_backup.py imports one",
    "chmod 600": "wants a file of partners; cli/test_partner_import.py makes them",
    "rsu partners import": "the same",
    "rsu partners remove": "asks first; cli/test_partner_removal.py answers",
    "export HUB_URL": "docs/test_analysts_page.py runs the examples with it",
    "psql": "wants HUB_URL; docs/test_analysts_page.py runs it",
    "useradd": "changes the machine",
    "apt-get install": "changes the machine",
    "sudo -u postgres": "changes the machine's PostgreSQL",
    "cd": "into what the commands before it made",
    "git fetch": "the next version is not there yet",
    "python3 -m venv": "`make setup` by hand",
    ".venv/bin/pip": "`make setup` by hand",
    ".venv/bin/dg": "needs dagster-dg-cli; installation/test_dagster_tools.py runs it",
    "install": "changes the machine; deploy/test_systemd.py puts the same files into a folder",
    "systemctl": "wants the machine's systemd; deploy/test_systemd.py has the units verified",
    "timedatectl": "wants the machine's systemd",
    "(umask 077": "makes a secret for Docker",
    "sed -i": "edits a file that Docker or the cluster is given; deploy/test_files.py reads what they are given",
    "docker": "wants Docker; deploy/test_files.py reads what it is given",
    "celery": "deploy/test_celery.py runs such workers",
    "kubectl": "wants a cluster; deploy/test_files.py reads what it is given",
    "helm": "wants a cluster; deploy/test_files.py reads what it is given",
}
"""How a command begins (`.venv/bin/rsu` as `rsu`, without variables before it), and why it is not run here."""

ALL = [block for path in files() for block in blocks(path)]
COMMANDS = [block for block in ALL if block.language in SHELL]
STATEMENTS = [block for block in ALL if block.language == SQL]
PLACE = re.compile(r"(?<![\w.$-])(ID|RACE|EVENT|REGISTRATION|FIELD)(?!\w)")


def reason(piece: str) -> str | None:
    """Return the entry of NOT_RUN that a command falls under."""
    plain = re.sub(r"(?<![\w/])\.venv/bin/(?=rsu\b)", "", re.sub(r"^(?:[A-Z_]+=\S* +)+", "", piece.strip()))
    # The longest, so that a command is named as closely as can be.
    return max(
        (begins for begins in NOT_RUN if re.match(rf"{re.escape(begins)}(?![\w-])", plain)), key=len, default=None
    )


def scripts() -> Iterator[tuple[Block, list[str]]]:
    """Yield the blocks with the commands of theirs that are run here, but for blocks all of whose commands ran before."""
    ran: set[str] = set()
    for block in COMMANDS:
        script = [piece for piece in block.pieces() if reason(piece) is None]
        if not set(script) <= ran:
            yield block, script
        ran |= set(script)


def placed(text: str, worked: Worked) -> str:
    """Return the text with a partner, a race, an event, a registration and a field where a reader puts theirs."""
    return PLACE.sub(lambda match: worked.names[match[1]], text)


def run(script: str, folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run commands as a shell would that ends at the first that fails, and name it."""
    head = ["set -Eeo pipefail", "trap 'echo \"this failed: $BASH_COMMAND\" >&2' ERR"]
    return subprocess.run(
        ["bash", "-c", "\n".join([*head, script])],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_there_is_something_to_run() -> None:
    assert len(COMMANDS) > 10 and len(STATEMENTS) > 3
    assert sum(len(script) for _, script in scripts()) > 30


def test_what_is_not_run_stands_in_the_documentation() -> None:
    used = {reason(piece) for block in [*COMMANDS, *STATEMENTS] for piece in block.pieces()}
    assert NOT_RUN.keys() - used == set(), "no page has these any more: take them out of NOT_RUN"
    for why in NOT_RUN.values():
        for test in re.findall(r"\w+/test_\w+\.py", why):
            assert (PROJECT / "rsu_pipeline_tests" / test).exists(), test


@pytest.mark.parametrize(("block", "script"), [pytest.param(*one, id=one[0].name) for one in scripts()])
def test_the_commands_work(
    block: Block, script: list[str], worked: Worked, terminal: dict[str, str], tmp_path: Path
) -> None:
    done = run(placed("\n".join(script), worked), tmp_path, terminal)
    assert done.returncode == 0, f"{block.name}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        'rsu db psql -c "SELECT nothing FROM start_list"',
        ".venv/bin/rsu start-list 1",
        "rsu sync --partner 77",
        "rsu sync --all | cat",
    ],
)
def test_a_command_that_fails_is_noticed(command: str, tmp_path: Path, terminal: dict[str, str]) -> None:
    done = run(f"{command}\nrsu partners list", tmp_path, terminal)
    assert done.returncode != 0
    assert "this failed: " in done.stderr and not done.stdout


@pytest.mark.parametrize("block", STATEMENTS, ids=lambda block: block.name)
def test_the_statements_work(block: Block, request: pytest.FixtureRequest, copy: Callable[[Worked], str]) -> None:
    of: Worked = request.getfixturevalue("adopted" if block.path.name == "adopting.md" else "worked")
    with closing(psycopg2.connect(copy(of))) as conn, conn.cursor() as cur:
        for piece in block.pieces():
            if reason(piece) is None:
                cur.execute(placed(piece, of))
                if block.path.name == "adopting.md":
                    assert cur.rowcount > 0, piece


def test_the_addresses_shown_can_be_read() -> None:
    shown = [
        dict([re.sub(r"^export (\w+)=\"(.*)\"$", r"\1\n\2", piece).split("\n", 1)])
        for block in COMMANDS
        for piece in block.pieces()
        if piece.startswith("export RSU_")
    ]
    assert {name for one in shown for name in one} >= {"RSU_ALERT_URLS", "RSU_ALERT_LINK"}
    for one in shown:
        load_settings(one)
