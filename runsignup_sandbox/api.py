"""The RunSignup endpoints: from a call and the world to an answer, without waits and without network."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from runsignup_sandbox.calls import Answer, ApiError, Call, error_answer, joined
from runsignup_sandbox.encoding import encode
from runsignup_sandbox.included import FLAGS, included_members
from runsignup_sandbox.people import Row
from runsignup_sandbox.races import Edition, Event, Race, current_edition, event_object, race_object
from runsignup_sandbox.records import Record, Removal
from runsignup_sandbox.rows import (
    active_row,
    condensed_row,
    encoded_active,
    encoded_removed,
    mask_nonbinary,
    removed_row,
    template_row,
)
from runsignup_sandbox.selection import active_page, removed_page, sort_of
from runsignup_sandbox.times import DAY, day_of, parse_request_day, parse_request_moment
from runsignup_sandbox.world import Partner, World, WorldError

CALLER_ID = "4821.kJ8sandboxQ2mX"
CALLER_SECRET = "reg-secret-of-the-sandbox"  # noqa: S105 - invented, and of use nowhere else
RACE_SORTS = frozenset(("name", "date", "end_date"))
_POST_ONLY = frozenset(("switch", "delete", "edit"))


@dataclass(slots=True)
class Api:
    """The endpoints over one world."""

    world: World

    def answer(self, call: Call) -> Answer:
        """Return the answer to a call that is neither throttled nor hit by a fault."""
        self.world.settle()
        try:
            self._check_caller(call)
            if call.headers.get("authorization", "").lower().startswith("bearer"):
                raise ApiError(6, "Key authentication failed")
            return self._endpoint(call)(call)
        except ApiError as error:
            return error_answer(error)

    def partner(self, call: Call) -> Partner | None:
        """Return the partner whose credentials the call has, or None for missing, wrong or revoked ones."""
        if "api_key" in call.query:
            return self.world.partner_of(call.query["api_key"], call.query.get("api_secret", ""))
        if "rsu_api_key" in call.query:
            return self.world.partner_of(call.query["rsu_api_key"], call.headers.get("x-rsu-api-secret", ""))
        return None

    def _check_caller(self, call: Call) -> None:
        sent = call.query.get("rsu_api_reg")
        if sent is None and not self.world.switches.registration_required:
            return
        if sent != CALLER_ID or call.headers.get("x-rsu-api-reg-secret") != CALLER_SECRET:
            raise ApiError(17, "Invalid API caller credentials.", 400, "API caller identification is invalid.")

    def _endpoint(self, call: Call) -> Callable[[Call], Answer]:
        endpoint = call.endpoint
        if endpoint == "unknown":
            raise ApiError(1, "Unknown method.")
        if endpoint == "counts":
            raise ApiError(8, "Not implemented.")
        if call.method != ("POST" if endpoint in _POST_ONLY else "GET"):
            raise ApiError(2, "HTTP method not supported.")
        if call.query.get("format", "xml") not in ("json", "xml"):
            raise ApiError(10, "Format not supported.")
        table: dict[str, Callable[[Call], Answer]] = {
            "races": self.races,
            "race": self.race,
            "participants": self.participants,
            "removed": self.removed,
            "edit": self.edit_participants,
            "switch": self.switch_events,
            "delete": self.delete,
            "checkins": self.checkins,
            "entity": self.entity,
        }
        return table[endpoint]

    # Races.

    def races(self, call: Call) -> Answer:
        """Answer with the list of races. A wrong key is ignored, and then the public races are listed."""
        world, now = self.world, self.world.clock.now()
        partner = self.partner(call)
        if partner:
            races = [race for race in world.races.values() if partner.reaches(race)]
        else:
            races = [race for race in world.races.values() if not race.private and not race.draft]
        order, descending = sort_of(call, RACE_SORTS, world.switches, "race_id")
        size = call.page_size(50, world.switches.most_rows.get("races", 1000))
        offset = call.offset(size)
        try:
            first = parse_request_day(call.query.get("start_date") or "today", now)
            last = parse_request_day(call.query["end_date"], now) if call.query.get("end_date") else date.max
            since = call.query.get("modified_since")
            modified_since = parse_request_moment(since, now) if since else None
        except (ValueError, OverflowError):
            raise ApiError(9, "Invalid date.") from None
        start_only = call.flag("search_start_date_only")
        found = []
        for race in races:
            if modified_since is not None and race.modified < modified_since:
                continue
            if not _matches(race, call):
                continue
            editions = world.editions_of(race)
            if _in_window(editions, first, last, start_only):
                found.append((race, editions, current_edition(race, editions, now)))
        if order == "name":
            found.sort(key=lambda entry: entry[0].name.casefold(), reverse=descending)
        elif order != "race_id":
            end = order == "end_date"
            found.sort(key=lambda entry: _edition_day(entry[2], end), reverse=descending)
        rows = []
        for race, editions, current in found[offset : offset + size][: call.most_rows]:
            row = race_object(race, editions, now)
            if call.flag("events"):
                row["events"] = _events(current.events if current else (), race)
            rows.append({"race": row})
        return Answer(encode({"races": rows}), rows=len(rows))

    def race(self, call: Call) -> Answer:
        """Answer with one race and the events of all its editions. Only drafts and private races need access."""
        race = self._race(call)
        if (race.private or race.draft) and not self._reaches(call, race):
            raise self._denied()
        return Answer(encode({"race": self.race_alone(race, call)}), rows=1)

    def race_alone(self, race: Race, call: Call | None = None) -> Row:
        """Return the race as `GET /race/:id` shows it, its events filtered by the call's parameters."""
        now = self.world.clock.now()
        editions = self.world.editions_of(race)
        events = self.world.events_of(race)
        if call and call.flag("most_recent_events_only"):
            current = current_edition(race, editions, now)
            events = list(current.events) if current else []
        if call and call.flag("future_events_only"):
            today = day_of(now, race.zone)
            events = [event for event in events if (event.last_day(race.zone) or date.max) >= today]
        days_id = call.number("race_event_days_id") if call else None
        if days_id is not None:
            events = [event for event in events if event.days_id == days_id]
        row = race_object(race, editions, now)
        return {"can_use_registration_api": "T"} | row | {"events": _events(events, race)}

    # Participants.

    def participants(self, call: Call) -> Answer:
        event_ids = self._event_ids(call)
        records = active_page(self.world, call, [number for number in event_ids if not self._is_old(number)])
        rows = self._active_rows(records, call)
        owners = [record.event_id for record in records]
        if self.world.switches.template_row or call.flag("include_template_participant"):
            rows.insert(0, encode(template_row(event_ids[0])))
            owners.insert(0, event_ids[0])
        elements = []
        layout = self.world.switches.layout
        for place, event_id in enumerate(event_ids):
            if layout == "own":
                own = [row for row, owner in zip(rows, owners, strict=True) if owner == event_id]
            else:
                own = rows if place == (len(event_ids) - 1 if layout == "last" else 0) else []
            outer = b',"participants":[' + joined(own) + b"]" if own else b""
            elements.append(b'{"event":{"event_id":%d,"participants":[]}%b}' % (event_id, outer))
        return Answer(b"[" + joined(elements) + b"]", rows=len(rows))

    def removed(self, call: Call) -> Answer:
        event_ids = self._event_ids(call)
        removals = removed_page(self.world, call, [number for number in event_ids if not self._is_old(number)])
        elements = []
        for event_id in event_ids:
            own = joined(self._removed_bytes(removal, call) for removal in removals if removal.event_id == event_id)
            outer = b',"participants":[' + own + b"]" if self.world.switches.mangle_removed_shape else b""
            elements.append(b'{"event":{"event_id":%d,"participants":[%b]}%b}' % (event_id, own, outer))
        return Answer(b"[" + joined(elements) + b"]", rows=len(removals))

    def _active_rows(self, records: Sequence[Record], call: Call) -> list[bytes]:
        world = self.world
        anonymous, with_nonbinary = call.flag("include_user_anonymous_flag"), call.flag("supports_nb")
        optional = [flag for flag in FLAGS if call.flag(flag)]
        rows = []
        for record in records:
            event = world.events[record.event_id]
            race = world.races[event.race_id]
            encoded = encoded_active(record, event, race, world.seed)
            masked = record.nonbinary and not with_nonbinary
            if masked or anonymous:
                row = active_row(record, event, race, world.seed)
                if anonymous and "user" in row:
                    row["user"]["is_anonymous"] = "F"
                encoded = encode(mask_nonbinary(row) if masked else row)
            if optional:
                checked_in = world.checked_in.get(record.id)
                if members := included_members(record, event, world.seed, optional, checked_in):
                    encoded = encoded[:-1] + b"," + members + b"}"
            rows.append(encoded)
        return rows

    def _removed_bytes(self, removal: Removal, call: Call) -> bytes:
        if call.flag("condensed_format"):
            return encode(condensed_row(removal))
        event = self.world.events[removal.event_id]
        race = self.world.races[event.race_id]
        encoded = encoded_removed(removal, event, race, self.world.seed)
        if call.flag("supports_nb") or b'"gender":"X"' not in encoded:
            return encoded
        return encode(mask_nonbinary(removed_row(removal, event, race, self.world.seed)))

    # Changes.

    def edit_participants(self, call: Call) -> Answer:
        """Set bibs. Other edits, and participants without a registration id, which RunSignup adds, are not implemented here.

        One invalid bib refuses the whole call. Bibs of removed registrations are ignored, as RunSignup documents.
        """
        race = self._race(call)
        event_id = self._form_number(call, "event_id")
        if event_id not in race.event_ids:
            raise ApiError(301, "Event not found.")
        if not self._reaches(call, race):
            raise self._denied()
        if call.form.get("restrict_potential_dup") not in ("T", "F") or call.form.get("request_format") != "json":
            raise ApiError(3, "Invalid parameters.")
        edits: list[tuple[int, int | None]] = []
        for entry in _entries(call, "participants"):
            if entry.keys() != {"registration_id", "bib_num"}:
                raise ApiError(8, "Not implemented.")
            id, bib = entry["registration_id"], entry["bib_num"]
            if id in self.world.truth.removed.items:
                continue
            if self.world.record(self._own_registration(race, id)).event_id != event_id:
                raise ApiError(15, f"Invalid id: {id}.")
            if bib is not None and (not isinstance(bib, int) or isinstance(bib, bool) or bib < 1):
                raise ApiError(115, "Bib number is invalid", details=f"Bib number is invalid: {bib}")
            edits.append((id, bib))
        for id, bib in edits:
            if not self.world.switches.ignores_edits:
                self.world.set_bib(id, bib)
        ids = [entry["registration_id"] for entry in _entries(call, "participants")]
        return Answer(encode({"participants": [{"registration_id": id} for id in ids]}), rows=len(ids))

    def _form_number(self, call: Call, name: str) -> int:
        text = call.form.get(name) or call.query.get(name) or ""
        if not (text.isascii() and text.isdigit()):
            raise ApiError(3, f"Invalid parameter: {name}.")
        return int(text)

    def switch_events(self, call: Call) -> Answer:
        """Move registrations to other events of the race. Each gets a new registration id."""
        race = self._reached_race(call)
        moves: list[tuple[int, int]] = []
        for entry in _entries(call, "registrations"):
            id, new_event_id = self._own_registration(race, entry.get("registration_id")), entry.get("new_event_id")
            if not isinstance(new_event_id, int) or new_event_id not in race.event_ids:
                raise ApiError(301, "Event not found.")
            moves.append((id, new_event_id))
        keep_bib = (call.query.get("transfer_bibs") or call.form.get("transfer_bibs")) == "T"
        new_ids = [self.world.transfer(id, event_id, keep_bib) for id, event_id in moves]
        return Answer(encode({"participants": [{"registration_id": id} for id in new_ids]}), rows=len(new_ids))

    def delete(self, call: Call) -> Answer:
        """Remove registrations, without `allow_non_imports=T` only imported ones. The shape is a guess."""
        race = self._reached_race(call)
        ids = [self._own_registration(race, entry.get("registration_id")) for entry in _entries(call, "registrations")]
        if (call.query.get("allow_non_imports") or call.form.get("allow_non_imports")) != "T":
            for id in ids:
                if not self.world.record(id).imported:
                    raise ApiError(3, f"Registration {id} was not imported.")
        for id in ids:
            self.world.remove(id, "removed")
        return Answer(encode({"participants": [{"registration_id": id} for id in ids]}), rows=len(ids))

    # The newer methods.

    def checkins(self, call: Call) -> Answer:
        race_id = call.number("race_id")
        if race_id is None:
            raise ApiError(3, "Missing parameter: race_id.")
        if race_id not in self.world.races:
            raise ApiError(201, "Race not found.")
        if not self._reaches(call, self.world.races[race_id]):
            raise self._denied()
        size = min(call.number("num") or 100, 1250)
        low, high = call.number("min_checkin_ts"), call.number("max_checkin_ts")
        found = [
            {"registration_id": id, "checkin_ts": stamp}
            for stamp, id in self.world.checkins.get(race_id, ())
            if (low is None or stamp >= low) and (high is None or stamp <= high)
        ]
        offset = call.offset(size)
        rows = found[offset : offset + size]
        return Answer(encode({"checkin_timestamps": rows}), rows=len(rows))

    def entity(self, call: Call) -> Answer:
        partner = self.partner(call) if "rsu_api_key" in call.query else None
        if partner is None:
            raise self._denied()
        return Answer(
            encode(
                {
                    "generic_entity_id": 771_200 + partner.number,
                    "entity_type": "partner",
                    "entity_name": partner.name,
                    "entity_specific_id": 4_400 + partner.number,
                }
            )
        )

    # Checks, in the service's order: race (201), event (3, 223, 301), permission (7).

    def _race(self, call: Call) -> Race:
        race = self.world.races.get(call.race_id or 0)
        if race is None:
            raise ApiError(201, "Race not found.")
        return race

    def _reaches(self, call: Call, race: Race) -> bool:
        partner = self.partner(call)
        return partner is not None and partner.reaches(race)

    def _denied(self) -> ApiError:
        code = self.world.switches.wrong_key_code
        return ApiError(code, "Permission Denied" if code == 7 else "Key authentication failed")

    def _reached_race(self, call: Call) -> Race:
        race = self._race(call)
        if not self._reaches(call, race):
            raise self._denied()
        return race

    def _event_ids(self, call: Call) -> list[int]:
        race = self._race(call)
        text = call.query.get("event_id", "")
        if not text.strip():
            raise ApiError(3, "Missing parameter: event_id.")
        parts = [part.strip() for part in text.split(",")]
        if not all(part.isascii() and part.isdigit() for part in parts):
            raise ApiError(223, "Invalid event id.")
        event_ids = list(dict.fromkeys(int(part) for part in parts))
        if any(event_id not in race.event_ids for event_id in event_ids):
            raise ApiError(301, "Event not found.")
        if not self._reaches(call, race):
            raise self._denied()
        if self.world.switches.old_answer == "error" and any(map(self._is_old, event_ids)):
            raise ApiError(3, "Data of this event is no longer available.")
        return event_ids

    def _is_old(self, event_id: int) -> bool:
        days, start = self.world.switches.old_after_days, self.world.events[event_id].start
        return bool(days) and start is not None and start < self.world.clock.now() - days * DAY

    def _own_registration(self, race: Race, registration_id: object) -> int:
        try:
            record = self.world.record(int(str(registration_id)))
        except (ValueError, WorldError):
            raise ApiError(15, f"Invalid id: {registration_id}.") from None
        if record.event_id not in race.event_ids:
            raise ApiError(15, f"Invalid id: {registration_id}.")
        return record.id


def _entries(call: Call, name: str) -> list[Row]:
    entries = call.request_json().get(name)
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ApiError(11, "Invalid submission.")
    return entries


def _events(events: Iterable[Event], race: Race) -> list[Row]:
    return [event_object(event, race.zone) for event in events]


def _matches(race: Race, call: Call) -> bool:
    query = call.query
    return (
        query.get("name", "").casefold() in race.name.casefold()
        and query.get("city", race.place.city).casefold() == race.place.city.casefold()
        and query.get("state", race.place.state).casefold() == race.place.state.casefold()
    )


def _in_window(editions: Sequence[Edition], first: date, last: date, start_only: bool) -> bool:
    """Return whether an edition overlaps the window. A race without dates does, unless only starts count."""
    dated = [(edition.first, edition.last) for edition in editions if edition.first and edition.last]
    if not dated:
        return not start_only
    return any(begin <= last and (begin if start_only else end) >= first for begin, end in dated)


def _edition_day(edition: Edition | None, end: bool) -> date:
    day = (edition.last if end else edition.first) if edition else None
    return day or date.max
