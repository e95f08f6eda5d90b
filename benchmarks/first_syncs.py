"""How long new partners take from `rsu partners import` until all their partitions are green in Dagster.

    python -m benchmarks.first_syncs [--partners 12] [--latency 0] [--json FILE]

A whole installation is at work, and RunSignup answers after `latency` seconds. Once a third of the partners is green, one more is
entered by hand. No run counts unless every partner has all its partitions.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from benchmarks.hub import end_cleanly, started
from benchmarks.installation import Installation, installed
from benchmarks.report import as_json, machine
from runsignup_sandbox.scales import Spec

ASSETS = ("partner_events", "participants", "start_lists", "future_events")
_GREEN = """
SELECT partition FROM dagster.event_logs
WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND asset_key = ANY (%(assets)s)
GROUP BY partition HAVING count(DISTINCT asset_key) = cardinality(%(assets)s)
"""
_TICKS = """
SELECT tick_body FROM dagster.job_ticks WHERE tick_body LIKE '%%"new_credentials"%%'
"""


@dataclass
class FirstSyncs:
    """Seconds of the import, until all are green, of the longest tick, and of the partner entered by hand until it is green."""

    partners: int
    latency: float
    imported: float = 0.0
    green: float = 0.0
    by_hand: float = 0.0
    longest_tick: float = 0.0
    runs: int = 0
    cpu: dict[str, float] = field(default_factory=dict)
    machine: dict[str, object] = field(default_factory=machine)


def measure(partners: int, latency: float) -> FirstSyncs:
    """Import the partners into a running installation without any, and wait until they are green."""
    found = FirstSyncs(partners, latency)
    with started(Spec(partners + 1, 1, 1, 20, start_in_hours=24 * 60)) as hub:
        hub.warm()
        hub.sandbox.admin.switch(latency_ms=latency * 1000)
        folder = hub.folder / "up"
        folder.mkdir()
        with installed(hub.database(), hub.sandbox, folder, is_empty=True) as here:
            here.until("the sensor ticks", lambda: here.rows(_TICKS), seconds=120)
            with here.measuring() as cpu:
                _enter(here, hub.sandbox.admin.partners(), found)
            found.cpu = cpu
            found.runs = int(here.value("SELECT count(*) FROM dagster.runs"))
            found.longest_tick = max(_seconds(body) for (body,) in here.rows(_TICKS))
    return found


def _enter(here: Installation, items: list[dict[str, str]], found: FirstSyncs) -> None:
    *many, last = items
    lines = "\n".join(["name,key,secret", *(f'"{item["name"]}",{item["key"]},{item["secret"]}' for item in many)])
    began = time.monotonic()
    _rsu(here, "partners", "import", "-", stdin=lines)
    found.imported = round(time.monotonic() - began, 1)
    here.until("a third is green", lambda: len(_green(here)) >= found.partners / 3, seconds=900)
    before, entered = _green(here), time.monotonic()
    _rsu(here, "partners", "add", last["name"], "--key", last["key"], "--no-check", stdin=last["secret"])
    key = str(here.value("SELECT partition_key FROM timing_partners ORDER BY timing_partner_id DESC LIMIT 1"))
    waiting = {"all", "by hand"}

    def is_done() -> bool:
        now, green = time.monotonic(), _green(here)
        if "by hand" in waiting and key in green:
            waiting.remove("by hand")
            found.by_hand = round(now - entered, 1)
        if "all" in waiting and len(green - {key}) == found.partners:
            waiting.remove("all")
            found.green = round(now - began, 1)
        return not waiting

    here.until("every partner is green", is_done, seconds=900)
    print(f"{len(before)} of {found.partners} were green when one was entered by hand", flush=True)


def _rsu(here: Installation, *arguments: str, stdin: str) -> None:
    subprocess.run(
        [str(Path(sys.executable).with_name("rsu")), *arguments],
        env=here.environment,
        input=stdin.encode(),
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _green(here: Installation) -> set[str]:
    return {row[0] for row in here.rows(_GREEN, assets=[f'["{asset}"]' for asset in ASSETS])}


def _seconds(tick_body: str) -> float:
    """Return how long a tick of Dagster's took, 0 for one that has not ended."""
    tick = msgspec.json.decode(tick_body)
    return float(tick["end_timestamp"] - tick["timestamp"]) if tick.get("end_timestamp") else 0.0


def main() -> None:
    """Run the benchmark, as the module describes."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0] if __doc__ else None, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--partners", type=int, default=12)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that RunSignup takes for a call")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    end_cleanly()
    found = measure(options.partners, options.latency)
    print(
        f"{found.partners} partners imported in {found.imported:g} s, all green after {found.green:g} s in {found.runs} runs."
        f" One entered by hand meanwhile: {found.by_hand:g} s. Longest tick of new_credentials: {found.longest_tick:.2f} s."
        f" CPU seconds: {found.cpu}"
    )
    if options.json:
        options.json.write_bytes(as_json(found))


if __name__ == "__main__":
    main()
