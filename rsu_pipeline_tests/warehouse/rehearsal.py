"""A copy of the older program's database, filled from a sandbox's world as that program would have filled it.

It is what adoption must cope with: registrations stored twice and without their number, some missing and some that are gone
at RunSignup, bibs and phone numbers of the day before yesterday, no ages, a fee of 0.0 where there was none. It has as many
rows of participants as the world has active registrations.
"""

import datetime as dt
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import msgspec
import psycopg2
from psycopg2.extensions import cursor as Cursor

from runsignup_sandbox.races import event_object, race_object
from runsignup_sandbox.records import Record
from runsignup_sandbox.rows import active_row
from runsignup_sandbox.world import World

SCHEMA = """
CREATE FUNCTION update_updated_at_column() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.updated_at = CURRENT_TIMESTAMP; RETURN NEW; END $$;
CREATE TABLE timing_partners (
    timing_partner_id serial PRIMARY KEY, company_name varchar(255) NOT NULL, access_password varchar(255),
    created_at timestamp DEFAULT CURRENT_TIMESTAMP, updated_at timestamp DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX idx_timing_partners_company_name ON timing_partners (company_name);
CREATE TRIGGER update_timing_partners_updated_at BEFORE UPDATE ON timing_partners
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
CREATE TABLE providers (
    provider_id serial PRIMARY KEY, name varchar(100) NOT NULL UNIQUE, provider_type varchar(50), api_base_url varchar(255),
    rate_limit_per_hour integer DEFAULT 1000, created_at timestamp DEFAULT CURRENT_TIMESTAMP
);
INSERT INTO providers (name, provider_type) VALUES ('Haku', 'registration'), ('RunSignUp', 'registration');
CREATE TABLE partner_provider_credentials (
    partner_provider_credential_id serial PRIMARY KEY,
    provider_id integer REFERENCES providers ON DELETE CASCADE,
    timing_partner_id integer REFERENCES timing_partners ON DELETE CASCADE,
    principal varchar(255), secret varchar(255), credential_type varchar(50), additional_config jsonb,
    haku_event_name varchar(255),
    created_at timestamp DEFAULT CURRENT_TIMESTAMP, updated_at timestamp DEFAULT CURRENT_TIMESTAMP,
    UNIQUE (timing_partner_id, provider_id)
);
CREATE INDEX idx_ppc_timing_partner_id ON partner_provider_credentials (timing_partner_id);
CREATE INDEX idx_ppc_provider_id ON partner_provider_credentials (provider_id);
CREATE TRIGGER update_ppc_updated_at BEFORE UPDATE ON partner_provider_credentials
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
CREATE TABLE runsignup_races (
    race_id integer PRIMARY KEY, name text, description text, last_date timestamp, last_end_date timestamp,
    next_date timestamp, next_end_date timestamp, created timestamp, last_modified timestamp, is_draft_race boolean,
    is_private_race boolean, is_registration_open boolean, real_time_notifications_enabled boolean, url varchar(255),
    external_race_url varchar(255), external_results_url varchar(255), logo_url varchar(255), fb_page_id varchar(50),
    fb_event_id varchar(50), timezone varchar(50), address jsonb, credentials_used varchar(255),
    fetched_date timestamp DEFAULT CURRENT_TIMESTAMP, created_at timestamp DEFAULT CURRENT_TIMESTAMP,
    timing_partner_id integer REFERENCES timing_partners ON DELETE CASCADE
);
CREATE TABLE runsignup_events (
    event_id integer PRIMARY KEY, race_id integer REFERENCES runsignup_races ON DELETE CASCADE, name text, details text,
    giveaway text, start_time timestamp, end_time timestamp, registration_opens timestamp, age_calc_base_date date,
    event_type varchar(50), distance numeric(10,2), volunteer boolean, require_dob boolean, require_phone boolean,
    credentials_used varchar(255), fetched_date timestamp DEFAULT CURRENT_TIMESTAMP,
    created_at timestamp DEFAULT CURRENT_TIMESTAMP, timing_partner_id integer REFERENCES timing_partners ON DELETE CASCADE
);
CREATE INDEX idx_runsignup_events_timing_partner_id ON runsignup_events (timing_partner_id);
CREATE INDEX idx_runsignup_events_start_time ON runsignup_events (start_time);
CREATE TABLE runsignup_participants (
    id serial PRIMARY KEY, race_id integer REFERENCES runsignup_races ON DELETE CASCADE,
    event_id integer REFERENCES runsignup_events ON DELETE CASCADE, registration_id integer, user_id integer,
    first_name varchar(100), middle_name varchar(100), last_name varchar(100), email varchar(255), dob date,
    gender varchar(30), phone varchar(50), address jsonb, profile_image_url varchar(255), bib_num varchar(50),
    chip_num varchar(50), age integer, registration_date timestamp, team_info jsonb, payment_info jsonb,
    additional_data jsonb, credentials_used varchar(255), fetched_date timestamp DEFAULT CURRENT_TIMESTAMP,
    created_at timestamp DEFAULT CURRENT_TIMESTAMP,
    timing_partner_id integer REFERENCES timing_partners ON DELETE CASCADE, last_modified timestamp
);
CREATE INDEX idx_runsignup_participants_event_id ON runsignup_participants (event_id);
CREATE INDEX idx_runsignup_participants_timing_partner_id ON runsignup_participants (timing_partner_id);
CREATE INDEX idx_runsignup_participants_bib_num ON runsignup_participants (bib_num);
CREATE INDEX idx_runsignup_participants_email ON runsignup_participants (email);
CREATE TABLE sync_queue (
    sync_queue_id serial PRIMARY KEY, timing_partner_id integer REFERENCES timing_partners,
    provider_id integer REFERENCES providers, event_id varchar(100), operation_type varchar(50) NOT NULL,
    sync_direction varchar(50) DEFAULT 'pull', priority integer DEFAULT 5, status varchar(20) DEFAULT 'pending',
    scheduled_time timestamp DEFAULT CURRENT_TIMESTAMP, retry_count integer DEFAULT 0, max_retries integer DEFAULT 3,
    payload jsonb, created_at timestamp DEFAULT CURRENT_TIMESTAMP, started_at timestamp, completed_at timestamp
);
CREATE INDEX idx_sync_queue_status ON sync_queue (status);
CREATE INDEX idx_sync_queue_scheduled ON sync_queue (scheduled_time) WHERE status = 'pending';
CREATE INDEX idx_sync_queue_partner ON sync_queue (timing_partner_id);
CREATE TABLE sync_history (
    sync_history_id serial PRIMARY KEY, timing_partner_id integer REFERENCES timing_partners ON DELETE CASCADE,
    provider_id integer REFERENCES providers, event_id varchar(100), operation_type varchar(50),
    sync_direction varchar(50), sync_time timestamp DEFAULT CURRENT_TIMESTAMP, status varchar(20),
    num_of_synced_records integer DEFAULT 0, entries_success integer DEFAULT 0, entries_failed integer DEFAULT 0,
    error_details jsonb, data_snapshot jsonb, duration_seconds integer, callback_url varchar(255), reason text
);
CREATE INDEX idx_sync_history_partner ON sync_history (timing_partner_id);
CREATE INDEX idx_sync_history_time ON sync_history (sync_time DESC);
CREATE VIEW unified_participants AS
SELECT 'runsignup' AS source_provider, timing_partner_id, event_id::varchar AS event_id, first_name, last_name, email,
    gender, bib_num AS bib_number, address->>'city' AS city, address->>'state' AS state, age, registration_date, fetched_date
FROM runsignup_participants;
CREATE VIEW unified_events AS
SELECT 'runsignup' AS source_provider, timing_partner_id, event_id::varchar AS event_id, name AS event_name,
    start_time AS event_date, fetched_date
FROM runsignup_events;
"""
"""The older program's tables."""

