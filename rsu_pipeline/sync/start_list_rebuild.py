"""Update a partner's start lists with what a sync stored, even if the sync ended early.

Scoring reads the start lists, however a sync was started. Each caller wraps its reads in `start_lists_rebuilt_on_failure` and calls
`rebuild_start_lists` after them, so a race that fails does not keep the others' changes from the lists.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2

from rsu_pipeline.start_lists import start_list_store
from rsu_pipeline.start_lists.start_list_store import RebuildFailed, RebuildResult
from rsu_pipeline.sync.session import PartnerSession


def rebuild_start_lists(session: PartnerSession, *, anyway: bool = False) -> RebuildResult | RebuildFailed | None:
    """Rebuild the lists if a registration or an event of theirs has changed since they were built, or `anyway`.

    Returns:
        What was written, why it could not be, or None if the lists are current.
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
    """Rebuild the lists. A failure here is logged, because another failure is being raised."""
    try:
        session.conn.rollback()
        built = rebuild_start_lists(session)
    except psycopg2.Error as error:
        built = RebuildFailed((str(error).splitlines() or [type(error).__name__])[0])
    if isinstance(built, RebuildFailed):
        session.log(f"start lists could not be built: {built.reason}")
