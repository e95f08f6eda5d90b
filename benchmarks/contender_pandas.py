"""pandas as a measured process, by the recipe most people find first.

Each page goes through `json_normalize` and `to_sql` into a staging table, and from there by an upsert.

`variant` is how `to_sql` sends rows: `multi`, its own many-row INSERT, or `copy`, the COPY callable of its documentation.

Every member of a row becomes a column, as `json_normalize` names it. The table has no index but its key. Nothing is
checked.
"""

import csv
import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pandas as pd
import requests
import sqlalchemy as sa

from benchmarks.measure import Job, Meter, Partner, Report, answer, job
from benchmarks.pages import Row, pages

NUMBERS = "timing_partner_id race_id event_id registration_id user.user_id age last_modified".split()
TEXTS = (
    "bib_num chip_num registration_date user.first_name user.middle_name user.last_name user.email user.dob user.gender"
    " user.phone user.profile_image_url user.address.street user.address.city user.address.state user.address.zipcode"
    " user.address.country_code race_fee offline_payment_amount processing_fee processing_fee_paid_by_user"
    " processing_fee_paid_by_race partner_fee affiliate_profit extra_fees amount_paid usatf_discount_amount_in_cents"
    " usatf_discount_additional_field rsu_transaction_id transaction_id team_id team_name team_type_id team_type team_gender"
    " team_bib_num giveaway giveaway_option_id fundraiser_id fundraiser_charity_id fundraiser_charity_name"
    " team_fundraiser_id multi_race_bundle_id multi_race_bundle signed_waiver_details imported"
).split()
COLUMNS = [*NUMBERS, *TEXTS]
KEY = "timing_partner_id, registration_id"
_types = ", ".join([f'"{name}" bigint' for name in NUMBERS] + [f'"{name}" text' for name in TEXTS])
TABLE = f"CREATE TABLE IF NOT EXISTS pandas_participants ({_types}, PRIMARY KEY ({KEY}))"
_names = ", ".join(f'"{name}"' for name in COLUMNS)
UPSERT = f"""
INSERT INTO pandas_participants ({_names}) SELECT {_names} FROM %s
ON CONFLICT ({KEY}) DO UPDATE SET {", ".join(f'"{name}" = excluded."{name}"' for name in COLUMNS)}
"""


def main() -> None:
    meter = Meter()
    work = job()
    report = Report()
    engine = sa.create_engine(work.database_url.replace("postgresql://", "postgresql+psycopg2://", 1))
    with engine.begin() as conn:
        conn.execute(sa.text(TABLE))
    with meter.timing(report.registrations), ThreadPoolExecutor(work.in_flight) as pool:
        report.rows = sum(pool.map(lambda partner: _partner(work, engine, partner), work.partners))
    engine.dispose()
    meter.close(report)
    answer(report)


def _partner(work: Job, engine: sa.Engine, partner: Partner) -> int:
    """Read and store all of a partner's, and return the number of rows read."""
    found = 0
    stage = f"pandas_stage_{partner.number}"
    with engine.begin() as conn:
        conn.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {stage} ({_types})")
    with requests.Session() as session:
        session.trust_env = False
        for read in work.reads:
            if read.partner != partner.number:
                continue
            for rows in pages(session, work, partner, read):
                if rows:
                    _store(work, engine, stage, _frame(partner.number, read.race_id, rows))
                found += len(rows)
    return found


def _frame(partner: int, race_id: int, rows: list[Row]) -> pd.DataFrame:
    frame = pd.json_normalize(rows).assign(timing_partner_id=partner, race_id=race_id).reindex(columns=COLUMNS)
    # A number that some rows lack arrives as a float: bib 101 would be stored as 101.0.
    for name in frame.select_dtypes("float").columns:
        frame[name] = frame[name].astype("Int64")
    return frame


def _store(work: Job, engine: sa.Engine, stage: str, frame: pd.DataFrame) -> None:
    with engine.begin() as conn:
        conn.exec_driver_sql(f"TRUNCATE {stage}")
        if work.variant == "copy":
            frame.to_sql(stage, conn, if_exists="append", index=False, method=_copy)
        else:
            kinds: Any = dict.fromkeys(NUMBERS, sa.BigInteger) | dict.fromkeys(TEXTS, sa.Text)
            # Lists and objects inside a row go as text, and so do numbers where the column is one of text.
            sent = frame.astype({name: object for name in TEXTS})
            for name in TEXTS:
                sent[name] = [None if _is_nothing(value) else str(value) for value in sent[name]]
            sent.to_sql(stage, conn, if_exists="append", index=False, method="multi", chunksize=500, dtype=kinds)
        conn.exec_driver_sql(UPSERT % stage)


def _is_nothing(value: object) -> bool:
    return value is None or value is pd.NA or value != value


def _copy(table: Any, conn: sa.Connection, keys: list[str], rows: Iterable[tuple[object, ...]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    text.seek(0)
    columns = ", ".join(f'"{key}"' for key in keys)
    with closing(conn.connection.cursor()) as cur:
        cur.copy_expert(f"COPY {table.name} ({columns}) FROM STDIN WITH CSV", text)


if __name__ == "__main__":
    main()
