"""The request that sets bibs at RunSignup, and its answer. It is the only one that changes something there.

`POST /race/:race_id/participants` adds or edits participants. By its page in RunSignup's documentation a participant with a
`registration_id` is edited, fields that are not sent stay as they are, bib and chip can be edited even in Safe Sync, and bibs of
registrations that are no longer active are ignored without an error. PikaTimer, an open-source timing program, writes bibs so:
`event_id`, `restrict_potential_dup=T`, `clear_null_corrals=F` and `request_format=json` as form fields, and in the field `request`
an object with the list `participants`, of which each has `registration_id` and `bib_num` as a number. Two other public clients
send a `registration_id` with one other field alone. Nothing else than these two fields is sent from here, so nothing about a
person can change, and without a name nobody can be added.

None of this was tried against RunSignup itself.
"""

import json
from collections.abc import Mapping

import msgspec

from rsu_pipeline.runsignup import envelopes
from rsu_pipeline.runsignup.api_errors import ApiError, Cause

MAX_BIB = 2**31 - 1
"""PikaTimer sends bibs as such integers. RunSignup's documentation names no limit."""


class _Answered(msgspec.Struct):
    registration_id: int | None = None


_answered = msgspec.json.Decoder(list[_Answered], strict=False)


def parse_bib(text: str) -> int | None:
    """Return a bib as RunSignup has it, or None if it cannot have it: its bibs are positive integers."""
    if not (text.isascii() and text.isdigit()) or text.startswith("0") or len(text) > len(str(MAX_BIB)):
        return None
    return int(text) if int(text) <= MAX_BIB else None


def build_form(event_id: int, bibs: Mapping[int, int]) -> dict[str, str]:
    """Return the form fields of a request that sets the bibs of an event's registrations by their ids."""
    participants = [{"registration_id": number, "bib_num": bib} for number, bib in bibs.items()]
    return {
        "event_id": str(event_id),
        # With it an id that RunSignup does not know cannot become another entry of the same person.
        "restrict_potential_dup": "T",
        "clear_null_corrals": "F",
        "request_format": "json",
        "request": json.dumps({"participants": participants}, separators=(",", ":")),
    }


def parse_answer(body: bytes) -> list[int]:
    """Return the registration ids of an answer.

    Raises:
        ApiError: it is an error object, or of an unknown form.
    """
    members = envelopes.read_members(body)
    if "participants" not in members:
        raise ApiError(Cause.UNKNOWN_SHAPE, "no member 'participants'")
    try:
        found = _answered.decode(bytes(members["participants"]))
    except msgspec.DecodeError as error:
        raise ApiError(Cause.UNKNOWN_SHAPE, str(error)) from None
    return [item.registration_id for item in found if item.registration_id is not None]
