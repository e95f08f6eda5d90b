"""The figures of a morning, as a table for people and as JSON for programs."""

import math
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from benchmarks.race_morning.judge import Noticed, busiest_hour
from benchmarks.race_morning.morning import Morning, Spell
from benchmarks.race_morning.paper import Ends, Paper, percentile, verdict
from benchmarks.race_morning.play import Played

CALLS_PER_HOUR = 1000


@dataclass(frozen=True)
class Latency:
    """Seconds from RunSignup's change to the committed row."""

    changes: int
    p50: float
    p95: float
    p99: float
    worst: float


@dataclass(frozen=True)
class SpellLatency:
    """Changes that waited while RunSignup failed. `after_its_end` is counted from there."""

    trouble: str
    minutes: float
    all: Latency
    after_its_end: Latency


@dataclass(frozen=True)
class Report:
    """Everything `python -m benchmarks.race_morning` reports. Seconds are simulated ones, except for CPU."""

    partners: int
    races: int
    hours: float
    entrants: int
    speed: float
    latency_ms: float
    real_minutes: float
    changes: int
    bibs: Latency
    removals: Latency
    spells: list[SpellLatency]
    overtaken: int
    most_calls_in_an_hour: int
    calls: int
    calls_in_ledger: int
    max_in_flight: int
    violations: int
    looks: int
    looks_put_off: int
    slices: int
    cpu_seconds: dict[str, float]
    cpu_share: float
    cpu_seconds_a_look: float
    player_behind: float
    missed: list[str] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Nothing is missing and no limit was overstepped."""
        return not self.missed and not self.violations and self.most_calls_in_an_hour <= CALLS_PER_HOUR

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"is_well": self.is_well}


def latency(seconds: Sequence[float]) -> Latency:
    """Return the figures of these latencies."""
    ordered = sorted(seconds)
    p50, p95, p99, worst = (round(percentile(ordered, share), 2) for share in (0.5, 0.95, 0.99, 1.0))
    return Latency(len(ordered), p50, p95, p99, worst)


def summarise(morning: Morning, played: Played, *, latency_ms: float) -> Report:
    """Return the report of a morning that was played."""
    calm: list[Noticed] = []
    troubled: dict[Spell, list[Noticed]] = defaultdict(list)
    overtaken = 0
    for item in played.noticed:
        if item.at is None:
            overtaken += 1
            continue
        spell = next((one for one in morning.spells if _waited_in(item, one, played.begins)), None)
        (troubled[spell] if spell else calm).append(item)
    spells = []
    for spell in morning.spells:
        waited = [item for item in troubled[spell] if item.made.feed == "bib"]
        end = played.begins + spell.end
        after = [max(0.0, (item.at or 0.0) - end) for item in waited]
        minutes = (spell.end - spell.start) / 60
        spells.append(
            SpellLatency(spell.trouble, round(minutes, 1), latency([item.latency for item in waited]), latency(after))
        )
    of_key: dict[str, list[float]] = defaultdict(list)
    for key, at in played.calls.values():
        of_key[key].append(at)
    partners = max(race.partner for race in morning.races)
    cores = os.cpu_count() or 1
    watched = played.watched
    ours = played.cpu.get("watch", 0.0) + played.cpu.get("PostgreSQL", 0.0)
    return Report(
        partners=partners,
        races=len(morning.races) // partners,
        hours=round(morning.seconds / 3600, 2),
        entrants=morning.entrants,
        speed=played.speed,
        latency_ms=latency_ms,
        real_minutes=round(played.real_seconds / 60, 1),
        changes=played.changes,
        bibs=latency([item.latency for item in calm if item.made.feed == "bib"]),
        removals=latency([item.latency for item in calm if item.made.feed == "removal"]),
        spells=spells,
        overtaken=overtaken,
        most_calls_in_an_hour=max(map(busiest_hour, of_key.values()), default=0),
        calls=len(played.calls),
        calls_in_ledger=played.calls_in_ledger,
        max_in_flight=played.max_in_flight,
        violations=played.violations,
        looks=watched.looks,
        looks_put_off=watched.put_off,
        slices=watched.slices,
        cpu_seconds={name: round(seconds, 1) for name, seconds in sorted(played.cpu.items())},
        cpu_share=round(sum(played.cpu.values()) / played.real_seconds / cores, 3) if played.real_seconds else 0.0,
        cpu_seconds_a_look=round(ours / watched.looks, 4) if watched.looks else 0.0,
        player_behind=round(played.behind, 1),
        missed=[
            f"{item.feed} of registration {item.registration_id}, partner {item.partner}, was never seen"
            for item in played.missed
        ]
        + played.differences,
    )


def _waited_in(item: Noticed, spell: Spell, begins: float) -> bool:
    return item.made.at - begins < spell.end and (item.at or 0.0) - begins > spell.start


def table(report: Report) -> Table:
    """Return the table for people."""
    made = Table(
        title=f"A race morning of {report.hours:g} h: {report.partners} partners × {report.races} races", box=None
    )
    made.add_column("")
    for name in ("changes", "p50 s", "p95 s", "p99 s", "worst s"):
        made.add_column(name, justify="right")
    rows = [("bibs, RunSignup well", report.bibs), ("removals, RunSignup well", report.removals)]
    for spell in report.spells:
        rows.append((f"bibs waiting while {spell.trouble} for {spell.minutes:g} min", spell.all))
        rows.append(("   counted from its end", spell.after_its_end))
    for name, item in rows:
        made.add_row(name, f"{item.changes:,}", *map(_seconds, (item.p50, item.p95, item.p99, item.worst)))
    return made


def sentences(report: Report) -> list[str]:
    """Return what the table does not show."""
    cpu = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in report.cpu_seconds.items())
    said = [
        f"Calls: {report.calls:,} seen by the sandbox, {report.calls_in_ledger:,} in the ledger; at the most"
        f" {report.most_calls_in_an_hour} of one credential in any hour ({CALLS_PER_HOUR} allowed),"
        f" {report.max_in_flight} in flight, {report.violations} violations.",
        f"Polls: {report.looks:,} ({report.looks_put_off} put off), in {report.slices} runs.",
        f"CPU: {cpu}; {report.cpu_share:.0%} of {os.cpu_count()} cores, {report.cpu_seconds_a_look * 1000:.0f} ms a poll"
        " (watch and PostgreSQL).",
        f"{report.changes:,} changes in {report.real_minutes:g} real minutes, {report.speed:g} times as fast as life, each"
        f" call {report.latency_ms:g} ms; the worst change came {report.player_behind:g} s late. Work cannot be made fast:"
        f" its time counts {report.speed:g} times, so the latencies are longer than in real time, never shorter.",
    ]
    if report.cpu_share > 0.7:
        said.append("The machine was busy: a lower --speed gives figures nearer to real time.")
    if report.overtaken:
        said.append(f"{report.overtaken} changes were overtaken by a later one before anybody could see them.")
    if report.missed:
        said.append(f"MISSED: {len(report.missed)}: {'; '.join(report.missed[:20])}")
    else:
        said.append("Missed: none. Every registration is as RunSignup has it, and the bib log replays.")
    return said


def paper_table(papers: Sequence[Paper]) -> Table:
    """Return the figures on paper."""
    made = Table(title="On paper: every race in its window at once", box=None)
    for name in (
        "partners", "races each", "in flight counts for", "watches", "p50 s", "p95 s", "p99 s", "worst s",
        "calls an hour", "looks/s", "cores",
    ):  # fmt: skip
        made.add_column(name, justify="right")
    for item in papers:
        made.add_row(
            f"{item.partners:,}",
            str(item.races),
            "all together" if item.scope == "all" else "each credential",
            str(item.shards),
            *map(_seconds, (item.p50, item.p95, item.p99, item.worst)),
            f"{item.calls_an_hour:.0f}",
            f"{item.looks_a_second:.1f}",
            f"{item.cores:.2f}",
        )
    return made


def paper_json(papers: Sequence[Paper], found: Ends) -> dict[str, Any]:
    return {"on_paper": [asdict(item) for item in papers], "ends": asdict(found), "verdict": verdict(found, papers[0])}


def _seconds(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1f}"
