"""Races that do not answer leave the others their polls: played with a clock of its own, without a server."""

import heapq
import itertools
from collections import defaultdict

import pytest

from rsu_pipeline.sync.silent_races import Race, SilentRaces

ANSWER, TIMEOUT, INTERVAL = 0.7, 15.0, 20.0


def polls(hung: dict[Race, float], races: list[Race], seconds: float, *, workers: int = 2) -> dict[Race, list[float]]:
    """When each race answered, with so many workers. `hung` says until when a race does not answer."""
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
            race = min(free, key=due.__getitem__)
            polled.add(race)
            due[race] = now + INTERVAL
            is_hung = hung.get(race, 0) > now
            heapq.heappush(ends, (now + (TIMEOUT if is_hung else ANSWER), now, race, is_hung))
            continue
        until = ends[0][0] if ends else now + 0.25
        now = min(until, now + 0.25)
        while ends and ends[0][0] <= now:
            ended, began, race, timed_out = heapq.heappop(ends)
            polled.discard(race)
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
    hung = {race: 600.0 for race in FLEET if race[0] < 2}
    answered = polls(hung, FLEET, 600)
    assert answered.keys() == set(FLEET) - hung.keys()
    # Both workers may meet each hung partner once. Then one polls the 33 others while the other tries what is in doubt.
    assert all(answered[race][0] <= 2 * TIMEOUT + 33 * ANSWER + 1 for race in answered)
    assert max(gap for race in answered for gap in gaps(answered[race], 2 * TIMEOUT)) <= 30


@pytest.mark.parametrize("race", [FLEET[0], FLEET[20]])
def test_a_hung_race_keeps_its_partners_other_races_waiting_no_longer_than_a_time_out(race: Race) -> None:
    answered = polls({race: 600.0}, FLEET, 600)
    assert answered.keys() == set(FLEET) - {race}
    assert max(gap for other in answered for gap in gaps(answered[other])) <= INTERVAL + TIMEOUT + 2


def test_races_that_answer_again_are_polled_at_the_usual_interval_at_once() -> None:
    hung = {race: 300.0 for race in FLEET if race[0] < 2}
    answered = polls(hung, FLEET, 600)
    for race in hung:
        assert answered[race][0] <= 300 + 2 * TIMEOUT + INTERVAL
        assert max(gaps(answered[race])) <= INTERVAL + 2


def test_without_that_rule_races_that_answer_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SilentRaces, "to_leave_out", lambda *_: set())
    hung = {race: 600.0 for race in FLEET if race[0] < 2}
    answered = polls(hung, FLEET, 600)
    assert max(gap for race in FLEET if race not in hung for gap in gaps(answered[race], 2 * TIMEOUT)) > 30
