"""Races that do not answer, kept from delaying the polls of those that do.

A call takes about 0.7 s, and a time-out of 15 s takes a worker for as long as twenty of them. So a slow call is abandoned after
4 s, and the race, now suspected, is polled again at once. If that times out too, the race is silent: its calls have the whole
time-out, and between two polls of silent races is a rest of REST times what the first took. A time-out of another race of
its partner makes that one silent, too. One worker at a time polls suspected and silent races.

If most responses are slow, RunSignup is busy, and no race is abandoned early or left out.

With six hung races of 39, or a hung call each 15 s, or both, that keeps 95 % of the bibs of the others within 30 s with two
calls in flight. Both are played in sync/test_silent_races.py.
"""

import statistics
from collections import deque
from collections.abc import Collection

Race = tuple[int, int]
"""The ids of the partner and of the race."""
FIRST_TRY_SECONDS = 4.0
"""How long a call may take for a race that answered quickly before. RunSignup's slow calls were seen to take 1.4 s."""
SLOW_ANSWER_SECONDS = FIRST_TRY_SECONDS / 2
"""A call that takes longer may well take longer than FIRST_TRY_SECONDS the next time."""
REST = 3.0
"""Silent races take a quarter of a worker."""
LATELY_SECONDS = 30.0
"""The time whose responses decide whether RunSignup is busy. Each race in its window is polled every 20 s."""


class SilentRaces:
    """What is known of races that do not answer. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._suspected: set[Race] = set()
        self._silent: set[Race] = set()
        self._slow: set[Race] = set()
        self._rest_until = float("-inf")
        self._answers: deque[tuple[float, float]] = deque()

    def note_answer(self, race: Race, seconds: float, now: float) -> None:
        """Record that a poll did not time out, and how many seconds the slowest of its answered calls took.

        The duration of the poll shows nothing: it may have waited for its turn to call. `seconds` is 0 if none of the calls was
        answered, as when the call budget is used up or RunSignup cannot be reached. That shows nothing about the race either.
        """
        if not seconds:
            return
        self._answers.append((now, seconds))
        self._suspected.discard(race)
        if race in self._silent:
            self._silent.remove(race)
            # The others of its partner may answer again too.
            self._rest_until = now
        # A race that answers slowly is not abandoned early, otherwise it would time out at every second poll.
        (self._slow.add if seconds > SLOW_ANSWER_SECONDS else self._slow.discard)(race)

    def note_time_out(self, race: Race, began: float, ended: float) -> bool:
        """Record that a race timed out, and return whether to poll it again at once."""
        if race not in self._suspected | self._silent and not self._has_silent(race[0]):
            self._suspected.add(race)
            return True
        self._suspected.discard(race)
        self._silent.add(race)
        self._rest_until = ended + REST * (ended - began)
        return False

    def longest_call(self, race: Race, now: float) -> float:
        """Return how many seconds a call of the race's next poll may take, if the settings allow more."""
        # The whole time-out for the first race that is suspected: it shows whether RunSignup is silent or busy.
        is_patient = race in self._silent | self._slow or (race in self._suspected and not self._silent)
        return float("inf") if is_patient or self._is_busy(now) else FIRST_TRY_SECONDS

    def to_leave_out(self, races: Collection[Race], polled: Collection[Race], now: float) -> set[Race]:
        """Return which of `races` no further worker is to poll now, while `polled` are being polled.

        A suspected race comes before the silent ones, so that one call that hung is repeated at once.
        """
        if self._is_busy(now):
            return set()
        suspected, silent = self._suspected.intersection(races), self._silent.intersection(races)
        if not (suspected | silent).isdisjoint(polled):
            return suspected | silent
        return silent if suspected or now < self._rest_until else set()

    def _has_silent(self, partner_id: int) -> bool:
        return any(partner == partner_id for partner, _ in self._silent)

    def _is_busy(self, now: float) -> bool:
        """Return whether RunSignup answers most calls slowly."""
        while self._answers and self._answers[0][0] < now - LATELY_SECONDS:
            self._answers.popleft()
        return bool(self._answers) and statistics.median(took for _, took in self._answers) > SLOW_ANSWER_SECONDS
