"""`rsu sync`: materialize the assets from the shell, against the same instance as the Dagster UI."""

import math
import sys
from contextlib import nullcontext
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from rsu_pipeline import installation
from rsu_pipeline.cli.common import choose_partners, refuse_disabled, set_dagster_home, show_json, show_line
from rsu_pipeline.cli.in_process_runs import run_in_process
from rsu_pipeline.display import counted, show_times_in
from rsu_pipeline.warehouse import credentials


@click.command()
@click.option(
    "--partner", "names", multiple=True, metavar="ID", help="Id or key of a partner. May be repeated. Default: all."
)
@click.option("--full", is_flag=True, help="Read every future event in full.")
@click.option(
    "--incremental-days", type=click.FloatRange(min=0), help="Days after which an event is read in full again."
)
@click.option(
    "--race", "race_ids", type=int, multiple=True, help="Only this race. May be repeated, with one --partner."
)
@click.option("--confirm-removals", is_flag=True, help="Confirm removals that are pending confirmation.")
@click.option("--test", "first_only", is_flag=True, help="Only the first partner.")
@click.option("--json", "as_json", is_flag=True, help="Output one JSON object with the result of each partner's run.")
@click.option("--quiet", is_flag=True, help="No progress bar, no run log.")
def sync(
    names: tuple[str, ...],
    full: bool,
    incremental_days: float | None,
    race_ids: tuple[int, ...],
    confirm_removals: bool,
    first_only: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Sync partners' events and registrations now.

    Each partner gets a run of job sync_partner, which the Dagster UI shows like any other. Exit code 1 if a race or a
    partner failed. The rest is stored all the same.
    """
    if incremental_days is not None and not math.isfinite(incremental_days):
        raise click.UsageError("--incremental-days must be a number of days.")
    if race_ids and not names:
        raise click.UsageError("--race needs exactly one --partner.")
    chosen = choose_partners(names)[: 1 if first_only else None]
    if race_ids and len(chosen) != 1:
        raise click.UsageError("--race needs exactly one --partner.")
    refuse_disabled(chosen)
    set_dagster_home()
    config = {
        "force_full_sync": full,
        "incremental_days": incremental_days,
        "race_ids": list(race_ids),
        "confirm_removals": confirm_removals,
    }
    results = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    silent = as_json or quiet
    progress = nullcontext() if silent else Progress(*columns, console=Console(stderr=True))
    with progress as bar:
        task = bar.add_task("partners", total=len(chosen)) if bar else None
        for partner in chosen:
            if bar and task is not None:
                bar.update(task, description=f"{partner.key or partner.partner_id}")
            result = _run(partner, config)
            results.append(result)
            if bar and task is not None:
                bar.console.print(Text(_line(result)), soft_wrap=not bar.console.is_terminal)
                bar.advance(task)
    if as_json:
        show_json("sync", {"partners": results})
    elif quiet:
        for result in results:
            show_line(_line(result))
    sys.exit(0 if all(result["ok"] for result in results) else 1)


def _run(partner: credentials.Partner, config: dict[str, Any]) -> dict[str, Any]:
    """Run sync_partner in this process, and return its result."""
    ran = run_in_process(
        "sync_partner",
        str(partner.key),
        lane="routine",
        launched_by="rsu sync",
        ops={"participants": {"config": config}},
    )
    return {"partner": partner.key, "ok": ran.is_success, "run_id": ran.run_id, "error": ran.error, **ran.numbers}


def _line(result: dict[str, Any]) -> str:
    error = show_times_in(installation.current().settings.timezone, result["error"])
    if "rows_read" not in result:
        return f"{result['partner']}: FAILED: {error}"
    bib_changes, calls = counted(result["bib_changes"], "bib change"), counted(result["api_calls"], "call")
    text = (
        f"{result['partner']}: {result['rows_read']} read, {result['rows_inserted']} new, {result['rows_updated']} changed,"
        f" {result['rows_unchanged']} unchanged, {result['rows_removed']} removed, {result['rows_quarantined']} quarantined,"
        f" {bib_changes}, {calls}, {result['budget_left']} left this hour"
    )
    return text if result["ok"] else f"{text}. FAILED: {error}"
