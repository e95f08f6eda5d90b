"""The watch in a process of its own, slice after slice with a fast clock, as the daemon would run it.

It reads what to do as JSON from its standard input and ends when that is closed. Its settings come from its environment.
"""

import json
import os
import resource
import sys
import threading
from dataclasses import asdict, dataclass

from benchmarks.race_morning.fast import FastClock
from rsu_pipeline.settings import load_settings
from rsu_pipeline.sync.watch import Watch
from rsu_pipeline.warehouse.secret_box import SecretBox

LOOK_AGAIN = 10.0
"""Seconds until the sensor that keeps the watch running checks again whether a race is in its window."""


@dataclass
class Watched:
    """What the watch did, over all slices. `said` are its own messages about failures, not about rows."""

    slices: int = 0
    looks: int = 0
    calls: int = 0
    put_off: int = 0
    cpu: float = 0.0
    peak_mib: float = 0.0
    troubled: int = 0


def watch(url: str, clock: FastClock, until: float) -> Watched:
    """Watch until that simulated time."""
    settings = load_settings()
    secret_box = SecretBox(settings.secret_keys, source="RSU_SECRET_KEY")
    told = Watched()

    def log(line: str) -> None:
        if " bib changes" not in line:
            told.troubled += 1

    while (left := until - clock.time()) > 0:
        done = Watch(
            url,
            secret_box,
            settings,
            run_id=f"slice{told.slices}",
            log=log,
            now=clock.now,
            clock=clock.time,
            pause=clock.pause,
        ).run(min(settings.watch.slice_seconds, left))
        told.slices += bool(done)
        for partner in done.values():
            told.looks += partner.looks
            told.calls += partner.calls
            told.put_off += partner.busy
        if not done:
            clock.pause(min(LOOK_AGAIN, left))
    used = resource.getrusage(resource.RUSAGE_SELF)
    told.cpu = used.ru_utime + used.ru_stime
    told.peak_mib = used.ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    return told


def main() -> None:
    job = json.loads(sys.stdin.readline())

    def end_with_parent() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    sys.stdout.write(json.dumps(asdict(watch(job["url"], FastClock(**job["clock"]), job["until"]))))


if __name__ == "__main__":
    main()
