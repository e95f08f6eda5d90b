"""`/usr/local/bin/rsu`: the services' settings, the caller's directory and environment."""

import getpass
import json
import subprocess
import sys
from pathlib import Path

import pytest

from rsu_pipeline_tests.cli.shell import SCRIPT, environment, refusal, rsu
from rsu_pipeline_tests.deploy.deployed import DEPLOY, INSTALLED

SHOW = "import json, os, sys; print(json.dumps([os.getcwd(), sys.argv[1:], dict(os.environ)]))"


def install(folder: Path, settings: str, program: Path | str) -> Path:
    """Install the command as docs/deploy.md does, but in a folder and for the user of this process."""
    (folder / "rsu.env").write_text(settings)
    text = (DEPLOY / "systemd" / "rsu").read_text()
    for wanted, here in (
        (f"{INSTALLED}/.venv/bin/python", sys.executable),
        (f"{INSTALLED}/.venv/bin/rsu", str(program)),
        ('USER = "rsu"', f"USER = {getpass.getuser()!r}"),
        ("/etc/rsu/rsu.env", str(folder / "rsu.env")),
        ("/var/lib/rsu", str(folder / "home")),
    ):
        assert wanted in text
        text = text.replace(wanted, here)
    command = folder / "rsu"
    command.write_text(text)
    command.chmod(0o755)
    return command


def shown(tmp_path: Path, settings: str, *arguments: str, **caller: str) -> tuple[str, list[str], dict[str, str]]:
    """Return what the program that it becomes sees: working directory, arguments, environment."""
    program = tmp_path / "program"
    program.write_text(f"#!{sys.executable}\n{SHOW}\n")
    program.chmod(0o755)
    folder = tmp_path / "where the caller is"
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [install(tmp_path, settings, program), *arguments],
        cwd=folder, env=environment(**caller), capture_output=True, text=True, check=True,
        timeout=120,
    )  # fmt: skip
    place, given, seen = json.loads(done.stdout)
    return place, given, seen


def test_the_callers_directory_arguments_and_environment_are_kept(tmp_path: Path) -> None:
    settings = "# a comment\nRSU_DATABASE_URL=postgresql:///rsu?host=/run/postgresql&connect_timeout=3\nRSU_CALLS_PER_HOUR=500\n"
    place, given, seen = shown(
        tmp_path, settings, "db", "export", "x y.dump", LANG="de_DE.UTF-8", RSU_CALLS_PER_HOUR="100"
    )
    assert (place, given) == (str(tmp_path / "where the caller is"), ["db", "export", "x y.dump"])
    assert seen["RSU_DATABASE_URL"] == "postgresql:///rsu?host=/run/postgresql&connect_timeout=3"
    assert seen["LANG"] == "de_DE.UTF-8"
    assert seen["RSU_CALLS_PER_HOUR"] == "100", "what the caller sets wins"
    assert (seen["RSU_HOME"], seen["DAGSTER_HOME"]) == (str(tmp_path / "home"), INSTALLED)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=plain # not a comment", "plain # not a comment"),
        ("A=  around  ", "around"),
        ("A=", ""),
        ("A='single \\ \" $x'", 'single \\ " $x'),
        ('A="double \\" \\\\ \\$ \\n"', 'double " \\ $ \\n'),
        ('A="two\nlines"', "two\nlines"),
        ("A=one\\ two\\\\", "one two\\"),
        ("A=con\\\ntinued", "continued"),
        (' A = "spaced" ', "spaced"),
        ("A=it's", "it's"),
    ],
)
def test_the_settings_are_read_by_systemds_rules(line: str, value: str, tmp_path: Path) -> None:
    seen = shown(tmp_path, f"; first\nB=before\n{line}\nC=after\n")[2]
    assert (seen["A"], seen["B"], seen["C"]) == (value, "before", "after")


@pytest.mark.parametrize("settings", ["RSU_HOME\n", 'RSU_SECRET_KEY="canary" unquoted\n'])
def test_a_line_that_is_no_assignment_is_named_without_its_value(settings: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [install(tmp_path, settings, "/bin/true")], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert settings.split("=")[0].strip() in done.stderr
    assert "canary" not in done.stderr


def test_a_relative_file_lands_where_the_caller_is(database_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "caller"
    folder.mkdir()
    command = install(tmp_path, f"RSU_DATABASE_URL={database_url}\n", SCRIPT)
    subprocess.run(
        [command, "db", "export", "x.dump"], cwd=folder, env=environment(), check=True, capture_output=True, timeout=120
    )
    assert (folder / "x.dump").read_bytes().startswith(b"PGDMP")


def test_a_place_that_may_not_be_written_is_refused_in_one_sentence(database_url: str, tmp_path: Path) -> None:
    """Such as /root, where `rsu` runs as another user."""
    settings = {"RSU_DATABASE_URL": database_url, "RSU_HOME": str(tmp_path)}
    sentence = refusal(rsu("db", "export", "/proc/x.dump", settings=settings))
    assert sentence.startswith("/proc/x.dump cannot be written (")
