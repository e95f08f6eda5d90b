"""Each kind, raised by a fault in the database: sent once, not again, and resolved once when it is repaired."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import pytest

from rsu_pipeline.alerts import rule_queries, rules, run_rules, webhook_rules
from rsu_pipeline.alerts.alert_store import Problem
from rsu_pipeline.alerts.consequences import RECOVERY, drop_consequences
from rsu_pipeline.alerts.evaluate import evaluate_alerts
from rsu_pipeline.alerts.rule_queries import FailedRead
from rsu_pipeline.display import show_times_in
from rsu_pipeline.settings import load_settings
from rsu_pipeline.warehouse import credential_encryption
from rsu_pipeline.warehouse.dagster_runs import FailedRun
from rsu_pipeline.warehouse.secret_box import SecretBox, generate_secret_key
from rsu_pipeline_tests.alerts.notifier import CANARY, Notifier
from rsu_pipeline_tests.warehouse.fleet_rows import HOUR, MINUTE, NOW, Fleet

Change = Callable[[Fleet], None]
SECRET_BOX = SecretBox([generate_secret_key()], source="tests")
REAL = {"RSU_API_BASE_URL": "https://api.example.com/rest"}


@dataclass
class Fault:
    """A kind, what raises it on a fleet of one partner with race 5 and event 50 ahead, and what mends it."""

    kind: str
    raised: Change
    mended: Change
    says: str
    start: dt.timedelta = 72 * HOUR


def read(ago: dt.timedelta) -> Change:
    return lambda put: put.sql("UPDATE event_cursors SET last_read_at = %s", NOW - ago)


def read_in_the_future(put: Fleet) -> None:
    put.sql("UPDATE runsignup_events SET created_at = %s", NOW - 90 * 24 * HOUR)
    read(-46 * MINUTE)(put)


def fail_polls(put: Fleet) -> None:
    read(1.1 * MINUTE)(put)
    put.tried(1, 5, 0.1 * MINUTE, "failed")
    put.sql(
        "INSERT INTO api_calls (credential_id, lane, endpoint, race_id, granted_at, settled_at, error)"
        " SELECT partner_provider_credential_id, 'race_day', 'participants', 5, %s, %s, 'no complete answer in time'"
        " FROM partner_provider_credentials",
        NOW - 0.3 * MINUTE,
        NOW - 0.1 * MINUTE,
    )


def calls(put: Fleet) -> None:
    put.sql(
        "INSERT INTO api_calls (credential_id, lane, endpoint) SELECT c.partner_provider_credential_id, 'routine', 'races'"
        " FROM partner_provider_credentials c, generate_series(1, 850)"
    )


def list_with(duplicates: int) -> Change:
    def change(put: Fleet) -> None:
        put.sql("DELETE FROM start_lists")
        put.sql(
            "INSERT INTO start_lists (timing_partner_id, event_id, race_id, entrants, with_bib, without_bib, duplicate_bibs,"
            " bibs_in_other_events, out_of_range, in_two_events) VALUES (1, 50, 5, 9, 9, 0, %s, 0, 0, 0)",
            duplicates,
        )

    return change


def leave_bib(bib: str | None) -> Change:
    """Have a registration with a bib given here be replaced by one that has this bib."""

    def change(put: Fleet) -> None:
        put.sql("DELETE FROM start_list_entries")
        put.sql("DELETE FROM runsignup_participants")
        list_with(0)(put)
        put.sql(
            "INSERT INTO runsignup_participants (timing_partner_id, race_id, event_id, registration_id, local_bib, removed_at,"
            " removed_reason, new_registration_id) VALUES (1, 5, 50, 71, '1234', %(at)s, 'transferred', 72),"
            " (1, 5, 50, 72, NULL, NULL, NULL, NULL)".replace("%(at)s", f"'{NOW}'")
        )
        put.sql(
            "INSERT INTO start_list_entries (timing_partner_id, registration_id, event_id, race_id, bib, problems)"
            " VALUES (1, 72, 50, 5, %s, '{}') ON CONFLICT (timing_partner_id, registration_id) DO UPDATE SET bib = excluded.bib",
            bib,
        )

    return change


def history(failures: int) -> Change:
    def change(put: Fleet) -> None:
        put.sql("INSERT INTO history_requests (timing_partner_id) VALUES (1) ON CONFLICT DO NOTHING")
        put.sql(
            "INSERT INTO history_races (timing_partner_id, race_id, failures, error) VALUES (1, 5, %s, 'pat@example.com')"
            " ON CONFLICT (timing_partner_id, race_id) DO UPDATE SET failures = excluded.failures",
            failures,
        )

    return change


def do(statement: str, *parameters: object) -> Change:
    return lambda put: put.sql(statement, *parameters)


def share_api_key(put: Fleet) -> None:
    """Enter a second partner by SQL with the first one's API key."""
    put.sql("DELETE FROM partner_provider_credentials WHERE timing_partner_id = 2")
    put.sql("DELETE FROM timing_partners WHERE timing_partner_id = 2")
    put.partner(2)
    put.sql("UPDATE partner_provider_credentials SET shares_api_key = false")
    credential_encryption.encrypt_all(put.conn, SECRET_BOX)


