"""Races that do not answer leave the others their polls: played with a clock of its own, without a server."""

import heapq
import itertools
from collections import defaultdict

import pytest

from rsu_pipeline.sync.silent_races import Race, SilentRaces

ANSWER, TIMEOUT, INTERVAL = 0.7, 15.0, 20.0


def polls(
    hung: dict[Race, tuple[float, float]], races: list[Race], seconds: float, *, workers: int = 2
) -> dict[Race, list[float]]:
    """When each race answered, with so many workers. `hung` says from when until when a race does not answer."""
    silent = SilentRaces()
    due = dict.fromkeys(races, 0.0)
    polled: set[Race] = set()
    answered: dict[Race, list[float]] = defaultdict(list)
    ends: list[tuple[float, float, Race, bool]] = []
    now = 0.0
    while now < seconds:
        left_out = silent.to_leave_out(races, polled, now)
        free = [race for race in races if race not in polled | left_out and due[race] <= now]
        if len(ends) < workers and free:
            partners = {partner for partner, _ in polled}
            race = min(free, key=lambda race: (race[0] in partners, due[race]))
            polled.add(race)
            silent.begin(race, now)
            due[race] = now + INTERVAL
            since, until = hung.get(race, (0.0, 0.0))
            is_hung = since <= now < until
            heapq.heappush(ends, (now + (TIMEOUT if is_hung else ANSWER), now, race, is_hung))
            continue
        now = min(ends[0][0] if ends else now + 0.25, now + 0.25)
        while ends and ends[0][0] <= now:
            ended, began, race, timed_out = heapq.heappop(ends)
            polled.discard(race)
            silent.end(race)
            silent.note(race, timed_out=timed_out, began=began, ended=ended)
            if not timed_out:
                answered[race].append(ended)
    return answered


def gaps(times: list[float], since: float = 0.0) -> list[float]:
    """Return the seconds between two answers of a race, of those after a moment."""
    later = [at for at in times if at > since]
    return [b - a for a, b in itertools.pairwise(later)]


FLEET = [(partner, 10 * partner + race) for partner in range(13) for race in range(3)]


def test_races_that_answer_are_polled_within_30_s_while_two_partners_hang() -> None:
    hung = {race: (0.0, 600.0) for race in FLEET if race[0] < 2}
    answered = polls(hung, FLEET, 600)
    assert answered.keys() == set(FLEET) - hung.keys()
    # Both workers may meet a hung race at once. Then one polls the 33 others while the other tries what is in doubt.
    assert all(answered[race][0] <= 2 * TIMEOUT + 33 * ANSWER + 1 for race in answered)
    assert max(gap for race in answered for gap in gaps(answered[race], 2 * TIMEOUT)) <= 30


def test_when_partners_come_to_hang_the_others_are_polled_again_after_one_time_out() -> None:
    hung = {race: (100.0, 400.0) for race in FLEET if race[0] < 2}
    answered = polls(hung, FLEET, 400)
    moments = sorted(at for race in FLEET if race not in hung for at in answered[race])
    # The workers have nothing to do for some seconds of each interval, and here the polls that hang follow.
    assert max(gaps(moments, 60)) <= TIMEOUT + INTERVAL / 2


def test_a_long_read_puts_no_other_race_in_doubt() -> None:
    silent = SilentRaces()
    silent.begin((1, 10), 0.0)
    assert silent.to_leave_out([(1, 10), (1, 11), (2, 20)], [(1, 10)], 10.0) == {(1, 10), (1, 11)}
    silent.expect_long((1, 10))
    assert silent.to_leave_out([(1, 10), (1, 11), (2, 20)], [(1, 10)], 10.0) == set()
    silent.begin((1, 10), 20.0)
    silent.end((1, 10))
    assert not silent.is_in_doubt((1, 11), 40.0)


@pytest.mark.parametrize("race", [FLEET[0], FLEET[20]])
def test_a_hung_race_keeps_its_partners_other_races_waiting_no_longer_than_a_time_out(race: Race) -> None:
    answered = polls({race: (0.0, 600.0)}, FLEET, 600)
    assert answered.keys() == set(FLEET) - {race}
    assert max(gap for other in answered for gap in gaps(answered[other])) <= INTERVAL + TIMEOUT + 2


def test_races_that_answer_again_are_polled_at_the_usual_interval_at_once() -> None:
    hung = {race: (0.0, 300.0) for race in FLEET if race[0] < 2}
    answered = polls(hung, FLEET, 600)
    for race in hung:
        assert answered[race][0] <= 300 + 2 * TIMEOUT + INTERVAL
        assert max(gaps(answered[race])) <= INTERVAL + 2


def test_without_that_rule_races_that_answer_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SilentRaces, "to_leave_out", lambda *_: set())
    hung = {race: (0.0, 600.0) for race in FLEET if race[0] < 2}
    answered = polls(hung, FLEET, 600)
    assert max(gap for race in FLEET if race not in hung for gap in gaps(answered[race], 2 * TIMEOUT)) > 30
