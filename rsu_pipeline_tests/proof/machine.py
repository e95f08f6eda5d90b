"""The state machine: random programs of changes at RunSignup, faults, kills and syncs.

After one quiet sync the tables equal the truth and the bib log replays.

The sandbox's clock stops unless a step moves it, so that edits within one second are common. A page holds four
registrations, so that small races fill several.
"""

import itertools
import math
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure
from hypothesis.internal.conjecture.providers import Constants, HypothesisProvider
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rsu_pipeline.runsignup.api_errors import ApiError
from rsu_pipeline.runsignup.client import Client
from rsu_pipeline.sync import sharing
from rsu_pipeline.sync.removed_feed import ANOTHER_MOMENT_SECONDS
from rsu_pipeline.sync.session import CredentialRejected
from rsu_pipeline.warehouse import database, race_locks
from rsu_pipeline.warehouse.database import DatabaseError
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.optional_fields import assert_included
from rsu_pipeline_tests.proof.kills import killed_after
from rsu_pipeline_tests.specs import estate
from runsignup_sandbox.process import SandboxProcess

PAGE_SIZE = 4
PARTNERS = 150
SPEC = estate(partners=PARTNERS, events=2, registrations=5)
FAULTS = (
    "http_500 http_503 html_522 throttle_200 throttle_429 truncated short_body html_200 empty_200 xml_200 unknown_shape"
    " reset closed wrong_type error_code"
).split()
INCLUDE = ("all", "none", "corrals,questions")
"""Optional fields that a program requests at first, in turn, and that it may change to."""
REASONS = ("cleared", "removed", "deferred")
PICK = st.integers(min_value=0, max_value=10_000)


class Arena:
    """Servers for many programs.

    Each program gets a partner of its own. When none is left, new servers are started.
    """

    full_read_up_to_rows: Sequence[int] = (0,)
    """What programs have in turn: small races read incrementally, or in full at every visit."""

    def __init__(self, make_database: Callable[[], str], home: Any) -> None:
        self._make_database = make_database
        self._home = home
        self.hub: Hub | None = None
        self._left = itertools.count(PARTNERS + 1)
        self.programs = 0

    def partner(self) -> tuple[Hub, int]:
        self.programs += 1
        number = next(self._left)
        if self.hub is None or number > PARTNERS:
            self.close()
            sandbox = SandboxProcess.start(spec=SPEC, seed=7)
            sandbox.admin.clock(rate=0)
            self.hub = Hub(
                self._make_database(),
                sandbox,
                self._home,
                RSU_PAGE_SIZE=str(PAGE_SIZE),
                RSU_CALL_ATTEMPTS="2",
                RSU_CALL_BACKOFF="0",
            )
            self._left = itertools.count(2)
            number = 1
        up_to = self.full_read_up_to_rows[self.programs % len(self.full_read_up_to_rows)]
        self.hub.environment["RSU_FULL_READ_UP_TO_ROWS"] = str(up_to)
        return self.hub, number

    def close(self) -> None:
        if self.hub is not None:
            self.hub.sandbox.stop()
            self.hub = None