FETCHED = dt.datetime(2026, 3, 1, 4, 30)
"""When the older program last read, by its server's clock."""
PARTICIPANTS = (
    "race_id event_id registration_id user_id first_name middle_name last_name email dob gender phone address"
    " profile_image_url bib_num chip_num registration_date team_info payment_info additional_data fetched_date"
    " timing_partner_id last_modified credentials_used"
).split()
FEES = (
    "race_fee offline_payment_amount processing_fee processing_fee_paid_by_user processing_fee_paid_by_race partner_fee"
    " affiliate_profit extra_fees amount_paid"
).split()
TEAM = "team_id team_name team_type_id team_type team_gender team_bib_num".split()
ADDITIONAL = "usatf_discount_additional_field giveaway giveaway_option_id imported".split()
_OWNER = ("timing_partner_id", "credentials_used")
"""Of a race and an event: whose it is, and the key that read it, in clear."""
ADDRESS = "street city state zipcode country_code".split()


@dataclass(frozen=True)
class Copy:
    """What a copy has: participants in all, of them without registration id, older copies, gone at RunSignup.

    `left_out` registrations are not in it.
    """

    participants: int
    ghosts: int
    duplicates: int
    gone: int
    left_out: int


def make(url: str, world: World, *, schema: str = SCHEMA) -> Copy:
    """Make the tables in an empty database and fill them from a world.

    Partners have the sandbox's numbers, and their key and secret in clear.
    """
    with closing(psycopg2.connect(url)) as conn, conn.cursor() as cur:
        cur.execute(schema)
        # What is made here needs no checking row by row.
        cur.execute("SET LOCAL session_replication_role = replica")
        _partners(cur, world)
        _races(cur, world)
        copy = _participants(cur, world)
        _history(cur)
        conn.commit()
        conn.autocommit = True
        cur.execute("VACUUM ANALYZE")
    return copy


