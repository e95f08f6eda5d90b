"""Failures of a call, and what to do about each.

RunSignup reports errors as HTTP 200 with `{"error": {"error_code": …, "error_msg": …}}` (seen in recorded exchanges).
Only a bad caller registration arrives as HTTP 400. Every failure of a call becomes one `ApiError` with a `Remedy`, from
the one table below. The texts never contain a URL, a key or a secret.
"""

import enum

from rsu_pipeline.errors import RsuError


class Remedy(enum.Enum):
    """What to do about a failed call."""

    RETRY = "retry"
    """Transient: the same call may succeed in a moment."""
    WAIT_FOR_BUDGET = "wait for budget"
    """The hour's calls are used up. Nothing is sent until the ledger has a call."""
    FAIL_RACE = "fail this race"
    """This race cannot be read now. The partner's other races continue."""
    FAIL_CONFIGURATION = "fail this installation"
    """The installation's set-up is rejected (the caller registration). No partner can be read until it is corrected."""


class Cause(enum.Enum):
    """Why a call failed."""

    CONNECTION = "connection failed"
    TIMEOUT = "no complete answer in time"
    SERVER = "server error"
    THROTTLED = "throttled"
    NOT_JSON = "answer is not JSON"
    UNKNOWN_SHAPE = "answer has an unknown shape"
    NO_ACCESS = "no access"
    RACE_NOT_FOUND = "race not found"
    EVENT_NOT_FOUND = "event not found"
    REGISTRATION_REFUSED = "caller registration refused"
    UNSPECIFIED = "unspecified failure"
    REFUSED = "request refused"
    REDIRECT = "redirected"
    BUDGET = "call budget used up"


REMEDIES: dict[Cause, Remedy] = {
    Cause.CONNECTION: Remedy.RETRY,
    Cause.TIMEOUT: Remedy.RETRY,
    Cause.SERVER: Remedy.RETRY,
    Cause.THROTTLED: Remedy.RETRY,
    # A truncated body can be a cut connection, so a second attempt is worth a call. It still ends as a failed race.
    Cause.NOT_JSON: Remedy.RETRY,
    Cause.UNKNOWN_SHAPE: Remedy.FAIL_RACE,
    # A wrong key and denied access to one race are indistinguishable (code 7), so the race fails. A credential is rejected only
    # if every race fails so, or the access check does.
    Cause.NO_ACCESS: Remedy.FAIL_RACE,
    Cause.RACE_NOT_FOUND: Remedy.FAIL_RACE,
    Cause.EVENT_NOT_FOUND: Remedy.FAIL_RACE,
    Cause.REGISTRATION_REFUSED: Remedy.FAIL_CONFIGURATION,
    Cause.UNSPECIFIED: Remedy.RETRY,
    Cause.REFUSED: Remedy.FAIL_RACE,
    Cause.REDIRECT: Remedy.FAIL_CONFIGURATION,
    Cause.BUDGET: Remedy.WAIT_FOR_BUDGET,
}

_CAUSE_OF_CODE: dict[int, Cause] = {
    4: Cause.UNSPECIFIED,
    5: Cause.SERVER,
    6: Cause.NO_ACCESS,
    7: Cause.NO_ACCESS,
    14: Cause.THROTTLED,
    17: Cause.REGISTRATION_REFUSED,
    201: Cause.RACE_NOT_FOUND,
    301: Cause.EVENT_NOT_FOUND,
}


def cause_of_code(code: int | None) -> Cause:
    """Return the cause of a RunSignup error code. Codes not listed are refusals that a retry would not change."""
    return _CAUSE_OF_CODE.get(code, Cause.REFUSED) if code is not None else Cause.REFUSED


class ApiError(RsuError):
    """A call to RunSignup failed permanently, retries included.

    `cause` is why, `remedy` what to do, `code` RunSignup's error code if it sent one, `retry_after` the seconds that the
    server asked to wait, if it did.
    """

    def __init__(
        self, cause: Cause, detail: str, *, where: str = "", code: int | None = None, retry_after: float | None = None
    ) -> None:
        self.cause = cause
        self.detail = detail
        self.where = where
        self.code = code
        self.retry_after = retry_after
        place = f"{where}: " if where else ""
        super().__init__(f"{place}{cause.value} ({detail})" if detail else f"{place}{cause.value}")

    def details(self) -> dict[str, object]:
        """Return the same as members of a record."""
        return {"cause": self.cause.value, "remedy": self.remedy.value, "code": self.code, "message": str(self)}

    @property
    def remedy(self) -> Remedy:
        return REMEDIES[self.cause]


class BudgetExhausted(ApiError):
    """The ledger has no call left for this lane. `frees_in` is the number of seconds until it has one."""

    def __init__(self, frees_in: float, *, lane: str) -> None:
        self.frees_in = frees_in
        super().__init__(Cause.BUDGET, f"no call left for lane {lane}; the next is free in {frees_in:.0f} s")
