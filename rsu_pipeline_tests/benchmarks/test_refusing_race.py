"""One race of three that cannot be read, measured small: the bibs of the other two are all here."""

from benchmarks import refusing_race


def test_bibs_of_the_other_races_are_here_while_one_fails() -> None:
    found = refusing_race.measure(["access denied", "HTTP 500"], 5.0, interval=4.0)
    assert [case.name for case in found] == ["access denied", "HTTP 500"]
    assert all(case.found.changes > 0 and case.failing_calls > 0 and case.is_kept for case in found), found