def _partners(cur: Cursor, world: World) -> None:
    for partner in world.partners.values():
        cur.execute("INSERT INTO timing_partners (company_name) VALUES (%s)", (partner.name,))
        cur.execute(
            "INSERT INTO partner_provider_credentials (provider_id, timing_partner_id, principal, secret, haku_event_name)"
            " VALUES (2, %s, %s, %s, NULL)",
            (partner.number, partner.key, partner.secret),
        )


def _races(cur: Cursor, world: World) -> None:
    now = world.clock.now()
    races = []
    for race in world.races.values():
        row = race_object(race, world.editions_of(race), now)
        race_row: list[Any] = [race.id, row["name"], row["description"], row["timezone"], _json(row["address"])]
        race_row += [_wall(row[name]) for name in ("next_date", "last_date", "created", "last_modified")]
        owner = min(race.partners)
        races.append([*race_row, row["is_private_race"] == "T", row["url"], owner, world.partners[owner].key])
    names = "race_id name description timezone address next_date last_date created last_modified is_private_race url"
    _copy(cur, "runsignup_races", [*names.split(), *_OWNER], races)
    events = []
    for event in world.events.values():
        race = world.races[event.race_id]
        row = event_object(event, race.zone)
        number = re.match(r"[\d.]+", row["distance"] or "")
        event_row: list[Any] = [event.id, race.id, row["name"], _wall(row["start_time"]), _wall(row["end_time"])]
        event_row += [_wall(row["registration_opens"]), row["event_type"], number and number[0]]
        owner = min(race.partners)
        events.append([*event_row, row["volunteer"] == "T", owner, world.partners[owner].key])
    names = "event_id race_id name start_time end_time registration_opens event_type distance volunteer"
    _copy(cur, "runsignup_events", [*names.split(), *_OWNER], events)


