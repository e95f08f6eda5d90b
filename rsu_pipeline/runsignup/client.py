"""One credential's calls to RunSignup: a grant from the ledger, the call, its outcome back to the ledger.

Retries sit above the ledger, so that each attempt is counted. Nothing raised or logged here holds a query string or a
secret.
"""

import email.utils
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote, quote_plus

import requests
import tenacity
import urllib3

from rsu_pipeline.runsignup import envelopes
from rsu_pipeline.runsignup.errors import ApiError, Cause, Remedy, cause_of_code
from rsu_pipeline.runsignup.paging import TEMPLATE_REGISTRATION_ID, NextPage, next_page
from rsu_pipeline.runsignup.payloads import Race, Registration, RowUnreadable, decode_race, decode_registration

# urllib3 writes whole addresses, secret included: at DEBUG every request line, at WARNING with headers it cannot parse.
# A filter, unlike a level, stays whatever an installation's logging configuration says.
for _name in ("urllib3.connection", "urllib3.connectionpool", "urllib3.poolmanager", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(lambda record: False)

RACES_PAGE_SIZE = 1000
"""RunSignup's maximum for `/races`."""
REMOVED_PAGE_SIZE = 1000
"""No maximum is documented for removed-participants; 1000 is the largest size known to be safe."""
EARLIEST_START = "1990-01-01"
"""Sent as `start_date`, since `/races` hides past races unless told otherwise."""
MAX_BODY_BYTES = 256 * 1024 * 1024
MAX_RETRY_AFTER = 60.0
LONGEST_DETAIL = 300
_CHUNK = 256 * 1024
# A second failure of these kinds is not a passing one.
_ATTEMPTS_BY_CAUSE = {Cause.NOT_JSON: 2, Cause.UNSPECIFIED: 2}


@dataclass(frozen=True)
class Credential:
    """A partner's access to RunSignup. `scheme` is `api_key` (key and secret as parameters, the only way v1 keys have),
    or `rsu_api_key` / `sp_api_key` (the secret in a header)."""

    key: str = field(repr=False)
    secret: str = field(repr=False)
    scheme: str = "api_key"


class CallLedger(Protocol):
    """Where calls are granted and counted."""

    def take(self, *, endpoint: str, race_id: int | None) -> int:
        """Waits for a place in flight and returns the number of the grant. Raises BudgetExhausted."""

    def settle(self, grant: int, *, status: int | None, error: str | None, size: int, rows: int) -> None:
        """Reports how the granted call ended and gives its place in flight back."""


@dataclass(frozen=True)
class UnreadableRow:
    """A row that cannot be used, as sent, and why."""

    raw: bytes
    reason: str
    registration_id: int | None = None


@dataclass(frozen=True)
class Page:
    """One page of registrations. `server_time` is the answer's `Date` in Unix seconds."""

    rows: list[Registration]
    unreadable: list[UnreadableRow]
    next: NextPage
    server_time: int


@dataclass(frozen=True)
class RacePage:
    """One page of `/races`."""

    races: list[Race]
    unreadable: list[UnreadableRow]
    is_last: bool
    server_time: int


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    server_time: int
    retry_after: float | None


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: even when told not to follow a redirect, requests would read its body and take its address apart."""
        return None


class Client:
    """The calls this project makes, for one credential. Every method raises ApiError."""

    def __init__(
        self,
        credential: Credential,
        ledger: CallLedger,
        *,
        base_url: str,
        connect_timeout: float = 5.0,
        read_timeout: float = 30.0,
        total_timeout: float = 120.0,
        attempts: int = 4,
        backoff: float = 1.0,
        registration: str | None = None,
        registration_secret: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ledger = ledger
        self._base_url = base_url
        self._timeouts = (connect_timeout, read_timeout)
        self._total_timeout = total_timeout
        self._attempts = attempts
        self._wait = tenacity.wait_exponential(multiplier=backoff, max=MAX_RETRY_AFTER) + tenacity.wait_random(
            0, backoff
        )
        self._sleep = sleep
        secrets = [text for text in (credential.secret, credential.key, registration, registration_secret) if text]
        # Also as they stand in an address, should a server repeat that; the longest first, as one may begin another.
        forms = {form for text in secrets for form in (text, quote(text, safe=""), quote_plus(text))}
        self._secrets = sorted(forms, key=len, reverse=True)
        self._params: dict[str, str] = {"format": "json"}
        self._session = _Session()
        # Credentials of another service must not come from a .netrc, nor a proxy see these calls unasked.
        self._session.trust_env = False
        self._session.headers["Accept"] = "application/json"
        if credential.scheme == "api_key":
            self._params |= {"api_key": credential.key, "api_secret": credential.secret}
        else:
            self._params[credential.scheme] = credential.key
            self._session.headers["X-RSU-API-SECRET"] = credential.secret.encode()
        if registration:
            self._params["rsu_api_reg"] = registration
            self._session.headers["X-RSU-API-REG-SECRET"] = (registration_secret or "").encode()

    def close(self) -> None:
        """Closes the connections kept alive."""
        self._session.close()

    def races_page(self, page: int) -> RacePage:
        """Page `page` (from 1) of every race this credential may see, with its current edition's events."""
        params = {
            "events": "T",
            "start_date": EARLIEST_START,
            "page": str(page),
            "results_per_page": str(RACES_PAGE_SIZE),
            "sort": "name ASC",
        }
        raw_races, answer = self._call("races", "/races", params, None, envelopes.races)
        races, unreadable = [], []
        for raw in raw_races:
            try:
                races.append(decode_race(raw))
            except RowUnreadable as error:
                unreadable.append(UnreadableRow(raw, str(error)))
        return RacePage(races, unreadable, len(raw_races) < RACES_PAGE_SIZE, answer.server_time)

    def race(self, race_id: int) -> tuple[Race, int]:
        """A race with the events of all its editions, and the server's time."""
        raw, answer = self._call("race", f"/race/{race_id}", {}, race_id, envelopes.race)
        try:
            race = decode_race(raw)
        except RowUnreadable as error:
            raise ApiError(Cause.UNKNOWN_SHAPE, str(error), where=f"race {race_id}") from None
        if race.race_id != race_id:
            raise ApiError(Cause.UNKNOWN_SHAPE, f"race {race.race_id} came instead", where=f"race {race_id}")
        return race, answer.server_time

    def participants_page(
        self, race_id: int, event_ids: Sequence[int], *, after: int, size: int, modified_after: int | None = None
    ) -> Page:
        """The page of active registrations above registration id `after`, in id order; with `modified_after` (Unix
        seconds, inclusive) only those that changed."""
        params = {"supports_nb": "T", "sort": "registration_id ASC"}
        return self._registrations("participants", race_id, event_ids, params, after, size, modified_after)

    def removed_page(
        self, race_id: int, event_ids: Sequence[int], *, after: int, modified_after: int | None = None
    ) -> Page:
        """The page of removed registrations above registration id `after`, in id order."""
        params = {"supports_nb": "T", "sort": "registration_id ASC"}
        return self._registrations(
            "removed-participants", race_id, event_ids, params, after, REMOVED_PAGE_SIZE, modified_after
        )

    def has_access(self, race_id: int, event_id: int) -> bool:
        """Whether this credential may read a race's registrations. `/races` cannot tell: it ignores a wrong key."""
        try:
            self.participants_page(race_id, [event_id], after=0, size=1)
        except ApiError as error:
            if error.cause is Cause.NO_ACCESS:
                return False
            raise
        return True

    def _registrations(
        self,
        feed: str,
        race_id: int,
        event_ids: Sequence[int],
        params: dict[str, str],
        after: int,
        size: int,
        modified_after: int | None,
    ) -> Page:
        params |= {"event_id": ",".join(map(str, event_ids)), "results_per_page": str(size)}
        # The first page is asked for without the keyset, as any caller would.
        if after:
            params["after_registration_id"] = str(after)
        if modified_after is not None:
            params["modified_after_timestamp"] = str(int(modified_after))
        elements, answer = self._call(feed, f"/race/{race_id}/{feed}", params, race_id, envelopes.participants)
        rows: list[Registration] = []
        unreadable: list[UnreadableRow] = []
        ids_by_event: dict[int | None, list[int]] = {}
        for element in elements:
            for raw in element.rows:
                try:
                    row = decode_registration(raw, event_id=element.event_id)
                except RowUnreadable as error:
                    unreadable.append(UnreadableRow(raw, str(error), error.identity))
                    continue
                if row.registration_id == TEMPLATE_REGISTRATION_ID:
                    continue
                ids_by_event.setdefault(row.event_id, []).append(row.registration_id)
                rows.append(row)
        try:
            following = next_page(ids_by_event.values(), unread=len(unreadable), after=after, size=size)
        except ApiError as error:
            raise ApiError(error.cause, error.detail, where=f"{feed} of race {race_id}") from None
        return Page(rows, unreadable, following, answer.server_time)

    def _call(
        self,
        endpoint: str,
        path: str,
        params: Mapping[str, str],
        race_id: int | None,
        parse: Callable[[bytes], Any],
    ) -> tuple[Any, _Answer]:
        """The parsed answer, after as many attempts as its failures are worth."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, ApiError) and _transient(error)),
            stop=self._enough,
            wait=self._pause,
            sleep=self._sleep,
            reraise=True,
        )
        return retrying(self._attempt, endpoint, path, params, race_id, parse)

    def _attempt(
        self, endpoint: str, path: str, params: Mapping[str, str], race_id: int | None, parse: Callable[[bytes], Any]
    ) -> tuple[Any, _Answer]:
        where = endpoint if race_id is None else f"{endpoint} of race {race_id}"
        grant = self._ledger.take(endpoint=endpoint, race_id=race_id)
        status: int | None = None
        ended: str | None = "interrupted"
        size = rows = 0
        try:
            answer = self._send(path, params)
            status, size = answer.status, len(answer.body)
            parsed = _parse(answer, parse)
            rows = _count(parsed)
            ended = None
            return parsed, answer
        except ApiError as failure:
            error = self._placed(failure, where)
            ended = error.cause.value
        finally:
            self._ledger.settle(grant, status=status, error=ended, size=size, rows=rows)
        # Out here, so that no earlier exception, whose text may hold the address, hangs on it as its context.
        raise error

    def _send(self, path: str, params: Mapping[str, str]) -> _Answer:
        deadline = time.monotonic() + self._total_timeout
        try:
            with self._session.get(
                self._base_url + path,
                params={**params, **self._params},
                timeout=self._timeouts,
                stream=True,
                allow_redirects=False,
            ) as response:
                body = bytearray()
                # What has arrived, not what fills a chunk: the latter would wait for a dribbling answer without end.
                while chunk := response.raw.read1(_CHUNK, decode_content=True):
                    body += chunk
                    if len(body) > MAX_BODY_BYTES:
                        raise ApiError(Cause.UNKNOWN_SHAPE, f"answer larger than {MAX_BODY_BYTES >> 20} MiB")
                    if time.monotonic() > deadline:
                        raise ApiError(Cause.TIMEOUT, f"answer not complete after {self._total_timeout:g} s")
                return _Answer(
                    response.status_code,
                    bytes(body),
                    _server_time(response.headers.get("Date")),
                    _retry_after(response.headers.get("Retry-After")),
                )
        # The texts of these exceptions hold the URL, and with it the secret: only their kind is passed on.
        except requests.ConnectTimeout:
            raise ApiError(Cause.TIMEOUT, f"no connection within {self._timeouts[0]:g} s") from None
        except (requests.Timeout, urllib3.exceptions.ReadTimeoutError):
            raise ApiError(Cause.TIMEOUT, f"nothing received for {self._timeouts[1]:g} s") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as failure:
            # ValueErrors speak of an address or a header that cannot be sent at all.
            cause = Cause.REFUSED if isinstance(failure, ValueError) else Cause.CONNECTION
            raise ApiError(cause, type(failure).__name__) from None

    def _placed(self, error: ApiError, where: str) -> ApiError:
        detail = error.detail
        for secret in self._secrets:
            detail = detail.replace(secret, "•••")
        # Cut only now: half a secret would not be found.
        return ApiError(
            error.cause, detail[:LONGEST_DETAIL], where=where, code=error.code, retry_after=error.retry_after
        )

    def _enough(self, state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        limit = _ATTEMPTS_BY_CAUSE.get(error.cause, self._attempts) if isinstance(error, ApiError) else self._attempts
        return state.attempt_number >= min(limit, self._attempts)

    def _pause(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, ApiError) and error.retry_after else 0.0
        return max(min(asked, MAX_RETRY_AFTER), self._wait(state))


def _parse(answer: _Answer, parse: Callable[[bytes], Any]) -> Any:
    if 300 <= answer.status < 400:
        raise ApiError(Cause.REDIRECT, f"HTTP {answer.status}; credentials are not sent on, check RSU_API_BASE_URL")
    try:
        if answer.status == 200:
            return parse(answer.body)
        # An error object says more than the status it came with.
        raise envelopes.error_in(answer.body) or ApiError(_cause_of_status(answer.status), f"HTTP {answer.status}")
    except ApiError as error:
        error.retry_after = answer.retry_after
        raise


def _cause_of_status(status: int) -> Cause:
    if status == 429:
        return Cause.THROTTLED
    if status == 408:
        return Cause.TIMEOUT
    if status >= 500:
        return Cause.SERVER
    if status in (401, 403):
        return Cause.NO_ACCESS
    return cause_of_code(None)


def _transient(error: ApiError) -> bool:
    return error.remedy is Remedy.RETRY


def _count(parsed: object) -> int:
    if not isinstance(parsed, list):
        return 1
    return sum(len(item.rows) if isinstance(item, envelopes.EventRows) else 1 for item in parsed)


def _server_time(header: str | None) -> int:
    """Unix seconds of a `Date` header. Every answer on record has one; should it be missing, our own clock stands in,
    whose difference the cursor's overlap covers."""
    try:
        return int(email.utils.parsedate_to_datetime(header or "").timestamp())
    except (TypeError, ValueError):
        return int(time.time())


def _retry_after(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None
