"""The asset of the registration report: fetch the partner's rows, make the report, show it."""

import datetime as dt

import dagster as dg

from rsu_pipeline.orchestration.assets.synced_assets import participants
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.partitions import read_partition, timing_partner
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.orchestration.run_config import NO_CONFIG
from rsu_pipeline.orchestration.run_metadata import MAX_NAME_CHARS
from rsu_pipeline.orchestration.table_metadata import OPERATORS
from rsu_pipeline.reports import page, plots
from rsu_pipeline.warehouse import credentials, report_queries

SAMPLE = 20


@dg.asset(
    partitions_def=timing_partner,
    group_name="runsignup",
    kinds={"python", "pandas"},
    owners=[OPERATORS],
    deps=[participants],
    tags={"lane": "routine"},
    config_schema=NO_CONFIG,
)
def registration_report(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult[None]:
    """Report how a partner's upcoming events are filling: registrations by day, bib coverage over time, amounts paid.

    Figures and pictures are in the metadata of each materialization. It stores nothing and shows nobody's name. The same
    as a file: `rsu report --html FILE`.
    """
    with expected_errors_as_failures(), warehouse.connect("registration_report") as conn:
        partner = credentials.find_partner(conn, read_partition(context))
        rows = report_queries.read_registrations(conn, partner.partner_id)
        changes = report_queries.read_bib_changes(conn, partner.partner_id)
    made = page.build_report(partner.name, rows, changes, dt.datetime.now(dt.UTC).date())
    return dg.MaterializeResult(metadata=_metadata(made))


def _metadata(made: page.Report) -> dict[str, dg.MetadataValue]:
    events = made.events
    numbers = {"events": len(events)} | {name: int(events[name].sum()) for name in ("entrants", "with_bib", "priced")}
    known = events["amount_paid"].dropna()
    pictures = {
        title: dg.MetadataValue.md(f"![{title}]({plots.encode_data_uri(png)})") for title, png in made.pictures.items()
    }
    return {
        **{name: dg.MetadataValue.int(number) for name, number in numbers.items()},
        "amount_paid": dg.MetadataValue.null() if known.empty else dg.MetadataValue.float(round(float(known.sum()), 2)),
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