def _participants(cur: Cursor, world: World) -> Copy:
    active = list(world.truth.active.items.values())
    gone = [removal.record for removal in islice(world.truth.removed.items.values(), 0, None, 10)]
    left_out, duplicates = len(active) // 30, len(active) // 100
    kept = [record for place, record in enumerate(active) if place % 30 != 29]
    ghosts = left_out - duplicates - len(gone)
    assert ghosts > 0

    def rows() -> Iterator[list[Any]]:
        for place, record in enumerate(kept):
            row = _old_row(world, record)
            if place % 40 == 7:
                row[_BIB] = None
            if place % 50 == 9:
                row[_PHONE] = "555-0100"
            if place % 60 == 11:
                row[_PLACE_OF_TEAM] = None
            yield row
            if place < duplicates:
                twin = list(row)
                # Every other pair is of one age, and only the numbers of the rows show which is the newer.
                if place % 2:
                    twin[_FETCHED] = row[_FETCHED] - dt.timedelta(days=1)
                    twin[_BIB] = "9"
                yield twin
        for record in gone:
            yield _old_row(world, record)
        for record in islice(kept, ghosts):
            row = _old_row(world, record)
            row[_REGISTRATION] = None
            yield row

    _copy(cur, "runsignup_participants", PARTICIPANTS, rows())
    return Copy(len(active), ghosts, duplicates, len(gone), left_out)


_REGISTRATION, _PHONE, _BIB, _FETCHED, _PLACE_OF_TEAM = (
    PARTICIPANTS.index(name) for name in ("registration_id", "phone", "bib_num", "fetched_date", "team_info")
)


def _old_row(world: World, record: Record) -> list[Any]:
    """Return a registration as the older program stored it."""
    event = world.events[record.event_id]
    race = world.races[event.race_id]
    row = active_row(record, event, race, world.seed)
    user = row["user"]
    fees: dict[str, Any] = {name: _number(row.get(name)) for name in FEES}
    fees |= {"rsu_transaction_id": row.get("rsu_transaction_id"), "transaction_id": row.get("transaction_id")}
    address = user.get("address") or {}
    bib = row["bib_num"]
    return [
        race.id,
        event.id,
        record.id,
        None if (user["user_id"] or 0) >= 2**31 else user["user_id"],
        _fitting(user["first_name"], 100),
        _fitting(user["middle_name"], 100),
        _fitting(user["last_name"], 100),
        _fitting(user["email"], 255),
        user["dob"],
        user["gender"],
        _fitting(user["phone"], 50),
        _json({name: address.get(name) for name in ADDRESS}),
        None,
        None if bib is None else str(bib),
        row["chip_num"],
        _wall(row["registration_date"]),
        _json({name: row.get(name) for name in TEAM}),
        _json(fees),
        _json({name: row.get(name) for name in ADDITIONAL}),
        FETCHED,
        min(race.partners),
        dt.datetime.fromtimestamp(record.modified, dt.UTC).replace(tzinfo=None),
        world.partners[min(race.partners)].key,
    ]


def _history(cur: Cursor) -> None:
    cur.execute(
        "INSERT INTO sync_history (timing_partner_id, provider_id, operation_type, sync_direction, sync_time, status,"
        " num_of_synced_records, duration_seconds) SELECT timing_partner_id, 2, 'participants', 'pull', %s, 'completed', 10, 3"
        " FROM timing_partners",
        (FETCHED,),
    )
    cur.execute(
        "INSERT INTO sync_queue (timing_partner_id, operation_type) SELECT timing_partner_id, 'full' FROM timing_partners"
    )


def _copy(cur: Cursor, table: str, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    statement = f"COPY {table} ({', '.join(names)}) FROM STDIN"
    lines = ("\t".join(_cell(value) for value in row) + "\n" for row in rows)
    while part := "".join(islice(lines, 20_000)):
        cur.copy_expert(statement, io.StringIO(part))


def _cell(value: Any) -> str:
    if value is None:
        return r"\N"
    if type(value) is int:
        return str(value)
    return str(value).replace("\\", r"\\").replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")


def _wall(text: str | None) -> dt.datetime | None:
    if not text:
        return None
    month, day, year, *time = (int(part) for part in re.findall(r"\d+", text))
    return dt.datetime(year, month, day, *time)


def _fitting(text: str | None, limit: int) -> str | None:
    return None if text is None else text[:limit]


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


@cache
def _number(amount: str | None) -> float:
    return float(re.sub(r"[$,]", "", amount)) if amount else 0.0