def lose_access(put: Fleet) -> None:
    put.sql("UPDATE partner_provider_credentials SET verified_at = now()")
    put.sql("UPDATE partner_races SET lost_at = %s, lost_reason = 'access_lost'", NOW)


FAULTS = [
    Fault(
        "credential_rejected",
        do("UPDATE partner_provider_credentials SET rejected_at = %s, rejected_reason = 'secret'", NOW),
        do("UPDATE partner_provider_credentials SET rejected_at = NULL"),
        "1-acme: RunSignup has rejected",
    ),
    Fault(
        "access_denied",
        do("UPDATE partner_races SET access = 'denied', access_changed_at = %s", NOW),
        do("UPDATE partner_races SET access = 'granted'"),
        "1-acme: RunSignup denies access to race 5 since 2026-10-03 12:00 UTC",
    ),
    Fault(
        "access_denied",
        do("INSERT INTO refused_events VALUES (1, 50, %s, 'code 301')", NOW),
        do("DELETE FROM refused_events"),
        "1-acme: RunSignup denies access to race 5, event 50",
    ),
    Fault(
        "access_lost",
        lose_access,
        do("UPDATE partner_races SET lost_at = NULL, lost_reason = NULL"),
        "1-acme: lost access to race 5 (of 1). The key is fine",
    ),
    Fault(
        "removals_held_back",
        do("UPDATE event_cursors SET needs_full = 'removals held back, waiting to be confirmed'"),
        do("UPDATE event_cursors SET needs_full = NULL"),
        "race 5, event 50",
    ),
    Fault(
        "access_denied",
        do("UPDATE partner_races SET access = 'not_found', access_changed_at = %s", NOW),
        do("UPDATE partner_races SET access = 'granted'"),
        "1-acme: RunSignup lists race 5 but answers that it does not exist since 2026-10-03 12:00 UTC",
    ),
    Fault(
        "removals_held_back",
        do("UPDATE runsignup_events SET vanished_at = %s", NOW - 61 * MINUTE),
        do("UPDATE runsignup_events SET vanished_at = NULL"),
        "race 5, event 50: the race's detail no longer has the event",
    ),
    Fault("partner_stale", read(481 * MINUTE), read(MINUTE), "no race has been read since 2026-10-03 03:59"),
    Fault("partner_stale", read_in_the_future, read(44 * MINUTE), "no race has been read since"),
    Fault("partner_stale", read(46 * MINUTE), read(44 * MINUTE), "race 5 starts within 24 h", start=20 * HOUR),
    Fault("budget_short", calls, do("DELETE FROM api_calls"), "50 of 900 calls"),
    Fault("duplicate_bibs", list_with(2), list_with(0), "event 50: 2 entrants", start=20 * HOUR),
    Fault("bibs_left", leave_bib(None), leave_bib("77"), "event 50: 1 entrant without a bib", start=20 * HOUR),
    Fault("dead_watch", read(1.1 * MINUTE), read(0.9 * MINUTE), "race 5 is in its window", start=2 * HOUR),
    Fault(
        "polls_failing",
        fail_polls,
        read(0.9 * MINUTE),
        "RunSignup has not answered race 5 since 2026-10-03 11:58 UTC",
        start=2 * HOUR,
    ),
    Fault(
        "api_key_shared",
        share_api_key,
        do("UPDATE partner_provider_credentials SET shares_api_key = true"),
        "1-acme and 2-acme have the same API key",
    ),
    Fault("history_failing", history(4), history(3), "race 5 failed 4 times"),
    Fault(
        "foreign_writes",
        do(
            "INSERT INTO foreign_writes (seen_on, table_name, operation, login, program, address, transactions, first_at, last_at)"
            " VALUES (%(at)s, 'runsignup_races', 'UPDATE', 'hub_old', 'old_sync.py', '10.0.0.5', 3, %(at)s, %(at)s)".replace(
                "%(at)s", f"'{NOW - 5 * MINUTE}'"
            )
        ),
        do("DELETE FROM foreign_writes"),
        "old_sync.py (role hub_old, from 10.0.0.5) did UPDATE on runsignup_races in 3 transactions",
    ),
    Fault(
        "clock_skew",
        do("INSERT INTO hub_clocks VALUES ('worker-2', now(), 10800, 10801) ON CONFLICT DO NOTHING"),
        do("DELETE FROM hub_clocks"),
        "The clock of the hub on worker-2 is 3.0 h behind RunSignup's and the database's, which are used.",
    ),
]


