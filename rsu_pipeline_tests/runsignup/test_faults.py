"""Every fault of the sandbox against the real client.

It shows what each is taken for, how often it is tried, and that the ledger gets each attempt exactly once.
"""

import time
from collections.abc import Callable

import pytest

from rsu_pipeline.runsignup.api_errors import ApiError, Cause, Remedy
from rsu_pipeline.runsignup.client import Client
from rsu_pipeline_tests.runsignup.conftest import Api
from rsu_pipeline_tests.runsignup.tools import CountingLedger, Sleeps, client

ALL = 4
"""Attempts of a client left at its default."""

# kind, cause, attempts, HTTP status
FAULTS: list[tuple[str, Cause, int, int | None]] = [
    ("http_500", Cause.SERVER, ALL, 500),
    ("http_503", Cause.SERVER, ALL, 503),
    ("html_522", Cause.SERVER, ALL, 522),
    ("throttle_200", Cause.THROTTLED, ALL, 200),
    ("throttle_429", Cause.THROTTLED, ALL, 429),
    ("error_code", Cause.UNSPECIFIED, 2, 200),
    ("caller_400", Cause.REGISTRATION_REFUSED, 1, 400),
    ("truncated", Cause.NOT_JSON, 2, 200),
    ("short_body", Cause.CONNECTION, ALL, None),
    ("html_200", Cause.NOT_JSON, 2, 200),
    ("empty_200", Cause.NOT_JSON, 2, 200),
    ("xml_200", Cause.NOT_JSON, 2, 200),
    ("unknown_shape", Cause.UNKNOWN_SHAPE, 1, 200),
    ("reset", Cause.CONNECTION, ALL, None),
    ("closed", Cause.CONNECTION, ALL, None),
    ("wrong_type", Cause.UNKNOWN_SHAPE, 1, 200),
    ("redirect", Cause.REDIRECT, 1, 302),
]
SLOW_FAULTS: list[tuple[str, Cause, int, int | None]] = [
    ("timeout", Cause.TIMEOUT, ALL, None),
    ("slow_body", Cause.TIMEOUT, ALL, None),
]

CODES = [(code, Cause.REFUSED, 1) for code in (1, 2, 3, 8, 9, 10, 11, 12, 13, 15, 104, 216, 515)] + [
    (4, Cause.UNSPECIFIED, 2),
    (5, Cause.SERVER, ALL),
    (6, Cause.NO_ACCESS, 1),
    (7, Cause.NO_ACCESS, 1),
    (14, Cause.THROTTLED, ALL),
    (17, Cause.REGISTRATION_REFUSED, 1),
    (201, Cause.RACE_NOT_FOUND, 1),
    (301, Cause.EVENT_NOT_FOUND, 1),
]

CALLS: dict[str, Callable[[Client, Api], object]] = {
    "races": lambda client, api: client.races_page(1),
    "race": lambda client, api: client.race(api.race_id),
    "participants": lambda client, api: client.participants_page(api.race_id, api.event_ids, after=0, size=100),
    "removed": lambda client, api: client.removed_page(api.race_id, api.event_ids, after=0),
}


def fail(api: Api, endpoint: str, ledger: CountingLedger, **options: object) -> ApiError:
    with pytest.raises(ApiError) as caught:
        CALLS[endpoint](client(api.url, ledger, api.credential, **options), api)
    return caught.value


@pytest.mark.parametrize("endpoint", CALLS)
@pytest.mark.parametrize(("kind", "cause", "attempts", "status"), FAULTS)
def test_a_lasting_fault_is_tried_as_often_as_its_cause_is_worth_and_each_try_is_counted(
    api: Api, endpoint: str, kind: str, cause: Cause, attempts: int, status: int | None
) -> None:
    api.admin.fault(kind, 0, endpoint=endpoint)
    ledger = CountingLedger()
    error = fail(api, endpoint, ledger)
    assert error.cause is cause
    assert [(one.status, one.error) for one in ledger.outcomes] == [(status, cause.value)] * attempts
    stats = api.admin.stats()
    assert stats["calls"] == attempts, "the ledger's count is not what RunSignup saw"
    assert [entry["fault"] for entry in stats["log"]] == [kind] * attempts


@pytest.mark.parametrize(("kind", "cause", "attempts", "status"), SLOW_FAULTS)
def test_an_answer_that_never_ends_is_cut_off_each_time(
    api: Api, kind: str, cause: Cause, attempts: int, status: int | None
) -> None:
    api.admin.fault(kind, 0, seconds=60 if kind == "timeout" else 1.5)
    ledger = CountingLedger()
    error = fail(api, "participants", ledger, read_timeout=0.3, total_timeout=0.3)
    assert error.cause is cause
    assert [(one.status, one.error) for one in ledger.outcomes] == [(status, cause.value)] * attempts
    assert api.admin.stats()["calls"] == attempts


