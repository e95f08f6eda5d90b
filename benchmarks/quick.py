"""The three ratios that matter, one repetition, in at most five minutes: for while one works on the loader.

    python -m benchmarks.quick

A first load and a full read with one row in a hundred changed, both beside the floor. One large race with RunSignup's latency,
beside calls × latency. `make bench` measures everything.
"""

import sys

from benchmarks import compare, large_race, report
from benchmarks.contenders import contenders
from benchmarks.hub import end_cleanly, started

MEASURED = ("floor", "floor, text payload", "ours")
WANTED = {compare.FIRST: 1.45, compare.AGAIN: 1.0}
"""Ours × the floor, at most."""


def main() -> int:
    """Run the benchmark, as the module describes."""
    end_cleanly()
    results = report.Results("large")
    with started("large") as hub:
        results.rows = hub.expected.rows
        everyone = [item for item in contenders(hub, None) if item.label in MEASURED]
        compare.repetition(hub, everyone, 0, results)
    results.show()
    for step, wanted in WANTED.items():
        if results.refused:
            return 1
        found = {label: results.ratio(step, label) for label in MEASURED[1:]}
        floor_of_text, ours = (found[label] for label in MEASURED[1:])
        print(
            f"{step}: {ours:.2f} × the floor (wanted: {wanted}), {ours / floor_of_text:.2f} × the one with text payload"
        )
    large_race.show(large_race.measure(large_race.RACE, 0.7, 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