def stage(put: Fleet, start: dt.timedelta) -> None:
    put.partner(1)
    put.race(5, 1)
    put.event(50, 5, start)
    put.cursor(1, 50, MINUTE)
    put.sql("UPDATE partner_provider_credentials SET entered_at = %s", NOW - 90 * 24 * HOUR)
    put.sql("UPDATE partner_races SET listed_at = %s", NOW - 90 * 24 * HOUR)


def hear(put: Fleet, notifier: Notifier, now: dt.datetime = NOW, **environment: str) -> list[tuple[str, str]]:
    """Evaluate once and return the messages that were sent."""
    settings = load_settings({"RSU_ALERT_URLS": notifier.url, **environment})
    problems = rules.find_problems(put.conn, settings, NOW)
    evaluate_alerts(put.conn, problems, settings.alerts, now, lambda _: None, zone=dt.UTC)
    return notifier.take()


@pytest.mark.parametrize("fault", [pytest.param(one, id=f"{one.kind}-{number}") for number, one in enumerate(FAULTS)])
def test_a_fault_is_told_once_and_its_end_once(put: Fleet, notifier: Notifier, fault: Fault) -> None:
    stage(put, fault.start)
    assert hear(put, notifier) == []

    fault.raised(put)
    ((title, text),) = hear(put, notifier)
    assert title == f"RunSignup hub: {rules.TITLES[fault.kind]}"
    assert fault.says in text
    # Each time has its date, so that it is shown in the zone of the hub.
    assert "UTC" not in show_times_in(ZoneInfo("America/Denver"), text)
    assert "@" not in text
    assert "secret" not in text.replace("key and secret", "")
    assert hear(put, notifier) == hear(put, notifier) == []

    # Gone for one evaluation only: it flaps, and nothing is sent.
    fault.mended(put)
    assert hear(put, notifier) == []
    put.sql("DELETE FROM api_calls")
    fault.raised(put)
    assert hear(put, notifier) == []

    fault.mended(put)
    assert hear(put, notifier) == []
    ((title, text),) = hear(put, notifier)
    assert title == f"Resolved: {rules.TITLES[fault.kind]}"
    assert fault.says in text
    assert hear(put, notifier) == hear(put, notifier) == []

    fault.raised(put)
    assert [title for title, _ in hear(put, notifier)] == [f"RunSignup hub: {rules.TITLES[fault.kind]}"]


def test_every_kind_that_the_database_tells_is_raised_here() -> None:
    assert {fault.kind for fault in FAULTS} == rules.TITLES.keys() - {
        "run_failed",
        "run_stuck",
        "registration_missing",
        # Raised on a real instance, and with a notifier that fails: orchestration/test_standstills.py.
        "automation_stopped",
        "daemon_dead",
        "never_synced",
        "backfill_stopped",
        "notifier_failing",
        # Of no partner, and by the database's clock: orchestration/test_standstills.py and webhooks/.
        *webhook_rules.TITLES,
        rules.SERVICE_KIND,
    }


