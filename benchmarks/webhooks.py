"""Seconds from the commit of a bib change to its receipt by a webhook, also while the process that delivers is killed.

    python -m benchmarks.webhooks [--rate 50] [--seconds 60] [--latency 0.05] [--json FILE]

A PostgreSQL of its own, `rsu deliver` as a process of its own, and a receiver by TLS that answers after `--latency`. Bib
changes of 500 registrations are stored one by one, each in a transaction of its own, as fast as a large check-in gives out bibs.
The second time, the process is killed every ten seconds and started again a second later, as `rsu up` does. No figure counts unless
every change arrived, and those of each registration in order.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.webhook_receiver import SECRET, Receiver, running_receiver
from rsu_pipeline.local import embedded, pg_binaries
from rsu_pipeline.warehouse import database, webhook_store
from rsu_pipeline.warehouse.secret_box import SecretBox, generate_secret_key

REGISTRATIONS = 500
KILL_EVERY = 10.0
CHANGE = """
INSERT INTO runsignup_bib_changes (timing_partner_id, race_id, event_id, registration_id, kind, new_bib, first_seen_new)
VALUES (1, 1, 1, %s, 'assigned', %s, now())
"""


@dataclass
class Figures:
    """What was measured: changes, kills, messages that arrived again, seconds from commit to first receipt, and CPU seconds."""

    changes: int
    kills: int
    doubles: int
    p50: float
    p95: float
    worst: float
    cpu_of_delivery: float


class Delivery:
    """The process that delivers, started again when it was killed."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._environment = environment
        self._log = log
        self.kills = 0
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).with_name("rsu")), "deliver"],
                env=os.environ | self._environment,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.kills += 1

    def stop(self) -> float:
        """End it, and return its CPU seconds."""
        ticks = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        self._process.terminate()
        self._process.wait(30)
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def store(url: str, first: int, rate: float, seconds: float, committed: dict[str, float]) -> None:
    """Store changes at this rate, and note when each was committed."""
    with database.session(url, purpose="benchmark") as conn, conn.cursor() as cur:
        began = time.monotonic()
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            bib = str(first + number)
            cur.execute(CHANGE, (1 + number % REGISTRATIONS, bib))
            conn.commit()
            committed[bib] = time.time()


def measure(
    url: str, receiver: Receiver, delivery: Delivery, rate: float, seconds: float, *, with_kills: bool
) -> Figures:
    """Store changes for some seconds, and compare what arrived with what was committed."""
    committed: dict[str, float] = {}
    first = 1_000_000 if with_kills else 1
    receiver.received.clear()
    kills = delivery.kills
    storing = threading.Thread(target=store, args=(url, first, rate, seconds, committed))
    storing.start()
    while storing.is_alive():
        storing.join(KILL_EVERY)
        if with_kills and storing.is_alive():
            delivery.kill()
            time.sleep(1.0)
            delivery.start()
    deadline = time.monotonic() + 60
    while len({item.data["new"] for item in receiver.received}) < len(committed) and time.monotonic() < deadline:
        time.sleep(0.05)
    arrived: dict[str, float] = {}
    order: dict[int, list[int]] = defaultdict(list)
    for item in list(receiver.received):
        if item.data["new"] not in arrived:
            arrived[item.data["new"]] = item.at
            order[item.data["registration"]].append(int(item.data["new"]))
    assert arrived.keys() == committed.keys(), f"{len(committed.keys() - arrived.keys())} changes were lost"
    assert all(numbers == sorted(numbers) for numbers in order.values()), (
        "changes of a registration arrived out of order"
    )
    assert receiver.forged == []
    waits = sorted(arrived[bib] - at for bib, at in committed.items())
    return Figures(
        changes=len(waits),
        kills=delivery.kills - kills,
        doubles=len(receiver.received) - len(arrived),
        p50=statistics.median(waits),
        p95=waits[int(len(waits) * 0.95)],
        worst=waits[-1],
        cpu_of_delivery=0.0,
    )


def run(rate: float, seconds: float, latency: float) -> dict[str, Figures]:
    """Measure without and with kills in a PostgreSQL of its own."""
    with tempfile.TemporaryDirectory(prefix="rsu-benchmark-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        url = embedded.ensure_running(folder / "postgres", pg_binaries.machine_binaries())
        stack.callback(embedded.destroy, folder / "postgres")
        stack.callback(embedded.release, folder / "postgres")
        receiver = stack.enter_context(running_receiver(folder))
        receiver.answer = lambda message: (time.sleep(latency), 204)[1]
        key = generate_secret_key()
        with database.session(url, purpose="benchmark") as conn, conn.cursor() as cur:
            database.migrate(conn)
            cur.execute("INSERT INTO timing_partners (company_name) VALUES ('Benchmark Timing')")
            webhook_store.add_webhook(
                conn,
                SecretBox([key], source="the benchmark"),
                url=receiver.url,
                host="127.0.0.1",
                secret=SECRET,
                kinds=["bib.changed"],
                partner_id=None,
            )
            conn.commit()
        environment = {
            "RSU_HOME": str(folder / "home"),
            "RSU_DATABASE_URL": url,
            "RSU_SECRET_KEY": key,
            "RSU_WEBHOOK_NETWORKS": "127.0.0.0/8",
            "SSL_CERT_FILE": str(receiver.certificate),
        }
        delivery = Delivery(environment, folder / "log")
        store(url, 0, 10, 0.2, {})
        receiver.wait_for(2, 30)
        calm = measure(url, receiver, delivery, rate, seconds, with_kills=False)
        calm.cpu_of_delivery = delivery.stop()
        delivery.start()
        killed = measure(url, receiver, delivery, rate, seconds, with_kills=True)
        killed.cpu_of_delivery = delivery.stop()
    return {"nothing happens": calm, "killed every 10 s": killed}


def main() -> None:
    """Run the benchmark, as the module describes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.webhooks", description=str(__doc__).split("\n")[0])
    parser.add_argument("--rate", type=float, default=50, metavar="N", help="changes a second")
    parser.add_argument("--seconds", type=float, default=60, metavar="N")
    parser.add_argument("--latency", type=float, default=0.05, metavar="N", help="seconds that the receiver takes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    options = parser.parse_args()
    found = run(options.rate, options.seconds, options.latency)
    print(
        f"{options.rate:g} changes a second for {options.seconds:g} s, {options.latency:g} s an answer, commit to receipt:"
    )
    for name, its in found.items():
        print(
            f"  {name:18} {its.changes:,} changes, {its.kills} kills, none lost, {its.doubles} twice:"
            f" p50 {its.p50:.3f} s, p95 {its.p95:.3f} s, worst {its.worst:.3f} s; delivery took {its.cpu_of_delivery:.1f} CPU s"
        )
    if options.json:
        options.json.write_text(json.dumps({name: asdict(its) for name, its in found.items()}, indent=2))


if __name__ == "__main__":
    main()
