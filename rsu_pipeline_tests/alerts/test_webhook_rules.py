"""What is wrong with a webhook or with PostgreSQL's queue of notifications is named."""

import pytest

from rsu_pipeline.alerts import webhook_rules
from rsu_pipeline.warehouse import database, webhook_store


@pytest.mark.parametrize(("share", "is_named"), [(0.0, False), (0.25, False), (0.26, True)])
def test_a_queue_of_notifications_that_fills_up_is_named(
    database_url: str, monkeypatch: pytest.MonkeyPatch, share: float, is_named: bool
) -> None:
    with database.session(database_url, purpose="tests") as conn:
        assert webhook_store.read_queue_share(conn) == 0.0
        monkeypatch.setattr(webhook_store, "read_queue_share", lambda conn: share)
        found = list(webhook_rules.find_problems_of_delivery(conn))
    assert [problem.kind for problem in found] == (["notification_queue"] if is_named else [])
