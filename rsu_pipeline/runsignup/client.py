"""One credential's calls to RunSignup: acquire a slot from the ledger, call, settle the outcome with the ledger.

Retries happen above the ledger, so that each attempt is counted. A write is never retried. Nothing raised or logged here contains
a query string or a secret.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import quote, quote_plus

import tenacity

from rsu_pipeline import cancellation
from rsu_pipeline.display import sanitize_for_display
from rsu_pipeline.included_fields import FLAGS
from rsu_pipeline.runsignup import bib_writes, envelopes, transport
from rsu_pipeline.runsignup.api_errors import ApiError, Cause, Remedy, cause_of_code
from rsu_pipeline.runsignup.pages import Page, RacePage, UnreadableRow
from rsu_pipeline.runsignup.paging import TEMPLATE_REGISTRATION_ID, PageLengths, next_page
from rsu_pipeline.runsignup.payload_decoding import decode_race, decode_registration
from rsu_pipeline.runsignup.payloads import Race, Registration, RowUnreadable
from rsu_pipeline.runsignup.transport import Response

RACES_PAGE_SIZE = 1000
"""RunSignup's maximum for `/races`."""
REMOVED_PAGE_SIZE = 1000
"""No maximum is documented for removed-participants. 1000 is the largest size known to be safe."""
EARLIEST_START = "1990-01-01"
"""Sent as `start_date`, because `/races` hides past races without it."""
MAX_LISTING_BYTES = 4 * transport.MAX_BODY_BYTES
"""Bytes of all pages of a listing of races together."""
MAX_ROWS_PER_EVENT = 10_000
"""Rows of one response, for each requested event. RunSignup's pages have at most 2,500, of all events or of each."""
MAX_RETRY_AFTER = 60.0
MAX_DETAIL_CHARS = 300
# A second failure of these kinds is not transient.
_ATTEMPTS_BY_CAUSE = {Cause.NOT_JSON: 2, Cause.UNSPECIFIED: 2}


@dataclass(frozen=True)
class Credential:
    """A partner's access to RunSignup.

    `scheme` is `api_key` (key and secret as parameters, the only scheme of v1 keys), or `rsu_api_key` / `sp_api_key` (the
    secret in a header).
    """

    key: str = field(repr=False)
    secret: str = field(repr=False)
    scheme: str = "api_key"


