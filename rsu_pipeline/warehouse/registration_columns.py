"""Declare each column of a registration once: its source at RunSignup, how it is parsed, its SQL type, what it reveals.

Everything else about a column follows from here: the staging table and the line copied into it (`staging`,
`sync.registration_rows`), what a merge compares and a row's hash covers (`participants`, `reconciliation`), what a purge and an
erasure blank (`privacy_classes`), the columns of docs/data-model.md, and the field lists of tests. The table itself is made by
the migrations, and the payload is decoded by `runsignup.payloads`. A test compares both with this module.

A new column of the payload is one entry here, one migration, and one field of the payload's struct:

    Column("shirt", "text", Privacy.KEPT, "shirt_size", Parser.TEXT),
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from rsu_pipeline.warehouse.kept_members import Members, Rest, TeamBib


class Privacy(enum.Enum):
    """Who must not be recognised by a column, and when it goes."""

    KEPT = "kept"
    """Reveals nothing of a person: RunSignup's ids, bibs, times, amounts."""
    CONTACT = "contact"
    """Reaches or identifies a person beyond the race: blanked by a purge and by an erasure."""
    PERSONAL = "personal"
    """Shows who took part: kept by a purge, since results show it too, and blanked by an erasure."""


class Parser(enum.Enum):
    """How a field becomes a column. `sync.registration_rows` has a function for each of the first group."""

    TEXT = "as received"
    BIGINT = "a number of 64 bits"
    AGE = "a number of 31 bits, not negative"
    EMAIL = "text with an index, which limits its length"
    BIB = "text with an index. A number becomes its digits, a blank none"
    DATE = "a calendar date"
    WALL_TIME = "Eastern wall time"
    EPOCH = "Unix seconds, or Eastern wall time that becomes them"

    RACE = "no field: the race that is read"
    OBJECT = "a JSON object, or NULL"
    MEMBERS = "a JSON object of members, see MEMBERS"
    ROW = "the whole row as received"
    INCLUDED = "read from several fields that are sent on request, see sync.included_rows"


class Kind(enum.Enum):
    """What a member of a JSON column is."""

    AMOUNT = "an amount of dollars, which becomes a number"
    TEXT = "kept as received, and often the same in many rows"
    UNIQUE = "kept as received, and different in every row"
    JSON = "kept undecoded"


@dataclass(frozen=True)
class Member:
    """A field of RunSignup's row that is stored as a member of a JSON column, under the same name."""

    name: str
    column: str
    kind: Kind
    privacy: Privacy


@dataclass(frozen=True)
class Column:
    """A column of `runsignup_participants`.

    Attributes:
        type: Its SQL type.
        source: RunSignup's field, `user.dob` for one of the person. Empty if the column is not one field of the payload.
        parser: How the field becomes the column. None if this program writes the column otherwise.
        after_purge: What stays of JSON that a purge does not blank whole.
        after_erasure: What stays of JSON that an erasure does not blank whole.
    """

    name: str
    type: str
    privacy: Privacy
    source: str = ""
    parser: Parser | None = None
    after_purge: Members | None = None
    after_erasure: Rest | None = None


def _members(column: str, kind: Kind, privacy: Privacy, names: str) -> tuple[Member, ...]:
    return tuple(Member(name, column, kind, privacy) for name in names.split())


_KEPT, _CONTACT, _PERSONAL = Privacy.KEPT, Privacy.CONTACT, Privacy.PERSONAL