class Convergence(RuleBasedStateMachine):
    """One program. `arena` is set by the test that runs the machine."""

    arena: Arena

    @initialize()
    def start(self) -> None:
        self.hub, self.partner = self.arena.partner()
        self.admin = self.hub.sandbox.admin
        self.monkeypatch = pytest.MonkeyPatch()
        self.silent = False
        self.revoked = False
        self.late = 0
        self.hidden = 0
        self.another_moment = 0
        self.hub.environment["RSU_INCLUDE"] = INCLUDE[self.arena.programs % len(INCLUDE)]
        # Whole seconds, so that a program means the same wherever it runs.
        self.admin.clock(set=math.ceil(self.admin.clock()))

    # What RunSignup holds, asked of the sandbox itself.

    def _truth(self) -> dict[str, Any]:
        return self.admin.truth(self.partner)

    def _registration(self, pick: int) -> dict[str, Any] | None:
        active = self._truth()["active"]
        return active[pick % len(active)] if active else None

    def _events(self) -> list[dict[str, Any]]:
        return [event for race in self._truth()["races"] for event in race["events"]]

    # Changes at RunSignup.

    @rule(pick=PICK, count=st.integers(1, 3), bib=st.none() | st.integers(1, 9))
    def register(self, pick: int, count: int, bib: int | None) -> None:
        events = self._events()
        self.admin.register(events[pick % len(events)]["event_id"], {"bib_num": bib}, count=count)

    @rule(pick=PICK, name=st.text(alphabet="abcÄé'\\\t\"☃", min_size=1, max_size=6))
    def edit(self, pick: int, name: str) -> None:
        if row := self._registration(pick):
            self.admin.edit(row["registration_id"], {"first_name": name})

    @rule(pick=PICK, answer=st.sampled_from(["yes", "no", None]), corral=st.sampled_from(["A", "B"]))
    def edit_optional_fields(self, pick: int, answer: str | None, corral: str) -> None:
        if row := self._registration(pick):
            fields = {
                "question_responses": [{"question_id": 7, "question_text": "First time?", "response": answer}],
                "corral": {"corral_name": corral, "wave_name": "Wave 1"},
            }
            self.admin.edit(row["registration_id"], fields)

    @rule(pick=PICK)
    def check_in_without_stamp(self, pick: int) -> None:
        if row := self._registration(pick):
            self.admin.check_in(row["registration_id"])
            # No feed of changes shows it.
            self.silent = True

    @rule(include=st.sampled_from(INCLUDE))
    def request_other_fields(self, include: str) -> None:
        self.hub.environment["RSU_INCLUDE"] = include

    @rule(pick=PICK, bib=st.none() | st.integers(1, 9))
    def set_bib(self, pick: int, bib: int | None) -> None:
        if row := self._registration(pick):
            self.admin.bib(row["registration_id"], bib)

    @rule(first=PICK, second=PICK)
    def swap_bibs(self, first: int, second: int) -> None:
        a, b = self._registration(first), self._registration(second)
        if a and b and a["registration_id"] != b["registration_id"]:
            self.admin.swap_bibs(a["registration_id"], b["registration_id"])

    @rule(pick=PICK, into=PICK, with_bib=st.booleans(), hide=st.sampled_from([None, "new", "removed"]))
    def transfer(self, pick: int, into: int, with_bib: bool, hide: str | None) -> None:
        row, events = self._registration(pick), self._events()
        if row:
            new_event = events[into % len(events)]["event_id"]
            self.admin.transfer(row["registration_id"], new_event, transfer_bib=with_bib, hide=hide, hide_seconds=3)
            self.hidden = 3

    @rule(pick=PICK, reason=st.sampled_from(REASONS))
    def remove(self, pick: int, reason: str) -> None:
        if row := self._registration(pick):
            self.admin.remove(row["registration_id"], reason)

    @rule(pick=PICK)
    def vanish(self, pick: int) -> None:
        if row := self._registration(pick):
            self.admin.remove(row["registration_id"], silent=True)
            self.silent = True

    @rule(pick=PICK, moves_stamp=st.booleans())
    def reactivate(self, pick: int, moves_stamp: bool) -> None:
        removed = [row for row in self._truth()["removed"] if row["removed_reason"] in REASONS]
        if not removed:
            return
        row = removed[pick % len(removed)]
        if moves_stamp:
            self.admin.reactivate(row["registration_id"])
        else:
            # No feed of changes shows it.
            self.admin.reactivate(row["registration_id"], last_modified=row["last_modified_ts"] - 500)
            self.silent = True

    @rule(pick=PICK, hours=st.sampled_from([6, 100, 500]))
    def new_event(self, pick: int, hours: int) -> None:
        races = self._truth()["races"]
        event_id = self.admin.add_event(races[pick % len(races)]["race_id"], "Added", start_in_hours=hours)
        self.admin.register(event_id, count=2)

    @rule()
    def new_race(self) -> None:
        _, event_ids = self.admin.add_race(self.partner, [{"name": "One", "start_in_hours": 300}])
        self.admin.register(event_ids[0], count=5)

    @rule(pick=PICK, hours=st.sampled_from([3, 30, 600]))
    def move_start(self, pick: int, hours: int) -> None:
        events = self._events()
        self.admin.move_event(events[pick % len(events)]["event_id"], start_in_hours=hours)

    @precondition(lambda self: not self.revoked)
    @rule()
    def revoke(self) -> None:
        self.admin.revoke(self.partner)
        self.revoked = True

    @precondition(lambda self: self.revoked)
    @rule()
    def grant(self) -> None:
        self.admin.grant(self.partner)
        self.revoked = False

    # The weather.

    @rule(seconds=st.sampled_from([0.4, 1, 3, 40, 500]))
    def time_passes(self, seconds: float) -> None:
        self.admin.clock(advance=seconds)

    @rule(seconds=st.sampled_from([0, 1, 3]))
    def see_late(self, seconds: int) -> None:
        self.admin.switch(visibility_delay=seconds)
        self.late = max(self.late, seconds)

    @rule(layout=st.sampled_from(["last", "own", "first"]))
    def lay_out(self, layout: str) -> None:
        self.admin.switch(layout=layout)

    @rule(skew=st.sampled_from([-30, 0, 30]))
    def skew_clock(self, skew: int) -> None:
        self.admin.clock(skew=skew)

    @rule(
        kind=st.sampled_from(FAULTS),
        times=st.integers(1, 3),
        endpoint=st.sampled_from(["participants", "removed", "race", "races"]),
        after_page=st.booleans(),
    )
    def fault(self, kind: str, times: int, endpoint: str, after_page: bool) -> None:
        more = {"code": 5, "message": "database failure"} if kind == "error_code" else {}
        after_page = after_page and endpoint in ("participants", "removed")
        self.admin.fault(kind, times, endpoint=endpoint, partner=self.partner, after_page=after_page, **more)

    @rule(
        endpoint=st.sampled_from(["participants", "removed"]),
        rows=st.integers(0, 3),
        times=st.integers(1, 4),
        after_page=st.booleans(),
    )
    def answer_few(self, endpoint: str, rows: int, times: int, after_page: bool) -> None:
        """Let the next answers have few rows or none, which only a later full read corrects."""
        self.admin.fault("few_rows", times, endpoint=endpoint, partner=self.partner, after_page=after_page, size=rows)
        self.silent = True
        self.another_moment = ANOTHER_MOMENT_SECONDS

    @rule(feed=st.sampled_from(["participants", "removed", "races"]), rows=st.sampled_from([2, 3, 1000]))
    def clamp_pages(self, feed: str, rows: int) -> None:
        """Let RunSignup give out fewer rows at a time than requested from now on."""
        self.admin.switch(most_rows=self.admin.switches()["most_rows"] | {feed: rows})

    # Syncs.

    def _sync(self, *, full: bool = False, confirm: bool = False) -> None:
        # The weather: the next sync mends it.
        with suppress(ApiError, CredentialRejected):
            self.hub.sync(self.partner, full=full, confirm_removals=confirm, retry_rejected=True)

    @rule()
    def sync(self) -> None:
        self._sync()

    @rule()
    def sync_in_full(self) -> None:
        self._sync(full=True)

    @rule(steps=st.integers(1, 120), full=st.booleans())
    def sync_killed(self, steps: int, full: bool) -> None:
        with killed_after(steps, self.monkeypatch):
            self._sync(full=full)
        self.hub.wait_for_sessions_to_end()

    @rule(page=st.integers(1, 4), pick=PICK, what=st.sampled_from(["remove", "edit", "bib", "register", "second sync"]))
    def sync_while(self, page: int, pick: int, what: str) -> None:
        """Let something happen just before the sync requests its n-th page.

        A second sync shares the partner's races with it, or takes them over where the first one's session was ended.
        """
        asked = itertools.count(1)
        ask = Client.participants_page
        taken_over: list[Any] = []

        def page_then(client: Client, race_id: int, *args: Any, **kwargs: Any) -> Any:
            if next(asked) != page:
                return ask(client, race_id, *args, **kwargs)
            if what == "second sync" and not pick % 2:
                try:
                    return ask(client, race_id, *args, **kwargs)
                finally:
                    self._end_session()
                    self._sync()
                    taken_over.append(self._everything())
            if what == "second sync":
                # One registration alone is requested to see whether the race can be read. Nothing of it is stored.
                self._second_sync(race_id, is_read=kwargs["size"] > 1)
            else:
                self._meanwhile(what, pick)
            return ask(client, race_id, *args, **kwargs)

        with self.monkeypatch.context() as patch:
            patch.setattr(Client, "participants_page", page_then)
            try:
                self._sync(full=True)
            except DatabaseError:
                assert taken_over
        if taken_over:
            assert self._everything() == taken_over[0], "a session wrote that had lost its race"

    def _second_sync(self, race_id: int, *, is_read: bool) -> None:
        """Start another sync, which reads what the first one is not reading."""
        with database.session(self.hub.url, purpose="tests") as conn:
            is_locked = race_locks.find_reader(conn, self.partner, race_id) is not None
        assert is_locked or not is_read, "registrations are read without their race's lock"
        with self.monkeypatch.context() as patch, suppress(ApiError, CredentialRejected):
            # The first one waits for this one to end.
            patch.setattr(sharing, "MAX_STALL_SECONDS", 0.0)
            outcome = self.hub.sync(self.partner, retry_rejected=True)
            if is_locked:
                assert race_id not in {result.read.race_id for result in outcome.reads}, "a race was read twice at once"
                assert all("is being read by 'rsu sync test " in text for text in outcome.elsewhere.values())

    def _end_session(self) -> None:
        """Let PostgreSQL end the session with which the first sync writes."""
        self.hub.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'rsu sync test %%'"
        )
        while self.hub.value(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'rsu sync test %%'"
        ):
            time.sleep(0.01)

    def _everything(self) -> list[dict[str, Any]]:
        """Return what a sync of the partner may write, hashed."""
        tables = ("runsignup_participants", "event_cursors", "read_passes", "runsignup_bib_changes", "sync_history")
        return [
            row
            for table in tables
            for row in self.hub.rows(
                f"SELECT count(*), sum(hashtextextended(t::text, 0)) FROM {table} t WHERE timing_partner_id = %s",
                self.partner,
            )
        ]

    @rule(
        pick=PICK,
        what=st.sampled_from(["remove", "edit", "bib", "register", "reactivate"]),
        seconds=st.sampled_from([0, 1, 300]),
        again=st.booleans(),
    )
    def resume_over_newer_reads(self, pick: int, what: str, seconds: int, again: bool) -> None:
        """Interrupt a full read after its first page, let other reads bring what is newer, and let the full read go on."""
        self.admin.fault("http_500", 2, endpoint="participants", partner=self.partner, after_page=True)
        self._sync(full=True)
        self.admin.clear_faults()
        for _ in range(2 if again else 1):
            self._meanwhile(what, pick)
            self.admin.clock(advance=seconds)
            self._sync()
        self._sync(full=True)

    def _meanwhile(self, what: str, pick: int) -> None:
        if what == "remove":
            self.remove(pick, "removed")
        elif what == "edit":
            self.edit(pick, "meanwhile")
        elif what == "bib":
            self.set_bib(pick, 7)
        elif what == "reactivate":
            self.reactivate(pick, False)
        else:
            self.register(pick, 1, None)

    @rule(pick=PICK, kind=st.sampled_from(FAULTS), seconds=st.sampled_from([1, 500]))
    def check_in(self, pick: int, kind: str, seconds: int) -> None:
        """Give a burst of bibs at one race, more than fit a page, while RunSignup fails as they are read."""
        races = self._truth()["races"]
        event_ids = [event["event_id"] for event in races[pick % len(races)]["events"]]
        rows = [row for row in self._truth()["active"] if row["event_id"] in event_ids]
        for number, row in enumerate(rows[: 2 * PAGE_SIZE + 1]):
            self.admin.bib(row["registration_id"], 100 + (pick + number) % 900)
        self.fault(kind, 2, "participants", after_page=True)
        self._sync()
        self.admin.clear_faults()
        self.admin.clock(advance=seconds)

    # The proof.

    def teardown(self) -> None:
        if not hasattr(self, "hub"):
            return
        try:
            self.admin.clear_faults()
            self.admin.switch(visibility_delay=0)
            self.admin.grant(self.partner)
            self.admin.clock(advance=self.late + self.hidden + self.another_moment + 1, skew=0)
            if self.silent:
                # What vanishes without a trace shows only to a full pass begun after it; one that a killed run began
                # before may have read its page already. Whatever is left of such a pass is finished first.
                self.hub.sync(self.partner, full=True, confirm_removals=True, retry_rejected=True)
            outcome = self.hub.sync(self.partner, full=self.silent, confirm_removals=True, retry_rejected=True)
            assert not outcome.failures, outcome.failures
            self.hub.assert_equal(self.partner)
            if self.hub.environment["RSU_INCLUDE"] == "all":
                assert_included(self.hub, self.partner)
            self.hub.assert_removals(self.partner)
            self.hub.assert_bib_log_replays(self.partner)
            self.hub.assert_proved_equal(self.partner)
        finally:
            self.admin.switch(visibility_delay=0, layout="last", most_rows={})
            self.monkeypatch.undo()


