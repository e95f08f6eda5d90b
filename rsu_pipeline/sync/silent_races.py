"""Races that do not answer, kept from holding up the polls of those that do.

A call takes some 0.7 s, and a time-out of 15 s takes a worker for as long as twenty of them. So the first call that is slow is
given up after 6 s, and only a race that timed out is polled with the whole time-out. One worker at a time polls such races, and
after one that timed out again they rest for as long as it took. With six hung races of 39, or a hung call each 15 s, that keeps
95 % of the bibs of the others within 30 s with two calls in flight (played in sync/test_silent_races.py).
"""

from collections.abc import Collection

Race = tuple[int, int]
"""The partner's number and the race's."""
FIRST_TRY_SECONDS = 6.0
"""How long a call may take of a race that answered quickly before. RunSignup's slow calls were seen to take 1.4 s."""


class SilentRaces:
    """What is known of races that do not answer. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._timed_out: set[Race] = set()
        self._slow: set[Race] = set()
        self._rest_until = float("-inf")

    def note(self, race: Race, *, timed_out: bool, slowest_answer: float, began: float, ended: float) -> None:
        """Note how a poll went, and how many seconds the slowest of its calls took that was answered."""
        if not timed_out:
            self._timed_out.discard(race)
            # A race that answers slowly is not given up early, else it would time out at every second poll. The poll itself says
            # nothing: it may have waited for its turn to call.
            (self._slow.add if slowest_answer > FIRST_TRY_SECONDS / 2 else self._slow.discard)(race)
            return
        if race in self._timed_out:
            self._rest_until = ended + (ended - began)
        self._timed_out.add(race)

    def longest_call(self, race: Race) -> float:
        """Return how many seconds a call of the race's next poll may take, where the settings allow more."""
        return float("inf") if race in self._timed_out | self._slow else FIRST_TRY_SECONDS

    def to_leave_out(self, polled: Collection[Race], now: float) -> set[Race]:
        """Return the races that no further worker is to poll now, while `polled` are being polled."""
        is_one_polled = not self._timed_out.isdisjoint(polled)
        return set(self._timed_out) if is_one_polled or now < self._rest_until else set()
