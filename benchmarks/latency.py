"""The nightly with RunSignup's latency: how long it takes beside the least that its calls take.

    python -m benchmarks.latency [--scale estate|medium] [--latency 0.7] [--repeat N] [--json FILE]

The partners' future events are loaded, then every answer of the sandbox takes `--latency` seconds, and four nights find nothing
changed. One reads every row again, one requests what changed and what was removed, and two do what the nightly does with the
defaults: races that fit one page are read in full, and each listing ends with an empty page. They are two, since the end of each
partner's largest page is inferred every other time.

Each is a process of its own that visits the partners side by side, listing and registrations, as a batch run does. No night
counts unless it made exactly the calls that it may, as in full_sync. Calls × latency ÷ calls in flight is the least that it can
take. The call ledger explains what is beyond it. While the world has a race in its window, the nights have one call in flight
less: that is reserved for race day.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.contenders import IN_FLIGHT
from benchmarks.full_sync import Contender, judge
from benchmarks.hub import ROOT, Change, Hub, end_cleanly, started
from benchmarks.report import as_json, machine
from rsu_pipeline.warehouse import database, fleet
from runsignup_sandbox.scales import Spec

NIGHTS = {
    "every row read again": ("ours", "visit-full"),
    "as planned": ("incremental", "visit"),
    "the nightly": ("nightly", "nightly"),
    "the nightly after it": ("nightly", "nightly"),
}
"""Each night's kind, as full_sync judges it, and what `benchmarks.ours` has to do."""
WANTED_RATIO = 1.05


@dataclass(frozen=True)
class Call:
    """A call of the ledger, its times in seconds since the first was granted."""

    credential: int
    granted: float
    settled: float


@dataclass(frozen=True)
class Waits:
    """Where the seconds beyond the least went.

    Together they are all of them. `longer` because calls took longer than the latency, `unused` while a place in flight had no
    call though there were partners enough, `alone` in the end, when there were not.
    """

    longer: float
    unused: float
    alone: float


@dataclass
class Night:
    """One night. `least` is calls × latency ÷ calls in flight."""

    calls: dict[str, int]
    wall: float
    cpu: float
    least: float
    waits: Waits

    @property
    def ratio(self) -> float:
        return self.wall / self.least


@dataclass
class Nights:
    """Everything that was measured, in the order of the repetitions."""

    scale: str
    latency: float
    rows: int = 0
    events: int = 0
    in_flight: int = IN_FLIGHT
    machine: dict[str, object] = field(default_factory=machine)
    nights: dict[str, list[Night]] = field(default_factory=dict)

    def median(self, name: str) -> Night:
        """Return the night with the median ratio."""
        return sorted(self.nights[name], key=lambda night: night.ratio)[(len(self.nights[name]) - 1) // 2]


def waits(calls: Sequence[Call], wall: float, latency: float, places: int = IN_FLIGHT) -> Waits:
    """Return the seconds of each place, by who had a call in flight when."""
    last: dict[int, float] = defaultdict(float)
    for call in calls:
        last[call.credential] = max(last[call.credential], call.settled)
    # From when the last but one is done, a partner, which makes one call at a time, has both places.
    ends = [*sorted(last.values(), reverse=True)[:places], *[0.0] * (places - len(last))]
    alone = sum(ends[0] - end for end in ends) / places
    under_way = sum(call.settled - call.granted for call in calls) / places
    return Waits(longer=under_way - len(calls) * latency / places, unused=wall - under_way - alone, alone=alone)


def measure(scale: str | Spec, latency: float, repeat: int) -> Nights:
    """Measure the nights several times, after a first load that nothing delays."""
    with started(scale) as hub:
        found = Nights(
            "custom" if isinstance(scale, Spec) else scale, latency, hub.expected.rows, len(hub.expected.sizes)
        )
        url = hub.database()
        hub.run("ours", "prepare", url)
        hub.warm()
        judge(hub, Contender("ours", "ours", ROOT, ""), hub.run("ours", "plan", url), Change(), first=True)
        with database.session(url, purpose="benchmark") as conn:
            found.in_flight = IN_FLIGHT - fleet.has_race_in_window(conn, None)
        hub.sandbox.admin.switch(latency_ms=latency * 1000)
        for number in range(repeat):
            print(f"repetition {number + 1} of {repeat} …", file=sys.stderr, flush=True)
            for name in NIGHTS:
                found.nights.setdefault(name, []).append(_night(hub, url, name, latency, found.in_flight))
    return found


def _night(hub: Hub, url: str, name: str, latency: float, in_flight: int) -> Night:
    kind, action = NIGHTS[name]
    before = hub.value(url, "SELECT max(api_call_id) FROM api_calls")
    measured = hub.run("ours", action, url)
    judge(hub, Contender(name, kind, ROOT, ""), measured, Change(), first=False)
    count = sum(measured.calls.values())
    calls = [Call(*row) for row in hub.rows(url, _CALLS % before)]
    assert len(calls) == count, f"{name}: {len(calls)} calls in the ledger, {count} at the sandbox"
    assert measured.most_in_flight <= in_flight, f"{name}: {measured.most_in_flight} calls at a time"
    took = measured.report.registrations
    found = waits(calls, took.wall, latency, in_flight)
    return Night(measured.calls, took.wall, took.cpu, count * latency / in_flight, found)


_CALLS = """
SELECT credential_id, extract(epoch FROM granted_at - min(granted_at) OVER ())::float,
    extract(epoch FROM settled_at - min(granted_at) OVER ())::float
FROM api_calls WHERE settled_at IS NOT NULL AND api_call_id > %s ORDER BY granted_at
"""


def show(found: Nights) -> None:
    """Print the figures."""
    print(
        f"Future events of scale {found.scale}: {found.events:,} events, {found.rows:,} registrations, nothing changed;"
        f" {found.latency:g} s a call, {found.in_flight} in flight."
    )
    for name in found.nights:
        night = found.median(name)
        beyond = ", ".join(f"{kind} {seconds:.2f} s" for kind, seconds in vars(night.waits).items())
        print(
            f"  {name}: {sum(night.calls.values())} calls, {night.wall:.1f} s beside {night.least:.1f} s, ratio"
            f" {night.ratio:.3f}; CPU {night.cpu:.1f} s; beyond the least: {beyond}"
        )
        if night.ratio > WANTED_RATIO:
            print(f"  {name}: more than {WANTED_RATIO} times the least.")


def main() -> None:
    """Run the benchmark, as the module describes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=str(__doc__).split("\n")[0])
    parser.add_argument("--scale", choices=["estate", "medium"], default="estate")
    parser.add_argument("--latency", type=float, default=0.7, metavar="SECONDS", help="that each answer takes")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="repetitions, of which the median counts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    options = parser.parse_args()
    if options.latency <= 0:
        parser.error("--latency: it must be more than 0, since the least is counted in it.")
    end_cleanly()
    found = measure(options.scale, options.latency, max(1, options.repeat))
    show(found)
    if options.json:
        options.json.write_bytes(as_json(found))


if __name__ == "__main__":
    main()
