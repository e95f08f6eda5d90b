"""PostgreSQL or RunSignup down during a sync: reported plainly, nothing half-written, repaired by the next sync alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from rsu_pipeline.local import embedded, pg_binaries
from rsu_pipeline.runsignup.api_errors import ApiError, Cause
from rsu_pipeline.runsignup.client import Client
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.servers import stop_at_once
from rsu_pipeline_tests.specs import estate
from runsignup_sandbox.process import SandboxProcess

SPEC = estate(races=3, events=2, registrations=10)


@pytest.mark.parametrize("page", [1, 3, 5])
def test_a_database_stopped_during_a_sync_is_recovered_from_without_help(
    own_server: tuple[Path, str], make_sandbox: Callable[..., SandboxProcess], tmp_path: Path, page: int
) -> None:
    folder, url = own_server
    hub = Hub(url, make_sandbox(spec=SPEC, seed=7), tmp_path)
    hub.environment["RSU_PAGE_SIZE"] = "6"
    ask = Client.participants_page
    asked = 0

    def ask_then_stop(client: Client, *args: Any, **kwargs: Any) -> Any:
        nonlocal asked
        answer = ask(client, *args, **kwargs)
        asked += 1
        if asked == page + 1:  # the first call is the proof of access
            stop_at_once(folder)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "participants_page", ask_then_stop)
        with pytest.raises(database.DatabaseError, match="was lost"):
            hub.sync()
    hub.url = embedded.ensure_running(folder)
    assert not hub.sync().failures
    hub.assert_equal()
    hub.assert_bib_log_replays()


def test_runsignup_away_for_a_while_is_said_and_recovered_from_without_help(
    make_database: Callable[[], str], make_sandbox: Callable[..., SandboxProcess], tmp_path: Path
) -> None:
    sandbox = make_sandbox(spec=SPEC, seed=7)
    hub = Hub(make_database(), sandbox, tmp_path)
    hub.environment |= {"RSU_CALL_ATTEMPTS": "2", "RSU_PAGE_SIZE": "6"}
    for kind in ("closed", "http_503", "reset"):
        sandbox.admin.fault(kind, 0)
        with pytest.raises(ApiError) as raised:
            hub.sync()
        assert raised.value.cause in (Cause.CONNECTION, Cause.SERVER)
        sandbox.admin.clear_faults()
    with hub.partner_session() as session:
        from rsu_pipeline.sync import listing, partner_sync

        listing.refresh_events(session)
        plan = partner_sync.make_plan(session)
        sandbox.admin.fault("http_503", 0)
        outcome = partner_sync.sync_participants(session, plan)
    assert len(outcome.failures) == 3
    sandbox.admin.clear_faults()
    assert not hub.sync().failures
    hub.assert_equal()


def test_the_machines_own_server_serves_the_tests_where_there_is_one(server: str) -> None:
    version = psycopg2.connect(server).server_version
    found = pg_binaries.machine_binaries()
    assert found is None or str(version // 10000) in pg_binaries.server_version(found)
