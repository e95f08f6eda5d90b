"""What README.md and docs/ name is there: commands, options, settings, targets, files, links, alerts, checks, sentences.

test_commands.py runs the commands and the SQL. test_reference.py compares docs/reference/ with the code.
"""

import importlib.util
import re
from pathlib import Path

import dagster as dg
import pytest

from rsu_pipeline.alerts import rules
from rsu_pipeline.definitions import defs
from rsu_pipeline.orchestration import checks, fleet_checks
from rsu_pipeline_tests.docs import known
from tools.pages import PROJECT, SHELL, SQL, Block, anchors, blocks, files, headings, inline_code, links, prose

FILES = files()
README = PROJECT / "README.md"
DOCS = PROJECT / "docs"
OPERATING = DOCS / "operating.md"
PROGRAMS = (
    "rsu git make cd sudo docker kubectl systemctl psql pg_dump pg_restore export eval curl apt apt-get python pip"
)
OTHERS_OPTIONS = {"--build-arg": "docker"}
"""Options that occur alone, and the program they are of where it is not `rsu`."""
MADE = {"deploy/compose/backups"}
"""Folders that a page has the reader make."""
FOLDERS = "rsu_pipeline rsu_pipeline_tests benchmarks docs deploy .ci".split()


def name(path: Path) -> str:
    return path.name


def codes(path: Path) -> list[str]:
    """Return every piece of code of a page: between backticks, and command by command."""
    pieces = [piece for block in blocks(path) if block.language in SHELL for piece in block.pieces()]
    return [*inline_code(prose(path)), *(piece.replace("\\\n", " ") for piece in pieces)]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_block_of_commands_says_that_it_is_one(path: Path) -> None:
    for block in blocks(path):
        if block.language in SHELL:
            assert block.language == "console", f"{block.name}: commands belong in ```console blocks"
            assert block.pieces(), f"{block.name}: no command in it"
        elif block.language != SQL:
            # The first word of a line, a path before it taken off.
            words = [re.match(r"(?:\$ )?(?:[\w.~/-]*/)?([\w-]+) ", line) for line in block.text.splitlines()]
            assert not [word[1] for word in words if word and word[1] in PROGRAMS.split()], (
                f"{block.name}: has a command, so it must be a ```console block"
            )


def test_every_call_of_rsu_is_one_that_there_is() -> None:
    assert sum(known.check_calls(code) for path in FILES for code in codes(path)) > 60


@pytest.mark.parametrize(
    "code",
    [
        "rsu synchronise",
        "rsu sync --everything",
        "rsu partners evict ID",
        "rsu sync [--partner ID …] [--fully]",
        ".venv/bin/rsu start-list EVENT [--csv\\|--xml]",
        "RSU_HOME=/x rsu db adopt --really",
        "cat x | /opt/hub/.venv/bin/rsu sync --nothing",
        "rsu sandbox --nothing",
    ],
)
def test_a_call_that_does_not_exist_is_noticed(code: str) -> None:
    with pytest.raises(known.Unknown):
        known.check_calls(code)


def test_what_is_no_call_of_rsu_is_left_alone() -> None:
    assert known.check_calls("sudo -u rsu whoami --help") == 0
    assert known.check_calls('rsu db psql --csv -c "SELECT 1"') == 1
    assert known.check_calls("rsu sandbox --scale tiny") == 1


def test_every_option_named_alone_is_one_of_a_command() -> None:
    options = known.all_options()
    named = {
        code.split("=")[0].split()[0] for path in FILES for code in inline_code(prose(path)) if code.startswith("--")
    }
    assert named - options == OTHERS_OPTIONS.keys()


def test_every_variable_named_is_read_somewhere() -> None:
    there = known.settings() | known.other_variables()
    for path in FILES:
        named = set(re.findall(r"\bRSU_[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8")))
        assert named - there == set(), f"{path.name} names variables that nothing reads"


def test_the_times_of_schedules_are_as_the_page_says() -> None:
    for schedule in defs().get_repository_def().schedule_defs:
        minute, hour, *_ = str(schedule.cron_schedule).split()
        every = re.fullmatch(r"\*/(\d+)", minute)
        when = f"every {every[1]} min" if every else f"{int(hour):02}:{int(minute):02}"
        assert re.search(rf"`{schedule.name}` \([^)]*{when}", prose(OPERATING)), f"{schedule.name}: {when}"


def broken_links(path: Path) -> list[str]:
    """Return the links and images of a page that lead to no file or no heading."""
    found = []
    for link in links(prose(path)):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        leads_to = (path.parent / target).resolve() if target else path
        if not leads_to.exists() or (anchor and anchor not in anchors(leads_to)):
            found.append(link)
    return found


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_link_leads_somewhere(path: Path) -> None:
    assert broken_links(path) == []
    for link in links(prose(path)):
        assert link.startswith(("#", "http")) or PROJECT in (path.parent / link).resolve().parents, link


