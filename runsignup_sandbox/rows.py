"""The rows of the two participant feeds, generated from records when first needed."""

import copy
from functools import lru_cache

import msgspec

from runsignup_sandbox.encoding import encode
from runsignup_sandbox.people import SHIRTS, TEAMS, Row, User, mix, money, user_of
from runsignup_sandbox.races import Event, Race
from runsignup_sandbox.records import Record, Removal
from runsignup_sandbox.times import day_of, eastern_minute_text, second_text

USER_KEYS = frozenset(
    ("user_id", "first_name", "middle_name", "last_name", "email", "address", "dob", "gender", "phone")
) | {"profile_image_url", "is_anonymous"}
ADDRESS_KEYS = frozenset(("street", "street2", "city", "state", "zipcode", "country_code"))

_REMOVED_MONEY = ("race_fee", "processing_fee", "processing_fee_paid_by_user", "processing_fee_paid_by_race")


@lru_cache(maxsize=4096)
def _age_day(epoch: float) -> tuple[int, str]:
    """Return the year and `-MM-DD` of the day at which ages are taken."""
    day = day_of(epoch)
    return day.year, f"-{day.month:02}-{day.day:02}"


def _age(user: User, epoch: float) -> int | None:
    if user.dob == "null":
        return None if user.bits >> 62 & 1 else 20 + user.bits % 40
    year, day = _age_day(epoch)
    return year - int(user.dob[1:5]) - (day < user.dob[5:11])


def _members(row: Row) -> str:
    """Encode the members of a JSON object without its braces."""
    return encode(row)[1:-1].decode()


# Rows are made by the hundred thousand, so what many of them share is encoded once.


@lru_cache(maxsize=64)
def _team(number: int | None) -> str:
    if number is None:
        names = ("team_id", "team_name", "team_type_id", "team_type", "team_gender", "team_bib_num")
        return _members(dict.fromkeys(names))
    return _members(
        {
            "team_id": 61_000 + number,
            "team_name": TEAMS[number],
            "team_type_id": 7,
            "team_type": "Corporate / Club",
            "team_gender": "O",
            "team_bib_num": None,
        }
    )


@lru_cache(maxsize=1024)
def _amounts(fee: int, offline: int, refund: int, profit: bool) -> str:
    """Encode the members that are amounts. All arguments are in cents."""
    processing = 550 if fee else 0
    return _members(
        {
            "race_fee": money(fee),
            "offline_payment_amount": money(offline),
            "processing_fee": money(processing),
            "processing_fee_paid_by_user": money(processing),
            "processing_fee_paid_by_race": money(0),
            "partner_fee": money(0),
            "affiliate_profit": money(0) if profit else None,
            "extra_fees": money(-refund),
            "amount_paid": money(fee + processing - refund),
            "usatf_discount_amount_in_cents": money(0),
            "usatf_discount_additional_field": None,
        }
    )


@lru_cache(maxsize=16)
def _giveaway(number: int | None) -> str:
    if number is None:
        return _members({"giveaway": None, "giveaway_option_id": None})
    return _members({"giveaway": SHIRTS[number], "giveaway_option_id": 44_020 + number})


def _generated(record: Record, event: Event, race: Race, seed: int) -> tuple[bytes, bool]:
    """Return the JSON of a row that nobody has edited, and whether its gender is X."""
    user = user_of(record.person, seed, race.place, record.imported)
    more = mix(record.id ^ seed)
    volunteer, imported, bib = event.volunteer, record.imported, record.bib
    fee = 0 if imported or volunteer else event.fee_cents
    age = _age(user, record.registered if event.age_base is None else event.age_base)
    team = None if volunteer or more % 9 else (more >> 4) % 6
    transaction = "null" if fee == 0 else f'"ay_{more >> 32:010}_0"' if more & 1 else f'"{more >> 32}"'
    chip = "null" if bib is None or more >> 8 & 3 else f'"C{bib:05}"'
    registered = eastern_minute_text(record.registered).replace("/", "\\/")
    amounts = _amounts(
        fee, 4000 if imported and not volunteer else 0, 500 if fee and more % 31 == 0 else 0, more % 50 != 0
    )
    text = (
        f'{{"user":{user.text},"registration_id":{record.id},"event_id":{record.event_id},'
        f'"rsu_transaction_id":{"null" if imported else 77_000_000 + record.person * 3 % 9_000_000},'
        f'"transaction_id":{transaction},"bib_num":{"null" if bib is None else bib},'
        f'"chip_num":{chip},"age":{"null" if age is None else age},'
        f'"registration_date":"{registered}",'
        f'{_team(team)},"last_modified":{record.modified},'
        f'"imported":"{"T" if imported else "F"}",{amounts},'
        f"{_giveaway(None if volunteer else (more >> 16) % 7)}}}"
    )
    return text.encode(), user.nonbinary


def active_row(record: Record, event: Event, race: Race, seed: int) -> Row:
    """Return a row of `participants` with every field, where `gender` may be X. The caller may change it."""
    if record.row is not None:
        return copy.deepcopy(record.row)
    row: Row = msgspec.json.decode(_generated(record, event, race, seed)[0])
    return row


def removed_row(removal: Removal, event: Event, race: Race, seed: int) -> Row:
    """Return a row of `removed-participants`: no event_id, its own date format, both forms of the change time."""
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
    """Return the removed row with `condensed_format=T`. Its exact members are a guess."""
    return {
        "registration_id": removal.id,
        "last_modified_ts": removal.modified,
        "removed_reason": removal.reason,
        "new_registration_id": removal.new_id,
    }


def mask_nonbinary(row: Row) -> Row:
    """Return the row as a caller without `supports_nb=T` gets it: gender X becomes null."""
    user = row.get("user")
    if isinstance(user, dict) and user.get("gender") == "X":
        return row | {"user": user | {"gender": None}}
    return row


def template_row(event_id: int) -> Row:
    """Return the dummy row that some answers start with. Clients must drop it."""
    user: Row = dict.fromkeys(("user_id", "first_name", "middle_name", "last_name", "email", "dob", "gender", "phone"))
    user |= {"first_name": "Template", "last_name": "Participant", "profile_image_url": None, "address": {}}
    return {"user": user, "registration_id": -1, "event_id": event_id, "bib_num": None, "last_modified": 0}


def encoded_active(record: Record, event: Event, race: Race, seed: int) -> bytes:
    """Return the row as JSON bytes, cached on the record until the record is superseded."""
    if record.encoded is None:
        if record.row is None:
            record.encoded, record.nonbinary = _generated(record, event, race, seed)
        else:
            record.encoded = encode(record.row)
            record.nonbinary = b'"gender":"X"' in record.encoded
    return record.encoded


def encoded_removed(removal: Removal, event: Event, race: Race, seed: int) -> bytes:
    if removal.encoded is None:
        removal.encoded = encode(removal.row if removal.row is not None else removed_row(removal, event, race, seed))
    return removal.encoded
