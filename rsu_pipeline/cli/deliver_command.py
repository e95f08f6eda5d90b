"""`rsu deliver`: the process that delivers webhooks and keeps the folder of start lists current."""

import signal
import threading

import click

from rsu_pipeline import installation
from rsu_pipeline.start_lists.list_folder import keep_current
from rsu_pipeline.webhooks.delivery import DeliveryWorker

FORGET_SECONDS = 5.0
"""How long a process that ends waits for its folder to be forgotten."""


@click.command()
def deliver() -> None:
    """Deliver webhooks, and keep the files of RSU_START_LIST_DIR current, until interrupted.

    `rsu up` runs this, and so do the units and services of deploy/.
    One process of an installation delivers webhooks. Others wait, and take over when it ends. The folder of start lists is kept by
    each process for which it is set.
    """
    here = installation.current()
    worker = DeliveryWorker(
        here.migrated_database_url,
        here.secret_box,
        here.settings.webhooks.networks,
        lambda line: click.echo(line, err=True),
    )
    ended = threading.Event()
    keeper: threading.Thread | None = None
    folder, kind = here.settings.start_lists.folder, here.settings.start_lists.kind
    if folder is not None:
        keeper = threading.Thread(
            target=keep_current,
            args=(here.migrated_database_url, folder, kind, ended, lambda line: click.echo(line, err=True)),
            daemon=True,
        )
        keeper.start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: worker.stop())
    worker.run()
    ended.set()
    if keeper is not None:
        keeper.join(FORGET_SECONDS)
