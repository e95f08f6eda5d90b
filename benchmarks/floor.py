"""The floor as a measured process: the same participants calls, decoded, copied and upserted, and nothing else.

No ledger, no bib log, no removals, no proof, no history, no quarantine, no foreign keys, no check of anything. But the
same columns with the same content, the payload as well, in a table of the same shape and indexes, and a transaction a
page. It is what remains when everything is taken away from the pipeline that can be.
"""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec
import psycopg2
import requests
from msgspec import UNSET, Raw, UnsetType
from psycopg2.extensions import connection as Connection

from benchmarks.measure import Job, Meter, Partner, Read, Report, answer, job
from benchmarks.pages import following, page
from rsu_pipeline.warehouse.staging import PREFER_LZ4

Text = str | int | None
Member = Text | UnsetType


class _User(msgspec.Struct, gc=False):
    user_id: int | None = None
    first_name: str | None = None
    middle_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    address: Raw = Raw(b"null")
    dob: str | None = None
    gender: str | None = None
    phone: str | None = None
    profile_image_url: str | None = None


class _Row(msgspec.Struct, gc=False):
    registration_id: int
    event_id: int
    user: _User
    bib_num: Text = None
    chip_num: Text = None
    age: int | None = None
    registration_date: str | None = None
    last_modified: int | None = None
    race_fee: Member = UNSET
    offline_payment_amount: Member = UNSET
    processing_fee: Member = UNSET
    processing_fee_paid_by_user: Member = UNSET
    processing_fee_paid_by_race: Member = UNSET
    partner_fee: Member = UNSET
    affiliate_profit: Member = UNSET
    extra_fees: Member = UNSET
    amount_paid: Member = UNSET
    usatf_discount_amount_in_cents: Member = UNSET
    rsu_transaction_id: Member = UNSET
    transaction_id: Member = UNSET
    team_id: Member = UNSET
    team_name: Member = UNSET
    team_type_id: Member = UNSET
    team_type: Member = UNSET
    team_gender: Member = UNSET
    team_bib_num: Member = UNSET
    usatf_discount_additional_field: Member = UNSET
    giveaway: Member = UNSET
    giveaway_option_id: Member = UNSET
    fundraiser_id: Member = UNSET
    fundraiser_charity_id: Member = UNSET
    fundraiser_charity_name: Member = UNSET
    team_fundraiser_id: Member = UNSET
    multi_race_bundle_id: Member = UNSET
    multi_race_bundle: Raw | UnsetType = UNSET
    signed_waiver_details: Raw | UnsetType = UNSET
    imported: Member = UNSET


class _Element(msgspec.Struct):
    participants: list[Raw] = []


COLUMNS = (
    "race_id event_id registration_id user_id first_name middle_name last_name email dob gender phone profile_image_url"
    " bib_num chip_num age registration_date last_modified_epoch address team_info payment_info additional_data payload"
).split()
MONEY = (
    "race_fee offline_payment_amount processing_fee processing_fee_paid_by_user processing_fee_paid_by_race partner_fee"
    " affiliate_profit extra_fees amount_paid"
).split()
TEAM = "team_id team_name team_type_id team_type team_gender team_bib_num".split()
DISCOUNT = ["usatf_discount_amount_in_cents"]
ADDITIONAL = (
    "usatf_discount_additional_field giveaway giveaway_option_id fundraiser_id fundraiser_charity_id"
    " fundraiser_charity_name team_fundraiser_id multi_race_bundle_id imported"
).split()
_team_of = attrgetter(*TEAM)
_payment_of = attrgetter(*MONEY)
_additional_of = attrgetter(*ADDITIONAL)

_elements = msgspec.json.Decoder(list[_Element])
_row = msgspec.json.Decoder(_Row)
_encode = msgspec.json.Encoder().encode

_names = ", ".join(COLUMNS)
_TABLE = """
CREATE TABLE floor_participants (LIKE runsignup_participants INCLUDING DEFAULTS INCLUDING INDEXES);
ALTER TABLE floor_participants ALTER COLUMN payload TYPE {0} USING payload::{0}
"""
TABLES = {"floor": _TABLE.format("jsonb"), "floor, text payload": _TABLE.format("text")}
"""By label: the table with the payload as jsonb, as it was at first, by which ratios are taken, and as the pipeline has it now."""
_STAGE = f"CREATE TEMPORARY TABLE floor_stage ON COMMIT DELETE ROWS AS SELECT {_names} FROM floor_participants LIMIT 0"
_UPSERT = f"""
INSERT INTO floor_participants AS t (timing_partner_id, registered_at, last_modified, {_names})
SELECT %s, registration_date AT TIME ZONE 'America/New_York',
    to_timestamp(last_modified_epoch) AT TIME ZONE 'America/New_York', {_names}
FROM floor_stage
ON CONFLICT (timing_partner_id, registration_id) DO UPDATE
SET {", ".join(f"{name} = excluded.{name}" for name in (*COLUMNS, "registered_at", "last_modified"))}
WHERE ({", ".join(f"t.{name}" for name in COLUMNS)}) IS DISTINCT FROM
    ({", ".join(f"excluded.{name}" for name in COLUMNS)})
"""


