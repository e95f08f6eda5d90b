"""Which bibs given here are sent is decided by the rows alone, and never replaces a bib of RunSignup."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rsu_pipeline.runsignup.bib_writes import MAX_BIB, parse_bib
from rsu_pipeline.sync.bib_push_plan import plan_pushes
from rsu_pipeline.warehouse.bib_pushes import BibRow

BIBS = st.one_of(st.none(), st.sampled_from(["1", "2", "3", "07", "A1"]))
ROWS = st.lists(st.tuples(BIBS, BIBS, st.booleans()), max_size=6).map(
    lambda items: {
        number: BibRow(number, "Ines Okafor", bib if is_active else None, local, is_active)
        for number, (bib, local, is_active) in enumerate(items, start=1)
    }
)


@given(ROWS, ROWS)
def test_only_a_registration_without_a_bib_is_sent_one_and_no_bib_is_sent_twice(
    rows: dict[int, BibRow], before: dict[int, BibRow]
) -> None:
    decisions = plan_pushes(rows, before)
    assert [item.registration_id for item in decisions] == [n for n, row in rows.items() if row.local_bib is not None]
    sent = [item for item in decisions if item.kind == "send"]
    for item in sent:
        row = rows[item.registration_id]
        assert row.is_active
        assert row.bib is None
        assert str(item.number) == row.local_bib == item.bib
        others = [other for number, other in rows.items() if number != item.registration_id and other.is_active]
        assert item.bib not in [other.bib or other.local_bib for other in others]
    for item in decisions:
        assert bool(item.reason) == (item.kind in ("conflict", "invalid"))
        assert (item.kind == "present") == (rows[item.registration_id].bib == item.bib)


@given(ROWS)
def test_once_runsignup_has_what_was_sent_nothing_is_left_to_send(rows: dict[int, BibRow]) -> None:
    sent = {item.registration_id: item.bib for item in plan_pushes(rows) if item.kind == "send"}
    after = {number: replace(row, bib=sent.get(number, row.bib)) for number, row in rows.items()}
    assert not [item for item in plan_pushes(after, rows) if item.kind == "send"]


@given(ROWS)
def test_what_changed_since_it_was_read_is_a_conflict_that_names_both(before: dict[int, BibRow]) -> None:
    rows = {
        number: replace(row, bib="99") if row.is_active and row.bib is None else row for number, row in before.items()
    }
    for item in plan_pushes(rows, before):
        if before[item.registration_id].bib is None and before[item.registration_id].is_active:
            assert (item.kind, item.reason) == ("conflict", "RunSignup has bib 99, given since it was read")


@given(st.text(max_size=12))
def test_a_bib_is_a_whole_number_that_reads_back_as_it_was_written(text: str) -> None:
    number = parse_bib(text)
    assert number is None or (str(number) == text and 0 < number <= MAX_BIB)


@given(st.integers(1, MAX_BIB))
def test_every_whole_number_is_a_bib(number: int) -> None:
    assert parse_bib(str(number)) == number
    assert parse_bib(f"{number} ") is None
