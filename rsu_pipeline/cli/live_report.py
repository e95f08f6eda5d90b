"""What the terminal of `rsu up` and `rsu demo` reports while everything runs: one line for each thing that changes."""

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import psycopg2
from psycopg2.extensions import connection as Connection

from rsu_pipeline.alerts import alert_store
from rsu_pipeline.display import counted, make_printable, show_times_in
from rsu_pipeline.warehouse import credentials, database, freshness, sync_log

POLL_SECONDS = 5.0
BIBS_EVERY_SECONDS = 60.0
"""How often bibs are reported. On race morning they arrive by the second."""


@dataclass(frozen=True)
class Snapshot:
    """What is reported of the hub: active partners and those of them that were synced, their registrations, alerts.

    A partner that was synced remains so when it gets a new event. `registrations` are those of the synced partners. `last_bib`
    is the number of the last bib change. `alerts` has the sentence of each open alert by its number.
    """

    partners: int = 0
    synced: frozenset[int] = frozenset()
    registrations: int = 0
    last_bib: int = 0
    alerts: Mapping[int, str] = field(default_factory=dict)


def read_snapshot(conn: Connection, before: Snapshot) -> Snapshot:
    """Return the present state of the hub. Ends the transaction.

    Registrations are counted only if another partner was synced since `before`, because counting reads all of them. They are
    counted after the synced partners were listed, so the count has everything that made them synced.
    """
    active = {partner.partner_id for partner in credentials.list_partners(conn) if partner.is_active}
    synced = before.synced & active
    if synced != active:
        synced |= active & freshness.list_synced_partners(conn, dt.datetime.now(dt.UTC))
    registrations = before.registrations
    if (synced, len(active)) != (before.synced, before.partners):
        registrations = sum(row.participants for row in sync_log.read_partner_status(conn) if row.partner_id in synced)
    alerts = {alert.alert_id: alert.sentence for alert in alert_store.read_open_alerts(conn)}
    with conn.cursor() as cur:
        cur.execute("SELECT coalesce(max(bib_change_id), 0) FROM runsignup_bib_changes")
        (last_bib,) = cur.fetchone() or (0,)
    conn.rollback()
    return Snapshot(len(active), synced, registrations, last_bib, alerts)


def describe_changes(before: Snapshot, now: Snapshot) -> Iterator[str]:
    """Yield a line for each thing but bibs that has changed: partners that were synced, alerts that opened or are resolved."""
    if now.partners and (now.synced, now.partners) != (before.synced, before.partners):
        if len(now.synced) == now.partners:
            whole = f"All {now.partners} partners are" if now.partners > 1 else "The partner is"
            yield f"{whole} synced: {counted(now.registrations, 'participant')}."
        elif now.synced:
            yield f"{len(now.synced)} of {now.partners} partners synced: {now.registrations:,} participants."
        else:
            yield f"{counted(now.partners, 'partner')}, none of them synced yet."
    for number, sentence in now.alerts.items():
        if number not in before.alerts:
            yield make_printable(f"Alert: {sentence}")
    for number, sentence in before.alerts.items():
        if number not in now.alerts:
            yield make_printable(f"Resolved: {sentence}")


def _count_bibs(conn: Connection, after: int) -> int:
    with conn.cursor() as cur:
        cur.execute("SELECT count(*) FROM runsignup_bib_changes WHERE bib_change_id > %s", (after,))
        (count,) = cur.fetchone() or (0,)
    conn.rollback()
    return int(count)


def report_changes(
    url: str, zone: dt.tzinfo, echo: Callable[[str], None], *, pause: Callable[[float], None] = time.sleep
) -> None:
    """Report what changes until the process ends, each line with its time. A database that is away is polled again."""
    before = Snapshot()
    last_bib: int | None = None
    bibs_at = time.monotonic()
    while True:
        try:
            with database.session(url, purpose="up") as conn:
                while True:
                    now = read_snapshot(conn, before)
                    lines = list(describe_changes(before, now))
                    last_bib = now.last_bib if last_bib is None else last_bib
                    if now.last_bib > last_bib and time.monotonic() - bibs_at >= BIBS_EVERY_SECONDS:
                        lines.append(f"{counted(_count_bibs(conn, last_bib), 'bib change')} stored.")
                        last_bib, bibs_at = now.last_bib, time.monotonic()
                    before = now
                    for line in lines:
                        echo(f"{dt.datetime.now(zone):%H:%M:%S %Z}  {show_times_in(zone, line)}")
                    pause(POLL_SECONDS)
        except (database.DatabaseError, psycopg2.Error, OSError):
            pause(POLL_SECONDS)
