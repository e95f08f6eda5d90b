"""Row by row as a measured process: what a first script does, an upsert sent for each row and a commit for each page.

The table has no index but its key, no bib log, no history. Nothing is checked.
"""

from concurrent.futures import ThreadPoolExecutor

import psycopg2
import requests
from psycopg2.extras import Json

from benchmarks.measure import Job, Meter, Partner, Report, answer, job
from benchmarks.pages import Row, pages

COLUMNS = (
    "timing_partner_id race_id event_id registration_id user_id first_name middle_name last_name email dob gender phone"
    " bib_num chip_num age registration_date last_modified city address payload"
).split()
TABLE = """
CREATE TABLE IF NOT EXISTS rows_participants (
    timing_partner_id int, race_id bigint, event_id bigint, registration_id bigint, user_id bigint, first_name text,
    middle_name text, last_name text, email text, dob date, gender text, phone text, bib_num text, chip_num text, age int,
    registration_date timestamp, last_modified bigint, city text, address jsonb, payload jsonb,
    PRIMARY KEY (timing_partner_id, registration_id)
)
"""
UPSERT = f"""
INSERT INTO rows_participants ({", ".join(COLUMNS)}) VALUES ({", ".join("%s" for _ in COLUMNS)})
ON CONFLICT (timing_partner_id, registration_id)
DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in COLUMNS[2:])}
"""


def main() -> None:
    meter = Meter()
    work = job()
    report = Report()
    with psycopg2.connect(work.database_url) as conn, conn.cursor() as cur:
        cur.execute(TABLE)
    conn.close()
    with meter.timing(report.registrations), ThreadPoolExecutor(work.in_flight) as pool:
        report.rows = sum(pool.map(lambda partner: _partner(work, partner), work.partners))
    meter.close(report)
    answer(report)


def _partner(work: Job, partner: Partner) -> int:
    """Read and store all of a partner's, and return the number of rows read."""
    found = 0
    conn = psycopg2.connect(work.database_url)
    with requests.Session() as session, conn.cursor() as cur:
        session.trust_env = False
        for read in work.reads:
            if read.partner != partner.number:
                continue
            for rows in pages(session, work, partner, read):
                for row in rows:
                    cur.execute(UPSERT, _values(partner.number, read.race_id, row))
                conn.commit()
                found += len(rows)
    conn.close()
    return found


def _values(partner: int, race_id: int, row: Row) -> tuple[object, ...]:
    user = row["user"]
    return (
        partner,
        race_id,
        row["event_id"],
        row["registration_id"],
        user["user_id"],
        user["first_name"],
        user["middle_name"],
        user["last_name"],
        user["email"],
        user["dob"],
        user["gender"],
        user["phone"],
        row["bib_num"],
        row["chip_num"],
        row["age"],
        row["registration_date"],
        row["last_modified"],
        user["address"].get("city"),
        Json(user["address"]),
        Json(row),
    )


if __name__ == "__main__":
    main()
