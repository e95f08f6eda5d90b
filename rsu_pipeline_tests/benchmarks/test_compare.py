"""Every contender of the normal environment loads a small world and is judged.

One that stores something else is refused.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import psycopg2
import pytest

from benchmarks import compare, report
from benchmarks.contenders import Contender, Refused, contenders, judge
from benchmarks.hub import Change, Hub, started
from runsignup_sandbox.scales import Spec

SPEC = Spec(partners=2, races_per_partner=1, events_per_race=2, registrations_per_event=150)
ROWS = 600


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with started(SPEC) as hub:
        yield hub


@pytest.fixture(scope="module")
def everyone(hub: Hub) -> list[Contender]:
    return contenders(hub, None)


@pytest.fixture(scope="module")
def loaded(hub: Hub, everyone: list[Contender]) -> Iterator[tuple[Contender, str]]:
    """Provide the contender "row by row" after its first load, which is right: what is broken in it must be found."""
    item = next(item for item in everyone if item.label == "row by row")
    url = hub.database()
    measured = hub.run(item.module, "load", url)
    judge(hub, item, url, measured, Change(), None)
    yield item, url
    hub.drop(url)


def test_every_contender_is_measured_in_both_steps(hub: Hub, everyone: list[Contender]) -> None:
    results = report.Results("tiny", rows=hub.expected.rows)
    compare.repetition(hub, everyone, 0, results)
    assert results.refused == {}
    labels = {"floor", "floor, text payload", "ours", "pandas, COPY", "pandas, multi", "row by row"}
    assert results.runs[compare.FIRST].keys() == labels
    assert results.runs[compare.AGAIN].keys() == labels | {"ours, as planned"}
    for label in labels:
        (first,), (again,) = results.runs[compare.FIRST][label], results.runs[compare.AGAIN][label]
        assert first.report.rows == ROWS, label
        assert again.report.rows == hub.expected.rows, label
        assert first.bytes > 0
        assert first.report.registrations.wall > 0
    assert "one partner" in results.notes["pandas, multi"]
    whole = msgspec.json.decode(results.as_json())
    assert whole["runs"][compare.FIRST].keys() == labels
    assert whole["machine"]["cores"] >= 1
    results.show()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM rows_participants WHERE registration_id = (SELECT max(registration_id) FROM rows_participants)", "rows"),
        ("UPDATE rows_participants SET city = 'Elsewhere' WHERE registration_id % 50 = 7", "other values"),
        ("UPDATE rows_participants SET bib_num = '999999' WHERE registration_id % 50 = 7", "other values"),
        (
            "INSERT INTO rows_participants (timing_partner_id, registration_id) VALUES (1, 1)",
            "rows stored",
        ),
    ],
)  # fmt: skip
def test_a_contender_that_stored_something_else_is_refused(
    hub: Hub, loaded: tuple[Contender, str], statement: str, told: str
) -> None:
    item, url = loaded
    copy = hub.database(url.rsplit("/", 1)[1])
    measured = hub.run(item.module, "load", copy)
    right = judge(hub, item, copy, measured, Change(), None)
    with psycopg2.connect(copy) as conn, conn.cursor() as cur:
        cur.execute(statement)
        assert cur.rowcount
    conn.close()
    with pytest.raises(Refused, match=told):
        judge(hub, item, copy, measured, Change(), right)
    hub.drop(copy)


def test_a_contender_that_did_not_read_again_is_refused(hub: Hub, loaded: tuple[Contender, str]) -> None:
    """It has as many rows as there are, and the old value in one."""
    item, url = loaded
    copy = hub.database(url.rsplit("/", 1)[1])
    before = hub.run(item.module, "load", copy)
    number = hub.rows(copy, "SELECT min(registration_id) FROM rows_participants")[0][0]
    hub.sandbox.admin.bib(number, 77_777)
    change = Change(bibs=1, now={number: ("bib_num", "77777")})
    with pytest.raises(Refused, match="1 changed rows have the old value"):
        judge(hub, item, copy, before, change, None)
    judge(hub, item, copy, hub.run(item.module, "load", copy), change, None)
    hub.drop(copy)


def test_a_contender_whose_process_fails_is_refused_and_the_others_go_on(hub: Hub, everyone: list[Contender]) -> None:
    floor, *_, rows = everyone
    broken = replace(rows, label="broken", module="contender_that_is_not_there")
    results = report.Results("tiny", rows=hub.expected.rows)
    compare.repetition(hub, [floor, broken, rows], 3, results)
    assert "ended with code" in results.refused["broken"]
    assert results.runs[compare.AGAIN].keys() == {"floor", "row by row"}


def test_without_its_environment_dlt_is_left_out_in_one_sentence(
    hub: Hub, everyone: list[Contender], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = tmp_path / "python"
    assert compare.the_bench_python(absent) is None
    assert capsys.readouterr().err == f"dlt is left out: there is no {absent}; `make bench` makes it.\n"
    assert not [item for item in everyone if "dlt" in item.label]
    absent.touch()
    assert compare.the_bench_python(absent) == absent
    assert len([item for item in contenders(hub, absent) if "dlt" in item.label]) == 3


def test_a_floor_that_is_wrong_ends_the_comparison(hub: Hub, everyone: list[Contender]) -> None:
    floor, *_ = everyone
    # It reads one partner's part and is judged by the whole.
    broken = replace(floor, active="timing_partner_id = 1")
    with pytest.raises(Refused, match="expected"):
        compare.repetition(hub, [broken], 4, report.Results("tiny", rows=hub.expected.rows))
