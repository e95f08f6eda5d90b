"""Declare what each column reveals of a person, and generate the SQL that blanks it.

Every column of a table with registrations is declared here once. A test fails for a column that is not, so a new column
cannot survive an erasure unnoticed.
"""

import enum
from dataclasses import dataclass


class Privacy(enum.Enum):
    """Who must not be recognised by a column, and when it goes."""

    KEPT = "kept"
    """Reveals nothing of a person: RunSignup's ids, bibs, times, amounts."""
    CONTACT = "contact"
    """Reaches or identifies a person beyond the race: blanked by a purge and by an erasure."""
    PERSONAL = "personal"
    """Shows who took part: kept by a purge, since results show it too, and blanked by an erasure."""


_MONEY = (
    "race_fee offline_payment_amount processing_fee processing_fee_paid_by_user processing_fee_paid_by_race partner_fee"
    " affiliate_profit extra_fees amount_paid usatf_discount_amount_in_cents"
)
BARE = (
    "registration_id event_id bib_num chip_num registration_date last_modified last_modified_ts removed_reason"
    f" new_registration_id imported giveaway giveaway_option_id {_MONEY}"
)
"""Members of a payload that stay in an erased person's registration."""
_WITH_NAME = (
    f"{BARE} age team_id team_name team_type_id team_type team_gender team_bib_num rsu_transaction_id transaction_id"
    " fundraiser_id fundraiser_charity_id fundraiser_charity_name team_fundraiser_id multi_race_bundle_id multi_race_bundle"
)


@dataclass(frozen=True)
class Members:
    """The members of a JSON object that stay: those in `names`, and of the one named `part` what `of_part` keeps."""

    names: str
    part: str = ""
    of_part: "Members | None" = None

    def kept(self, json: str, kind: str = "jsonb", alias: str = "m") -> str:
        """Return SQL for the object without any other member, or NULL if it is not an object.

        `kind` is its type, json or jsonb.
        """
        value = f"{alias}.value"
        if self.of_part:
            rest = self.of_part.kept(value, kind, f"{alias}m")
            value = f"CASE {alias}.key WHEN '{self.part}' THEN {rest} ELSE {value} END"
        return (
            f"CASE WHEN {kind}_typeof({json}) = 'object' THEN (SELECT coalesce({kind}_object_agg({alias}.key, {value}), '{{}}')"
            f" FROM {kind}_each({json}) {alias} WHERE {alias}.key = ANY ({self._listed()})) END"
        )

    def exceeded(self, json: str, kind: str = "jsonb", alias: str = "m") -> str:
        """Return SQL for whether anything would go. It is not true for NULL.

        A member may occur twice in json, so each is examined.
        """
        is_more = f"{alias}.key <> ALL ({self._listed()})"
        if self.of_part:
            rest = self.of_part.exceeded(f"{alias}.value", kind, f"{alias}m")
            is_more += f" OR {alias}.key = '{self.part}' AND {rest}"
        return (
            f"CASE WHEN {kind}_typeof({json}) = 'object' THEN EXISTS (SELECT FROM {kind}_each({json}) {alias} WHERE {is_more})"
            f" ELSE {json}::text <> 'null' END"
        )

    def _listed(self) -> str:
        return f"'{{{','.join(f'{self.names} {self.part}'.split())}}}'::text[]"


@dataclass(frozen=True)
class Column:
    """A column's class.

    Attributes:
        after_purge: Of JSON that a purge does not blank whole, the members that stay.
        after_erasure: Of JSON that an erasure does not blank whole, the members that stay.
        type: The SQL type of a blanked column, which NULL needs in a subquery.
    """

    privacy: Privacy
    after_purge: Members | None = None
    after_erasure: Members | None = None
    type: str = "text"


_KEPT, _CONTACT, _PERSONAL = Column(Privacy.KEPT), Column(Privacy.CONTACT), Column(Privacy.PERSONAL)
_TOWN = Members("city state country_code")
_USER = Members("user_id first_name middle_name last_name gender", "address", _TOWN)