MEMBERS: tuple[Member, ...] = (
    *_members(
        "team_info",
        Kind.TEXT,
        _PERSONAL,
        "team_id team_name team_type_id team_type team_gender team_bib_num",
    ),
    *_members(
        "payment_info",
        Kind.AMOUNT,
        _KEPT,
        "race_fee offline_payment_amount processing_fee processing_fee_paid_by_user processing_fee_paid_by_race partner_fee"
        " affiliate_profit extra_fees amount_paid",
    ),
    *_members("payment_info", Kind.UNIQUE, _PERSONAL, "rsu_transaction_id transaction_id"),
    # In dollars, in spite of its name.
    Member("usatf_discount_amount_in_cents", "additional_data", Kind.AMOUNT, _KEPT),
    # A membership number.
    Member("usatf_discount_additional_field", "additional_data", Kind.TEXT, _CONTACT),
    *_members("additional_data", Kind.TEXT, _KEPT, "giveaway giveaway_option_id"),
    *_members(
        "additional_data",
        Kind.TEXT,
        _PERSONAL,
        "fundraiser_id fundraiser_charity_id fundraiser_charity_name team_fundraiser_id multi_race_bundle_id",
    ),
    Member("imported", "additional_data", Kind.TEXT, _KEPT),
    Member("multi_race_bundle", "additional_data", Kind.JSON, _PERSONAL),
    Member("signed_waiver_details", "additional_data", Kind.JSON, _CONTACT),
)
"""Members of JSON columns, in the order of a staged line."""

MONEY = tuple(member.name for member in MEMBERS if member.kind is Kind.AMOUNT)
"""Every field that is an amount of dollars."""

_FIELDS = (
    Column("race_id", "bigint", _KEPT, parser=Parser.RACE),
    Column("event_id", "bigint", _KEPT, "event_id", Parser.BIGINT),
    Column("registration_id", "bigint", _KEPT, "registration_id", Parser.TEXT),
    Column("user_id", "bigint", _PERSONAL, "user.user_id", Parser.BIGINT),
    Column("first_name", "text", _PERSONAL, "user.first_name", Parser.TEXT),
    Column("middle_name", "text", _PERSONAL, "user.middle_name", Parser.TEXT),
    Column("last_name", "text", _PERSONAL, "user.last_name", Parser.TEXT),
    Column("email", "text", _CONTACT, "user.email", Parser.EMAIL),
    Column("dob", "date", _CONTACT, "user.dob", Parser.DATE),
    Column("gender", "text", _PERSONAL, "user.gender", Parser.TEXT),
    Column("phone", "text", _CONTACT, "user.phone", Parser.TEXT),
    Column("profile_image_url", "text", _CONTACT, "user.profile_image_url", Parser.TEXT),
    Column("bib_num", "text", _KEPT, "bib_num", Parser.BIB),
    Column("chip_num", "text", _KEPT, "chip_num", Parser.TEXT),
    Column("age", "integer", _PERSONAL, "age", Parser.AGE),
    Column("registration_date", "timestamp", _KEPT, "registration_date", Parser.WALL_TIME),
    Column("last_modified_epoch", "bigint", _KEPT, "last_modified", Parser.EPOCH),
    Column(
        "address",
        "jsonb",
        _CONTACT,
        "user.address",
        Parser.OBJECT,
        after_purge=Members(("city", "state", "country_code")),
    ),
)
_REMOVAL = (
    Column("removed_reason", "text", _KEPT, "removed_reason", Parser.TEXT),
    Column("removed_epoch", "bigint", _KEPT, "last_modified_ts", Parser.EPOCH),
    Column("new_registration_id", "bigint", _KEPT, "new_registration_id", Parser.BIGINT),
)


def _of_row(*classes: Privacy) -> tuple[str, ...]:
    """Return the fields of RunSignup's row that are of these classes, without those of the person."""
    fields = [(column.source, column.privacy) for column in (*_FIELDS, *_REMOVAL)]
    members = [(member.name, member.privacy) for member in MEMBERS]
    return tuple(name for name, privacy in fields + members if name and "." not in name and privacy in classes)


def _of_user() -> Members:
    """Return the fields of the person that a purge keeps."""
    names = tuple(
        column.source for column in _FIELDS if column.source.startswith("user.") and column.privacy is _PERSONAL
    )
    (part,) = (column for column in _FIELDS if column.source.startswith("user.") and column.after_purge)
    return Members(tuple(map(_field_of, names)), _field_of(part.source), part.after_purge)


