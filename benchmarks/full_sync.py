"""The partners' future events, read and stored by the pipeline and by the floor, alternately and in one run.

    python -m benchmarks.full_sync [--scale estate|large|medium] [--repeat N] [--json FILE] [--beside FOLDER]

Three steps each time: into an empty database, again with nothing changed, again with one row in a hundred changed. Each run is
a process of its own, and none counts unless its rows and its calls are what they must be by the sandbox's world. Ratios are
taken within a repetition. Of repetitions the median is shown.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.contenders import floor_database
from benchmarks.floor import COLUMNS, TABLES
from benchmarks.hub import ROOT, SCALES, Change, Hub, Measured, change_one_percent, end_cleanly, started

_CONTENT = ", ".join(f"{name}::jsonb" if name == "payload" else name for name in COLUMNS)
HASH = f"SELECT sum(hashtextextended(ROW({_CONTENT})::text, 0)) FROM %s"
"""SQL: of a table's content, whatever the type of its payload."""
_HELD = "SELECT registration_id, event_id, count(*)::int FROM floor_participants GROUP BY 1, 2 ORDER BY registration_id"


@dataclass
class Contender:
    """What is measured, by kind.

    The kinds are `floor`, `ours` (every row read again), `incremental` (as planned after a full read) and `nightly` (races that
    fit one page in full).
    """

    label: str
    kind: str
    root: Path
    template: str


def contenders(hub: Hub, beside: Path | None) -> list[Contender]:
    """Return the floors, the pipeline, and another checkout's package if one is named, each with a template database."""
    found = []
    for label, root in [("ours", ROOT)] + ([(beside.name, beside)] if beside else []):
        template = hub.database()
        hub.run("ours", "prepare", template, root=root)
        name = template.rsplit("/", 1)[1]
        found += [Contender(label, "ours", root, name), Contender(f"{label} incremental", "incremental", root, name)]
        if label == "ours":
            floors = {label: floor_database(hub, table, name) for label, table in TABLES.items()}
            found = [Contender(label, "floor", ROOT, floor) for label, floor in floors.items()] + found
    return found


def repetition(hub: Hub, everyone: list[Contender], number: int, results: report.Results) -> None:
    """Run all three steps for every contender. The order rotates with every repetition."""
    order = everyone if number % 2 == 0 else everyone[::-1]
    urls: dict[str, str] = {}
    hub.warm()
    for item in order:
        if item.kind != "incremental":
            urls[item.label] = hub.database(item.template)
            results.add("first load", item.label, _measure(hub, item, urls[item.label], "plan", Change(), first=True))
    same = {hub.value(urls[item.label], HASH % _table(item)) for item in everyone if item.kind != "incremental"}
    assert len(same) == 1, "the contenders stored different content"
    for item in order:
        if item.kind == "incremental":
            loaded = urls[item.label.removesuffix(" incremental")]
            urls[item.label] = hub.database(loaded.rsplit("/", 1)[1])
    for item in order:
        results.add("nothing changed", item.label, _measure(hub, item, urls[item.label], "full", Change()))
    change = change_one_percent(hub, _held(hub, urls["floor"]), number)
    hub.warm()
    for item in order:
        results.add("1 % changed", item.label, _measure(hub, item, urls[item.label], "full", change))
    for url in urls.values():
        hub.drop(url)


def _measure(hub: Hub, item: Contender, url: str, action: str, change: Change, *, first: bool = False) -> Measured:
    module = "floor" if item.kind == "floor" else "ours"
    measured = hub.run(module, "plan" if item.kind == "incremental" else action, url, root=item.root)
    judge(hub, item, measured, change, first=first)
    table, stored = _table(item), hub.expected.rows
    if item.kind == "floor":
        stored += change.removed
    active = "WHERE removed_at IS NULL"
    found = hub.value(url, f"SELECT count(*) FROM {table} {active}")
    assert found == stored, f"{item.label}: {found} rows stored, {stored} expected"
    return measured


