"""The figures on paper agree with what can be reckoned by hand, and with the rules."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.race_morning import paper
from benchmarks.race_morning.paper import Rules

SECOND = Rules(call_seconds=(1.0, 1.0), removed_every=1000, in_flight=1, is_small=False, refresh_every=10**6)


def played(partners: int, races: int, rules: Rules, until: float) -> list[paper.Look]:
    return paper.looks(paper.fleet(partners, races, rules), rules, until=until, call_time=lambda: 1.0)


def test_one_race_with_calls_of_a_second_is_looked_at_every_twenty_seconds() -> None:
    done = played(1, 1, SECOND, 100)
    # The first poll of all also requests removals; each begins at 0, 20, 40 ... and its answer is of half a second later.
    assert [(look.read_at, look.done_at, look.calls) for look in done] == [
        (0.5, 1.0, 2), (20.5, 21.0, 1), (40.5, 41.0, 1), (60.5, 61.0, 1), (80.5, 81.0, 1),
    ]  # fmt: skip
    waits = paper.latencies(done, every=0.5)
    assert waits[0] == pytest.approx(0.5 + 0.25) and waits[-1] == pytest.approx(20.5 - 0.25)
    assert paper.percentile(waits, 0.5) == pytest.approx(10.5, abs=0.3)


def test_thirty_races_share_the_one_call_in_flight() -> None:
    done = played(30, 1, SECOND, 400)
    steady = [look for look in done if look.read_at >= 100]
    looks = Counter(look.race.race_id for look in steady)
    # Thirty calls of a second, one at a time: ten turns for each race in 300 seconds, and none is forgotten.
    assert len(looks) == 30 and set(looks.values()) <= {10, 11}
    assert sum(looks.values()) <= 301


@settings(max_examples=15, deadline=None)
@given(partners=st.integers(1, 20), races=st.integers(1, 8), in_flight=st.integers(1, 4))
def test_on_paper_no_limit_is_overstepped(partners: int, races: int, in_flight: int) -> None:
    rules = Rules(in_flight=in_flight, calls_per_hour=600)
    done = played(partners, races, rules, 1800)
    moments = [(round(look.read_at - 0.5, 6), 1) for look in done] + [(round(look.done_at, 6), -1) for look in done]
    flying = most = 0
    for _, step in sorted(moments):
        flying += step
        most = max(most, flying)
    assert most <= in_flight
    of_partner: Counter[int] = Counter()
    for look in done:
        of_partner[look.race.partner_id] += look.calls
    # The watch plans with 90 % of the hour; each race's first poll is at once.
    assert max(of_partner.values()) <= 600 * 0.9 / 2 + 2 * races


def test_two_calls_in_flight_over_all_credentials_give_out_before_the_cpu_and_shards_help_where_each_counts() -> None:
    rules = Rules()
    found = paper.ends(3, rules, cores=2)
    assert 13 <= found.in_flight < 30 < found.cpu
    everyone = paper.calculate(40, 3, "all", rules)
    each = paper.calculate(40, 3, "credential", rules)
    assert everyone.shards == 1 and everyone.p95 > paper.WANTED_P95
    assert each.shards > 1 and each.p95 <= paper.WANTED_P95 and each.calls_an_hour <= 900
    assert "in flight give out first" in paper.verdict(found, everyone)


def test_a_partner_with_many_races_uses_up_its_own_calls_first() -> None:
    found = paper.ends(9, Rules(), cores=2)
    assert found.races_for_budget < 9
    assert "carries" in paper.verdict(found, paper.calculate(1, 9, "all", Rules()))
