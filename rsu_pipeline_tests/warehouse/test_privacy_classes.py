"""What is personal is declared once per column, and no column goes without."""

from rsu_pipeline.warehouse import database
from rsu_pipeline.warehouse.privacy_classes import TABLES, without_contact, without_person
from rsu_pipeline.warehouse.registration_columns import REGISTRATION, Privacy
from rsu_pipeline.warehouse.staging import COLUMNS

PERSONAL_NAMES = "name email phone dob birth gender address street user_id payload"
HOLDS_NOBODY = {
    # Numbers of registrations and accounts, which is what an erasure needs to be kept to.
    "erased_registrations": {"user_id", "erased_user_id"},
    "erased_users": {"user_id", "erased_user_id"},
    # Races, events and partners, not people who take part.
    "runsignup_races": {"name", "payload", "address"},
    "runsignup_events": {"name", "payload", "require_dob", "require_phone"},
    "timing_partners": {"company_name"},
    "providers": {"name"},
    "schema_migrations": {"name"},
    "sync_queue": {"payload"},
    # Where a program wrote from, and which table.
    "foreign_writes": {"address", "table_name"},
}


def columns(url: str) -> dict[str, set[str]]:
    """Return the columns of every table of the hub."""
    found: dict[str, set[str]] = {}
    with database.session(url, purpose="tests") as conn, conn.cursor() as cur:
        cur.execute(
            "SELECT c.table_name, c.column_name FROM information_schema.columns c"
            " JOIN information_schema.tables t USING (table_schema, table_name)"
            " WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE'"
        )
        for table, column in cur.fetchall():
            found.setdefault(table, set()).add(column)
    return found


def test_every_column_of_a_registration_is_declared_as_kept_contact_or_personal(database_url: str) -> None:
    stored = columns(database_url)
    for table, declared in TABLES.items():
        missing, unknown = stored[table] - declared.keys(), declared.keys() - stored[table]
        assert not missing, (
            f"{table}: declare in registration_columns or privacy_classes what of a person {sorted(missing)} hold"
        )
        assert not unknown, f"{table} has no columns {sorted(unknown)}"


def test_no_other_table_seems_to_hold_a_person(database_url: str) -> None:
    for table, names in columns(database_url).items():
        if table in TABLES:
            continue
        suspicious = {name for name in names if any(part in name for part in PERSONAL_NAMES.split())}
        assert suspicious <= HOLDS_NOBODY.get(table, set()), f"{table}: {sorted(suspicious)}"


def test_what_is_blanked_follows_from_the_declaration() -> None:
    personal = {name for name, column in REGISTRATION.items() if column.privacy is not Privacy.KEPT}
    contact = {name for name, column in REGISTRATION.items() if column.privacy is Privacy.CONTACT}
    assert without_person("t").keys() == personal and without_contact("t").keys() == contact
    assert {"first_name", "email", "payload"} <= personal and contact < personal
    # A page is blanked where it is staged, so it must have every column that is.
    assert personal <= set(COLUMNS)