OF_A_PARTNER = [one for one in FAULTS if one.kind not in ("foreign_writes", "clock_skew")]


@pytest.mark.parametrize(
    "fault", [pytest.param(one, id=f"{one.kind}-{number}") for number, one in enumerate(OF_A_PARTNER)]
)
def test_a_partner_that_is_switched_off_is_no_cause(put: Fleet, notifier: Notifier, fault: Fault) -> None:
    stage(put, fault.start)
    fault.raised(put)
    put.sql("UPDATE timing_partners SET disabled_at = now()")
    assert hear(put, notifier) == []


def test_a_refused_credential_is_one_cause_and_not_three(put: Fleet, notifier: Notifier) -> None:
    stage(put, 2 * HOUR)
    read(9 * HOUR)(put)
    assert [title for title, _ in hear(put, notifier)] == [
        "RunSignup hub: a partner is not being synced",
        "RunSignup hub: a race in its window is not watched",
    ]
    put.sql("UPDATE partner_provider_credentials SET rejected_at = %s", NOW - 2 * HOUR)
    assert [title for title, _ in hear(put, notifier)] == ["RunSignup hub: RunSignup rejects a credential"]


def test_a_partner_whose_credential_is_rejected_has_no_alert_of_what_follows_from_that() -> None:
    def problem(kind: str, partner_id: int) -> Problem:
        return Problem(kind, str(partner_id), f"{partner_id}-acme", f"{kind} of {partner_id}")

    follow = ("never_synced", "backfill_stopped", "run_failed")
    found = [problem(kind, partner) for kind in follow for partner in (1, 2)]
    rejected = problem("credential_rejected", 1)
    assert drop_consequences([*found, rejected]) == [*(item for item in found if item.key == "2"), rejected]


def failing_polls(race_id: int = 5, *, is_at_runsignup: bool = True) -> Problem:
    return Problem(
        "polls_failing", f"1:{race_id}", "1-acme", "Polls fail.", races=(race_id,), is_at_runsignup=is_at_runsignup
    )


def failed_sync(*reads: tuple[int | None, bool]) -> Problem:
    """Return the problem of a sync whose reads failed, each with whether it is RunSignup that did not answer."""
    run = FailedRun("a1", "watch", None, "0", NOW, [], False, False, False)
    found = [FailedRead("a1", "1-acme", race_id, False, is_at_runsignup) for race_id, is_at_runsignup in reads]
    (problem,) = run_rules.judge_failed([run], found, set())
    return problem


def stale(race_id: int | None, *, is_at_runsignup: bool) -> Problem:
    races = () if race_id is None else (race_id,)
    return Problem("partner_stale", "1", "1-acme", "Stale.", races=races, is_at_runsignup=is_at_runsignup)


@pytest.mark.parametrize(
    "follows",
    [
        failed_sync((5, True)),
        # A race whose polls fail for any cause is not read by syncs either.
        failed_sync((5, False)),
        failed_sync((None, True), (5, True), (6, True)),
        stale(5, is_at_runsignup=False),
        stale(6, is_at_runsignup=True),
        stale(None, is_at_runsignup=True),
    ],
)
def test_a_long_outage_of_runsignup_is_one_alert(follows: Problem) -> None:
    assert drop_consequences([follows, failing_polls()]) == [failing_polls()]
    assert drop_consequences([follows]) == [follows], "without the cause it is reported itself"


@pytest.mark.parametrize(
    "stays",
    [
        # Another race, which fails for a cause of its own.
        failed_sync((6, False)),
        failed_sync((5, True), (6, False)),
        failed_sync((5, True), (6, False), (6, True)),
        failed_sync((None, False)),
        # Nothing tries to read it.
        stale(6, is_at_runsignup=False),
        stale(None, is_at_runsignup=False),
        Problem("run_failed", "watch:0", None, "A bug."),
        Problem("dead_watch", "1:6", "1-acme", "Not polled."),
    ],
)
def test_an_outage_of_runsignup_hides_nothing_that_has_a_cause_of_its_own(stays: Problem) -> None:
    assert drop_consequences([stays, failing_polls()]) == [stays, failing_polls()]