@pytest.mark.parametrize(("code", "cause", "attempts"), CODES)
def test_an_error_at_http_200_is_told_by_its_code(api: Api, code: int, cause: Cause, attempts: int) -> None:
    api.admin.fault("error_code", 0, code=code, message="Invented reason.")
    ledger = CountingLedger()
    error = fail(api, "participants", ledger)
    assert (error.cause, error.code) == (cause, code)
    assert "Invented reason." in str(error)
    assert str(api.race_id) in str(error)
    assert [one.error for one in ledger.outcomes] == [cause.value] * attempts


@pytest.mark.parametrize(("kind", "cause", "attempts", "status"), [fault for fault in FAULTS if fault[2] > 1])
def test_a_fault_that_passes_costs_attempts_and_nothing_else(
    api: Api, kind: str, cause: Cause, attempts: int, status: int | None
) -> None:
    api.admin.fault(kind, attempts - 1, endpoint="participants")
    ledger = CountingLedger()
    page = client(api.url, ledger, api.credential).participants_page(api.race_id, api.event_ids, after=0, size=100)
    assert tuple(row.registration_id for row in page.rows) == api.ids
    *failed, last = ledger.outcomes
    assert [one.error for one in failed] == [cause.value] * (attempts - 1)
    assert (last.status, last.error, last.rows) == (200, None, len(api.ids))
    assert last.size > 0


def test_a_slow_fault_that_passes_costs_attempts_and_nothing_else(api: Api) -> None:
    api.admin.fault("timeout", 1)
    api.admin.fault("slow_body", 1, seconds=1.5)
    ledger = CountingLedger()
    calls = client(api.url, ledger, api.credential, read_timeout=0.3, total_timeout=0.3)
    page = calls.participants_page(api.race_id, api.event_ids, after=0, size=100)
    assert tuple(row.registration_id for row in page.rows) == api.ids
    assert [one.error for one in ledger.outcomes] == [Cause.TIMEOUT.value, Cause.TIMEOUT.value, None]


def test_a_call_may_be_given_less_time_for_a_while(api: Api) -> None:
    api.admin.fault("timeout", 0, seconds=60)
    ledger = CountingLedger()
    calls = client(api.url, ledger, api.credential, attempts=1, total_timeout=30)
    calls.longest_call = 0.3
    began = time.monotonic()
    with pytest.raises(ApiError) as caught:
        CALLS["participants"](calls, api)
    assert caught.value.cause is Cause.TIMEOUT and time.monotonic() - began < 10
    api.admin.clear_faults()


def test_a_server_that_names_a_pause_is_given_it(api: Api) -> None:
    api.admin.fault("throttle_429", 0)
    sleeps = Sleeps()
    error = fail(api, "participants", CountingLedger(), sleep=sleeps)
    assert error.retry_after == 1.0
    assert len(sleeps.seconds) == ALL - 1
    assert min(sleeps.seconds) >= 1.0


def test_pauses_double_with_jitter(api: Api) -> None:
    api.admin.fault("http_500", 0)
    sleeps = Sleeps()
    fail(api, "participants", CountingLedger(), sleep=sleeps, backoff=3.0, attempts=5)
    assert len(sleeps.seconds) == 4
    for pause, least in zip(sleeps.seconds, (3, 6, 12, 24), strict=True):
        assert least <= pause <= least + 3


@pytest.mark.parametrize("attempts", [1, 2, 7])
def test_the_number_of_attempts_is_a_setting(api: Api, attempts: int) -> None:
    ledger = CountingLedger()
    api.admin.fault("http_503", 0)
    fail(api, "races", ledger, attempts=attempts)
    assert len(ledger.outcomes) == attempts


def test_one_attempt_is_one_attempt_also_where_two_are_worth_it(api: Api) -> None:
    ledger = CountingLedger()
    api.admin.fault("html_200", 0)
    fail(api, "races", ledger, attempts=1)
    assert len(ledger.outcomes) == 1


def test_a_budget_that_runs_out_between_attempts_ends_the_call_and_settles_what_was_taken(api: Api) -> None:
    api.admin.fault("http_500", 0)
    ledger = CountingLedger(limit=2)
    error = fail(api, "participants", ledger)
    assert (error.cause, error.remedy) == (Cause.BUDGET, Remedy.WAIT_FOR_BUDGET)
    assert len(ledger.outcomes) == 2
    assert api.admin.stats()["calls"] == 2


def test_without_budget_nothing_is_sent(api: Api) -> None:
    ledger = CountingLedger(limit=0)
    assert fail(api, "participants", ledger).cause is Cause.BUDGET
    assert ledger.outcomes == []
    assert api.admin.stats()["calls"] == 0
