"""What is sent and when: each cause once until it is resolved, whatever comes and goes and whether a notifier works."""

import datetime as dt
import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from rsu_pipeline.alerts.alert_store import Alert, Problem
from rsu_pipeline.alerts.transitions import EVALUATIONS_UNTIL_RESOLVED, REMIND_AFTER, plan_notifications

NOW = dt.datetime(2026, 10, 3, 12, 0, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
CAUSES = [("dead_watch", "1:5"), ("dead_watch", "1:6"), ("partner_stale", "1"), ("run_failed", "watch:")]


def problem(kind: str, key: str) -> Problem:
    return Problem(kind, key, "1-acme", f"{kind} {key}")


@dataclass
class Book:
    """The table, kept in memory by the rules of alerts.alert_store, and what was sent, as (kind of message, cause, when)."""

    alerts: dict[int, Alert] = field(default_factory=dict)
    said: list[tuple[str, tuple[str, str], dt.datetime]] = field(default_factory=list)

    def look(self, problems: list[Problem], now: dt.datetime, *, works: bool) -> None:
        rows = [a for a in self.alerts.values() if a.cleared_at is None or a.owes_resolution_notice]
        to_tell, over = plan_notifications(rows, problems, now)
        seen = {one.cause for one in problems}
        is_open = {alert.cause: alert for alert in self.alerts.values() if alert.cleared_at is None}
        for alert in is_open.values():
            if alert.cause not in seen:
                self.alerts[alert.alert_id] = replace(alert, looks_missed=alert.looks_missed + 1)
        for one in problems:
            if known := is_open.get(one.cause):
                self.alerts[known.alert_id] = replace(known, last_seen_at=now, looks_missed=0)
            else:
                number = len(self.alerts) + 1
                self.alerts[number] = Alert(number, *one.cause, one.partner, one.sentence, one.run_id, now, now)
        for alert in over:
            row = self.alerts[alert.alert_id]
            row = replace(row, cleared_at=row.cleared_at or now)
            if works and row.owes_resolution_notice:
                self.said.append(("cleared", row.cause, now))
                row = replace(row, cleared_told_at=now)
            self.alerts[alert.alert_id] = row
        for one in to_tell:
            (row,) = [a for a in self.alerts.values() if a.cause == one.cause and a.cleared_at is None]
            if works:
                self.said.append(("told", one.cause, now))
                row = replace(row, told_at=now)
            else:
                row = replace(row, failed_sends=row.failed_sends + 1)
            self.alerts[row.alert_id] = row


LOOKS = st.lists(
    st.tuples(st.sets(st.sampled_from(CAUSES)), st.booleans(), st.sampled_from([1, 1, 1, 60, 240])), max_size=40
)


@given(LOOKS)
def test_nothing_is_told_twice_without_a_clear_or_a_day_between_and_nothing_is_forgotten(
    looks: list[tuple[set[tuple[str, str]], bool, int]],
) -> None:
    book, now = Book(), NOW
    seen_ever: set[tuple[str, str]] = set()
    for causes, works, minutes in looks:
        now += minutes * MINUTE
        book.look([problem(*cause) for cause in sorted(causes)], now, works=works)
        seen_ever |= causes
        if works:
            for cause in causes:  # whatever is wrong while a notifier works is sent, and lately
                told = [when for what, whose, when in book.said if (what, whose) == ("told", cause)]
                assert told
                assert now - told[-1] < REMIND_AFTER
    for _ in range(3):
        now += MINUTE
        book.look([], now, works=True)
    told_rightly(book.said, list(book.alerts.values()), seen_ever)


def told_rightly(
    said: Sequence[tuple[str, tuple[str, str], dt.datetime]],
    alerts: Sequence[Alert],
    seen_ever: Collection[tuple[str, str]],
) -> None:
    """Assert that what was seen was sent, no cause twice without an end or a day between, and each end once."""
    for cause in CAUSES:
        own = [(what, when) for what, whose, when in said if whose == cause]
        assert bool(own) == (cause in seen_ever)
        for (what, when), (following, then) in itertools.pairwise(own):
            if (what, following) == ("told", "told"):
                assert then - when >= REMIND_AFTER
        rows = [alert for alert in alerts if alert.cause == cause]
        assert sum(what == "cleared" for what, _ in own) == len(rows)
        assert not own or own[-1][0] == "cleared"
        assert all(alert.cleared_at for alert in rows)


def told(alert: Alert, problems: list[Problem], now: dt.datetime) -> tuple[int, int]:
    to_tell, over = plan_notifications([alert], problems, now)
    return len(to_tell), len(over)


def test_a_cause_is_over_when_two_looks_in_a_row_did_not_see_it() -> None:
    assert EVALUATIONS_UNTIL_RESOLVED == 2
    alert = Alert(1, "dead_watch", "1:5", None, "s", None, NOW, NOW, told_at=NOW)
    assert told(alert, [], NOW) == (0, 0)
    assert told(replace(alert, looks_missed=1), [], NOW) == (0, 1)
    assert told(replace(alert, looks_missed=1), [problem("dead_watch", "1:5")], NOW) == (0, 0)


def test_a_cause_is_told_again_after_a_day_and_while_nobody_took_it() -> None:
    alert = Alert(1, "dead_watch", "1:5", None, "s", None, NOW, NOW, told_at=NOW)
    its = [problem("dead_watch", "1:5")]
    assert told(alert, its, NOW + REMIND_AFTER - MINUTE) == (0, 0)
    assert told(alert, its, NOW + REMIND_AFTER) == (1, 0)
    assert told(replace(alert, told_at=None), its, NOW) == (1, 0)


def test_the_same_cause_twice_in_one_look_is_one() -> None:
    to_tell, _ = plan_notifications([], [problem("dead_watch", "1:5")] * 2, NOW)
    assert len(to_tell) == 1