def test_what_failed_in_an_outage_is_no_alert_until_it_could_be_tried_again(put: Fleet, notifier: Notifier) -> None:
    stage(put, 2 * HOUR)
    fail_polls(put)
    put.sql('UPDATE sync_history SET error_details = \'{"cause": "no complete answer in time"}\'')
    assert [title for title, _ in hear(put, notifier)] == ["RunSignup hub: polls of a race in its window fail"]
    distant = [failed_sync((6, True)), stale(6, is_at_runsignup=True)]
    own = failed_sync((6, False))

    def recovering(later: dt.timedelta) -> set[str]:
        return rule_queries.find_recovering_partners(put.conn, NOW + later - RECOVERY)

    read(0 * MINUTE)(put)
    assert recovering(MINUTE) == {"1-acme"}, "the alert is still open"
    hear(put, notifier)
    hear(put, notifier)
    assert recovering(19 * MINUTE) == {"1-acme"}
    assert recovering(21 * MINUTE) == set()
    assert drop_consequences(distant, {"1-acme"}) == []
    assert drop_consequences([own], {"1-acme"}) == [own]
    put.sql('UPDATE sync_history SET error_details = \'{"cause": "not an answer of RunSignup"}\'')
    assert recovering(MINUTE) == set(), "it was no outage"


def test_polls_that_fail_here_hide_no_other_race_of_the_partner_and_no_other_partner() -> None:
    here = failing_polls(is_at_runsignup=False)
    others = [failed_sync((6, True)), stale(None, is_at_runsignup=True)]
    assert drop_consequences([here, others[0]]) == [here, others[0]]
    assert drop_consequences([here, others[1]]) == [here, others[1]]
    other = Problem("run_failed", "sync:2-bay", "2-bay", "Not read.", races=(5,), is_at_runsignup=True)
    assert drop_consequences([failing_polls(), other]) == [failing_polls(), other]


def test_a_partner_is_not_stale_too_while_its_syncs_fail_because_runsignup_does_not_answer() -> None:
    failed = failed_sync((6, True))
    assert drop_consequences([failed, stale(6, is_at_runsignup=True)]) == [failed]
    assert drop_consequences([failed, stale(6, is_at_runsignup=False)]) == [failed, stale(6, is_at_runsignup=False)]


def test_a_stale_race_is_unanswered_only_while_syncs_go_on_trying_it(put: Fleet) -> None:
    stage(put, 20 * HOUR)
    read(50 * MINUTE)(put)
    details = 'UPDATE sync_history SET error_details = \'{"cause": "no complete answer in time"}\''

    def is_unanswered() -> bool:
        (problem,) = rules.find_problems(put.conn, load_settings({}), NOW)
        assert (problem.kind, problem.races) == ("partner_stale", (5,))
        return problem.is_at_runsignup

    assert not is_unanswered()
    put.tried(1, 5, 10 * MINUTE, "failed")
    assert not is_unanswered()
    put.sql(details)
    assert is_unanswered()
    put.sql("UPDATE sync_history SET finished_at = %s", NOW - 46 * MINUTE)
    assert not is_unanswered()


def test_a_race_that_a_quiet_poll_has_read_since_is_no_failed_read(put: Fleet) -> None:
    stage(put, 2 * HOUR)
    put.tried(1, 5, 5 * MINUTE, "failed")
    put.sql("UPDATE sync_history SET run_id = 'a1'")
    read(6 * MINUTE)(put)
    assert [item.is_read_since for item in rule_queries.read_failed_reads(put.conn, ["a1"])] == [False]
    read(4 * MINUTE)(put)
    assert [item.is_read_since for item in rule_queries.read_failed_reads(put.conn, ["a1"])] == [True]


def test_a_sync_that_failed_names_the_log_which_has_the_syncs_of_commands_too() -> None:
    run = FailedRun("a1", "sync_partner", "1-acme", None, NOW, [], False, False, False)
    (problem,) = run_rules.judge_failed([run], [FailedRead("a1", "1-acme", 5, False)], set())
    assert "1 race could not be read: 5" in problem.sentence
    assert "`rsu log --failed` shows the error" in problem.sentence and "Open the run" not in problem.sentence


