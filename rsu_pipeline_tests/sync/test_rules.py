"""A change of what is made of a row changes the version of the rules too.

Otherwise stored rows would stay as the old rules made them, since their digest includes the version.
"""

import hashlib
import json
from typing import Any

from rsu_pipeline.runsignup.payload_decoding import decode_registration
from rsu_pipeline.sync.registration_rows import NULL, RULES, compute_digest, stage_registration
from rsu_pipeline.warehouse.staging import INCLUDED_COLUMNS, LINE_COLUMNS

# Each member in the forms that are read in ways of their own.
MEMBERS: dict[str, list[Any]] = {
    "user": [
        {"user_id": 5550101, "first_name": "Ines", "last_name": "Okafor", "gender": "X", "dob": "1991-02-17"},
        {"first_name": 7, "email": "", "dob": "02/17/1991", "phone": "312-555-0142", "address": {"city": "Harwick"}},
        {"email": "ines.okafor@example.test", "dob": "1990-02-31", "address": None, "middle_name": "Tab\tbed\\"},
        {"email": "x" * 2000, "profile_image_url": "https:\\/\\/pictures.example.test\\/1"},
        None,
    ],
    "bib_num": [None, "", 0, 118, "0118", "x" * 2000],
    "chip_num": [None, "0A7", 12],
    "age": [35, "35", -1, 2**31, "forty"],
    "registration_date": ["8/14/2026 21:07", "2026-08-14 21:07:33", "11/1/2026 01:30", "13/45/2026", None],
    "last_modified": [0, 1790937669, "1790937669", "8/14/2026 21:07", -1, 10**12],
    "team_name": [None, "Mill Pond", "N\u00fcrnberg \U0001f600"],
    "race_fee": ["$1,234.50", "-$5.00", None, "", 12, 1.5, "abc"],
    "usatf_discount_amount_in_cents": ["$2.00", None],
    "rsu_transaction_id": [77000210, None],
    "transaction_id": ["ay_1", None],
    "giveaway": ["Adult M", None],
    "multi_race_bundle": [{"id": 3}, []],
    "signed_waiver_details": [[{"signed": "T"}]],
    "new_registration_id": [None, 91000018],
    "unknown_to_us": ["\x00", {"a": [1, 2.50, 1e3]}],
}
KNOWN = {
    b"1": "680dd7f57b6a934c646741d94d359b1754d1e8c5c962e8ee8070f3dd6d4ffa16",
    # Times with AM, PM or an offset, amounts in other currencies, numbers as text.
    b"2": "0501b0fc3811808217db57d9cd1c3e9cf7ffb4aecbb0ca1d46c2dc722dba0f48",
    # The same lines, sent in an encoding that is certain.
    b"3": "0501b0fc3811808217db57d9cd1c3e9cf7ffb4aecbb0ca1d46c2dc722dba0f48",
}
"""What the rows below come to under each name that the rules had; a new one is added, none is changed."""


# Members that are sent on request, each in the forms that are read.
INCLUDED: dict[str, list[Any]] = {
    "question_responses": [
        [{"question_id": 7, "question_text": "Pace?", "response": "9:30"}, {"question_id": "8", "responses": ["a", 2]}],
        {"3": {"question_text": "Caf\u00e9?", "response": {"a": True}}},
        [],
        "yes",
    ],
    "participant_addons": [[{"addon_id": "8", "addon_name": "Tent", "quantity": "2", "amount": "$1,234.50"}], None],
    "memberships": [[{"membership_name": "Club", "member_number": 77, "expiration_date": "12/31/2027"}], "USATF"],
    "corral": ["A", {"corral_name": "B", "wave_name": 2}, [{"name": "C"}], ["x", "y"], None],
    "est_finish_time": ["3:45:00", 5400, "45:00", ""],
    "checkin_ts": [1790937669, "1790937669", {"checkin_ts": 1790937669}, "10/2/2026 06:41", None],
    "coupon_details": [{"coupon_code": "EARLY10", "coupon_discount": "$10.00"}, None],
    "corp_team_name": ["Harwick Foundry", None],
    "registration_notes": ["Tab\tbed\\", None],
}
KNOWN_INCLUDED = {b"3": "ba480972e725c9248de5547d313ff29ee3a9f21cae3060e37ffd540c9e170662"}
"""The same of the members that are sent on request."""


def lines_of(sent: list[bytes]) -> list[tuple[bytes, bool]]:
    """Return the staged lines, each with whether it has field errors, without the NULL of what was not requested."""
    first, last = LINE_COLUMNS.index(INCLUDED_COLUMNS[0]), LINE_COLUMNS.index(INCLUDED_COLUMNS[-1]) + 1
    lines = []
    for raw in sent:
        line, faults = stage_registration(decode_registration(raw), 190001)
        cells = line.split(b"\t")
        if set(cells[first:last]) == {NULL.encode()}:
            del cells[first:last]
        lines.append((b"\t".join(cells), bool(faults)))
    return lines


def rows() -> list[bytes]:
    base = {"registration_id": 91000017, "event_id": 880101}
    sent = [base] + [base | {name: value} for name, values in MEMBERS.items() for value in values]
    removed = [row | {"removed_reason": "transferred", "last_modified_ts": 1790937669} for row in sent]
    return [json.dumps(row).encode() for row in sent + removed]


def test_the_name_of_the_rules_changes_with_what_they_make() -> None:
    base = {"registration_id": 91000017, "event_id": 880101}
    included = [json.dumps(base | {name: value}).encode() for name, values in INCLUDED.items() for value in values]
    for sent, known in ((rows(), KNOWN), (included, KNOWN_INCLUDED)):
        made = hashlib.sha256()
        for line, has_faults in lines_of(sent):
            made.update(b"%b\n%d\n" % (line, has_faults))
        assert made.hexdigest() == known[RULES], "staged makes something else of these rows: give RULES its next name"


def test_a_digest_tells_rows_and_rules_apart() -> None:
    digests = {compute_digest(raw) for raw in rows()}
    assert len(digests) == len(set(rows()))
    assert all(-(2**63) <= number < 2**63 for number in digests)
