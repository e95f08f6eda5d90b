"""A process that syncs a partner and dies by SIGKILL at a named point.

    python -m rsu_pipeline_tests.proof.victim PARTNER POINT TIMES [full | history | push EVENT]

`history` reads a slice of the partner's history, requested before, instead. `push` sends the
event's local bibs. The environment names the hub. Exit code 0
means that the work ended before the point was reached that many times.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from rsu_pipeline.runsignup import transport
from rsu_pipeline.runsignup.client import Client
from rsu_pipeline.settings import load_settings
from rsu_pipeline.sync import bib_push, history, listing, partner_sync, race_pass
from rsu_pipeline.sync.session import open_partner_session
from rsu_pipeline.warehouse import bib_pushes, call_ledger, cursors, events, participants, sync_log
from rsu_pipeline.warehouse.secret_box import SecretBox

# Where: an object, the name of a function of it, and whether death comes before or after it.
POINTS: dict[str, tuple[Any, str, bool]] = {
    "before a call is granted": (call_ledger.Ledger, "acquire", True),
    "after a call is granted": (call_ledger.Ledger, "acquire", False),
    "while the ledger is locked": (call_ledger, "has_slot", False),
    "before a call is sent": (transport, "fetch", True),
    "after an answer": (transport, "fetch", False),
    "after a call is settled": (call_ledger.Ledger, "settle", False),
    "before a listing is stored": (events, "store_races", True),
    "after a listing is stored": (events, "store_events", False),
    "after a detail is marked": (events, "mark_detail", False),
    "after the plan is written": (events, "replace_plan", False),
    "after a pass is opened": (cursors, "open_pass", False),
    "before a page is merged": (participants, "stage_and", True),
    "after a page is merged": (participants, "stage_and", False),
    "before a position is saved": (cursors, "save", True),
    "after a position is saved": (cursors, "save", False),
    "after a page is committed": (race_pass, "_commit", False),
    "before cursors move": (cursors, "advance", True),
    "after cursors moved": (cursors, "advance", False),
    "after a pass is dropped": (cursors, "drop_pass", False),
    "before history is written": (sync_log, "record", True),
    "after history is written": (sync_log, "record", False),
}
PUSH_POINTS: dict[str, tuple[Any, str, bool]] = {
    "before pushes are recorded": (bib_pushes, "record_pushes", True),
    "after pushes are recorded": (bib_pushes, "record_pushes", False),
    "before bibs are sent": (Client, "set_bibs", True),
    "after bibs were sent": (Client, "set_bibs", False),
    "before answers are recorded": (bib_pushes, "record_answers", True),
    "after answers are recorded": (bib_pushes, "record_answers", False),
    "before a page is merged": POINTS["before a page is merged"],
    "after a page is merged": POINTS["after a page is merged"],
    "before a push is settled": (bib_pushes, "settle", True),
    "after a push is settled": (bib_pushes, "settle", False),
}


def arm(point: str, times: int, fatal: signal.Signals = signal.SIGKILL) -> None:
    """Let this process die, or get another signal, when the point is reached for the `times`-th time."""
    owner, name, before = (POINTS | PUSH_POINTS)[point]
    original: Callable[..., Any] = getattr(owner, name)
    left = times

    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if before and left == 0:
            os.kill(os.getpid(), fatal)
        result = original(*args, **kwargs)
        if left == 0:
            os.kill(os.getpid(), fatal)
        return result

    setattr(owner, name, deadly)


def main() -> None:
    partner, point, times, *rest = sys.argv[1:]
    settings = load_settings()
    arm(point, int(times))
    with open_partner_session(
        str(settings.database_url),
        SecretBox(settings.secret_keys, source="RSU_SECRET_KEY"),
        settings,
        partner,
        lane="backfill" if "history" in rest else "routine",
        run_id="victim",
        log=lambda line: None,
    ) as session:
        if "history" in rest:
            history.run_slice(session, 1e6)
            return
        if "push" in rest:
            event = bib_pushes.find_event(session.conn, int(rest[1]))
            bib_push.push_bibs(session, event, who="victim")
            return
        listing.refresh_events(session)
        plan = partner_sync.make_plan(session, force_full="full" in rest)
        partner_sync.sync_participants(session, plan)


if __name__ == "__main__":
    main()