def test_what_was_entered_just_now_is_not_stale(put: Fleet, notifier: Notifier) -> None:
    stage(put, 20 * HOUR)
    put.sql("DELETE FROM event_cursors")
    put.sql("UPDATE partner_provider_credentials SET entered_at = %s", NOW - 30 * MINUTE)
    assert hear(put, notifier) == []
    put.sql("UPDATE partner_provider_credentials SET entered_at = %s", NOW - 50 * MINUTE)
    put.sql("UPDATE runsignup_events SET created_at = %s", NOW - 50 * MINUTE)
    assert len(hear(put, notifier)) == 1


def test_a_race_that_came_into_its_window_just_now_is_not_unwatched(put: Fleet, notifier: Notifier) -> None:
    stage(put, 4 * HOUR - 1.9 * MINUTE)
    read(14 * MINUTE)(put)
    assert hear(put, notifier) == []
    put.sql("UPDATE runsignup_events SET starts_at = %s", NOW + 4 * HOUR - 2.1 * MINUTE)
    assert len(hear(put, notifier)) == 1


def test_a_watch_with_few_calls_is_not_dead(put: Fleet, notifier: Notifier) -> None:
    stage(put, 2 * HOUR)
    read(5 * MINUTE)(put)
    assert hear(put, notifier, RSU_CALLS_PER_HOUR="30") == []
    assert len(hear(put, notifier)) == 1


@pytest.mark.parametrize(
    ("day", "environment", "expected"),
    [
        (dt.datetime(2026, 11, 30, 23, 59, tzinfo=dt.UTC), REAL, 0),
        (dt.datetime(2026, 12, 1, tzinfo=dt.UTC), REAL, 1),
        (dt.datetime(2027, 5, 1, tzinfo=dt.UTC), REAL, 1),
        (dt.datetime(2026, 12, 1, tzinfo=dt.UTC), {}, 1),
        (dt.datetime(2026, 12, 1, tzinfo=dt.UTC), {"RSU_API_BASE_URL": "http://127.0.0.1:1/rest"}, 0),
        (dt.datetime(2026, 12, 1, tzinfo=dt.UTC), {"RSU_API_REG": "1.t", "RSU_API_REG_SECRET": "s"}, 0),
    ],
)
def test_a_missing_registration_is_told_from_december(
    day: dt.datetime, environment: dict[str, str], expected: int
) -> None:
    assert len(rules.check_registration(load_settings(environment), day)) == expected


def test_a_missing_registration_is_told_once_and_its_end_once(put: Fleet, notifier: Notifier) -> None:
    day = dt.datetime(2026, 12, 5, tzinfo=dt.UTC)

    def hear(**environment: str) -> list[str]:
        settings = load_settings(REAL | environment | {"RSU_ALERT_URLS": notifier.url})
        problems = rules.find_problems(put.conn, settings, day)
        evaluate_alerts(put.conn, problems, settings.alerts, day, lambda _: None, zone=dt.UTC)
        return [title for title, _ in notifier.take()]

    assert [hear(), hear()] == [["RunSignup hub: the caller registration is missing"], []]
    entered = {"RSU_API_REG": "1.t", "RSU_API_REG_SECRET": CANARY}
    assert [hear(**entered), hear(**entered), hear(**entered)] == [
        [],
        ["Resolved: the caller registration is missing"],
        [],
    ]


def test_calls_of_partners_that_share_an_api_key_are_short_together(put: Fleet) -> None:
    put.partner(1)
    put.partner(2)
    credential_encryption.encrypt_all(put.conn, SECRET_BOX)
    put.sql(
        "INSERT INTO api_calls (credential_id, lane, endpoint) SELECT c.partner_provider_credential_id, 'routine', 'races'"
        " FROM partner_provider_credentials c, generate_series(1, 425)"
    )
    found = [item for item in rules.find_problems(put.conn, load_settings({}), NOW) if item.kind == "budget_short"]
    assert [(item.key, item.sentence) for item in found] == [
        (
            "1",
            "1-acme and 2-acme, which share one API key: 50 of 900 calls of this hour are left for routine syncs."
            " More become free within the hour. docs/alerts.md explains how to find out who calls.",
        )
    ]