def _field_of(source: str) -> str:
    return source.rpartition(".")[2]


BARE = _of_row(_KEPT)
"""Fields of a row that stay of an erased person's registration."""
_WITH_NAME = _of_row(_KEPT, _PERSONAL)

INCLUDED: tuple[Column, ...] = (
    Column("corral", "text", _KEPT, parser=Parser.INCLUDED),
    Column("wave", "text", _KEPT, parser=Parser.INCLUDED),
    Column("estimated_finish", "interval", _PERSONAL, parser=Parser.INCLUDED),
    Column("checked_in_at", "timestamptz", _PERSONAL, parser=Parser.INCLUDED),
    Column("coupon_code", "text", _PERSONAL, parser=Parser.INCLUDED),
    Column("coupon_discount", "numeric", _KEPT, parser=Parser.INCLUDED),
    Column("corporate_team", "text", _PERSONAL, parser=Parser.INCLUDED),
    # Anything may be in an answer or a note: a physician, a number in an emergency.
    Column("registration_notes", "text", _CONTACT, parser=Parser.INCLUDED),
    Column("answers", "json", _CONTACT, parser=Parser.INCLUDED),
    Column("addons", "jsonb", _PERSONAL, parser=Parser.INCLUDED),
    Column("memberships", "jsonb", _CONTACT, parser=Parser.INCLUDED),
)
"""Columns that are NULL unless they are requested (see `included_fields`). Those of JSON are the last ones."""

CONTENT: tuple[Column, ...] = (
    *_FIELDS,
    Column("team_info", "jsonb", _PERSONAL, parser=Parser.MEMBERS, after_erasure=TeamBib()),
    Column("payment_info", "jsonb", _PERSONAL, parser=Parser.MEMBERS, after_erasure=Members(MONEY)),
    Column(
        "additional_data",
        "jsonb",
        _CONTACT,
        parser=Parser.MEMBERS,
        after_purge=Members(_WITH_NAME),
        after_erasure=Members(BARE),
    ),
    Column(
        # Text that PostgreSQL checks and does not parse.
        "payload",
        "json",
        _CONTACT,
        parser=Parser.ROW,
        after_purge=Members(_WITH_NAME, "user", _of_user()),
        after_erasure=Members(BARE),
    ),
    *INCLUDED,
)
"""What RunSignup sends of an active registration, in the order of a staged line: fields, objects, members, row, INCLUDED.

The order is part of the row's hash, so a new column has every stored row staged once more by the next full read.
"""

REMOVAL = _REMOVAL
"""What the removed feed has beside that."""


def _kept(type_: str, names: str) -> Iterable[Column]:
    return (Column(name, type_, _KEPT) for name in names.split())


REGISTRATION: dict[str, Column] = {
    column.name: column
    for column in (
        *_kept("bigint", "id"),
        *_kept("integer", "timing_partner_id"),
        *CONTENT,
        *REMOVAL,
        *_kept("text", "first_bib local_bib"),
        # Eastern wall time and instant that PostgreSQL computes from the columns above.
        *_kept("timestamptz", "registered_at"),
        *_kept("timestamp", "last_modified"),
        *_kept("timestamptz", "removed_at first_seen_at changed_at source_at"),
        *_kept("varchar(255)", "credentials_used"),
        *_kept("timestamp", "fetched_date created_at"),
        # NULL together with the content it was made of.
        *_kept("bigint", "seal"),
    )
}
"""Every column of `runsignup_participants`, by name."""


def field_name(column: Column) -> str:
    """Return the name of a column's field, as field errors have it."""
    return _field_of(column.source)


def members_of(column: str, kind: Kind) -> tuple[str, ...]:
    """Return the members of a JSON column that are of one kind."""
    return tuple(member.name for member in MEMBERS if member.column == column and member.kind is kind)
