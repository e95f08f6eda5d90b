"""Bring a partner's start lists up to date with what a sync stored, also where the sync ended early.

However a sync was started, scoring reads its lists. Each shell wraps its reads in `start_lists_rebuilt_on_failure` and calls
`rebuild_start_lists` after them, so a race that fails does not keep the others' changes from the lists.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2

from rsu_pipeline.start_lists import start_list_store
from rsu_pipeline.start_lists.start_list_store import RebuildFailed, RebuildResult
from rsu_pipeline.sync.session import PartnerSession


def rebuild_start_lists(session: PartnerSession, *, anyway: bool = False) -> RebuildResult | RebuildFailed | None:
    """Rebuild the lists where a registration or an event of theirs has changed since they were built, or `anyway`.

    Returns:
        What was written, why it could not be, or None where the lists are as they should be.
    """
    built = None
    if anyway or not start_list_store.is_current(session.conn, session.partner_id, session.now()):
        built = start_list_store.try_rebuild(session.conn, session.partner_id, session.now())
    session.conn.commit()
    return built


@contextmanager
def start_lists_rebuilt_on_failure(session: PartnerSession) -> Iterator[None]:
    """Rebuild the lists if the block raises, for what it stored before."""
    try:
        yield
    except Exception:
        if not session.conn.closed:
            _rebuild_after_failure(session)
        raise


def _rebuild_after_failure(session: PartnerSession) -> None:
    """Rebuild the lists; what fails here is logged, since another failure is on its way."""
    try:
        session.conn.rollback()
        built = rebuild_start_lists(session)
    except psycopg2.Error as error:
        built = RebuildFailed((str(error).splitlines() or [type(error).__name__])[0])
    if isinstance(built, RebuildFailed):
        session.log(f"start lists could not be built: {built.reason}")
