"""Declare what each column reveals of a person, and generate the SQL that blanks it.

Columns of registrations are declared in `registration_columns`, those of other tables with personal data here. A test fails for
a column that is not, so a new column cannot survive an erasure unnoticed.
"""

from rsu_pipeline.warehouse.registration_columns import REGISTRATION, Privacy

_KEPT, _CONTACT, _PERSONAL = Privacy.KEPT, Privacy.CONTACT, Privacy.PERSONAL

START_LIST_ENTRY: dict[str, Privacy] = {
    **dict.fromkeys("timing_partner_id registration_id event_id race_id bib bib_number bib_source".split(), _KEPT),
    **dict.fromkeys("first_name last_name age gender city state team".split(), _PERSONAL),
    **dict.fromkeys("problems changed_at".split(), _KEPT),
}
"""Columns of `start_list_entries`, which has no rows of events that ended long ago."""

QUARANTINED_ROW: dict[str, Privacy] = {
    **dict.fromkeys("quarantined_row_id timing_partner_id race_id registration_id is_stored row_digest".split(), _KEPT),
    # A trigger keeps only the server's description of a member's value.
    "reason": _KEPT,
    "row_text": _CONTACT,
    **dict.fromkeys("first_seen_at last_seen_at resolved_at".split(), _KEPT),
}
"""Columns of `quarantined_rows`."""

TABLES = {
    "runsignup_participants": {name: column.privacy for name, column in REGISTRATION.items()},
    "start_list_entries": START_LIST_ENTRY,
    "quarantined_rows": QUARANTINED_ROW,
}


def without_contact(row: str) -> dict[str, str]:
    """Return SQL by column for what stays of a registration whose event is over."""
    return {
        name: column.after_purge.kept(f"{row}.{name}", column.type) if column.after_purge else "NULL"
        for name, column in REGISTRATION.items()
        if column.privacy is Privacy.CONTACT
    }


def holds_contact(row: str) -> str:
    """Return SQL for whether a purge would change any of these columns."""
    contact = {name: column for name, column in REGISTRATION.items() if column.privacy is Privacy.CONTACT}
    whole = ", ".join(f"{row}.{name}" for name, column in contact.items() if column.after_purge is None)
    beside = [
        column.after_purge.exceeded(f"{row}.{name}", column.type)
        for name, column in contact.items()
        if column.after_purge
    ]
    return f"(num_nonnulls({whole}) > 0 OR {' OR '.join(beside)})"


def without_person(row: str) -> dict[str, str]:
    """Return SQL by column for what stays of an erased person's registration."""
    return {
        name: column.after_erasure.kept(f"{row}.{name}", column.type) if column.after_erasure else "NULL"
        for name, column in REGISTRATION.items()
        if column.privacy is not Privacy.KEPT
    }


def is_blanked_whole(name: str) -> bool:
    """Return whether nothing of a column of a registration stays of an erased person."""
    column = REGISTRATION[name]
    return column.privacy is not Privacy.KEPT and column.after_erasure is None


def entry_without_person() -> dict[str, str]:
    """Return SQL by column for what stays of an erased person's start list entry."""
    return {name: "NULL" for name, privacy in START_LIST_ENTRY.items() if privacy is not Privacy.KEPT}


def assignments(columns: dict[str, str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in columns.items())


def comparable(name: str, value: str) -> str:
    """Return SQL for a value that can be compared, because json has no equality operator."""
    return f"{value}::text" if REGISTRATION[name].type == "json" else value


def typed(name: str, value: str) -> str:
    """Return SQL for a value with its column's type, which a NULL in a subquery needs."""
    return f"NULL::{REGISTRATION[name].type}" if value == "NULL" else value