def test_a_link_that_leads_nowhere_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# There\n\n```console\n# not there\n```\n")
    page.write_text(
        "# Here\n[a](nowhere.md) ![b](no.png) [c](#there) [d](other.md#not-there)\n[e](#here) [f](other.md#there)\n"
    )
    assert broken_links(page) == ["nowhere.md", "no.png", "#there", "other.md#not-there"]


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 120


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {(README.parent / link.partition("#")[0]).resolve() for link in links(prose(README))}
    assert {path for path in FILES if path != README} - linked == set()


def test_every_target_of_make_is_one() -> None:
    named = {
        word
        for path in FILES
        for code in codes(path)
        for words in re.findall(r"^make((?: [a-z][\w-]*)+)", code)
        for word in words.split()
    }
    assert {"demo", "up", "test", "docs"} <= named
    assert named - known.targets() == set()


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_file_and_module_named_is_there(path: Path) -> None:
    for code in codes(path):
        for word in code.split():
            if re.fullmatch(rf"(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./-]*", word):
                assert word in MADE or (PROJECT / word).exists(), f"{path.name}: {word}"
        for module in re.findall(r"python3? -m ((?:benchmarks|rsu_pipeline\w*)[\w.]*)", code):
            assert importlib.util.find_spec(module), f"{path.name}: {module}"


def test_the_page_names_everything_that_goes_by_itself() -> None:
    repository = defs().get_repository_def()
    names = {item.name for item in (*repository.sensor_defs, *repository.schedule_defs)}
    names |= {key.to_user_string() for key in defs().resolve_all_asset_keys()}
    assert len(names) > 14
    assert names - set(inline_code(prose(OPERATING))) == set()


def check_names() -> set[str]:
    """Return the names of all asset checks."""
    found = [
        value
        for module in (checks, fleet_checks)
        for value in vars(module).values()
        if isinstance(value, dg.AssetChecksDefinition)
    ]
    return {key.name for one in found for key in one.check_keys}


def test_every_alert_and_every_check_has_its_entry_and_nothing_else_has() -> None:
    entries = {}
    for heading in headings(DOCS / "alerts.md"):
        if match := re.fullmatch(r"`(\w+)`: (.+)", heading):
            assert match[1] not in entries, f"{match[1]} has two entries"
            entries[match[1]] = match[2]
    assert len(check_names()) > 10
    assert entries.keys() == rules.TITLES.keys() | check_names()
    for kind, title in rules.TITLES.items():
        assert entries[kind] == title


def test_what_a_command_is_said_to_say_it_says() -> None:
    text = prose(DOCS / "first-partner.md")
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    said = [code for cell in cells for code in inline_code(cell)]
    assert len(said) > 8
    for words in said:
        assert known.says(words), f"no text has {words!r}"
    assert not known.says("RunSignup accepts the credential")


def block(text: str, language: str = "console") -> Block:
    return Block(README, 1, language, text)


def test_commands_are_taken_whole() -> None:
    text = "# a remark\nrsu sync \\\n  --full\nrsu db psql -c \"SELECT 1\nFROM x\"\ncat > f <<'END'\nmake it\nEND\nls  # here\n"
    assert block(text).pieces() == [
        "rsu sync \\\n  --full",
        'rsu db psql -c "SELECT 1\nFROM x"',
        "cat > f <<'END'\nmake it\nEND",
        "ls  # here",
    ]
    assert block("$ rsu status\nall is well\n$ ls\n").pieces() == ["rsu status", "ls"]
    assert block("-- a remark\nSELECT 1;\nSELECT ';' ||\n 'x';\n", "sql").pieces() == [
        "SELECT 1",
        "SELECT ';' ||\n 'x'",
    ]


def test_code_links_and_headings_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# The `one` and only\n\nsee [`a`](b.md#c) and ![x](i/y.png), `rsu\nsync`, ``a ` b``\n\n```console\n"
        "# no heading\nrsu up\n```\n"
        "## Twice\n## Twice\n"
    )
    assert inline_code(prose(page)) == ["one", "a", "rsu sync", "a ` b"]
    assert links(prose(page)) == ["b.md#c", "i/y.png"]
    assert anchors(page) == {"the-one-and-only", "twice", "twice-1"}
    assert [(one.line, one.text) for one in blocks(page)] == [(7, "# no heading\nrsu up")]


def test_every_picture_is_on_a_page_and_small() -> None:
    shown = {
        (path.parent / link).resolve()
        for path in FILES
        for link in links(path.read_text(encoding="utf-8"))
        if link.endswith(".png")
    }
    pictures = set((DOCS / "images").iterdir())
    assert pictures == shown
    assert {path.name for path in pictures if path.stat().st_size > 200_000} == set()