def _without(names: Collection[str]) -> dict[str, Any]:
    """Return these methods of the machine as no rules any more. Other rules may still call them."""

    def plain(method: Callable[..., None]) -> Callable[..., None]:
        return lambda self, *args, **kwargs: method(self, *args, **kwargs)

    return {name: plain(getattr(Convergence, name)) for name in names}


def rules() -> set[str]:
    """Return the names of the machine's rules."""
    return {name for name in vars(Convergence) if hasattr(getattr(Convergence, name), "hypothesis_stateful_rule")}


def run_programs(arena: Arena, programs: int, number: int, enabled: Collection[str] | None = None) -> None:
    """Run this number of programs from a seed.

    Raises what the first failing one raised. `enabled` names the rules that are used, None uses all.
    """
    left_out = set() if enabled is None else rules() - set(enabled)
    arena.programs = 0  # what programs have in turn begins from the first, whatever ran before
    machine = seed(number)(type("Machine", (Convergence,), _without(left_out)))
    machine.arena = arena
    options = settings(
        max_examples=programs,
        stateful_step_count=14,
        deadline=None,
        database=None,
        # Shrinking would run hundreds of programs more; the seed finds the failing one again.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    try:
        with pytest.MonkeyPatch.context() as monkeypatch:
            # Hypothesis draws numbers and strings that it finds in imported modules too, 5 of 100: a seed would mean one
            # program in a run of this file and another in a run of all tests.
            monkeypatch.setattr(HypothesisProvider, "_local_constants", Constants())
            run_state_machine_as_test(machine, settings=options)
    except FlakyFailure as flaky:
        # Failed once and not again is failed. Its notes have the program.
        print("\n".join(getattr(flaky, "__notes__", [])))
        raise flaky.exceptions[0] from flaky
