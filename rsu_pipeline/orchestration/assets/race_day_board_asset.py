"""The race-day board in the Dagster UI: the asset, and the metadata of a materialization."""

import datetime as dt
from collections.abc import Sequence

import dagster as dg

from rsu_pipeline import installation
from rsu_pipeline.display import format_time, show_times_in
from rsu_pipeline.orchestration.assets.synced_assets import KINDS
from rsu_pipeline.orchestration.data_versions import CODE_VERSIONS
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.orchestration.run_config import NO_CONFIG
from rsu_pipeline.orchestration.table_metadata import OPERATORS
from rsu_pipeline.runsignup import values
from rsu_pipeline.sync import clocks
from rsu_pipeline.sync.race_day_board import BoardRow, Urgency, read_board

ROWS = 50
"""Races in the table, worst first."""
COLUMNS = (
    *("partner", "race_id", "race", "start", "minutes_to_start", "seconds_since_read", "entrants", "with_bib"),
    *("duplicate_bibs", "last_bib", "last_bib_recorded_at", "problems"),
)


@dg.asset(
    group_name="runsignup",
    kinds=KINDS,
    owners=[OPERATORS],
    code_version=CODE_VERSIONS["race_day_board"],
    tags={"lane": "routine"},
    config_schema=NO_CONFIG,
)
def race_day_board(warehouse: WarehouseResource) -> dg.MaterializeResult[None]:
    """Report whether each race near its start is in sync: one line per race, worst first, in the metadata.

    A race is on the board while it is in its window or starts within 24 hours. Meanwhile the sensor `race_day_board_refresh`
    refreshes it each minute. `rsu race-day` shows the same in a terminal, with names. It makes no call to RunSignup.
    """
    settings = installation.current().settings
    with expected_errors_as_failures(), warehouse.connect("race_day_board") as conn:
        now = clocks.present(conn, settings.sync.max_clock_skew)
        rows = read_board(conn, now, settings)
    return dg.MaterializeResult(metadata=board_metadata(rows, now, settings.timezone))


def board_metadata(rows: Sequence[BoardRow], now: dt.datetime, zone: dt.tzinfo) -> dict[str, dg.MetadataValue]:
    """Return the board as metadata: figures, and a table without names of people.

    Times of a race are in the race's zone, others in `zone`.
    """
    return {
        "races": dg.MetadataValue.int(len(rows)),
        "races_in_window": dg.MetadataValue.int(sum(row.is_in_window for row in rows)),
        "races_blocked": dg.MetadataValue.int(sum(row.urgency is Urgency.BLOCKED for row in rows)),
        "without_bib": dg.MetadataValue.int(sum(row.race.without_bib for row in rows)),
        "duplicate_bibs": dg.MetadataValue.int(sum(row.race.duplicate_bibs for row in rows)),
        "board": dg.MetadataValue.table(
            [dg.TableRecord(_record(row, now, zone)) for row in rows[:ROWS]],
            schema=dg.TableSchema([dg.TableColumn(name) for name in COLUMNS]),
        ),
    }


def _record(row: BoardRow, now: dt.datetime, zone: dt.tzinfo) -> dict[str, str | int | float]:
    """Return a row as Dagster's tables accept it."""
    its = row.as_object(now)
    shown = {
        "start": format_time(row.start, values.race_zone(row.race.zone)),
        "last_bib_recorded_at": format_time(recorded, zone) if (recorded := row.race.last_bib_recorded_at) else "",
        "problems": "; ".join(show_times_in(zone, problem.sentence) for problem in row.problems),
    }
    return {name: shown[name] if name in shown else _cell(its[name]) for name in COLUMNS}


def _cell(value: object) -> str | int | float:
    if value is None:
        return ""
    return value if isinstance(value, (int, float)) else str(value)
