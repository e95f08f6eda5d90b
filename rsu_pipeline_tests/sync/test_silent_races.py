"""Races that do not answer leave the others their polls: played with a clock of its own, without a server."""

import itertools
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass

import pytest

from rsu_pipeline.sync.silent_races import FIRST_TRY_SECONDS, REST, Race, SilentRaces
from rsu_pipeline.warehouse.call_ledger import SLOW_SHARE

ANSWER, TIMEOUT, INTERVAL = 0.7, 15.0, 20.0
PLACES = 2
ROUTINE = 45
FLEET = [(partner, 10 * partner + race) for partner in range(13) for race in range(3)]
Hangs = Callable[[Race, float], bool]


@dataclass
class Poll:
    """A poll of a race, from when a worker took it. It calls once it has a place in flight."""

    race: Race
    began: float
    longest_call: float
    is_slow: bool
    called: float = float("inf")
    ends: float = float("inf")
    is_hung: bool = False


def polls(
    hangs: Hangs, seconds: float, *, routine_hangs: bool = False, answer: Callable[[float], float] = lambda now: ANSWER
) -> dict[Race, list[float]]:
    """Play the watch's workers and the places in flight, and return when each race of the fleet answered.

    Args:
        hangs: whether a race that is called then does not answer.
        seconds: for how long.
        routine_hangs: whether calls of another lane hang, so that it has one of the places for 15 s of each 45.
        answer: how long a call takes that is made then.
    """
    silent = SilentRaces()
    due = {race: INTERVAL * number / len(FLEET) for number, race in enumerate(FLEET)}
    answered: dict[Race, list[float]] = defaultdict(list)
    slow: set[Race] = set()
    polled: list[Poll] = []
    for now in (tick / 20 for tick in range(int(seconds * 20))):
        for poll in [poll for poll in polled if poll.ends <= now]:
            polled.remove(poll)
            (slow.add if now - poll.called >= TIMEOUT * SLOW_SHARE else slow.discard)(poll.race)
            if not poll.is_hung:
                silent.note_answer(poll.race, now - poll.called, now)
                answered[poll.race].append(now)
            elif silent.note_time_out(poll.race, poll.began, now):
                due[poll.race] = now
        while len(polled) < PLACES + 1:
            busy = {poll.race for poll in polled}
            left_out = busy | silent.to_leave_out(FLEET, busy, now)
            partners = {partner for partner, _ in busy}
            free = [race for race in FLEET if race not in left_out and due[race] <= now]
            if not free:
                break
            race = min(free, key=lambda race: (race[0] in partners, due[race]))
            due[race] = now + INTERVAL
            polled.append(Poll(race, now, min(TIMEOUT, silent.longest_call(race, now)), race in slow))
        routine = int(routine_hangs and now % ROUTINE < TIMEOUT)
        for poll in sorted(polled, key=lambda poll: poll.is_slow):
            calling = [other for other in polled if other.called <= now]
            others = routine + sum(other.is_slow for other in calling)
            has_place = len(calling) + routine < PLACES and not (poll.is_slow and others >= PLACES - 1)
            if poll.called > now and has_place:
                takes = TIMEOUT if hangs(poll.race, now) else answer(now)
                poll.called, poll.is_hung = now, takes > poll.longest_call or takes == TIMEOUT
                poll.ends = now + min(takes, poll.longest_call)
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


def two_partners_hang(race: Race, now: float) -> bool:
    return race in HUNG and now >= 60


def one_race_of_each_partner() -> Hangs:
    """Return a `hangs` of which one race of each partner in turn does not answer one call, another one each 15 s."""
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

    return hangs


def test_bibs_of_other_partners_are_here_within_30_s_while_two_partners_hang() -> None:
    for routine_hangs in (False, True):
        found = waits(polls(two_partners_hang, 400, routine_hangs=routine_hangs), set(FLEET) - HUNG, 60, 240)
        assert p95(found) <= 30 and found[-1] <= 60


def test_bibs_are_here_within_30_s_while_one_race_of_each_partner_hangs_in_turn() -> None:
    for routine_hangs in (False, True):
        found = waits(polls(one_race_of_each_partner(), 400, routine_hangs=routine_hangs), FLEET, 60, 240)
        assert p95(found) <= 30 and found[-1] <= 60


def test_bibs_are_here_within_30_s_while_partners_hang_and_one_race_of_each_other_in_turn() -> None:
    in_turn = one_race_of_each_partner()
    answered = polls(lambda race, now: two_partners_hang(race, now) or in_turn(race, now), 400)
    found = waits(answered, set(FLEET) - HUNG, 60, 240)
    assert p95(found) <= 30 and found[-1] <= 60