REGISTRATION: dict[str, Column] = {
    **dict.fromkeys("id race_id event_id timing_partner_id registration_id".split(), _KEPT),
    "user_id": Column(Privacy.PERSONAL, type="bigint"),
    **dict.fromkeys("first_name middle_name last_name gender".split(), _PERSONAL),
    **dict.fromkeys("email phone profile_image_url".split(), _CONTACT),
    "dob": Column(Privacy.CONTACT, type="date"),
    "age": Column(Privacy.PERSONAL, type="integer"),
    "address": Column(Privacy.CONTACT, after_purge=_TOWN, type="jsonb"),
    # The bib of a relay team is its members' bib. See _without_team.
    "team_info": Column(Privacy.PERSONAL, type="jsonb"),
    "payment_info": Column(Privacy.PERSONAL, after_erasure=Members(_MONEY), type="jsonb"),
    "additional_data": Column(
        Privacy.CONTACT, after_purge=Members(_WITH_NAME), after_erasure=Members(BARE), type="jsonb"
    ),
    "payload": Column(
        Privacy.CONTACT, after_purge=Members(_WITH_NAME, "user", _USER), after_erasure=Members(BARE), type="json"
    ),
    **dict.fromkeys("bib_num chip_num first_bib local_bib corral wave coupon_discount".split(), _KEPT),
    **dict.fromkeys("coupon_code corporate_team".split(), _PERSONAL),
    "estimated_finish": Column(Privacy.PERSONAL, type="interval"),
    "checked_in_at": Column(Privacy.PERSONAL, type="timestamptz"),
    "addons": Column(Privacy.PERSONAL, type="jsonb"),
    # Anything may be in an answer or a note: a physician, a number in an emergency.
    "registration_notes": _CONTACT,
    **dict.fromkeys("answers memberships".split(), Column(Privacy.CONTACT, type="jsonb")),
    **dict.fromkeys("registration_date registered_at last_modified last_modified_epoch".split(), _KEPT),
    **dict.fromkeys("removed_at removed_reason removed_epoch new_registration_id".split(), _KEPT),
    **dict.fromkeys("first_seen_at changed_at source_at credentials_used fetched_date created_at seal".split(), _KEPT),
}
"""Columns of `runsignup_participants`. `seal` becomes NULL together with the content it was made of."""

START_LIST_ENTRY: dict[str, Column] = {
    **dict.fromkeys("timing_partner_id registration_id event_id race_id bib bib_number bib_source".split(), _KEPT),
    **dict.fromkeys("first_name last_name age gender city state team".split(), _PERSONAL),
    **dict.fromkeys("problems changed_at".split(), _KEPT),
}
"""Columns of `start_list_entries`, which has no rows of events that ended long ago."""

QUARANTINED_ROW: dict[str, Column] = {
    **dict.fromkeys("quarantined_row_id timing_partner_id race_id registration_id is_stored row_digest".split(), _KEPT),
    # A trigger keeps only the server's description of a member's value.
    "reason": _KEPT,
    "row_text": _CONTACT,
    **dict.fromkeys("first_seen_at last_seen_at resolved_at".split(), _KEPT),
}
"""Columns of `quarantined_rows`."""

TABLES = {
    "runsignup_participants": REGISTRATION,
    "start_list_entries": START_LIST_ENTRY,
    "quarantined_rows": QUARANTINED_ROW,
}


def _without_team(row: str) -> str:
    """Return SQL for the part of a team that its bib needs, so that it counts as its members'.

    Without it they would be duplicates of each other.
    """
    team = f"{row}.team_info"
    return (
        f"CASE WHEN rsu_bib(NULL, {team}) IS NOT NULL THEN jsonb_build_object('team_id', {team} -> 'team_id',"
        f" 'team_bib_num', {team} -> 'team_bib_num') END"
    )


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
    blank = {
        name: column.after_erasure.kept(f"{row}.{name}", column.type) if column.after_erasure else "NULL"
        for name, column in REGISTRATION.items()
        if column.privacy is not Privacy.KEPT
    }
    return blank | {"team_info": _without_team(row)}


def is_blanked_whole(name: str) -> bool:
    """Return whether nothing of a column of a registration stays of an erased person."""
    column = REGISTRATION[name]
    return column.privacy is not Privacy.KEPT and column.after_erasure is None and name != "team_info"


def entry_without_person() -> dict[str, str]:
    """Return SQL by column for what stays of an erased person's start list entry."""
    return {name: "NULL" for name, column in START_LIST_ENTRY.items() if column.privacy is not Privacy.KEPT}


def assignments(columns: dict[str, str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in columns.items())


def comparable(name: str, value: str) -> str:
    """Return SQL for a value that can be compared, because json has no equality operator."""
    return f"{value}::text" if REGISTRATION[name].type == "json" else value


def typed(name: str, value: str) -> str:
    """Return SQL for a value with its column's type, which a NULL in a subquery needs."""
    return f"NULL::{REGISTRATION[name].type}" if value == "NULL" else value
