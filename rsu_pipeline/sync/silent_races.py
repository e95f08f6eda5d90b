"""Races that do not answer, kept from holding up the polls of those that do.

A poll that times out takes a worker for as long as twenty others. So one worker at a time polls races that are in doubt, and
after a poll that timed out such races rest for as long as it took: the others have at least one worker and a half of two.
A race is in doubt when its last poll timed out, and until it answers also when a poll of the same partner did, since what hangs
is mostly all of a partner's races. A poll that is slow already puts its partner's races in doubt while it lasts.
"""

from collections.abc import Collection

Race = tuple[int, int]
"""The partner's number and the race's."""
SLOW_SECONDS = 4.0
"""A poll that lasts longer may well time out. Calls take some 0.7 s, and a poll has two or three of them."""


class SilentRaces:
    """What is known of races that do not answer. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._timed_out: set[Race] = set()
        self._answered_at: dict[Race, float] = {}
        self._partner_timed_out_at: dict[int, float] = {}
        self._rest_until = float("-inf")
        self._began_at: dict[Race, float] = {}

    def begin(self, race: Race, now: float) -> None:
        """Note that a poll of the race begins."""
        self._began_at[race] = now

    def expect_long(self, race: Race) -> None:
        """Note that the poll that began takes long by itself: a full read of many pages."""
        self._began_at.pop(race, None)

    def end(self, race: Race) -> None:
        """Note that the poll is over, however it went."""
        self._began_at.pop(race, None)

    def note(self, race: Race, *, timed_out: bool, began: float, ended: float) -> None:
        """Note how a poll went."""
        if timed_out:
            self._timed_out.add(race)
            self._partner_timed_out_at[race[0]] = ended
            self._rest_until = ended + (ended - began)
        else:
            self._timed_out.discard(race)
            self._answered_at[race] = ended

    def is_in_doubt(self, race: Race, now: float) -> bool:
        """Return whether a poll of the race may well time out."""
        if race in self._timed_out:
            return True
        if any(polled[0] == race[0] and now - began_at > SLOW_SECONDS for polled, began_at in self._began_at.items()):
            return True
        partner_timed_out_at = self._partner_timed_out_at.get(race[0], float("-inf"))
        return partner_timed_out_at > self._answered_at.get(race, float("-inf"))

    def to_leave_out(self, races: Collection[Race], polled: Collection[Race], now: float) -> set[Race]:
        """Return which of these races no further worker is to poll now, while `polled` are being polled."""
        left_out = self._timed_out & set(races) if now < self._rest_until else set()
        if any(self.is_in_doubt(race, now) for race in polled):
            left_out |= {race for race in races if self.is_in_doubt(race, now)}
        return left_out
