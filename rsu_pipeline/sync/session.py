"""A partner's session: the connection, client, settings and clock with which a sync of one partner works."""

import datetime as dt
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace

from psycopg2.extensions import connection as Connection

from rsu_pipeline.display import format_utc
from rsu_pipeline.errors import RsuError
from rsu_pipeline.reading_settings import BudgetSettings, SyncSettings
from rsu_pipeline.runsignup.api_errors import BudgetExhausted
from rsu_pipeline.runsignup.client import Client, Credential
from rsu_pipeline.settings import Settings
from rsu_pipeline.sync import cadence
from rsu_pipeline.sync.clocks import Clock
from rsu_pipeline.warehouse import call_ledger, credentials, cursors, database
from rsu_pipeline.warehouse.fleet import REJECTED_RETRY_AFTER
from rsu_pipeline.warehouse.secret_box import SecretBox

SIDE_BY_SIDE = 8
"""Partners at a time if each credential has its own concurrency slots."""


class CredentialRejected(RsuError):
    """RunSignup rejects the partner's credential. The text gives the time and the next step."""


class LedgerAdapter:
    """The warehouse's ledger with the interface that the client expects."""

    def __init__(self, ledger: call_ledger.Ledger) -> None:
        self._ledger = ledger

    def acquire(self, *, endpoint: str, race_id: int | None) -> int:
        try:
            return self._ledger.acquire(endpoint, race_id)
        except call_ledger.NoCallLeft as error:
            raise BudgetExhausted(error.frees_in, lane=error.lane) from None

    def settle(self, grant: int, *, status: int | None, error: str | None, size: int, rows: int) -> None:
        self._ledger.settle(grant, status=status, error=error, size=size, rows=rows)


@dataclass
class PartnerSession:
    """The session of one partner's sync.

    `conn` writes and has the lock of the race that is being read. `key` is the partition key. `run_id` is the run's id in every row
    that it writes. `log` logs a line for people. `clock` decides the tiers. `settings`
    are the installation's with the partner's own optional fields.

    `requested` is the number of the request: what others began to read after it counts as read. `own_reads` are the numbers
    of the reads of this session, which do not count for that.
    """

    conn: Connection
    client: Client
    ledger: call_ledger.Ledger
    partner: credentials.Partner
    key: str
    settings: SyncSettings
    run_id: str
    log: Callable[[str], None]
    clock: Clock
    requested: int
    own_reads: set[int] = field(default_factory=set)

    def now(self) -> dt.datetime:
        """Return the present, the earliest that it may be while clocks disagree."""
        return self.clock.present().now

    @property
    def partner_id(self) -> int:
        return self.partner.partner_id

    @property
    def credential_id(self) -> int:
        return self.partner.credential_id or 0

    def renew_request(self) -> None:
        """Make what is read with this session from now on a request of its own. Commits."""
        self.requested = cursors.next_read_number(self.conn)
        self.conn.commit()

    def is_read_elsewhere(self, numbers: Collection[int]) -> bool:
        """Return whether all reads with these numbers are those of others that began after the request."""
        return all(number > self.requested and number not in self.own_reads for number in numbers)


@contextmanager
def open_partner_session(
    url: str,
    secret_box: SecretBox,
    settings: Settings,
    name: str,
    *,
    lane: call_ledger.Lane,
    run_id: str,
    log: Callable[[str], None],
    now: Callable[[], dt.datetime] | None = None,
    database_now: Callable[[], dt.datetime] | None = None,
    retry_rejected: bool = False,
) -> Iterator[PartnerSession]:
    """Open a session for the partner with this partition key or id. Several may be open at once: see `sharing`.

    `now` and `database_now` replace the clocks, see `clocks.Clock`.

    Raises:
        PartnerError: there is no such partner, or it is disabled.
        CredentialRejected: the credential was rejected within REJECTED_RETRY_AFTER and has not changed since, unless
            `retry_rejected`.
        SecretKeyError: the credential cannot be decrypted.
        DatabaseError: the database cannot be used.
    """
    short = run_id[:8]
    clock = Clock(settings.sync.max_clock_skew, hub=now, database=database_now)
    with (
        database.session(url, purpose=f"sync {short}") as conn,
        database.session(url, purpose=f"ledger {short}") as ledger_conn,
        closing(Clients(settings, ledger_conn, lane, clock.hear)) as clients,
        partner_session_on(
            conn,
            clients,
            secret_box,
            settings,
            name,
            run_id=run_id,
            log=log,
            clock=clock,
            retry_rejected=retry_rejected,
        ) as session,
    ):
        yield session


