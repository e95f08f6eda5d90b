"""Invented people: the same number always gives the same person.

No person depends on a random generator's state, so a person can be made at the moment a page needs it. Every fortieth person
has one of the oddities that a client must survive.
"""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from runsignup_sandbox.encoding import encode
from runsignup_sandbox.times import TWO_DIGITS

Row = dict[str, Any]


class Place(NamedTuple):
    """Where a race takes place: `timezone` is an IANA name, `area` a phone area code."""

    city: str
    state: str
    zipcode: str
    timezone: str
    area: str


PLACES = (
    Place("Harwick", "IL", "60900", "America/Chicago", "312"),
    Place("Port Ellery", "NY", "12900", "America/New_York", "518"),
    Place("Cinder Gap", "CO", "81900", "America/Denver", "719"),
    Place("Alder Bay", "CA", "95900", "America/Los_Angeles", "707"),
    Place("Mesa Quemada", "AZ", "85900", "America/Phoenix", "602"),
    Place("Kestrel Cove", "AK", "99900", "America/Anchorage", "907"),
    Place("Hale Moana", "HI", "96900", "Pacific/Honolulu", "808"),
    Place("Three Mills", "MI", "48900", "America/Detroit", "313"),
    Place("Old Sawyer", "IN", "46900", "America/Indiana/Indianapolis", "317"),
    Place("Larkspur Falls", "ID", "83900", "America/Boise", "208"),
    Place("Greenwich Meridian", "ME", "04900", "UTC", "207"),
    Place("St. Brannoc", "GA", "30900", "America/New_York", "404"),
)

_FIRST_F_TEXT = (
    "Ines Dana Maren Odile Priya Tamsin Ruth Bea Carla Hester Juno Leona Mabel Nadia Oona Petra Quinn Rosa Sunniva "
    "Thea Uma Vera Willa Xenia Yara Zelda Annika Blythe Cleo Dagny Elsie Freya"
)
FIRST_F = _FIRST_F_TEXT.split()
_FIRST_M_TEXT = (
    "Sam Theo Amos Bram Cyril Dov Emil Felix Gus Hugo Idris Jonas Kip Lars Milo Ned Otto Pavel Rafe Silas Tomas Ulf "
    "Viktor Wes Yusuf Zane Arlo Boyd Casper Dexter Ezra Finn"
)
FIRST_M = _FIRST_M_TEXT.split()
_LAST_TEXT = (
    "Okafor Whitlock Reyes Marsh Tindall Overby Castellan Drummond Eastlake Farrow Grantham Hollis Ivers Jessop Kettle "
    "Lindqvist Moreau Nakata Ormond Pruitt Quayle Ravel Sandoval Thackeray Underhill Vasquez Wexler Yarrow Zamora "
    "Abbas Birk Coldwell Dunmore Esposito Fairbairn Galloway Hartigan Ibarra Juarez Kowalski Larkin Mbeki Nystrom "
    "Orlov Pereira Quist Rosen Stroud"
)
LAST = _LAST_TEXT.split()
STREETS = ("Elm Ct", "Pond Rd", "Mill Ln", "Harbor St", "2nd Ave", "Old Post Rd", "Quarry Way", "S. Main St Apt #4/B")
MIDDLE = ("J", "Marie", "Lee", "T.")
SHIRTS = ("Adult S", "Adult M", "Adult L", "Adult XL", "Women's M", "Youth L", "No shirt, thanks")
TEAMS = ("Mill Pond Striders", "The Slow & Steady", "O'Dowd's Harriers", "Équipe Nord", "Team #1", "Night Owls RC")
LONG_CITY = "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch-upon-the-Upper-Invented-River"

_MASK = (1 << 64) - 1
_ODD_EVERY = 40


