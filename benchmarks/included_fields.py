"""What the optional fields of registrations cost: bytes, CPU and calls beside a read without them.

    python -m benchmarks.included_fields [--rows 100000] [--repeat N] [--json FILE]

One partner, one race. Each set of fields is loaded into an empty database and read in full again, unchanged. Beside that the pages
with five answers each are merged without waiting for RunSignup. No run counts unless all rows are stored, equal by reconciliation,
with the calls that they take.
"""

import argparse
import datetime as dt
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.hub import Hub, end_cleanly, started
from benchmarks.measure import Job
from benchmarks.ours import settings_for
from benchmarks.report import as_json, machine
from rsu_pipeline.included_fields import format_include, parse_include
from rsu_pipeline.sync import listing
from rsu_pipeline.sync.registration_rows import compute_digest, stage_registration
from rsu_pipeline.sync.session import open_partner_session
from rsu_pipeline.warehouse import cursors, participants
from rsu_pipeline.warehouse.secret_box import SecretBox
from rsu_pipeline.warehouse.staging import Source
from runsignup_sandbox.scales import Spec

SETS = ("none", "corrals,est_finish", "corrals,est_finish,checkin,corp_teams", "questions", "all")
WANTED_MERGED_PER_SECOND = 8000


@dataclass
class Costs:
    """Of every run: calls, bytes, seconds on the clock, CPU seconds of the client and of PostgreSQL."""

    calls: int = 0
    megabytes: float = 0.0
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    postgres_cpu: list[float] = field(default_factory=list)


@dataclass
class Found:
    """The figures by set of fields: a first load, and a full read of what is stored already. Answers merged, entrants a second."""

    rows: int
    first: dict[str, Costs]
    again: dict[str, Costs]
    merged_per_second: dict[str, list[float]]
    table_megabytes: dict[str, float] = field(default_factory=dict)
    machine: dict[str, object] = field(default_factory=machine)


def measure(rows: int, repeat: int, sets: tuple[str, ...] = SETS) -> Found:
    """Measure each set of fields this number of times, taking turns."""
    spec = Spec(partners=1, races_per_partner=1, events_per_race=2, registrations_per_event=rows // 2)
    found = Found(
        rows, {name: Costs() for name in sets}, {name: Costs() for name in sets}, {"none": [], "questions": []}
    )
    with started(spec) as hub:
        template = hub.database()
        hub.run("ours", "prepare", template)
        hub.warm()
        for number in range(repeat):
            print(f"repetition {number + 1} of {repeat} …", file=sys.stderr, flush=True)
            for name in sets:
                url = hub.database(template.rsplit("/", 1)[1])
                _sync(hub, url, "plan", name, found.first[name])
                assert hub.value(url, "SELECT count(*) FROM runsignup_participants") == hub.expected.rows
                size = "SELECT pg_total_relation_size('runsignup_participants') / 1048576.0"
                found.table_megabytes[name] = round(float(str(hub.value(url, size))), 1)
                _sync(hub, url, "full", name, found.again[name])
                hub.drop(url)
            for name, rates in found.merged_per_second.items():
                url = hub.database(template.rsplit("/", 1)[1])
                rates.append(_merge_rate(hub, url, name))
                hub.drop(url)
    return found


def _sync(hub: Hub, url: str, action: str, include: str, costs: Costs) -> None:
    measured = hub.run("ours", action, url, variant=include)
    told = measured.report
    assert not told.problems and not told.unequal, told.problems[:3]
    assert hub.value(url, "SELECT bool_and((read_rows, read_hash) = (stored_rows, stored_hash)) FROM event_cursors")
    assert hub.value(url, "SELECT min(included) FROM event_cursors") == format_include(parse_include(include))
    costs.calls, costs.megabytes = measured.calls["participants"], round(measured.bytes / 1e6, 3)
    costs.wall.append(told.registrations.wall)
    costs.cpu.append(told.registrations.cpu)
    costs.postgres_cpu.append(measured.postgres_cpu)


def _merge_rate(hub: Hub, url: str, include: str) -> float:
    """Return how many entrants a second are staged and merged, page by page, each committed. Requests are not timed."""
    work = Job("merge", url, hub.sandbox.api_url, hub.now, hub.partners, secret_key=hub.secret_key)
    now = dt.datetime.fromtimestamp(hub.now, dt.UTC)
    (read,) = hub.expected.reads
    seconds, merged = 0.0, 0
    with open_partner_session(
        url,
        SecretBox([hub.secret_key], source="RSU_SECRET_KEY"),
        settings_for(work, RSU_INCLUDE=include),
        "1",
        lane="routine",
        run_id="benchmark",
        log=lambda line: None,
        now=lambda: now,
    ) as session:
        listing.refresh_events(session)
        cursors.open_pass(session.conn, 1, read.race_id, "full", read.event_ids, None, included=include)
        after: int | None = 0
        while after is not None:
            page = session.client.participants_page(
                read.race_id, read.event_ids, after=after, size=2500, include=session.settings.include
            )
            source = Source(1, session.key, read.race_id, page.server_time, "benchmark", "full")
            started_at = time.perf_counter()
            lines = [
                stage_registration(row, read.race_id)[0]
                + b"\t%d" % participants.compute_digest(compute_digest(row.raw), has_field_errors=False)
                for row in page.rows
            ]
            if lines:
                counts, refused = participants.merge_active(session.conn, lines, source, full=True, is_first_load=True)
                assert counts.inserted == len(lines) and not refused
            session.conn.commit()
            seconds += time.perf_counter() - started_at
            merged += len(lines)
            after = page.next.covered_to if page.rows else None
    assert merged == hub.expected.rows
    answers = hub.value(url, "SELECT count(DISTINCT (registration_id, question_id)) FROM participant_answers")
    assert answers == (5 * merged if include == "questions" else 0)
    return merged / seconds


def show(found: Found) -> None:
    """Print the figures, each set beside the read without optional fields."""
    print(f"{found.rows:,} registrations of one race")
    for title, costs in (("First load", found.first), ("Full read, nothing changed", found.again)):
        print(title)
        base = costs["none"]
        for name, one in costs.items():
            figures = [
                f"{one.calls} calls",
                f"{one.megabytes:.0f} MB ({one.megabytes / base.megabytes:.2f})",
                *(
                    f"{what} {statistics.median(getattr(one, attribute)):.1f} s"
                    f" ({statistics.median(getattr(one, attribute)) / statistics.median(getattr(base, attribute)):.2f})"
                    for what, attribute in (("wall", "wall"), ("CPU", "cpu"), ("PostgreSQL", "postgres_cpu"))
                ),
                f"table {found.table_megabytes[name]:.0f} MB",
            ]
            print(f"  {name}: {', '.join(figures)}")
    for name, rates in found.merged_per_second.items():
        wanted = f" (wanted with five answers each: {WANTED_MERGED_PER_SECOND:,})" if name == "questions" else ""
        print(f"Merged with {name}: {statistics.median(rates):,.0f} entrants/s{wanted}")


def main() -> None:
    """Run the benchmark, as the module describes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.included_fields", description=str(__doc__).split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--rows", type=int, default=100_000, metavar="N", help="registrations of the race")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions, of which the median counts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    options = parser.parse_args()
    end_cleanly()
    found = measure(options.rows, max(1, options.repeat))
    show(found)
    if options.json:
        options.json.write_bytes(as_json(found))


if __name__ == "__main__":
    main()
