"""Play or calculate a race morning without a race.

python -m benchmarks.race_morning [--partners N] [--races N] [--hours H] [--paper]
"""

import sys
from typing import Any

import click
from rich.console import Console

from rsu_pipeline.cli.common import echo_json

MOST_SPEED = 20.0
REAL_MINUTES = 5.0


@click.command()
@click.option("--partners", type=click.IntRange(1, 2000), default=13, show_default=True)
@click.option("--races", type=click.IntRange(1, 50), default=3, show_default=True, help="Races of each partner.")
@click.option("--hours", type=click.FloatRange(0.25, 12), default=5.0, show_default=True)
@click.option("--entrants", type=click.IntRange(20, 5000), default=300, show_default=True, help="Of each race.")
@click.option("--seed", type=int, default=7, show_default=True, help="The same seed gives the same morning.")
@click.option(
    "--speed",
    type=click.FloatRange(1, 100),
    help="Speed-up over real time. Default: a run of five minutes, or slower if the work requires it.",
)
@click.option(
    "--latency-ms", type=click.FloatRange(0, 10_000), default=700.0, show_default=True, help="Duration of a call."
)
@click.option("--paper", is_flag=True, help="Calculate it in seconds instead, for any number of partners.")
@click.option("--json", "as_json", is_flag=True, help="Output JSON.")
def race_morning(paper: bool, as_json: bool, **options: Any) -> None:
    """Play a race morning against a local RunSignup and its own PostgreSQL, with a fast clock.

    People check in and are assigned bibs, bibs are corrected, people register late, move and leave. For some minutes RunSignup
    throttles every call, and for a fifth of the morning it is down. Reports how long a bib took to be stored, the calls, and
    whether anything was missed. Exit code 1 if so, or if a limit was exceeded.
    """
    if paper:
        _calculate(options["partners"], options["races"], as_json)
        return
    from benchmarks.race_morning import report
    from benchmarks.race_morning.morning import write_script
    from benchmarks.race_morning.play import play
    from benchmarks.race_morning.stage import stage

    latency_ms, seed = options["latency_ms"], options["seed"]
    morning = write_script(**{name: options[name] for name in ("partners", "races", "hours", "entrants", "seed")})
    speed = options["speed"] or default_speed(len(morning.races), morning.seconds)

    def log(line: str) -> None:
        click.echo(line, err=as_json)

    log(f"{len(morning.changes):,} changes, {speed:g} times real time: {morning.seconds / speed / 60:.0f} minutes.")
    with stage(morning, seed=seed, speed=speed, log=log) as place:
        played = play(place, morning, speed=speed, latency_ms=latency_ms, log=log)
    made = report.summarise(morning, played, latency_ms=latency_ms)
    if as_json:
        echo_json(made.as_json())
    else:
        click.echo()
        Console(markup=False).print(report.table(made))
        click.echo("\n" + "\n".join(report.sentences(made)))
    sys.exit(0 if made.is_well else 1)


def default_speed(races: int, seconds: float) -> float:
    """Return the speed that makes a run of some minutes, but with no more polls than one core can do.

    Beyond that, latencies would measure this machine's CPU, not the watch.
    """
    from benchmarks.race_morning.paper import CPU_SECONDS_A_LOOK, Rules

    looks_a_second = races / Rules().target
    return round(max(1.0, min(MOST_SPEED, seconds / 60 / REAL_MINUTES, 1 / (looks_a_second * CPU_SECONDS_A_LOOK))), 1)


def _calculate(partners: int, races: int, as_json: bool) -> None:
    from benchmarks.race_morning import paper, report

    rules = paper.Rules()
    papers = [paper.calculate(partners, races, "all", rules), paper.calculate(partners, races, "credential", rules)]
    found = paper.ends(races, rules)
    if as_json:
        echo_json(report.paper_json(papers, found))
        return
    Console(markup=False).print(report.paper_table(papers))
    click.echo(f"\n{paper.verdict(found, papers[0])}")


if __name__ == "__main__":
    race_morning()
