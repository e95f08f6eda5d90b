"""The table from cause to remedy, cell by cell, and RunSignup's error codes."""

import json

import pytest

from rsu_pipeline.runsignup import envelopes
from rsu_pipeline.runsignup.api_errors import REMEDIES, ApiError, BudgetExhausted, Cause, Remedy, cause_of_code

EXPECTED = {
    Cause.CONNECTION: Remedy.RETRY,
    Cause.TIMEOUT: Remedy.RETRY,
    Cause.SERVER: Remedy.RETRY,
    Cause.THROTTLED: Remedy.RETRY,
    Cause.NOT_JSON: Remedy.RETRY,
    Cause.UNKNOWN_SHAPE: Remedy.FAIL_RACE,
    Cause.NO_ACCESS: Remedy.FAIL_RACE,
    Cause.RACE_NOT_FOUND: Remedy.FAIL_RACE,
    Cause.EVENT_NOT_FOUND: Remedy.FAIL_RACE,
    Cause.REGISTRATION_REFUSED: Remedy.FAIL_CONFIGURATION,
    Cause.UNSPECIFIED: Remedy.RETRY,
    Cause.REFUSED: Remedy.FAIL_RACE,
    Cause.REDIRECT: Remedy.FAIL_CONFIGURATION,
    Cause.BUDGET: Remedy.WAIT_FOR_BUDGET,
}

# Every code RunSignup documents. To be tried again: 5 and 14, and 4 once; all others a second call would not change.
CODES = [*range(1, 18), *range(101, 124), 151, *range(201, 231), 301, 514, 515, *range(900, 910)]
CAUSES = {
    4: Cause.UNSPECIFIED,
    5: Cause.SERVER,
    6: Cause.NO_ACCESS,
    7: Cause.NO_ACCESS,
    14: Cause.THROTTLED,
    17: Cause.REGISTRATION_REFUSED,
    201: Cause.RACE_NOT_FOUND,
    301: Cause.EVENT_NOT_FOUND,
}


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_its_remedy(cause: Cause) -> None:
    assert REMEDIES[cause] is EXPECTED[cause]
    assert ApiError(cause, "detail").remedy is EXPECTED[cause]


@pytest.mark.parametrize("code", CODES)
def test_every_documented_code_has_its_cause_and_only_5_14_and_4_are_tried_again(code: int) -> None:
    body = json.dumps({"error": {"error_code": code, "error_msg": "Invented."}}).encode()
    for parse in (envelopes.participants, envelopes.races, envelopes.race):
        with pytest.raises(ApiError) as caught:
            parse(body)
        assert caught.value.cause is cause_of_code(code) is CAUSES.get(code, Cause.REFUSED)
        assert caught.value.code == code
        assert (caught.value.remedy is Remedy.RETRY) == (code in (4, 5, 14))


def test_a_code_nobody_documented_is_a_refusal() -> None:
    assert cause_of_code(31_337) is cause_of_code(None) is Cause.REFUSED


def test_the_text_of_an_error_says_where_and_why() -> None:
    error = ApiError(Cause.SERVER, "HTTP 500", where="race 12")
    assert str(error) == "race 12: server error (HTTP 500)"
    assert str(ApiError(Cause.SERVER, "")) == "server error"


def test_an_exhausted_budget_says_when_a_call_is_free() -> None:
    error = BudgetExhausted(90.4, lane="backfill")
    assert (error.remedy, error.frees_in) == (Remedy.WAIT_FOR_BUDGET, 90.4)
    assert "backfill" in str(error)
    assert "90 s" in str(error)
