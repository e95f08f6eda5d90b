"""The rows of the two participant feeds, generated from records when first needed."""

import copy
from functools import lru_cache

from rsu_pipeline.sandbox.people import SHIRTS, TEAMS, Row, mix, money, user_of
from rsu_pipeline.sandbox.races import Event, Race
from rsu_pipeline.sandbox.records import Record, Removal, encode
from rsu_pipeline.sandbox.times import day_of, eastern_minute_text, second_text

USER_KEYS = frozenset(
    ("user_id", "first_name", "middle_name", "last_name", "email", "address", "dob", "gender", "phone")
) | {"profile_image_url", "is_anonymous"}
ADDRESS_KEYS = frozenset(("street", "street2", "city", "state", "zipcode", "country_code"))

_REMOVED_MONEY = ("race_fee", "processing_fee", "processing_fee_paid_by_user", "processing_fee_paid_by_race")
_NOTHING = money(0)


@lru_cache(maxsize=4096)
def _age_day(epoch: float) -> tuple[int, str]:
    """The year and `-MM-DD` of the day at which ages are taken."""
    day = day_of(epoch)
    return day.year, f"-{day.month:02}-{day.day:02}"


def _age(dob: str | None, bits: int, epoch: float) -> int | None:
    if dob is None:
        return None if bits >> 62 & 1 else 20 + bits % 40
    year, day = _age_day(epoch)
    return year - int(dob[:4]) - (day < dob[4:])


def active_row(record: Record, event: Event, race: Race, seed: int) -> Row:
    """The row of `participants` (every field, `gender` may be X); the caller may change it."""
    if record.row is not None:
        return copy.deepcopy(record.row)
    user, bits = user_of(record.person, seed, race.place, record.imported)
    more = mix(record.id ^ seed)
    team = more % 9 == 0 and not event.volunteer
    fee = 0 if record.imported or event.volunteer else event.fee_cents
    processing = 0 if fee == 0 else 550
    charge = money(processing)
    refund = 500 if fee and more % 31 == 0 else 0
    return {
        "user": user,
        "registration_id": record.id,
        "event_id": record.event_id,
        "rsu_transaction_id": None if record.imported else 77_000_000 + record.person * 3 % 9_000_000,
        "transaction_id": None if fee == 0 else f"ay_{more >> 32:010}_0" if more & 1 else f"{more >> 32}",
        "bib_num": record.bib,
        "chip_num": None if record.bib is None or more >> 8 & 3 else f"C{record.bib:05}",
        "age": _age(user["dob"], bits, record.registered if event.age_base is None else event.age_base),
        "registration_date": eastern_minute_text(record.registered),
        "team_id": 61_000 + (more >> 4) % 6 if team else None,
        "team_name": TEAMS[(more >> 4) % 6] if team else None,
        "team_type_id": 7 if team else None,
        "team_type": "Corporate / Club" if team else None,
        "team_gender": "O" if team else None,
        "team_bib_num": (9000 + (more >> 4) % 6 if more >> 3 & 1 else f"T{(more >> 4) % 6}") if team else None,
        "last_modified": record.modified,
        "imported": "T" if record.imported else "F",
        "race_fee": money(fee),
        "offline_payment_amount": money(4000) if record.imported and not event.volunteer else _NOTHING,
        "processing_fee": charge,
        "processing_fee_paid_by_user": charge,
        "processing_fee_paid_by_race": _NOTHING,
        "partner_fee": _NOTHING,
        "affiliate_profit": None if more % 50 == 0 else _NOTHING,
        "extra_fees": money(-refund) if refund else _NOTHING,
        "amount_paid": money(fee + processing - refund),
        "usatf_discount_amount_in_cents": _NOTHING,
        "usatf_discount_additional_field": None,
        "giveaway": None if event.volunteer else SHIRTS[(more >> 16) % 7],
        "giveaway_option_id": None if event.volunteer else 44_020 + (more >> 16) % 7,
    }


def removed_row(removal: Removal, event: Event, race: Race, seed: int) -> Row:
    """The row of `removed-participants`: no event_id, its own date format, both forms of the change time."""
    if removal.row is not None:
        return copy.deepcopy(removal.row)
    was = active_row(removal.record, event, race, seed)
    row: Row = {"user": was["user"]} if "user" in was else {}
    row |= {
        "registration_id": removal.id,
        "age": was.get("age"),
        "registration_date": second_text(removal.record.registered),
        "last_modified": second_text(removal.modified),
        "last_modified_ts": removal.modified,
        "imported": was.get("imported", "F"),
    }
    row |= {key: was.get(key) for key in _REMOVED_MONEY}
    return row | {
        "amount_paid": was.get("amount_paid"),
        "removed_reason": removal.reason,
        "new_registration_id": removal.new_id,
    }


def condensed_row(removal: Removal) -> Row:
    """The removed row with `condensed_format=T`; its exact members are a guess."""
    return {
        "registration_id": removal.id,
        "last_modified_ts": removal.modified,
        "removed_reason": removal.reason,
        "new_registration_id": removal.new_id,
    }


def mask_nonbinary(row: Row) -> Row:
    """The row as a caller without `supports_nb=T` gets it: gender X becomes null."""
    user = row.get("user")
    if isinstance(user, dict) and user.get("gender") == "X":
        return row | {"user": user | {"gender": None}}
    return row


def template_row(event_id: int) -> Row:
    """The dummy row some answers start with; clients must drop it."""
    user: Row = dict.fromkeys(("user_id", "first_name", "middle_name", "last_name", "email", "dob", "gender", "phone"))
    user |= {"first_name": "Template", "last_name": "Participant", "profile_image_url": None, "address": {}}
    return {"user": user, "registration_id": -1, "event_id": event_id, "bib_num": None, "last_modified": 0}


def encoded_active(record: Record, event: Event, race: Race, seed: int) -> bytes:
    """The row as JSON bytes, kept on the record until the record is superseded."""
    if record.encoded is None:
        row = record.row if record.row is not None else active_row(record, event, race, seed)
        user = row.get("user")
        record.nonbinary = isinstance(user, dict) and user.get("gender") == "X"
        record.encoded = encode(row)
    return record.encoded


def encoded_removed(removal: Removal, event: Event, race: Race, seed: int) -> bytes:
    if removal.encoded is None:
        removal.encoded = encode(removal.row if removal.row is not None else removed_row(removal, event, race, seed))
    return removal.encoded
