"""All past editions, read and stored by the pipeline and by the floor, alternately and in one run.

    python -m benchmarks.history [--scale estate|medium] [--repeat N] [--json FILE]

From nothing, against a sandbox without latency: of scale estate 1,385 past events of 13 partners. Each run is a process of
its own, and none counts unless its rows and its calls are what they must be by the sandbox's world: the listing, the
detail of every race, one call a partner that proves its access, and a call for every 2,500 registrations of a race.
"""

import argparse
import sys
from pathlib import Path

from benchmarks import report
from benchmarks.contenders import floor_database
from benchmarks.floor import TABLES
from benchmarks.full_sync import HASH
from benchmarks.hub import Hub, Measured, end_cleanly, started


def repetition(hub: Hub, templates: dict[str, str], number: int, results: report.Results) -> None:
    """Run all contenders, each from its template. The order rotates with every repetition."""
    hub.warm()
    hashes = set()
    for label in list(templates) if number % 2 == 0 else list(templates)[::-1]:
        url = hub.database(templates[label])
        table = "runsignup_participants" if label == "ours" else "floor_participants"
        measured = hub.run("ours" if label == "ours" else "floor", "history", url)
        judge(hub, label, measured)
        assert hub.value(url, f"SELECT count(*) FROM {table}") == hub.expected.rows
        hashes.add(hub.value(url, HASH % table))
        results.add("from nothing", label, measured)
        hub.drop(url)
    assert len(hashes) == 1, "the contenders stored different content"


def judge(hub: Hub, label: str, measured: Measured) -> None:
    """Refuse a run that did not do exactly what it had to, in exactly the calls it may take."""
    told, calls, wanted = measured.report, measured.calls, hub.expected
    assert not told.problems and not told.unequal, f"{label}: {told.problems[:3]}, {told.unequal} events unequal"
    assert told.rows == wanted.rows, f"{label}: {told.rows} rows read, {wanted.rows} expected"
    if label != "ours":
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
    """Run the benchmark, as the module describes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=str(__doc__).split("\n")[0])
    parser.add_argument("--scale", choices=["estate", "medium"], default="estate")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions, of which the median counts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    options = parser.parse_args()
    results = report.Results(options.scale, what="Past events")
    end_cleanly()
    with started(options.scale, past=True) as hub:
        results.rows = hub.expected.rows
        url = hub.database()
        hub.run("ours", "prepare", url)
        ours = url.rsplit("/", 1)[1]
        templates = {label: floor_database(hub, table, ours) for label, table in TABLES.items()} | {"ours": ours}
        for number in range(max(1, options.repeat)):
            print(f"repetition {number + 1} of {options.repeat} …", file=sys.stderr, flush=True)
            repetition(hub, templates, number, results)
    results.show()
    if options.json:
        options.json.write_bytes(results.as_json())


if __name__ == "__main__":
    main()
