"""The asset of the registration report: fetch the partner's rows, make the report, show it."""

import datetime as dt

import dagster as dg

from rsu_pipeline import installation
from rsu_pipeline.orchestration.assets.synced_assets import participants
from rsu_pipeline.orchestration.data_versions import CODE_VERSIONS
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.partitions import read_partitions, timing_partner
from rsu_pipeline.orchestration.partner_runs import find_note
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.orchestration.run_config import NO_CONFIG
from rsu_pipeline.orchestration.run_metadata import MAX_NAME_CHARS
from rsu_pipeline.orchestration.table_metadata import OPERATORS
from rsu_pipeline.reports import page, plots
from rsu_pipeline.warehouse import credentials, report_queries

SAMPLE = 20
PARTNERS_AT_ONCE = 20
"""Partners whose reports one run makes, if several are requested at once.

Another number than that of the sync's assets, so that Dagster does not put them into one run with these.
"""
CHANGED = dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())
HOURLY, WEEKLY = "7 * * * *", "37 4 * * 0"
# Not on_missing(), which counts only what came after the sensor's first evaluation: a partner that was waiting for its first
# sync then would wait for the next hour.
NEW = (dg.AutomationCondition.missing() & ~dg.AutomationCondition.any_deps_missing()).newly_true()
WHEN_CHANGED = (NEW & ~dg.AutomationCondition.in_progress()) | (
    (
        (
            (CHANGED.since_last_handled() | dg.AutomationCondition.missing())
            & dg.AutomationCondition.cron_tick_passed(HOURLY)
        )
        # The events that a report is based on are deleted with their run, after which Dagster calls it unsynced.
        | dg.AutomationCondition.cron_tick_passed(WEEKLY)
    )
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.in_progress()
).with_label("registrations changed, once an hour")
"""When a report is made: for a new partner at once, and once an hour for those whose registrations changed.

On race morning registrations change by the second, and each report is a run.
"""


@dg.asset(
    partitions_def=timing_partner,
    group_name="runsignup",
    kinds={"python", "pandas"},
    owners=[OPERATORS],
    deps=[participants],
    code_version=CODE_VERSIONS["registration_report"],
    automation_condition=WHEN_CHANGED,
    backfill_policy=dg.BackfillPolicy.multi_run(PARTNERS_AT_ONCE),
    tags={"lane": "routine"},
    config_schema=NO_CONFIG,
)
def registration_report(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> None:
    """Report how a partner's upcoming events are filling: registrations by day, bib coverage over time, amounts paid.

    Figures and pictures are in the metadata of each materialization. It stores nothing and shows nobody's name. The same
    as a file: `rsu report --html FILE`. A partner's report is made when the partner is new, and once an hour if its
    registrations have changed.
    """
    zone = installation.current().settings.timezone
    for key in read_partitions(context):
        with expected_errors_as_failures():
            note = find_note(warehouse, key)
        if note:
            context.add_asset_metadata({"note": note}, partition_key=key)
            continue
        with expected_errors_as_failures(), warehouse.connect("registration_report") as conn:
            partner = credentials.find_partner(conn, key)
            rows = report_queries.read_registrations(conn, partner.partner_id, zone)
            changes = report_queries.read_bib_changes(conn, partner.partner_id, zone)
        made = page.build_report(partner.name, rows, changes, dt.datetime.now(zone).date(), zone)
        context.add_asset_metadata(_metadata(made), partition_key=key)


def _metadata(made: page.Report) -> dict[str, dg.MetadataValue]:
    events = made.events
    numbers = {"events": len(events)} | {name: int(events[name].sum()) for name in ("entrants", "with_bib", "priced")}
    known = events["amount_paid"].dropna()
    pictures = {
        title: dg.MetadataValue.md(f"![{title}]({plots.encode_data_uri(png)})") for title, png in made.pictures.items()
    }
    return {
        **{name: dg.MetadataValue.text(line) for name, line in made.lines.items()},
        **{name: dg.MetadataValue.int(number) for name, number in numbers.items()},
        "amount_paid": dg.MetadataValue.null() if known.empty else dg.MetadataValue.float(round(float(known.sum()), 2)),
        "events_shown": dg.MetadataValue.text(f"{min(SAMPLE, len(events))} of {len(events)}, the table by_event"),
        "by_event": dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "race": row["race"][:MAX_NAME_CHARS],
                        "event": row["event"][:MAX_NAME_CHARS],
                        "entrants": row["entrants"],
                        "with_bib": row["with_bib"],
                        "amount_paid": page.format_amount(row["amount_paid"]),
                    }
                )
                for row in made.rows()[:SAMPLE]
            ],
            schema=dg.TableSchema(
                [dg.TableColumn(name) for name in ("race", "event", "entrants", "with_bib", "amount_paid")]
            ),
        ),
        **pictures,
    }
