"""The state of webhooks in words, for `rsu webhooks list` and `rsu status`."""

from psycopg2.extensions import connection as Connection

from rsu_pipeline import installation
from rsu_pipeline.display import counted, format_time
from rsu_pipeline.warehouse import webhook_store
from rsu_pipeline.warehouse.webhook_store import Backlog, Webhook


def describe_state(webhook: Webhook) -> str:
    """Return the state of a webhook in a few words."""
    zone = installation.current().settings.timezone
    if webhook.disabled_at is not None:
        return f"off since {format_time(webhook.disabled_at, zone)}: {webhook.last_error or 'removed'}"
    if webhook.failing_since is not None:
        return f"failing since {format_time(webhook.failing_since, zone)}: {webhook.last_error}"
    return "works" if webhook.delivered_at else "nothing sent yet"


def describe_webhooks(conn: Connection) -> list[str]:
    """Return a line on each webhook for which messages wait or were given up, or that fails."""
    backlogs = webhook_store.read_backlogs(conn)
    lines = []
    for webhook in webhook_store.list_webhooks(conn):
        backlog = backlogs.get(webhook.webhook_id, Backlog())
        if backlog.pending or backlog.dead or webhook.failing_since or webhook.disabled_at:
            figures = f"{counted(backlog.pending, 'message')} pending, {backlog.dead:,} given up"
            lines.append(f"{webhook.name}: {describe_state(webhook)}, {figures}")
    return lines
