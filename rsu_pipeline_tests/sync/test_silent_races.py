"""Races that do not answer leave the others their polls: played with a clock of its own, without a server."""

import heapq
import itertools
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection

import pytest

from rsu_pipeline.sync.silent_races import FIRST_TRY_SECONDS, Race, SilentRaces

ANSWER, TIMEOUT, INTERVAL = 0.7, 15.0, 20.0
FLEET = [(partner, 10 * partner + race) for partner in range(13) for race in range(3)]
Hangs = Callable[[Race, float], bool]


def polls(hangs: Hangs, seconds: float) -> dict[Race, list[float]]:
    """When each race of the fleet answered, with two workers. `hangs` says whether a race that is asked then does not answer."""
    silent = SilentRaces()
    due = {race: INTERVAL * number / len(FLEET) for number, race in enumerate(FLEET)}
    polled: set[Race] = set()
    answered: dict[Race, list[float]] = defaultdict(list)
    ends: list[tuple[float, float, Race, bool]] = []
    now = 0.0
    while now < seconds:
        left_out = silent.to_leave_out(polled, now)
        free = [race for race in FLEET if race not in polled | left_out and due[race] <= now]
        if len(ends) < 2 and free:
            partners = {partner for partner, _ in polled}
            race = min(free, key=lambda race: (race[0] in partners, due[race]))
            polled.add(race)
            due[race] = now + INTERVAL
            is_hung = hangs(race, now)
            took = min(TIMEOUT, silent.longest_call(race)) if is_hung else ANSWER
            heapq.heappush(ends, (now + took, now, race, is_hung))
            continue
        now = min(ends[0][0] if ends else now + 0.25, now + 0.25)
        while ends and ends[0][0] <= now:
            ended, began, race, timed_out = heapq.heappop(ends)
            polled.discard(race)
            silent.note(
                race, timed_out=timed_out, slowest_answer=0.0 if timed_out else ANSWER, began=began, ended=ended
            )
            if not timed_out:
                answered[race].append(ended)
    return answered


def waits(answered: dict[Race, list[float]], races: Collection[Race], since: float, until: float) -> list[float]:
    """Return the seconds from a bib, one at each half of a second and in every race, to the next answer, in order of length."""
    found = []
    for race in races:
        for half in range(int(2 * since), int(2 * until)):
            at = half / 2
            following = bisect_left(answered[race], at + ANSWER)
            found.append(answered[race][following] - at if following < len(answered[race]) else float("inf"))
    return sorted(found)


def p95(found: list[float]) -> float:
    return found[int(len(found) * 0.95)]


HUNG = {race for race in FLEET if race[0] < 2}


def test_bibs_of_other_partners_are_here_within_30_s_while_two_partners_hang() -> None:
    answered = polls(lambda race, now: race in HUNG and now >= 60, 400)
    found = waits(answered, set(FLEET) - HUNG, 60, 240)
    assert p95(found) <= 30 and found[-1] <= 60


def test_bibs_are_here_within_30_s_while_one_race_of_each_partner_hangs_in_turn() -> None:
    hung: set[Race] = set()
    begun = [60.0]
    turns = itertools.cycle(FLEET[::3])

    def hangs(race: Race, now: float) -> bool:
        while now >= begun[0]:
            hung.add(next(turns))
            begun[0] += TIMEOUT
        if race in hung:
            hung.remove(race)
            return True
        return False

    found = waits(polls(hangs, 400), FLEET, 60, 240)
    assert p95(found) <= 30 and found[-1] <= 90


def test_races_that_answer_again_are_polled_at_the_usual_interval_at_once() -> None:
    answered = polls(lambda race, now: race in HUNG and now < 300, 600)
    for race in HUNG:
        later = answered[race]
        assert later[0] <= 300 + 2 * TIMEOUT + INTERVAL
        assert max(b - a for a, b in itertools.pairwise(later)) <= INTERVAL + 2


def test_without_these_rules_bibs_of_races_that_answer_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SilentRaces, "to_leave_out", lambda *_: set())
    monkeypatch.setattr(SilentRaces, "longest_call", lambda *_: TIMEOUT)
    answered = polls(lambda race, now: race in HUNG and now >= 60, 400)
    assert p95(waits(answered, set(FLEET) - HUNG, 60, 240)) > 45


def test_a_race_that_answers_slowly_is_not_given_up_early_at_every_second_poll() -> None:
    silent, race = SilentRaces(), (1, 10)
    assert silent.longest_call(race) == FIRST_TRY_SECONDS
    silent.note(race, timed_out=True, slowest_answer=0.0, began=0.0, ended=6.0)
    assert silent.longest_call(race) == float("inf")
    silent.note(race, timed_out=False, slowest_answer=10.0, began=20.0, ended=30.0)
    assert silent.longest_call(race) == float("inf")
    # It waited for its turn to call.
    silent.note(race, timed_out=False, slowest_answer=0.7, began=40.0, ended=50.7)
    assert silent.longest_call(race) == FIRST_TRY_SECONDS


def test_the_first_time_out_lets_no_race_rest() -> None:
    silent = SilentRaces()
    silent.note((1, 10), timed_out=True, slowest_answer=0.0, began=0.0, ended=6.0)
    assert silent.to_leave_out([], 6.0) == set() and silent.to_leave_out([(1, 10)], 6.0) == {(1, 10)}
    silent.note((1, 10), timed_out=True, slowest_answer=0.0, began=10.0, ended=25.0)
    assert silent.to_leave_out([], 39.0) == {(1, 10)} and silent.to_leave_out([], 40.0) == set()
