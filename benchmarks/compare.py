"""The pipeline beside what else people would use: dlt, pandas, an upsert for each row.

And beside the floor.

    python -m benchmarks.compare [--scale large|medium] [--repeat N] [--json FILE] [--dlt-python FILE]

Two steps each time, against one sandbox and one PostgreSQL: into an empty database, and all of it again with one row in a
hundred changed. Each contender is a process of its own and does two partners, and so two calls, at a time. None counts
unless the rows it stored are as many as the world holds, hold what the floor's rows hold, and have the changed values.

What they do is not the same: the pipeline also keeps a log of bibs, finds removals, proves that what it holds equals what
was sent, counts its calls and can be killed at any moment. dlt is not a dependency of the project: `make bench` makes an
environment for it in .venv-bench.
"""

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks import report
from benchmarks.contenders import BENCH_PYTHON, Contender, Refused, contenders, digest_of, judge
from benchmarks.hub import Change, Hub, Measured, change_one_percent, end_cleanly, started

FIRST, AGAIN = "first load", "1 % changed"
_HELD = "SELECT registration_id, event_id, count(*)::int FROM floor_participants GROUP BY 1, 2 ORDER BY registration_id"


def repetition(hub: Hub, everyone: list[Contender], number: int, results: report.Results) -> None:
    """Run both steps for every contender that is still in.

    The order rotates with every repetition, the floor first.
    """
    floor, *others = [item for item in everyone if item.label not in results.refused]
    order = [floor, *(others if number % 2 == 0 else others[::-1])]
    urls: dict[str, str] = {}
    hub.warm()
    for item in order:
        urls[item.label] = hub.database(item.template)
        measure(hub, item, FIRST, urls, Change(), results)
    if "ours" in urls:
        incremental = replace(
            next(item for item in order if item.label == "ours"), label="ours, as planned", action="plan"
        )
        urls[incremental.label] = hub.database(urls["ours"].rsplit("/", 1)[1])
        order.append(incremental)
    change = change_one_percent(hub, hub.rows(urls["floor"], _HELD), number)
    hub.warm()
    for item in order:
        if item.label not in results.refused:
            measure(hub, item, AGAIN, urls, change, results)
    for url in urls.values():
        hub.drop(url)


def measure(
    hub: Hub, item: Contender, step: str, urls: dict[str, str], change: Change, results: report.Results
) -> None:
    """Measure one contender's step. Its figures go to the results, or the reason why it is refused."""
    action = "plan" if item.action == "full" and step == FIRST else item.action
    print(f"  {step}: {item.label} …", file=sys.stderr, flush=True)
    reads = item.reads(hub)
    try:
        try:
            measured = hub.run(
                item.module, action, urls[item.label], python=item.python, reads=reads, variant=item.variant
            )
        except subprocess.CalledProcessError as error:
            raise Refused(f"its process ended with code {error.returncode}") from error
        reference = None if item.label == "floor" else _reference(item, urls["floor"], change, hub)
        judge(hub, item, urls[item.label], measured, change, reference)
    except Refused as refused:
        if item.label == "floor":
            raise
        results.refuse(item.label, f"{step}: {refused}")
        return
    if item.one_partner:
        part = sum(hub.expected.sizes[event_id] for read in reads for event_id in read.event_ids)
        measured = scaled(measured, hub.expected.rows / part)
        results.notes[item.label] = f"scaled from the {part:,} registrations of one partner"
    results.add(step, item.label, measured)


def _reference(item: Contender, floor_url: str, change: Change, hub: Hub) -> str:
    floor = Contender("floor", "floor", "floor_participants")
    return digest_of(floor, floor_url, change.gone, [item.reads(hub)[0].partner] if item.one_partner else None)


def scaled(measured: Measured, factor: float) -> Measured:
    """Return the figures as they would be for `factor` times as much. Memory stays."""
    whole = measured.report.registrations
    whole.wall, whole.cpu = whole.wall * factor, whole.cpu * factor
    measured.report.rows = round(measured.report.rows * factor)
    return replace(
        measured,
        calls={name: round(count * factor) for name, count in measured.calls.items()},
        bytes=round(measured.bytes * factor),
        sandbox_cpu=measured.sandbox_cpu * factor,
        postgres_cpu=measured.postgres_cpu * factor,
    )


def the_bench_python(python: Path = BENCH_PYTHON) -> Path | None:
    """Return the Python of the environment that has dlt. If there is none it prints that."""
    if python.exists():
        return python
    print(f"dlt is left out: there is no {python}; `make bench` makes it.", file=sys.stderr)
    return None


def main() -> int:
    """Run the benchmark, as the module describes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=str(__doc__).split("\n")[0])
    parser.add_argument("--scale", choices=["large", "medium"], default="large")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions, of which the median counts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    parser.add_argument("--dlt-python", type=Path, metavar="FILE", help="Python of an environment with dlt")
    options = parser.parse_args()
    if options.dlt_python and not options.dlt_python.exists():
        parser.error(f"--dlt-python: there is no {options.dlt_python}.")
    # Contenders run in another folder. Not resolved, since a link to the interpreter is what makes the environment.
    dlt_python = options.dlt_python.absolute() if options.dlt_python else the_bench_python()
    results = report.Results(options.scale)
    end_cleanly()
    with started(options.scale) as hub:
        results.rows = hub.expected.rows
        everyone = contenders(hub, dlt_python)
        for number in range(max(1, options.repeat)):
            print(f"repetition {number + 1} of {options.repeat} …", file=sys.stderr, flush=True)
            repetition(hub, everyone, number, results)
    results.show()
    if options.json:
        options.json.write_bytes(results.as_json())
    return 1 if results.refused else 0


if __name__ == "__main__":
    sys.exit(main())
