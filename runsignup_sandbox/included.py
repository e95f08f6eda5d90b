"""The optional members of a participants row: what each flag of the call adds.

Questions and add-ons have the form that public clients read. The form of the others is a guess, because RunSignup documents only
the flags.
"""

from collections.abc import Callable, Mapping
from typing import Any

from runsignup_sandbox.encoding import encode
from runsignup_sandbox.people import mix, money
from runsignup_sandbox.races import Event
from runsignup_sandbox.records import Record

QUESTIONS = (
    "Who may we call in an emergency?",
    "Their telephone number?",
    "Which pace group will you join?",
    "Is this your first race of this distance?",
    "How did you hear of the race?",
)
NAMES = ("Ada Brandt", "Cole Devereux", "Effie Grange", "Hal Ivory", "Jude Kerrigan", "Lotte Marlow")
PACES = ("8:00", "9:30", "11:00", "no group")
HEARD = ("a friend", "the newspaper", "last year's shirt", "a poster")
ADDONS = (("Parking", 1000), ("Pasta dinner", 1850), ("Engraved medal", 1225))
CLUBS = ("Mill Pond Striders", "State Road Runners", "Trail Alliance")
COMPANIES = ("Harwick Foundry", "Ellery Ferries", "Cinder Gap Dairy")
Member = Callable[[Record, Event, int, int | None], dict[str, Any]]


def _questions(record: Record, event: Event, bits: int, checked_in: int | None) -> dict[str, Any]:
    answers: list[Any] = [
        NAMES[bits % 6],
        f"312-555-01{bits >> 8 & 63:02}",
        PACES[bits >> 14 & 3],
        "Yes" if bits >> 16 & 1 else None,
        [HEARD[bits >> 17 & 3], HEARD[(bits >> 17) + 1 & 3]] if bits >> 19 & 1 else HEARD[bits >> 17 & 3],
    ]
    rows = []
    for place, (question, answer) in enumerate(zip(QUESTIONS, answers, strict=True)):
        given = {"responses": answer} if isinstance(answer, list) else {"response": answer}
        rows.append({"question_id": 500_000 + event.id % 10_000 * 10 + place, "question_text": question} | given)
    return {"question_responses": rows}


def _addons(record: Record, event: Event, bits: int, checked_in: int | None) -> dict[str, Any]:
    bought = [place for place in range(3) if bits >> 20 + place & 1 and bits >> 23 & 1]
    return {
        "participant_addons": [
            {
                "addon_id": 31_000 + place,
                "addon_name": ADDONS[place][0],
                "quantity": str(1 + (bits >> 24 & 1)),
                "amount": money(ADDONS[place][1] * (1 + (bits >> 24 & 1))),
            }
            for place in bought
        ]
    }


def _memberships(record: Record, event: Event, bits: int, checked_in: int | None) -> dict[str, Any]:
    if bits >> 25 & 3:
        return {"memberships": []}
    number = f"M{bits >> 30 & 0xFFFF:05}"
    return {
        "memberships": [
            {
                "membership_setting_id": 900 + bits % 3,
                "membership_name": CLUBS[bits % 3],
                "member_number": number,
                "expiration_date": "2027-12-31",
                "price_adjustment": "-$5.00",
            }
        ]
    }


def _corrals(record: Record, event: Event, bits: int, checked_in: int | None) -> dict[str, Any]:
    if event.volunteer:
        return {"corral": None}
    place = bits >> 27 & 3
    return {"corral": {"corral_id": 70 + place, "corral_name": "ABCD"[place], "wave_name": f"Wave {1 + place // 2}"}}


def _est_finish(record: Record, event: Event, bits: int, checked_in: int | None) -> dict[str, Any]:
    if event.volunteer or not bits >> 29 & 7:
        return {"est_finish_time": None}
    seconds = 1200 + (bits >> 32) % 16_000
    return {"est_finish_time": f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"}


def _checkin(record: Record, event: Event, bits: int, checked_in: int | None) -> dict[str, Any]:
    return {"checkin_ts": checked_in}


def _coupons(record: Record, event: Event, bits: int, checked_in: int | None) -> dict[str, Any]:
    if bits >> 40 & 7:
        return {"coupon_details": None}
    return {"coupon_details": {"coupon_code": "EARLY10", "coupon_discount": "$10.00"}}


def _corp_teams(record: Record, event: Event, bits: int, checked_in: int | None) -> dict[str, Any]:
    if bits >> 43 & 7:
        return {"corp_team_id": None, "corp_team_name": None}
    return {"corp_team_id": 210 + bits % 3, "corp_team_name": COMPANIES[bits % 3]}


def _notes(record: Record, event: Event, bits: int, checked_in: int | None) -> dict[str, Any]:
    return {"registration_notes": None if bits >> 46 & 15 else "Brings a guide. Start in the last row."}


FLAGS: Mapping[str, Member] = {
    "include_questions": _questions,
    "include_registration_addons": _addons,
    "include_memberships": _memberships,
    "include_corrals": _corrals,
    "include_est_finish": _est_finish,
    "include_checkin_data": _checkin,
    "include_coupon_details": _coupons,
    "include_corp_teams": _corp_teams,
    "include_registration_notes": _notes,
}
MEMBERS = frozenset(
    ("question_responses", "participant_addons", "memberships", "corral", "est_finish_time", "checkin_ts")
) | {"coupon_details", "corp_team_id", "corp_team_name", "registration_notes"}
"""Members that are sent only with their flag."""


def included_members(record: Record, event: Event, seed: int, flags: list[str], checked_in: int | None) -> bytes:
    """Encode the members that the flags add to a row, without braces, as edited or else as generated."""
    bits = mix(record.id * 31 ^ seed)
    members: dict[str, Any] = {}
    for flag in flags:
        members |= FLAGS[flag](record, event, bits, checked_in)
    if record.included:
        members |= {name: value for name, value in record.included.items() if name in members}
    if record.row is not None:
        members = {name: value for name, value in members.items() if name not in record.row}
    return encode(members)[1:-1]