def main() -> None:
    meter = Meter()
    work = job()
    report = Report()
    with meter.timing(report.registrations):
        run(work, report)
    meter.close(report)
    answer(report)


def run(work: Job, report: Report) -> None:
    """Run the partners side by side, each with sessions of its own."""
    with ThreadPoolExecutor(work.in_flight) as pool:
        for rows, updated in pool.map(lambda partner: _partner(work, partner), work.partners):
            report.rows += rows
            report.updated += updated


def _partner(work: Job, partner: Partner) -> tuple[int, int]:
    """Read and store all of a partner's, and return the rows read and the rows written."""
    rows = updated = 0
    conn = psycopg2.connect(work.database_url, options="-c work_mem=64MB -c jit=off -c timezone=UTC")
    with requests.Session() as session, conn.cursor() as cur:
        session.trust_env = False
        cur.execute(_STAGE)
        cur.execute(PREFER_LZ4)
        conn.commit()
        for read in work.reads:
            after: int | None = 0 if read.partner == partner.number else None
            while after is not None:
                read_rows, written, last = _store(conn, read, page(session, work, partner, read, after))
                rows, updated, after = rows + read_rows, updated + written, following(work, read_rows, last)
    conn.close()
    return rows, updated


def _store(conn: Connection, read: Read, body: bytes) -> tuple[int, int, int]:
    """Store a page, and return its rows, the rows written, and the highest registration id."""
    lines = []
    last = 0
    for element in _elements.decode(body):
        for raw in element.participants:
            row = _row.decode(raw)
            last = max(last, row.registration_id)
            lines.append(_line(read.race_id, row, bytes(raw)))
    with conn.cursor() as cur:
        cur.copy_expert(f"COPY floor_stage ({_names}) FROM STDIN", io.BytesIO(b"".join(lines)))
        cur.execute(_UPSERT, (read.partner,))
        written = cur.rowcount
    conn.commit()
    return len(lines), written, last


def _line(race_id: int, row: _Row, raw: bytes) -> bytes:
    user = row.user
    cells = (
        f"{race_id}\t{row.event_id}\t{row.registration_id}\t{_cell(user.user_id)}\t{_cell(user.first_name)}"
        f"\t{_cell(user.middle_name)}\t{_cell(user.last_name)}\t{_cell(user.email)}\t{_cell(user.dob)}"
        f"\t{_cell(user.gender)}\t{_cell(user.phone)}\t{_cell(user.profile_image_url)}\t{_cell(row.bib_num)}"
        f"\t{_cell(row.chip_num)}\t{_cell(row.age)}\t{_cell(row.registration_date)}\t{_cell(row.last_modified)}\t"
    )
    payment = _amounts("payment", _payment_of(row))
    if row.rsu_transaction_id is not UNSET:
        payment += b',"rsu_transaction_id":%b' % _encode(row.rsu_transaction_id)
    if row.transaction_id is not UNSET:
        payment += b',"transaction_id":%b' % _encode(row.transaction_id)
    additional = _amounts("discount", (row.usatf_discount_amount_in_cents,)) + _members(
        "additional", _additional_of(row)
    )
    if row.multi_race_bundle is not UNSET:
        additional += b',"multi_race_bundle":%b' % row.multi_race_bundle
    if row.signed_waiver_details is not UNSET:
        additional += b',"signed_waiver_details":%b' % row.signed_waiver_details
    # JSON has no tab, line end or control character outside its own escapes, so that only these need one of COPY's.
    json = b"%b\t{%b}\t{%b}\t{%b}\t%b\n" % (
        user.address,
        _members("team", _team_of(row))[1:],
        payment[1:],
        additional[1:],
        raw,
    )
    return cells.encode() + json.replace(b"\\", b"\\\\")


def _cell(value: Any) -> str:
    if value is None:
        return r"\N"
    text = value if type(value) is str else str(value)
    if text.isprintable() and "\\" not in text:
        return text
    return text.replace("\\", r"\\").replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")


# Many rows have the same fees, teams and options.
@lru_cache(maxsize=8192)
def _amounts(kind: str, values: Sequence[Any]) -> bytes:
    """Return JSON members, each with a comma before it, with numbers for amounts."""
    names = MONEY if kind == "payment" else DISCOUNT
    pairs = [(name, value) for name, value in zip(names, values, strict=True) if value is not UNSET]
    return "".join(
        f',"{name}":{value.replace("$", "").replace(",", "") if value else "null"}' for name, value in pairs
    ).encode()


@lru_cache(maxsize=8192)
def _members(kind: str, values: Sequence[Any]) -> bytes:
    pairs = zip(TEAM if kind == "team" else ADDITIONAL, values, strict=True)
    return b"".join(b',"%b":%b' % (name.encode(), _encode(value)) for name, value in pairs if value is not UNSET)


if __name__ == "__main__":
    main()
