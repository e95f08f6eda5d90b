"""The other shapes that older installations have: each is adopted, and each keeps what its readers know."""

from collections.abc import Callable

import pytest

from rsu_pipeline.warehouse import credentials, database, sync_log
from rsu_pipeline_tests.adoption.looking import adopt, assert_kept, catalog, contents
from rsu_pipeline_tests.warehouse.sessions import rows

PROVIDERS = (
    "ALTER TABLE providers RENAME provider_id TO id; ALTER TABLE providers RENAME name TO provider_name",
    "DROP VIEW unified_events",
)
PARTNERS = (
    "ALTER TABLE timing_partners ADD contact_email varchar(255), ADD api_access_enabled boolean NOT NULL DEFAULT true;"
    "ALTER TABLE timing_partners ALTER api_access_enabled DROP DEFAULT",
)
HISTORY = (
    "DROP TABLE sync_history; CREATE TABLE sync_history (id serial PRIMARY KEY, provider_name varchar(100) NOT NULL,"
    " sync_type varchar(100) NOT NULL, records_processed integer DEFAULT 0, started_at timestamp DEFAULT now(),"
    " completed_at timestamp, error_message text);"
    "INSERT INTO sync_history (provider_name, sync_type, records_processed, started_at, completed_at, error_message) VALUES"
    " ('RunSignUp', 'participants', 12, '2026-03-01 04:00', '2026-03-01 04:05', NULL),"
    " ('RunSignUp', repeat('x', 80), 0, '2026-03-01 05:00', NULL, 'timeout'), ('RunSignUp', 'events', 1, NULL, '2999-01-01', '')",
)
QUEUE = (
    "DROP TABLE sync_queue; CREATE TABLE sync_queue (id serial PRIMARY KEY, provider_name varchar(100), sync_type varchar(50),"
    " scheduled_for timestamp); INSERT INTO sync_queue (provider_name) VALUES ('RunSignUp')",
)
EXTRAS = (
    "ALTER TABLE runsignup_participants ADD race_fee numeric(10,2), ADD amount_paid numeric(10,2),"
    " ADD team_name varchar(255), ADD fundraiser_charity_name varchar(255);"
    "UPDATE runsignup_participants SET race_fee = (payment_info ->> 'race_fee')::numeric, team_name = team_info ->> 'team_name'",
)
FLAT_RACES = (
    "ALTER TABLE runsignup_races ADD street text, ADD street2 text, ADD city text, ADD state varchar(50), ADD zipcode text,"
    " ADD country_code varchar(10);"
    "UPDATE runsignup_races SET city = address ->> 'city', state = address ->> 'state';"
    "ALTER TABLE runsignup_races DROP address",
)
FLAT_COLUMNS = {
    "address": "street city state zipcode country_code",
    "team_info": "team_id team_name team_type_id team_type team_gender team_bib_num",
    "payment_info": "race_fee offline_payment_amount processing_fee processing_fee_paid_by_user"
    " processing_fee_paid_by_race partner_fee affiliate_profit extra_fees amount_paid rsu_transaction_id transaction_id",
    "additional_data": "usatf_discount_amount_in_cents usatf_discount_additional_field giveaway giveaway_option_id"
    " fundraiser_id fundraiser_charity_id fundraiser_charity_name team_fundraiser_id multi_race_bundle_id"
    " multi_race_bundle signed_waiver_details imported",
}


def _flat_participants() -> tuple[str, ...]:
    """Return statements for a shape as from an SQLite import: no JSON, and numbers that no sequence gives."""
    kinds = {"race_fee": "numeric(10,2)", "amount_paid": "numeric(10,2)", "team_id": "integer"}
    names = [(name, source) for source, text in FLAT_COLUMNS.items() for name in text.split()]
    adds = ", ".join(f"ADD {name} {kinds.get(name, 'text')}" for name, _ in names)
    sets = ", ".join(f"{name} = ({source} ->> '{name}')::{kinds.get(name, 'text')}" for name, source in names)
    drops = ", ".join(f"DROP {source}" for source in FLAT_COLUMNS)
    view = (
        "CREATE VIEW unified_participants AS SELECT 'runsignup'::varchar AS source_provider, timing_partner_id,"
        " event_id::varchar AS event_id, first_name, last_name, email, gender, bib_num AS bib_number, city, state, age,"
        " registration_date, fetched_date FROM runsignup_participants"
    )
    return (
        "DROP VIEW unified_participants",
        f"ALTER TABLE runsignup_participants {adds}; UPDATE runsignup_participants SET {sets};"
        f"ALTER TABLE runsignup_participants {drops}, ALTER id DROP DEFAULT, DROP last_modified;"
        "DROP SEQUENCE runsignup_participants_id_seq",
        view,
    )


