"""`rsu export`: wide rows in a file that is whole or not there, in bounded memory."""

import csv
import datetime as dt
import io
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from rsu_pipeline.settings import project_root
from rsu_pipeline_tests.cli.shell import Done, environment, refusal, rsu
from rsu_pipeline_tests.hub import Hub

FORMULA = '=HYPERLINK("http://x.test")'


@pytest.fixture(scope="module")
def synced(hub: Hub) -> Hub:
    """Provide a hub with two synced partners, one entrant of which has a name that a spreadsheet would run."""
    for partner in (1, 2):
        hub.sync(partner)
    hub.execute(
        "UPDATE runsignup_participants SET first_name = %s, last_name = 'O''Hara, \"Zoë\"' || chr(10) || 'II' WHERE id ="
        " (SELECT min(id) FROM runsignup_participants WHERE timing_partner_id = 1 AND removed_at IS NULL)",
        FORMULA,
    )
    return hub


def export(hub: Hub, *arguments: str) -> Done:
    return rsu("export", *arguments, settings=hub.environment)


def test_participants_as_csv_are_all_entrants_with_formulas_neutralized(synced: Hub, tmp_path: Path) -> None:
    target = tmp_path / "entrants.csv"
    done = export(synced, "participants", "--csv", str(target))
    assert (done.returncode, done.stdout) == (0, "")
    found = list(csv.DictReader(io.StringIO(target.read_text("utf-8"), newline="")))
    expected = {row["registration_id"]: row for row in synced.rows("SELECT * FROM entrants")}
    assert done.stderr == f"Wrote {len(expected):,} rows.\n"
    assert {int(row["registration_id"]) for row in found} == expected.keys()
    assert list(found[0]) == list(next(iter(expected.values())))
    (odd,) = (row for row in found if "HYPERLINK" in row["first_name"])
    assert odd["first_name"] == "'" + FORMULA
    assert odd["last_name"] == 'O\'Hara, "Zoë"\nII'
    for row in found:
        assert row["race"] == expected[int(row["registration_id"])]["race"]
    assert target.stat().st_mode & 0o077 == 0


def test_json_is_an_array_of_the_same_rows_with_texts_as_stored(synced: Hub, tmp_path: Path) -> None:
    target = tmp_path / "entrants.json"
    assert export(synced, "participants", "--json", str(target)).returncode == 0
    found = {row["registration_id"]: row for row in json.loads(target.read_text("utf-8"), parse_float=Decimal)}
    expected = {row["registration_id"]: row for row in synced.rows("SELECT * FROM entrants")}
    assert found.keys() == expected.keys()
    for number, row in found.items():
        assert row["first_name"] == expected[number]["first_name"]
        assert row["race_fee"] == expected[number]["race_fee"]
        assert dt.datetime.fromisoformat(row["changed_at"]) == expected[number]["changed_at"]
    assert export(synced, "bibs", "--json", "-", "--since", "2999-01-01").stdout == "[\n]\n"


def test_parquet_has_typed_columns(synced: Hub, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    target = tmp_path / "entrants.parquet"
    done = export(synced, "participants", "--parquet", str(target))
    assert done.returncode == 0, done.stderr
    found = {row["registration_id"]: row for row in parquet.read_table(target).to_pylist()}
    expected = {row["registration_id"]: row for row in synced.rows("SELECT * FROM entrants")}
    assert found == expected


def test_without_pyarrow_parquet_is_refused_in_one_sentence(synced: Hub, tmp_path: Path) -> None:
    (tmp_path / "pyarrow.py").write_text("raise ImportError")
    target = tmp_path / "entrants.parquet"
    done = subprocess.run(
        [sys.executable, "-m", "rsu_pipeline.cli.main", "export", "participants", "--parquet", str(target)],
        env=environment(**synced.environment, PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert refusal(done).startswith(
        "Parquet needs pyarrow, which is not installed. Run pip install 'rsu-pipeline[parquet]'"
    )
    assert not target.exists()


def test_partner_race_and_since_choose_rows(synced: Hub) -> None:
    def rows(*arguments: str) -> list[dict[str, object]]:
        done = export(synced, *arguments, "--json", "-")
        assert done.returncode == 0, done.stderr
        found: list[dict[str, object]] = json.loads(done.stdout)
        return found

    of_one = synced.value("SELECT count(*) FROM runsignup_participants WHERE timing_partner_id = 1")
    assert len(rows("participants", "--partner", "1")) == of_one
    race = synced.value("SELECT min(race_id) FROM runsignup_participants WHERE timing_partner_id = 1")
    assert {row["race_id"] for row in rows("participants", "--race", str(race))} == {race}
    events = rows("events", "--partner", synced.partners[1])
    assert sum(int(str(row["entrants"])) + int(str(row["removed"])) for row in events) == of_one
    assert rows("participants", "--since", "2999-01-01") == rows("events", "--since", "2999-01-01T00:00") == []
    assert rows("events", "--since", "2020-01-01") == rows("events")
    assert {row["bib_change_id"] for row in rows("bibs")} == {
        row["bib_change_id"] for row in synced.rows("SELECT bib_change_id FROM runsignup_bib_changes")
    }


def test_a_race_that_was_never_listed_is_refused_in_one_sentence(synced: Hub, tmp_path: Path) -> None:
    for partner, whose in ((), ""), (("--partner", "1"), " of partner 1"):
        done = export(synced, "participants", "--race", "7", *partner, "--csv", str(tmp_path / "none.csv"))
        assert done.returncode == 2
        assert done.stderr == f"Error: There is no race 7{whose}: `rsu export events --csv -` shows them.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_only_when_it_is_whole(synced: Hub, tmp_path: Path) -> None:
    target = tmp_path / "entrants.csv"
    target.write_text("before")
    assert "There is no partner '99'" in refusal(
        export(synced, "participants", "--partner", "99", "--csv", str(target))
    )
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["entrants.csv"]
    missing = str(tmp_path / "none" / "x.csv")
    assert "cannot be written: No such file or directory" in refusal(export(synced, "events", "--csv", missing))
    assert "exactly one of --csv, --json and --parquet" in refusal(export(synced, "events"))
    assert "exactly one" in refusal(export(synced, "events", "--csv", "-", "--json", "-"))
    assert "--parquet needs a file" in refusal(export(synced, "events", "--parquet", "-"))


MEASURE = """
import resource, sys
from rsu_pipeline.cli import export_files
from rsu_pipeline.warehouse import database
from rsu_pipeline.warehouse.export_queries import Column, Export
rows = int(sys.argv[3])
query = f"SELECT n::bigint AS n, repeat('x', 1000) AS wide FROM generate_series(1, {rows}) n"
write = getattr(export_files, f"write_{sys.argv[1]}")
with database.session(sys.argv[2], purpose="tests") as conn, open("/dev/null", "wb") as file:
    assert write(conn, Export(query, (Column("n", 20), Column("wide", 25))), file) == rows
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_memory_does_not_grow_with_the_rows(synced: Hub, kind: str) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")

    def peak(rows: int) -> int:
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, kind, synced.url, str(rows)],
            env=environment(PYTHONPATH=str(project_root())),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return int(done.stdout)

    # Parquet has a group of rows in memory, which both fill: 64 MB as text.
    few = 140_000 if kind == "parquet" else 1_000
    assert peak(few + 200_000) - peak(few) < 60