def test_races_that_answer_again_are_polled_at_the_usual_interval_soon() -> None:
    answered = polls(lambda race, now: race in HUNG and now < 300, 600)
    for race in HUNG:
        later = answered[race]
        assert later[0] <= 300 + (1 + REST) * TIMEOUT + INTERVAL
        assert max(b - a for a, b in itertools.pairwise(later)) <= INTERVAL + 2


@pytest.mark.parametrize("busy", [2.0, 4.0, 7.0])
def test_a_busy_runsignup_is_polled_as_fast_as_it_answers(busy: float) -> None:
    """No race is given up early at every poll, and none rests, because all answer slowly."""
    answered = polls(lambda race, now: False, 900, answer=lambda now: busy if now >= 60 else ANSWER)
    cycle = len(FLEET) * busy / PLACES
    assert p95(waits(answered, FLEET, 60, 400)) <= cycle * 1.1
    assert p95(waits(answered, FLEET, 300, 600)) <= cycle


def test_without_these_rules_bibs_of_races_that_answer_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SilentRaces, "to_leave_out", lambda *_: set())
    monkeypatch.setattr(SilentRaces, "longest_call", lambda *_: TIMEOUT)
    assert p95(waits(polls(two_partners_hang, 400), set(FLEET) - HUNG, 60, 240)) > 30


def test_a_race_that_answers_slowly_is_not_given_up_early_at_every_second_poll() -> None:
    silent, race = SilentRaces(), (1, 10)
    for number in range(9):
        silent.note_answer((2, number), 0.7, 0.0)
    assert silent.longest_call(race, 0.0) == FIRST_TRY_SECONDS
    silent.note_time_out(race, 0.0, 4.0)
    assert silent.longest_call(race, 4.0) == float("inf")
    silent.note_answer(race, 10.0, 14.0)
    assert silent.longest_call(race, 14.0) == float("inf")
    for number in range(3):
        silent.note_answer((2, number), 0.7, 34.0)
    silent.note_answer(race, 0.7, 34.0)
    assert silent.longest_call(race, 34.0) == FIRST_TRY_SECONDS


def test_the_first_time_out_lets_no_race_rest_and_is_made_good_before_the_silent_ones() -> None:
    silent, race, other = SilentRaces(), (1, 10), (2, 20)
    both = [race, other]
    assert silent.note_time_out(race, 0.0, 4.0)
    assert silent.to_leave_out(both, [], 4.0) == set() and silent.to_leave_out(both, [race], 4.0) == {race}
    assert not silent.note_time_out(race, 4.0, 19.0)
    assert silent.to_leave_out(both, [], 63.9) == {race} and silent.to_leave_out(both, [], 64.0) == set()
    assert silent.note_time_out(other, 64.0, 68.0)
    assert silent.to_leave_out(both, [], 68.0) == {race}
    # One that left its window meanwhile keeps nobody waiting.
    assert silent.to_leave_out([race], [], 68.0) == set()


def test_a_time_out_of_a_partner_that_is_silent_is_not_tried_again_at_once() -> None:
    silent = SilentRaces()
    silent.note_time_out((1, 10), 0.0, 4.0)
    silent.note_time_out((1, 10), 4.0, 19.0)
    assert not silent.note_time_out((1, 11), 19.0, 23.0) and silent.note_time_out((2, 20), 23.0, 27.0)
    silent.note_answer((1, 10), 0.7, 80.0)
    assert silent.to_leave_out([(1, 11)], [], 80.0) == set(), "it is polled as soon as another of its partner answers"


def test_a_poll_without_an_answer_shows_nothing_about_its_race() -> None:
    """The call budget was used up, or RunSignup refused the connection: the race stays silent."""
    silent, race, other = SilentRaces(), (1, 10), (2, 20)
    silent.note_time_out(race, 0, FIRST_TRY_SECONDS)
    silent.note_time_out(race, FIRST_TRY_SECONDS, FIRST_TRY_SECONDS + TIMEOUT)
    resting = FIRST_TRY_SECONDS + TIMEOUT + 1
    for number in range(9):
        silent.note_answer(race, 0.0, resting + number)
    assert silent.to_leave_out([race, other], [], resting) == {race}, "it rests as before"
    assert silent.longest_call(race, resting) == float("inf"), "it is as silent as before"
    for number in range(4):
        silent.note_answer(other, TIMEOUT / 2, resting + number)
    assert silent.to_leave_out([race, other], [], resting + 9) == set(), (
        "RunSignup is busy: nine polls without an answer do not hide it"
    )
