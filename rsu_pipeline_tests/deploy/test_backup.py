"""The nightly backup: a real dump each time, the newest kept, a broken one never counted."""

import subprocess
from pathlib import Path

import pytest

from rsu_pipeline_tests.cli.shell import SCRIPT, environment
from rsu_pipeline_tests.deploy.deployed import DEPLOY


def backup(folder: Path, kept: str, url: str, home: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["/bin/sh", DEPLOY / "backup", SCRIPT, folder, kept],
        env=environment(RSU_DATABASE_URL=url, RSU_HOME=str(home)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_newest_dumps_are_kept_and_nothing_else_is_touched(database_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "back ups"
    folder.mkdir()
    old = [folder / f"hub-2025010{day}T000000Z.dump" for day in range(1, 6)]
    for path in old:
        path.write_text("an older dump")
    (folder / "hub-before-upgrade.dump").write_text("made by hand")
    (folder / "hub-20250106T000000Z.dump.part").write_text("cut off")
    done = backup(folder, "3", database_url, tmp_path / "home")
    assert (done.returncode, done.stderr) == (0, "")
    (new,) = [path for path in folder.iterdir() if path.name.startswith("hub-202") and path not in old]
    assert new.read_bytes().startswith(b"PGDMP")
    assert new.stat().st_mode & 0o077 == 0
    assert {path for path in folder.iterdir()} == {new, *old[-2:], folder / "hub-before-upgrade.dump"}


def test_a_backup_that_fails_pushes_no_good_one_out(tmp_path: Path) -> None:
    old = tmp_path / "hub-20250101T000000Z.dump"
    old.write_text("a good dump")
    done = backup(tmp_path, "1", "postgresql://nobody@127.0.0.1:9/none", tmp_path / "home")
    assert done.returncode == 2
    assert "Cannot use PostgreSQL" in done.stderr
    assert [path.name for path in tmp_path.glob("hub-*")] == [old.name]


@pytest.mark.parametrize("kept", ["0", "", "-1", "many", "007"])
def test_a_number_to_keep_that_is_none_is_refused(kept: str, tmp_path: Path) -> None:
    old = tmp_path / "hub-20250101T000000Z.dump"
    old.write_text("a good dump")
    done = backup(tmp_path, kept, "postgresql://nobody@127.0.0.1:9/none", tmp_path / "home")
    assert done.returncode == 2
    assert "must be 1 or more" in done.stderr
    assert old.exists()