class Clients:
    """Clients of several partners over one ledger session.

    Each is kept as long as its credential stays the same, so that connections to RunSignup are reused.
    """

    def __init__(
        self,
        settings: Settings,
        ledger_conn: Connection,
        lane: call_ledger.Lane,
        hear: Callable[[int | None, float], None] = lambda date, elapsed: None,
    ) -> None:
        """Make the set of clients. `hear` is as in Client."""
        self._settings = settings
        self._hear = hear
        self._ledger_conn = ledger_conn
        self._lane: call_ledger.Lane = lane
        self._kept: dict[int, tuple[credentials.OpenCredential, call_ledger.Ledger, Client]] = {}

    def of(self, credential: credentials.OpenCredential) -> tuple[call_ledger.Ledger, Client]:
        """Return the ledger and the client of a credential."""
        kept = self._kept.get(credential.credential_id)
        if kept is None or kept[0] != credential:
            if kept is not None:
                kept[2].close()
            ledger = call_ledger.Ledger(
                self._ledger_conn,
                credential.credential_id,
                credential.api_key_id,
                self._lane,
                build_limits(self._settings),
            )
            kept = (credential, ledger, build_client(self._settings, credential, ledger, self._hear))
            self._kept[credential.credential_id] = kept
        return kept[1], kept[2]

    def close(self) -> None:
        for _, _, client in self._kept.values():
            client.close()


@contextmanager
def partner_session_on(
    conn: Connection,
    clients: Clients,
    secret_box: SecretBox,
    settings: Settings,
    name: str,
    *,
    run_id: str,
    log: Callable[[str], None],
    clock: Clock,
    retry_rejected: bool = False,
) -> Iterator[PartnerSession]:
    """Open the same on existing database sessions."""
    partner = credentials.find_partner(conn, name)
    if partner.disabled_at is not None:
        raise credentials.PartnerError(
            f"Partner {partner.key or partner.partner_id} is disabled. Enable it with `rsu partners enable`."
        )
    clock.compare(conn)
    if not retry_rejected:
        _refuse_rejected(partner, clock.present().now)
    credential = credentials.open_credential(conn, secret_box, partner.partner_id)
    # A key is not written again: the row would wait for another program's open transaction.
    key = partner.key or credentials.ensure_key(conn, partner.partner_id)
    requested = cursors.next_read_number(conn)
    conn.commit()
    ledger, client = clients.of(credential)
    try:
        own = settings.sync if partner.include is None else replace(settings.sync, include=partner.include)
        yield PartnerSession(conn, client, ledger, partner, key, own, run_id, log, clock, requested)
    finally:
        if not conn.closed:
            conn.rollback()
            clock.store(conn)


def limit_concurrent_partners(budget: BudgetSettings) -> int:
    """Return how many partners a process handles side by side: one more than calls in flight, so that one writes meanwhile."""
    at_once = budget.max_in_flight + 1
    return at_once if budget.in_flight_scope == "all" else max(at_once, SIDE_BY_SIDE)


def build_limits(settings: Settings) -> call_ledger.Limits:
    """Return the ledger's limits from the settings."""
    return call_ledger.Limits(
        settings.budget.calls_per_hour,
        settings.budget.max_in_flight,
        all_credentials=settings.budget.in_flight_scope == "all",
        call_seconds=settings.api.total_timeout,
        race_day_call_seconds=settings.api.race_day_timeout,
    )


def build_client(
    settings: Settings,
    credential: credentials.OpenCredential,
    ledger: call_ledger.Ledger,
    hear: Callable[[int | None, float], None] = lambda date, elapsed: None,
) -> Client:
    """Return a client for one credential whose calls go through the ledger. `hear` as in Client."""
    api = settings.api
    return Client(
        Credential(credential.principal, credential.secret, credential.scheme),
        LedgerAdapter(ledger),
        base_url=api.base_url,
        connect_timeout=api.connect_timeout,
        read_timeout=api.read_timeout,
        total_timeout=lambda: ledger.call_seconds,
        attempts=api.attempts,
        retries_timeouts=lambda: ledger.retries_timeouts,
        backoff=api.backoff,
        registration=api.registration,
        registration_secret=api.registration_secret,
        hear=hear,
    )


def _refuse_rejected(partner: credentials.Partner, now: dt.datetime) -> None:
    age = cadence.age(partner.rejected_at, now)
    if partner.rejected_at is not None and age is not None and age < REJECTED_RETRY_AFTER:
        raise CredentialRejected(
            f"RunSignup rejected the credential of partner {partner.key or partner.partner_id} at"
            f" {format_utc(partner.rejected_at)} ({partner.rejected_reason}). It is tried again at the next"
            " visit, or at once when it changes: `rsu partners add` or `rsu partners check`."
        )
