"""No transaction waits for RunSignup: it would hold back vacuum, and be ended by a limit.

While a page is stored, the next one may be under way. The transaction that stores ends without waiting for it.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from rsu_pipeline.runsignup.client import Client
from rsu_pipeline.sync import access, page_requests, partner_sync
from rsu_pipeline.sync.watch import plan_poll
from rsu_pipeline_tests.hub import Hub

SPEC = {"partners": 1, "races_per_partner": 2, "events_per_race": 2, "registrations_per_event": 9, "start_in_hours": 2}
OPEN = (
    "SELECT application_name, query FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
)
WAITING = f"{OPEN} AND state_change < clock_timestamp() - interval '250 milliseconds'"
"""While a page is stored, its session is idle in its transaction for moments: while its lines are made, at most."""


@pytest.mark.parametrize("whole", [0, 500], ids=["incremental reads", "small races in full"])
def test_no_transaction_is_open_while_runsignup_is_called(
    make_hub: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch, whole: int
) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    hub.environment |= {"RSU_PAGE_SIZE": "4", "RSU_FULL_READ_UP_TO_ROWS": str(whole)}
    admin = hub.sandbox.admin
    past = admin.add_event(admin.truth(1)["races"][0]["race_id"], "Last year", start_in_hours=-8700)
    admin.register(past, {"bib_num": 5}, count=9)
    attempt = Client._attempt
    asked: dict[str, int] = {}

    ahead = 0

    def watched(client: Client, endpoint: str, *args: Any) -> Any:
        nonlocal ahead
        asked[endpoint] = asked.get(endpoint, 0) + 1
        if not threading.current_thread().name.startswith(page_requests.THREAD_NAME):
            assert not hub.rows(OPEN), f"a transaction is open at a call of {endpoint}"
            return attempt(client, endpoint, *args)
        ahead += 1
        time.sleep(0.5)
        assert not hub.rows(WAITING), f"a transaction waits for a call of {endpoint}"
        return attempt(client, endpoint, *args)

    monkeypatch.setattr(Client, "_attempt", watched)
    with hub.partner_session() as session:
        access.check_access(session)
    hub.sync()
    active = admin.truth(1)["active"]
    admin.remove(active[0]["registration_id"], "cleared")
    for row in active[1:9]:
        admin.bib(row["registration_id"], row["registration_id"] % 1000)
    admin.clock(advance=60)
    hub.sync()
    hub.sync(full=True)
    with hub.partner_session(lane="race_day") as session:
        for race in admin.truth(1)["races"]:
            partner_sync.sync_participants(session, plan_poll(session, race["race_id"]))
    assert hub.history().finished
    hub.assert_equal(past_too=True)
    assert asked.keys() == {"races", "race", "participants", "removed-participants"}
    assert ahead
