"""`rsu db export` and `rsu db import`: a hub moved to another machine goes on where it stopped."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from rsu_pipeline.warehouse.secret_box import generate_secret_key
from rsu_pipeline_tests.cli.shell import arguments_of_all, refusal, rows, rsu, rsu_script
from rsu_pipeline_tests.hub import SECRET_KEY, Hub
from rsu_pipeline_tests.servers import execute
from runsignup_sandbox.process import SandboxProcess


@pytest.fixture
def hub(make_database: Callable[[], str], make_sandbox: Callable[..., SandboxProcess], tmp_path: Path) -> Hub:
    """Provide a hub with one synced partner whose history is half read."""
    hub = Hub(make_database(), make_sandbox(scale="small", seed=7), tmp_path / "old")
    hub.sync(1)
    races = sorted(race["race_id"] for race in hub.sandbox.admin.truth(1)["races"])
    hub.sandbox.admin.fault("http_500", 0, endpoint="participants", race_id=races[0])
    hub.environment["RSU_CALL_ATTEMPTS"] = "1"
    assert not hub.history(1).finished
    hub.sandbox.admin.clear_faults()
    return hub


def moved(hub: Hub, database_url: str, tmp_path: Path, **more: str) -> dict[str, str]:
    """Return the settings of another machine with an empty database."""
    return hub.environment | {"RSU_DATABASE_URL": database_url, "RSU_HOME": str(tmp_path / "new"), **more}


def test_another_machine_goes_on_from_the_file_alone(hub: Hub, empty_database: str, tmp_path: Path) -> None:
    file = tmp_path / "hub.dump"
    done = rsu("db", "export", str(file), settings=hub.environment)
    assert done.returncode == 0, done.stderr
    assert "keep RSU_SECRET_KEY apart from it" in done.stdout
    assert file.stat().st_mode & 0o777 == 0o600
    assert SECRET_KEY.encode() not in file.read_bytes()
    for partner in hub.sandbox.admin.partners():
        assert partner["secret"].encode() not in file.read_bytes()

    there = moved(hub, empty_database, tmp_path)
    done = rsu("db", "import", str(file), settings=there)
    assert (done.returncode, done.stdout) == (
        0,
        "Everything is restored: 3 partners, whose secrets can be decrypted. Continue with `rsu up`.\n",
    )
    count = "SELECT count(*) FROM runsignup_participants"
    assert rows(there, count) == rows(hub.environment, count)

    # Programs remember numbers of the bib log that were given after the backup.
    number = "SELECT last_value FROM runsignup_bib_changes_bib_change_id_seq"
    assert rows(there, number)[0][0] > rows(hub.environment, number)[0][0] + 900_000

    hub.sandbox.admin.reset_stats()
    assert rsu("sync", "--partner", "1", "--json", settings=there).returncode == 0
    assert rsu("backfill", "--partner", "1", "--wait", "--json", settings=there).returncode == 0
    hub.url = empty_database
    hub.assert_equal(1, past_too=True)
    log = hub.sandbox.admin.stats()["log"]
    full = Counter(
        call["race_id"]
        for call in log
        if call["endpoint"] == "participants" and "modified_after_timestamp" not in call["query"]
    )
    # Only the race that had failed is read, a page and the empty one that ends it. All else goes on from its cursors.
    assert len(full) == 1 and set(full.values()) == {2}


def test_tables_are_found_in_the_schema_that_the_file_has_them_in(
    empty_database: str, make_empty_database: Callable[[], str], tmp_path: Path
) -> None:
    file, schemas = tmp_path / "hub.dump", "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename = 'event_cursors'"
    home = {"RSU_HOME": str(tmp_path / "home"), "RSU_SECRET_KEY": SECRET_KEY}
    execute(empty_database, "CREATE SCHEMA hub")
    here = home | {"RSU_DATABASE_URL": f"{empty_database}?options=-csearch_path%3Dhub"}
    assert rsu("db", "migrate", settings=here).returncode == 0
    assert rsu("db", "export", str(file), settings=here).returncode == 0
    there = home | {"RSU_DATABASE_URL": make_empty_database()}
    done = rsu("db", "import", str(file), settings=there)
    assert done.returncode == 0, done.stderr
    assert rows(there, schemas) == [("hub",)]

    elsewhere = make_empty_database()
    execute(elsewhere, "CREATE SCHEMA apart")
    apart = home | {"RSU_DATABASE_URL": f"{elsewhere}?options=-csearch_path%3Dapart"}
    text = refusal(rsu("db", "import", str(file), settings=apart))
    assert "are in schema hub, and a session's search path leads to schema apart" in text
    assert rows(home | {"RSU_DATABASE_URL": elsewhere}, schemas) == [("hub",)]


def test_without_the_key_everything_is_in_and_the_sentence_says_what_is_missing(
    hub: Hub, empty_database: str, tmp_path: Path
) -> None:
    file = tmp_path / "hub.dump"
    assert rsu("db", "export", str(file), settings=hub.environment).returncode == 0
    there = moved(hub, empty_database, tmp_path, RSU_SECRET_KEY=generate_secret_key())
    words = refusal(rsu("db", "import", str(file), settings=there))
    assert (
        words.startswith("Everything is restored, but the secrets of 1-kestrel-timing, ") and "RSU_SECRET_KEY" in words
    )
    # The key found, all is well.
    assert rsu("sync", "--partner", "1", settings=there | {"RSU_SECRET_KEY": SECRET_KEY}).returncode == 0


def test_a_file_is_not_written_over_nor_left_half_written(hub: Hub, tmp_path: Path) -> None:
    file = tmp_path / "hub.dump"
    file.write_text("kept")
    assert "already exists" in refusal(rsu("db", "export", str(file), settings=hub.environment))
    assert file.read_text() == "kept"
    assert rsu("db", "export", "--force", str(file), settings=hub.environment).returncode == 0
    assert file.read_bytes().startswith(b"PGDMP")
    assert "There is no folder" in refusal(rsu("db", "export", str(tmp_path / "a" / "b"), settings=hub.environment))
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_what_is_no_export_or_has_no_empty_place_is_refused(hub: Hub, empty_database: str, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    there = moved(hub, empty_database, tmp_path)
    assert "is not a file of `rsu db export`" in refusal(rsu("db", "import", str(text), settings=there))
    torn = tmp_path / "torn.dump"
    file = tmp_path / "hub.dump"
    assert rsu("db", "export", str(file), settings=hub.environment).returncode == 0
    torn.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert "nothing was changed" in refusal(rsu("db", "import", str(torn), settings=there))
    assert rows(there, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    assert "Import into an empty database" in refusal(rsu("db", "import", str(file), settings=hub.environment))
    assert "does not exist" in refusal(rsu("db", "import", str(tmp_path / "none"), settings=there))


def test_the_password_is_in_no_argument_list(hub: Hub, tmp_path: Path) -> None:
    import threading

    seen: list[str] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            seen.append(arguments_of_all())

    thread = threading.Thread(target=look)
    thread.start()
    assert rsu_script("db", "export", str(tmp_path / "hub.dump"), settings=hub.environment).returncode == 0
    ended.set()
    thread.join()
    text = "\n".join(seen)
    assert "pg_dump" in text
    password = hub.url.split("://", 1)[1].split("@")[0].partition(":")[2]
    assert password and password not in text
