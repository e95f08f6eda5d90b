"""Declare what the commands print of races that are near, their bibs and start lists with `--json`, as `json_types` does."""

import datetime as dt
from typing import Annotated, Literal, TypedDict

from rsu_pipeline.cli.json_types import EventId, PartnerId, PartnerKey, RaceId, RegistrationId


class RaceRow(TypedDict):
    """A race in its window or within 24 hours of its start. No name of a person is in it."""

    partner: PartnerKey
    race_id: RaceId
    race: Annotated[str, "name of the race"]
    start: Annotated[dt.datetime, "start of its next event, or of the last one once all have started"]
    zone: Annotated[str | None, "RunSignup's name of the race's zone"]
    minutes_to_start: Annotated[int, "minutes until the start, negative after it"]
    is_in_window: Annotated[bool, "whether the watch polls it"]
    seconds_since_read: Annotated[float | None, "seconds since its stalest event was read, null if never"]
    entrants: Annotated[int, "entrants on the start lists of its near events"]
    with_bib: Annotated[int, "of these with a bib"]
    without_bib: Annotated[int, "of these without a bib"]
    duplicate_bibs: Annotated[int, "of these with a bib of another entrant"]
    last_bib: Annotated[str | None, "bib that was set last, null if it was cleared or none changed within a day"]
    last_bib_kind: Annotated[Literal["assigned", "changed", "cleared"] | None, "what happened to it"]
    last_bib_modified_at: Annotated[dt.datetime | None, "when RunSignup changed it, by RunSignup's clock"]
    last_bib_recorded_at: Annotated[dt.datetime | None, "when the change was stored"]
    urgency: Annotated[Literal["blocked", "untidy", "well"], "urgency of its worst problem"]
    problems: Annotated[list[str], "its problems with their next steps, worst first"]


class BibChange(TypedDict):
    """A row of the bib log, with the entrant's present name."""

    key: PartnerKey
    race_id: RaceId
    event_id: EventId
    event: Annotated[str, "name of the event"]
    registration_id: RegistrationId
    name: Annotated[str, "name of the entrant"]
    kind: Annotated[Literal["assigned", "changed", "cleared"], "what happened"]
    old_bib: Annotated[str | None, "bib before"]
    new_bib: Annotated[str | None, "bib after"]
    modified_at: Annotated[dt.datetime | None, "when RunSignup changed it, by RunSignup's clock"]
    recorded_at: Annotated[dt.datetime, "when the change was stored"]


class EntrantWithoutBib(TypedDict):
    """An entrant of a near event without a bib."""

    key: PartnerKey
    race_id: RaceId
    event_id: EventId
    event: Annotated[str, "name of the event"]
    registration_id: RegistrationId
    name: Annotated[str, "name of the entrant"]


class StartListEntry(TypedDict):
    """An entrant of a start list, as a row of `start_list_entries`."""

    bib: Annotated[str | None, "bib"]
    bib_source: Annotated[str | None, "where the bib is from: the entrant's own row, its team's or its bundle's"]
    first_name: Annotated[str | None, "first name"]
    last_name: Annotated[str | None, "last name"]
    age: Annotated[int | None, "age on race day"]
    gender: Annotated[str | None, "gender"]
    city: Annotated[str | None, "city"]
    state: Annotated[str | None, "state"]
    team: Annotated[str | None, "name of the team"]
    problems: Annotated[list[str], "problems of the bib, as in docs/data-model.md"]
    registration_id: RegistrationId


class StartListFigures(TypedDict):
    """An event's start list in figures."""

    partner_id: PartnerId
    event_id: EventId
    race: Annotated[str, "name of the race"]
    event: Annotated[str, "name of the event"]
    start: Annotated[dt.datetime | None, "wall time in the race's zone, without an offset"]
    timezone: Annotated[str | None, "RunSignup's name of the race's zone"]
    near: Annotated[bool, "whether it starts within 24 hours, or started less than 24 hours ago and is not over"]
    entrants: Annotated[int, "entrants"]
    with_bib: Annotated[int, "of these with a bib"]
    without_bib: Annotated[int, "of these without a bib"]
    duplicate_bibs: Annotated[int, "of these with a bib of another entrant"]
    bibs_in_other_events: Annotated[int, "of these with a bib of another event of the day"]
    out_of_range: Annotated[int, "of these with a bib out of range"]
    in_two_events: Annotated[int, "of these in two events that overlap"]
    lowest_bib: Annotated[int | None, "lowest bib that is a number"]
    highest_bib: Annotated[int | None, "highest bib that is a number"]
    built_at: Annotated[dt.datetime, "when the list was built"]


class StartListOutput(StartListFigures):
    """The start list of an event, in order of bib."""

    entries: list[StartListEntry]


class BibHolder(TypedDict):
    """Another entrant of the event that has the bib."""

    registration_id: RegistrationId
    name: Annotated[str, "name of the entrant"]


class LocalBibOutput(TypedDict):
    """An entrant whose bib was given or taken back here, afterwards."""

    partner_id: PartnerId
    partner: PartnerKey
    race_id: RaceId
    race: Annotated[str, "name of the race"]
    event_id: EventId
    event: Annotated[str, "name of the event"]
    registration_id: RegistrationId
    name: Annotated[str, "name of the entrant"]
    local_bib: Annotated[str | None, "bib given here, null if it was taken back"]
    previous: Annotated[str | None, "bib that was given here before"]
    bib: Annotated[str | None, "bib that counts"]
    bib_source: Annotated[
        Literal["registration", "team", "bundle", "local"] | None, "where that is from; local is the one given here"
    ]
    has_start_list: Annotated[bool, "whether the event has a start list, which shows it"]
    problems: Annotated[list[str], "problems of the entrant on it, as in docs/data-model.md"]
    holders: list[BibHolder]


class PushEventListing(TypedDict):
    """An event whose local bibs may be sent to RunSignup."""

    partner_id: PartnerId
    partner: PartnerKey
    race_id: RaceId
    race: Annotated[str, "name of the race"]
    event_id: EventId
    event: Annotated[str, "name of the event"]
    allowed_at: Annotated[dt.datetime, "when it was allowed"]
    allowed_by: Annotated[str, "user and machine that allowed it"]
    to_send: Annotated[int, "bibs to send, by what is stored now"]
    open: Annotated[int, "bibs that were sent, and that no read has shown yet"]
    confirmed: Annotated[int, "bibs that a read has shown"]
    overtaken: Annotated[int, "bibs in whose place a read showed another, or no registration"]
    refused: Annotated[int, "bibs that RunSignup refused"]


class BibPushState(TypedDict):
    """A bib given here, and what became of it."""

    registration_id: RegistrationId
    bib: Annotated[str, "the bib"]
    state: Annotated[str, "its state in words"]


class BibPushOutput(TypedDict):
    """The bibs of an event that were sent to RunSignup, or would be."""

    event_id: EventId
    is_allowed: Annotated[bool, "whether the event allows it"]
    dry_run: Annotated[bool, "whether nothing was sent"]
    failure: Annotated[str | None, "why it stopped early"]
    bibs: list[BibPushState]