class CallLedger(Protocol):
    """The ledger that admits and counts calls."""

    def acquire(self, *, endpoint: str, race_id: int | None) -> int:
        """Wait for a concurrency slot and return the id of the grant.

        Raises:
            BudgetExhausted: the lane has no call left in this hour.
        """

    def settle(self, grant: int, *, status: int | None, error: str | None, size: int, rows: int) -> None:
        """Record how the granted call ended and release its concurrency slot."""


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
        total_timeout: float | Callable[[], float] = 120.0,
        attempts: int = 4,
        retries_timeouts: Callable[[], bool] = lambda: True,
        backoff: float = 1.0,
        registration: str | None = None,
        registration_secret: str | None = None,
        sleep: Callable[[float], None] = cancellation.sleep,
        hear: Callable[[int | None, float], None] = lambda date, elapsed: None,
    ) -> None:
        """Make a client. `hear` receives the clock of every usable response: its `date` and `elapsed`, see `transport.Response`."""
        self._ledger = ledger
        self._hear = hear
        self._base_url = base_url
        self._timeouts = (connect_timeout, read_timeout)
        self._total_timeout = total_timeout if callable(total_timeout) else lambda: total_timeout
        self.longest_call = float("inf")
        """Seconds that a call may take from now on, if `total_timeout` is longer. For callers that will call again."""
        self.slowest_answer = 0.0
        """Seconds of the slowest call that was answered since this was last set to 0."""
        self._attempts = attempts
        self._retries_timeouts = retries_timeouts
        self._wait = tenacity.wait_exponential(multiplier=backoff, max=MAX_RETRY_AFTER) + tenacity.wait_random(
            0, backoff
        )
        self._sleep = sleep
        secrets = [text for text in (credential.secret, credential.key, registration, registration_secret) if text]
        # Also as they appear in an address, in case a server repeats that. Longest first, because one may begin another.
        forms = {form for text in secrets for form in (text, quote(text, safe=""), quote_plus(text))}
        self._secrets = sorted(forms, key=len, reverse=True)
        self._params: dict[str, str] = {"format": "json"}
        self._listed: set[int] = set()
        self._listed_bytes = 0
        self._page_lengths: defaultdict[str, PageLengths] = defaultdict(PageLengths)
        """By feed, because servers may limit each separately."""
        self._session = transport.Session()
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
        """Close the connections that are kept alive."""
        self._session.close()

    def races_page(self, page: int) -> RacePage:
        """Return page `page` (from 1) of every race this credential may see, with its current edition's events."""
        params = {
            "events": "T",
            "start_date": EARLIEST_START,
            "page": str(page),
            "results_per_page": str(RACES_PAGE_SIZE),
            "sort": "name ASC",
        }
        raw_races, answer = self._call("races", "/races", params, None, envelopes.races)
        if len(raw_races) > MAX_ROWS_PER_EVENT:
            raise ApiError(Cause.UNKNOWN_SHAPE, f"{len(raw_races):,} races on one page", where="races")
        races: list[Race] = []
        unreadable: list[UnreadableRow] = []
        for raw in raw_races:
            try:
                races.append(decode_race(raw))
            except RowUnreadable as error:
                unreadable.append(UnreadableRow(raw, str(error)))
        is_short = len(raw_races) < RACES_PAGE_SIZE
        has_new = self._check_listing_terminates(page, {race.race_id for race in races}, len(answer.body), is_short)
        is_last = not raw_races or (is_short and page > 1 and not has_new)
        return RacePage(races, unreadable, is_last, answer.server_time, is_short)

    def _check_listing_terminates(self, page: int, race_ids: set[int], size: int, is_short: bool) -> bool:
        """Return whether a page has a race that the pages before it lack.

        Raises:
            ApiError: the listing does not end: a full page without such a race, or more bytes than memory should hold.
        """
        if page == 1:
            self._listed, self._listed_bytes = set(), 0
        new = race_ids - self._listed
        self._listed |= race_ids
        self._listed_bytes += size
        if page > 1 and not new and not is_short:
            raise ApiError(Cause.UNKNOWN_SHAPE, f"page {page} has no race that was not listed before", where="races")
        if self._listed_bytes > MAX_LISTING_BYTES:
            raise ApiError(
                Cause.UNKNOWN_SHAPE,
                f"listing larger than {MAX_LISTING_BYTES >> 20} MiB after {page} pages; to a wrong key RunSignup lists"
                " everybody's races",
                where="races",
            )
        return bool(new)

    def race(self, race_id: int) -> tuple[Race, int]:
        """Return a race with the events of all its editions, and the server's time."""
        raw, answer = self._call("race", f"/race/{race_id}", {}, race_id, envelopes.race)
        try:
            race = decode_race(raw)
        except RowUnreadable as error:
            raise ApiError(Cause.UNKNOWN_SHAPE, str(error), where=f"race {race_id}") from None
        if race.race_id != race_id:
            raise ApiError(Cause.UNKNOWN_SHAPE, f"race {race.race_id} came instead", where=f"race {race_id}")
        return race, answer.server_time

    def participants_page(
        self,
        race_id: int,
        event_ids: Sequence[int],
        *,
        after: int,
        size: int,
        modified_after: int | None = None,
        include: Sequence[str] = (),
        order: Literal["ASC", "DESC"] = "ASC",
    ) -> Page:
        """Return the page of active registrations above registration id `after`, in this order of ids.

        With `modified_after` (Unix seconds, inclusive) the page has only those that changed. `include` names the optional fields.
        """
        params = {"supports_nb": "T", "sort": f"registration_id {order}"} | {FLAGS[name]: "T" for name in include}
        return self._registrations("participants", race_id, event_ids, params, after, size, modified_after)

    def removed_page(
        self, race_id: int, event_ids: Sequence[int], *, after: int, modified_after: int | None = None
    ) -> Page:
        """Return the page of removed registrations above registration id `after`, in id order."""
        params = {"supports_nb": "T", "sort": "registration_id ASC"}
        return self._registrations(
            "removed-participants", race_id, event_ids, params, after, REMOVED_PAGE_SIZE, modified_after
        )

    def set_bibs(self, race_id: int, event_id: int, bibs: Mapping[int, int], check: Callable[[], None]) -> set[int]:
        """Set bibs by registration id, and return the ids that RunSignup answered with, which is no evidence: the next read is.

        The call is made once. What `check` raises once it has its slot ends it before anything is sent.
        """
        form = bib_writes.build_form(event_id, bibs)
        path = f"/race/{race_id}/participants"
        answered, _ = self._attempt("set-bibs", path, {}, race_id, bib_writes.parse_answer, form, check)
        return set(answered)

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
        """Return the page. The events must fit one address, see `event_ids.split_by_address`."""
        params |= {"results_per_page": str(size), "event_id": ",".join(map(str, event_ids))}
        # The first page is requested without the keyset, as by any caller.
        if after:
            params["after_registration_id"] = str(after)
        if modified_after is not None:
            params["modified_after_timestamp"] = str(int(modified_after))
        elements, answer = self._call(feed, f"/race/{race_id}/{feed}", params, race_id, envelopes.participants)
        sent, most = _count(elements), MAX_ROWS_PER_EVENT * len(event_ids)
        if sent > most:
            raise ApiError(
                Cause.UNKNOWN_SHAPE, f"{sent:,} rows where {size:,} were requested", where=f"{feed} of race {race_id}"
            )
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
        if following.is_repetition:
            # They are stored and counted with the page before.
            rows = []
        feed_part = (race_id, tuple(event_ids), modified_after)
        # A page of one row shows nothing of how many the server returns.
        is_longest = size == 1 or self._page_lengths[feed].note(feed_part, after, sent, following)
        seen = (answer.date, answer.elapsed, answer.seconds)
        return Page(rows, unreadable, following, answer.server_time, is_longest, *seen)

    def _call(
        self,
        endpoint: str,
        path: str,
        params: Mapping[str, str],
        race_id: int | None,
        parse: Callable[[bytes], Any],
    ) -> tuple[Any, Response]:
        """Return the parsed response, after as many attempts as its failures justify."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, ApiError) and _transient(error)),
            stop=self._should_stop_retrying,
            wait=self._pause,
            sleep=self._sleep,
            reraise=True,
        )
        return retrying(self._attempt, endpoint, path, params, race_id, parse)

    def _attempt(
        self,
        endpoint: str,
        path: str,
        params: Mapping[str, str],
        race_id: int | None,
        parse: Callable[[bytes], Any],
        form: Mapping[str, str] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> tuple[Any, Response]:
        where = endpoint if race_id is None else f"{endpoint} of race {race_id}"
        cancellation.check()
        grant = self._ledger.acquire(endpoint=endpoint, race_id=race_id)
        status: int | None = None
        ended: str | None = "interrupted"
        size = rows = 0
        try:
            check()
            answer = transport.fetch(
                self._session,
                self._base_url + path,
                {**params, **self._params},
                self._timeouts,
                min(self._total_timeout(), self.longest_call),
                form,
            )
            status, size = answer.status, len(answer.body)
            self.slowest_answer = max(self.slowest_answer, answer.seconds)
            parsed = _parse(answer, parse)
            self._hear(answer.date, answer.elapsed)
            rows = _count(parsed)
            ended = None
            return parsed, answer
        except ApiError as failure:
            # A call that was cut off because the process ends did not fail.
            cancellation.check()
            error = self._with_context(failure, where)
            ended = error.cause.value
        finally:
            self._ledger.settle(grant, status=status, error=ended, size=size, rows=rows)
        # Raised outside of the block, so that no earlier exception, whose text may contain the address, becomes its context.
        raise error

    def _with_context(self, error: ApiError, where: str) -> ApiError:
        detail = error.detail
        for secret in self._secrets:
            detail = detail.replace(secret, "•••")
        # Replaced and cut only now: half a secret would not be found.
        return ApiError(
            error.cause,
            sanitize_for_display(detail, MAX_DETAIL_CHARS),
            where=where,
            code=error.code,
            retry_after=error.retry_after,
        )

    def _should_stop_retrying(self, state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        cause = error.cause if isinstance(error, ApiError) else None
        if cause is Cause.TIMEOUT and not self._retries_timeouts():
            return True
        limit = self._attempts if cause is None else _ATTEMPTS_BY_CAUSE.get(cause, self._attempts)
        return state.attempt_number >= min(limit, self._attempts)

    def _pause(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, ApiError) and error.retry_after else 0.0
        return max(min(asked, MAX_RETRY_AFTER), self._wait(state))


def _parse(answer: Response, parse: Callable[[bytes], Any]) -> Any:
    if 300 <= answer.status < 400:
        raise ApiError(Cause.REDIRECT, f"HTTP {answer.status}; credentials are not sent on, check RSU_API_BASE_URL")
    body = envelopes.strip_byte_order_mark(answer.body)
    try:
        envelopes.refuse_too_many_members(body)
        if answer.status == 200:
            return parse(body)
        # An error object is more specific than its status.
        raise envelopes.find_error(body) or ApiError(_cause_of_status(answer.status), f"HTTP {answer.status}")
    except ApiError as error:
        error.retry_after = answer.retry_after
        raise


def _cause_of_status(status: int) -> Cause:
    if status == 429:
        return Cause.THROTTLED
    if status == 408:
        return Cause.TIMEOUT
    # Without RunSignup's error object a 401 or 403 comes from a gateway, not from RunSignup about this credential.
    if status >= 500 or status in (401, 403):
        return Cause.SERVER
    return cause_of_code(None)


def _transient(error: ApiError) -> bool:
    return error.remedy is Remedy.RETRY


def _count(parsed: object) -> int:
    if not isinstance(parsed, list):
        return 1
    return sum(len(item.rows) if isinstance(item, envelopes.EventRows) else 1 for item in parsed)