def judge(hub: Hub, item: Contender, measured: Measured, change: Change, *, first: bool) -> None:
    """Refuse a run that did not do exactly what it had to, in exactly the calls it may take."""
    told, calls, expected = measured.report, measured.calls, hub.expected
    written = change.edited + change.bibs + change.added
    assert not told.problems and not told.unequal, f"{item.label}: {told.problems[:3]}, {told.unequal} events unequal"
    if item.kind not in ("incremental", "nightly"):
        assert told.rows == expected.rows, f"{item.label}: {told.rows} rows read, {expected.rows} expected"
    if item.kind == "floor":
        assert calls == {"participants": expected.pages}, calls
        assert told.updated == (expected.rows if first else written), f"the floor wrote {told.updated} rows"
        return
    asked = {(read.partner, read.race_id, tuple(read.event_ids)) for read in told.reads}
    wanted = {(read.partner, read.race_id, tuple(read.event_ids)) for read in expected.reads}
    assert asked == wanted, f"{item.label}: other races or events than those ahead: {asked ^ wanted}"
    if first:
        assert told.inserted == expected.rows, f"{item.label}: {told.inserted} rows inserted"
    else:
        found = (told.inserted, told.updated, told.removed, told.bib_changes)
        right = (change.added, change.edited + change.bibs, change.removed, change.bibs)
        assert found == right, f"{item.label}: (inserted, updated, removed, bibs) are {found}, not {right}"
    # The listing, which a partner's first and the nightly end with an empty page, the detail of each race that is new, one call
    # a partner that verifies its access to new races.
    ends = len(hub.partners) if first or item.kind == "nightly" else 0
    assert calls["races"] == expected.listing_pages + ends, calls
    details = calls.get("race", 0)
    assert expected.details <= details <= expected.details + expected.shared if first else not details, calls
    if item.kind == "incremental":
        # A visit costs a call to each of the two feeds, and one more to a feed that brought rows, where these fit a page.
        reads = len(expected.reads)
        assert reads <= calls["participants"] <= reads + min(reads, written + expected.modified_lately), calls
        assert reads <= calls["removed"] <= reads + min(reads, change.removed + expected.removed_lately), calls
        return
    if item.kind == "nightly":
        # A race that fits one page is one call. Each partner's largest ones, and near ones, are two every other time. Larger
        # races are as above.
        reads, larger, twice = len(expected.reads), expected.larger, expected.largest + expected.near
        assert reads <= calls["participants"] <= reads + twice + expected.modified_lately, calls
        assert larger <= calls.get("removed", 0) <= larger + min(larger, expected.removed_lately), calls
        return
    if first:
        assert calls["participants"] == expected.closed_pages + len(hub.partners), calls
    else:
        assert expected.pages <= calls["participants"] <= expected.closed_pages, calls
    removals = calls.get("removed", 0)
    assert removals <= 2 * change.removed and bool(removals) == bool(change.removed), calls


def _table(item: Contender) -> str:
    return "floor_participants" if item.kind == "floor" else "runsignup_participants"


def _held(hub: Hub, url: str) -> list[tuple[int, int, int]]:
    return hub.rows(url, _HELD)


def main() -> None:
    """Run the benchmark, as the module describes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_sync", description=str(__doc__).split("\n")[0])
    parser.add_argument("--scale", choices=sorted(SCALES), default="estate")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions, of which the median counts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    parser.add_argument("--beside", type=Path, metavar="FOLDER", help="also measure the package of another checkout")
    options = parser.parse_args()
    results = report.Results(options.scale)
    end_cleanly()
    with started(options.scale) as hub:
        results.rows = hub.expected.rows
        everyone = contenders(hub, options.beside.resolve() if options.beside else None)
        for number in range(max(1, options.repeat)):
            print(f"repetition {number + 1} of {options.repeat} …", file=sys.stderr, flush=True)
            repetition(hub, everyone, number, results)
    results.show()
    if options.json:
        options.json.write_bytes(results.as_json())


if __name__ == "__main__":
    main()
