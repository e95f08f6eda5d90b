"""A process that takes calls from the ledger, for the tests: `python -m … '{"url": …}'`.

It prints "ready", and begins when a line comes on standard input. What it prints at the end is a JSON object.
"""

import json
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from typing import Any

from rsu_pipeline.runsignup.api_errors import BudgetExhausted
from rsu_pipeline.settings import load_settings
from rsu_pipeline.sync import session
from rsu_pipeline.warehouse import call_ledger, credentials, database, fleet
from rsu_pipeline.warehouse.secret_box import SecretBox


def main(order: dict[str, Any]) -> None:
    with database.session(order["url"], purpose="ledger worker") as conn:
        limits = call_ledger.Limits(
            order["calls_per_hour"],
            order["max_in_flight"],
            all_credentials=order.get("all_credentials", True),
            race_day_call_seconds=order.get("race_day_seconds", 15.0),
        )
        ledger = call_ledger.Ledger(conn, order["credential"], order["api_key"], order["lane"], limits)
        print("ready", flush=True)
        sys.stdin.readline()
        result = {"exhaust": exhaust, "hold": hold, "call": call, "spend": spend}[order["do"]](order, ledger)
        print(json.dumps(result), flush=True)


def exhaust(order: dict[str, Any], ledger: call_ledger.Ledger) -> dict[str, Any]:
    """Take and settle calls until none is left."""
    grants: list[int] = []
    while True:
        try:
            grant = ledger.acquire("participants", 1)
        except call_ledger.NoCallLeft as error:
            return {"grants": grants, "frees_in": error.frees_in, "lane": error.lane}
        grants.append(grant)
        ledger.settle(grant, status=200, error=None, size=10, rows=1)


def hold(order: dict[str, Any], ledger: call_ledger.Ledger) -> dict[str, Any]:
    """Take a call and never end it."""
    print(json.dumps({"grant": ledger.acquire("participants", 1)}), flush=True)
    time.sleep(600)
    return {}


def call(order: dict[str, Any], ledger: call_ledger.Ledger) -> dict[str, Any]:
    """Make this number of real calls, as a sync makes them.

    Without `reserve` the ledger makes the mistake of giving race day's place to anyone.
    """
    if not order.get("reserve", True):
        fleet.has_race_in_window = lambda *_, **__: False
    settings = load_settings(order["environment"])
    secret_box = SecretBox(settings.secret_keys, source="RSU_SECRET_KEY")
    with database.session(order["url"], purpose="ledger worker") as conn:
        credential = credentials.open_credential(conn, secret_box, order["partner"])
    client = session.build_client(settings, credential, ledger)
    races = sum(len(client.races_page(1).races) for _ in range(order["calls"]))
    client.close()
    return {"calls": ledger.calls, "races": races}


def spend(order: dict[str, Any], _ledger: call_ledger.Ledger) -> dict[str, Any]:
    """Make real calls with a partner's credential until its API key has none left.

    With `by_credential` the ledger makes the mistake of counting each credential alone.
    """
    settings = load_settings(order["environment"])
    secret_box = SecretBox(settings.secret_keys, source="RSU_SECRET_KEY")
    with database.session(order["url"], purpose="ledger worker") as conn:
        credential = credentials.open_credential(conn, secret_box, order["partner"])
        if order["by_credential"]:
            credential = replace(credential, api_key_id=credential.credential_id)
        with closing(session.Clients(settings, conn, order["lane"])) as clients:
            ledger, client = clients.of(credential)
            try:
                while True:
                    client.races_page(1)
            except BudgetExhausted:
                return {"calls": ledger.calls}


# For the test that started it.

Worker = subprocess.Popen[str]


def begin(*workers: Worker) -> None:
    """Let workers go together, once all are ready."""
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()


def answers(workers: list[Worker]) -> list[dict[str, Any]]:
    return [json.loads(worker.communicate(timeout=120)[0]) for worker in workers]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