def mix(number: int) -> int:
    """Return 64 well-scrambled bits of `number` (the splitmix64 finaliser)."""
    number = (number + 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


@lru_cache(maxsize=4096)
def money(cents: int) -> str:
    """Format an amount as the API does, `$1,234.50`. A minus sign precedes the dollar."""
    sign = "-" if cents < 0 else ""
    return f"{sign}${abs(cents) // 100:,}.{abs(cents) % 100:02}"


_ODDITIES: dict[int, Row] = {
    0: {"first_name": "Zoë", "last_name": "Müller-Łukasiewicz"},
    2: {"first_name": "D'Arcy", "last_name": "O’Neill-O'Neil"},
    4: {"first_name": "Robin 🏃‍♀️", "last_name": "Trail"},
    6: {"first_name": "נועה", "last_name": "חדד"},
    8: {"first_name": "  Pat ", "last_name": "Quill  "},
    10: {"city": LONG_CITY},
    12: {"city": "{city}{city}", "zipcode": ""},
    14: {"gender": "X"},
    16: {"street": 'c/o ,,, <none> / 0\\0 "rear"', "zipcode": "{zipcode}-    "},
    18: {"first_name": "美咲", "last_name": "渡辺"},
    20: {"phone": None, "email": None},
    22: {"phone": " 312-555-0199 "},
    24: {"gender": "X", "middle_name": ""},
    26: {"first_name": "ليلى", "last_name": "الحداد"},
    28: {"dob": None},
    30: {"first_name": "Wolfeschlegelsteinhausenbergerdorff Maximiliana Theodora", "last_name": "N/A"},
    32: {"gender": None},
    34: {"state": "ON", "country_code": "CA", "zipcode": "K1A 0Z9", "city": "Kanata-sur-Lac"},
}


class User(NamedTuple):
    """A person as the `user` member of a row, in JSON. `bits` are what it was made from."""

    text: str
    dob: str
    """The date of birth in JSON, so with quotes, or null."""
    nonbinary: bool
    bits: int


_USER = (
    '{"user_id":%s,"first_name":%s,"middle_name":%s,"last_name":%s,"email":%s,"address":{"street":%s,"city":%s,'
    '"state":%s,"zipcode":%s,"country_code":%s},"dob":%s,"gender":%s,"phone":%s,"profile_image_url":null}'
)
_MEMBERS = re.findall('"([a-z_]+)":%s', _USER)
_DOB, _GENDER = _MEMBERS.index("dob"), _MEMBERS.index("gender")


def _json(value: str | None) -> str:
    return encode(value).decode()


# People are made by the hundred thousand, so what they share is encoded once.
_FIRST_F, _FIRST_M, _LAST, _MIDDLE = ([_json(name) for name in names] for names in (FIRST_F, FIRST_M, LAST, MIDDLE))
_MAIL_F, _MAIL_M, _MAIL_LAST = ([name.lower() for name in names] for names in (FIRST_F, FIRST_M, LAST))
_STREETS = [_json(f" {street}")[1:] for street in STREETS]
_BIRTHDAYS = [f'-{month:02}-{day:02}"' for month in range(1, 13) for day in range(1, 29)]


@lru_cache(maxsize=64)
def _address(place: Place) -> tuple[str, str, str, str]:
    return _json(place.city), _json(place.state), _json(place.zipcode), '"US"'


@lru_cache(maxsize=1024)
def _oddity(number: int, place: Place) -> list[tuple[int, str]]:
    """Return the oddity of every fortieth person: positions among the members, and their values in JSON."""
    odd = _ODDITIES.get(number, {})
    return [
        (_MEMBERS.index(key), _json(value.format(city=place.city, zipcode=place.zipcode) if value else value))
        for key, value in odd.items()
    ]


def user_of(person: int, seed: int, place: Place, imported: bool) -> User:
    """Return the invented person of that number, living near `place`.

    Imported people have no account (`user_id` null) and sparse details.
    """
    bits = mix(person * 2654435761 + seed)
    high = bits >> 30
    first, last = (bits >> 1) & 31, (bits >> 6) % 48
    if bits & 1:
        first_name, mail, gender = _FIRST_F[first], _MAIL_F[first], '"F"'
    else:
        first_name, mail, gender = _FIRST_M[first], _MAIL_M[first], '"M"'
    dob = f'"{1942 + (bits >> 12) % 72}{_BIRTHDAYS[(bits >> 19) % 12 * 28 + (bits >> 23) % 28]}'
    members = [
        "null" if imported else 5_000_000 + person,
        first_name,
        _MIDDLE[high & 3] if high >> 2 & 7 == 0 else "null",
        _LAST[last],
        "null" if imported else f'"{mail}.{_MAIL_LAST[last]}.{person}@example.test"',
        "null" if imported else f'"{1 + (high >> 6) % 990}{_STREETS[(high >> 16) & 7]}',
        *_address(place),
        "null" if imported and bits >> 60 & 1 else dob,
        gender,
        "null" if imported else f'"{place.area}-555-01{TWO_DIGITS[(high >> 20) % 100]}"',
    ]
    for position, value in _oddity(person % _ODD_EVERY, place):
        members[position] = value
    return User(_USER % tuple(members), str(members[_DOB]), members[_GENDER] == '"X"', bits)