SHAPES = {
    "providers by id and provider_name": PROVIDERS,
    "partners with more columns": PARTNERS,
    "history by id": HISTORY,
    "queue by id": QUEUE,
    "participants with flat extras": EXTRAS,
    "participants all flat": _flat_participants(),
    "races with flat addresses": FLAT_RACES,
    "all at once": (*PROVIDERS, *PARTNERS, *HISTORY, *QUEUE, *_flat_participants(), *FLAT_RACES),
    "no history, no providers": ("DROP TABLE sync_history, sync_queue, partner_provider_credentials, providers",),
    "no last_modified": ("ALTER TABLE runsignup_participants DROP last_modified",),
    "narrower than usual": (
        "DROP VIEW unified_participants",
        "ALTER TABLE runsignup_participants ALTER phone TYPE varchar(20), ALTER gender TYPE varchar(20)",
    ),
    "keys of other names": (
        "ALTER TABLE runsignup_races RENAME CONSTRAINT runsignup_races_pkey TO pk_races;"
        "CREATE INDEX runsignup_events_race_id ON runsignup_events (name)",
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_adopted_whole_and_keeps_what_it_had(
    make_old: Callable[..., str], database_url: str, name: str
) -> None:
    url = make_old(*SHAPES[name])
    there = {table for (table,) in rows(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    before = contents(url, tuple(there))
    rehearsed = adopt(url, dry_run=True)
    assert adopt(url).steps == rehearsed.steps
    assert_kept(url, before)
    adopted, fresh = catalog(url), catalog(database_url)
    lacking = {part: sorted(_accepted(fresh[part] - adopted[part])) for part in fresh}
    assert lacking == {part: [] for part in fresh}
    assert adopt(url).steps == ()


def _accepted(lacking: set[tuple[object, ...]]) -> set[tuple[object, ...]]:
    """Return a catalog without what a shape may have in its own way.

    A generated key needs no default and may be integer, and a name that is taken gets a suffix.
    """
    generated = {("providers", "provider_id"), ("sync_history", "sync_history_id")}
    return {item for item in lacking if item[:2] not in generated and "runsignup_events_race_id ON" not in str(item)}


def test_a_generated_key_is_read_by_both_names(make_old: Callable[..., str]) -> None:
    url = make_old(*PROVIDERS, *HISTORY)
    adopt(url)
    rows(
        url,
        "INSERT INTO providers (provider_name) VALUES ('Chrono'); UPDATE providers SET provider_name = 'Hako' WHERE id = 1",
    )
    assert rows(url, "SELECT id, provider_name, provider_id, name FROM providers ORDER BY 1") == [
        (1, "Hako", 1, "Hako"),
        (2, "RunSignUp", 2, "RunSignUp"),
        (3, "Chrono", 3, "Chrono"),
    ]
    old = rows(
        url,
        "SELECT sync_history_id, operation_type, sync_time::text, num_of_synced_records, reason, finished_at::text"
        " FROM sync_history ORDER BY id",
    )
    assert old[0] == (1, "participants", "2026-03-01 04:00:00", 12, None, "2026-03-01 04:05:00+00")
    assert old[1] == (2, "x" * 50, "2026-03-01 05:00:00", 0, "timeout", "2026-03-01 05:00:00+00")
    with database.session(url, purpose="tests") as conn:
        assert len(credentials.list_partners_awaiting_first_sync(conn)) == 3
        sync_log.record(
            conn,
            partner_id=1,
            race_id=None,
            event_ids=[],
            operation="events",
            status="completed",
            reason="listing",
            run_id="r",
            seconds=1.0,
            counts={"read": 0},
        )
        conn.commit()
    assert rows(url, "SELECT id, sync_history_id, provider_id FROM sync_history WHERE run_id = 'r'") == [(4, 4, 2)]


def test_flat_columns_fill_the_json_beside_them(make_old: Callable[..., str]) -> None:
    names = ", ".join(FLAT_COLUMNS)
    url = make_old(
        f"CREATE TABLE original AS SELECT id, {names} FROM runsignup_participants;"
        "CREATE TABLE places AS SELECT race_id, address FROM runsignup_races",
        *_flat_participants(),
        *FLAT_RACES,
    )
    adopt(url)
    differing = rows(
        url,
        "SELECT o.address, p.address FROM runsignup_participants p JOIN original o USING (id)"
        " WHERE o.address IS DISTINCT FROM p.address AND jsonb_strip_nulls(o.address) <> '{}'",
    )
    assert differing == []
    teams = "o.team_info -> 'team_id' = p.team_info -> 'team_id' AND o.team_info -> 'team_name' = p.team_info -> 'team_name'"
    counts = rows(
        url,
        f"SELECT count(*) FILTER (WHERE p.team_info IS NOT NULL AND NOT ({teams})), count(p.team_info) > 0,"
        " count(*) FILTER (WHERE (p.payment_info -> 'race_fee') <> (o.payment_info -> 'race_fee')), count(p.payment_info) > 0"
        " FROM runsignup_participants p JOIN original o USING (id)",
    )
    assert counts == [(0, True, 0, True)]
    assert rows(
        url,
        "SELECT count(*) FROM runsignup_races r JOIN places USING (race_id)"
        " WHERE r.address ->> 'city' IS DISTINCT FROM places.address ->> 'city'",
    ) == [(0,)]
