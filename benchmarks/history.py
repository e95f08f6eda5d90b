"""All past editions, read and stored by the pipeline and by the floor, alternately and in one run.

    python -m benchmarks.history [--scale estate|medium] [--repeat N] [--json FILE]

From nothing, against a sandbox without latency: of scale estate 1,385 past events of 13 partners. Each run is a process of
its own, and none counts unless its rows and its calls are what the sandbox's world says they must be: the listing, the
detail of every race, one call a partner that proves its access, and a call for every 2,500 registrations of a race.
"""

import argparse
import sys
from pathlib import Path

from benchmarks import report
from benchmarks.floor import COLUMNS, TABLE
from benchmarks.hub import Hub, Measured, end_cleanly, started

_HASH = f"SELECT sum(hashtextextended(ROW({', '.join(COLUMNS)})::text, 0)) FROM %s"


def repetition(hub: Hub, template: str, number: int, results: report.Results) -> None:
    """Both contenders; the order turns round with every repetition."""
    hub.warm()
    hashes = {}
    for label in ("floor", "ours") if number % 2 == 0 else ("ours", "floor"):
        url = hub.database(template)
        table = "floor_participants" if label == "floor" else "runsignup_participants"
        measured = hub.run(label, "history", url)
        judge(hub, label, measured)
        assert hub.value(url, f"SELECT count(*) FROM {table}") == hub.expected.rows
        hashes[label] = hub.value(url, _HASH % table)
        results.add("from nothing", label, measured)
        hub.drop(url)
    assert hashes["floor"] == hashes["ours"], "the contenders stored different content"


def judge(hub: Hub, label: str, measured: Measured) -> None:
    """Whether the run did exactly what it had to, in exactly the calls it may take."""
    told, calls, wanted = measured.report, measured.calls, hub.expected
    assert not told.problems and not told.unequal, f"{label}: {told.problems[:3]}, {told.unequal} events unequal"
    assert told.rows == wanted.rows, f"{label}: {told.rows} rows read, {wanted.rows} expected"
    if label == "floor":
        assert calls == {"participants": wanted.pages}, calls
        return
    assert calls == {
        # A first listing and a first load end with an empty page; a call a partner verifies its listing.
        "races": wanted.listing_pages + len(hub.partners),
        "race": calls["race"],
        "participants": wanted.closed_pages + len(hub.partners),
    }, (calls, wanted.closed_pages)
    assert wanted.details <= calls["race"] <= wanted.details + wanted.shared, (calls, wanted.details, wanted.shared)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=str(__doc__).split("\n")[0])
    parser.add_argument("--scale", choices=["estate", "medium"], default="estate")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions, of which the median counts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    options = parser.parse_args()
    results = report.Results(options.scale, what="Past events")
    end_cleanly()
    with started(options.scale, past=True) as hub:
        results.rows = hub.expected.rows
        template = hub.database()
        hub.run("ours", "prepare", template)
        hub.value(template, f"{TABLE}; COMMIT; SELECT 1")
        for number in range(max(1, options.repeat)):
            print(f"repetition {number + 1} of {options.repeat} …", file=sys.stderr, flush=True)
            repetition(hub, template.rsplit("/", 1)[1], number, results)
    results.show()
    if options.json:
        options.json.write_bytes(results.as_json())


if __name__ == "__main__":
    main()
