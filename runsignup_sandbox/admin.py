"""The admin interface: JSON below /admin that changes the world and returns its truth."""

from collections.abc import Callable, Iterator
from typing import Any, Literal
from zoneinfo import available_timezones

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from runsignup_sandbox.api import CALLER_ID, CALLER_SECRET
from runsignup_sandbox.encoding import encode
from runsignup_sandbox.faults import Fault
from runsignup_sandbox.filling import hour_from_now
from runsignup_sandbox.gateway import Gateway
from runsignup_sandbox.included import FLAGS, included_members
from runsignup_sandbox.people import PLACES, Row
from runsignup_sandbox.races import Race
from runsignup_sandbox.rows import encoded_active, encoded_removed
from runsignup_sandbox.switches import Switches
from runsignup_sandbox.times import parse_minute_text
from runsignup_sandbox.world import World, WorldError

Moment = float | str | None
"""A start or end: Unix seconds, `M/D/YYYY HH:MM` in the race's zone, or None."""


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """Base of the request bodies: unknown members are errors."""


class Register(_Body):
    event_id: int
    fields: Row = {}
    count: int = 1


class Edit(_Body):
    registration_id: int
    fields: Row = {}
    raw: Row = {}
    drop: list[str] = []
    extra: Row = {}
    last_modified: int | None = None


class Bib(_Body):
    registration_id: int
    bib: int | None


class SwapBibs(_Body):
    a: int
    b: int


class Transfer(_Body):
    registration_id: int
    new_event_id: int
    transfer_bib: bool = True
    hide: Literal["new", "removed"] | None = None
    hide_seconds: float = 0.0


class Remove(_Body):
    registration_id: int
    reason: str = "removed"
    silent: bool = False


class OfRegistration(_Body):
    registration_id: int


class Reactivate(_Body):
    registration_id: int
    last_modified: int | None = None


class NewEvent(_Body):
    name: str
    race_id: int | None = None
    start_in_hours: float | None = None
    start_time: Moment = None
    end_time: Moment = None
    race_event_days_id: int | None = None
    volunteer: bool = False
    sub_event_ids: list[int] = []


class AddRace(_Body):
    partner: int
    name: str = "Added Run"
    timezone: str | None = None
    private: bool = False
    draft: bool = False
    events: list[NewEvent] = []


class EditRace(_Body):
    race_id: int
    fields: Row


class EditEvent(_Body):
    event_id: int
    fields: Row


class MoveEvent(_Body):
    event_id: int
    start_in_hours: float | None = None
    start_time: Moment = None


class OfEvent(_Body):
    event_id: int


class MoveToRace(_Body):
    event_id: int
    race_id: int


class OfRace(_Body):
    race_id: int


class Access(_Body):
    partner: int
    race_id: int | None = None


class SetClock(_Body):
    set: float | None = None
    advance: float | None = None
    rate: float | None = None
    skew: float | None = None


class Admin:
    """The admin actions over one gateway and its world."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.world: World = gateway.world
        self._actions: dict[str, tuple[type[Any], Callable[[Any], Any]]] = {
            "register": (Register, self._register),
            "edit": (Edit, self._edit),
            "bib": (Bib, lambda body: self.world.set_bib(body.registration_id, body.bib)),
            "swap_bibs": (SwapBibs, lambda body: self.world.swap_bibs(body.a, body.b)),
            "transfer": (Transfer, self._transfer),
            "remove": (Remove, lambda body: self.world.remove(body.registration_id, body.reason, body.silent)),
            "reactivate": (
                Reactivate,
                lambda body: self.world.reactivate(body.registration_id, body.last_modified),
            ),
            "forget_removed": (OfRace, lambda body: self.world.forget_removed(body.race_id)),
            "check_in": (OfRegistration, lambda body: self.world.check_in(body.registration_id)),
            "add_race": (AddRace, self._add_race),
            "add_event": (NewEvent, self._add_event),
            "edit_race": (EditRace, self._edit_race),
            "edit_event": (EditEvent, self._edit_event),
            "move_event": (MoveEvent, self._move_event),
            "move_to_race": (MoveToRace, lambda body: self.world.move_to_race(body.event_id, body.race_id)),
            "delete_event": (OfEvent, lambda body: self.world.delete_event(body.event_id)),
            "delete_race": (OfRace, lambda body: self.world.delete_race(body.race_id)),
            "revoke": (Access, self._revoke),
            "grant": (Access, self._grant),
            "new_key": (Access, self._new_key),
            "clock": (SetClock, self._clock),
            "fault": (Fault, lambda body: {"id": self.gateway.faults.add(body)}),
        }

    async def handle(self, request: Request) -> Response:
        """Answer one admin request. An action that fails is HTTP 400 with one sentence."""
        name = request.path_params["name"]
        try:
            if request.method == "GET":
                return self._get(name, request)
            if request.method == "DELETE" and name == "faults":
                self.gateway.faults.clear()
                return JSONResponse({})
            body = await request.body()
            return JSONResponse(self._post(name, msgspec.json.decode(body) if body else {}) or {})
        except (WorldError, msgspec.ValidationError, msgspec.DecodeError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 400)

    def _get(self, name: str, request: Request) -> Response:
        if name == "partners":
            return JSONResponse(
                [
                    {"partner": one.number, "name": one.name, "key": one.key, "secret": one.secret}
                    for one in self.world.partners.values()
                ]
            )
        if name == "caller_registration":
            return JSONResponse({"rsu_api_reg": CALLER_ID, "secret": CALLER_SECRET})
        if name == "stats":
            return JSONResponse(self.gateway.traffic.as_json())
        if name == "switches":
            return JSONResponse(msgspec.to_builtins(self.world.switches))
        if name == "truth":
            partner = int(request.query_params.get("partner", "1"))
            # Collected at once, so that no change comes between its parts.
            optional = request.query_params.get("optional") == "T"
            return StreamingResponse(iter(list(self._truth(partner, optional))), media_type="application/json")
        raise WorldError(f"There is no admin page {name}.")

    def _post(self, name: str, body: Any) -> Any:
        if name == "switch":
            merged = msgspec.to_builtins(self.world.switches) | dict(body)
            self.world.switches = msgspec.convert(merged, Switches)
            return msgspec.to_builtins(self.world.switches)
        if name == "reset_stats":
            self.gateway.traffic.reset()
            return {}
        if name not in self._actions:
            raise WorldError(f"There is no admin action {name}.")
        kind, action = self._actions[name]
        self.world.changes += 1
        return action(msgspec.convert(body, kind))

    def _truth(self, number: int, optional: bool) -> Iterator[bytes]:
        """Yield the JSON of all current races and registrations of a partner, with `optional` members in `_optional`."""
        world = self.world
        partner = world.partner(number)
        races = [race for race in world.races.values() if number in race.partners]
        head = encode({"partner": number, "now": world.clock.now()})[:-1]
        own = [self.gateway.api.race_alone(race) | {"access": partner.reaches(race)} for race in races]
        yield head + b',"races":' + encode(own) + b',"active":['
        yield self._truth_rows(races, active=True, optional=optional) + b'],"removed":['
        yield self._truth_rows(races, active=False) + b"]}"

    def _truth_rows(self, races: list[Race], active: bool, optional: bool = False) -> bytes:
        world, seed = self.world, self.world.seed
        rows = []
        for race in races:
            for event in world.events_of(race):
                mark = b',"_race_id":%d}' % race.id
                if active:
                    for record in world.truth.active.of_event(event.id):
                        added = b""
                        if optional:
                            checked_in = world.checked_in.get(record.id)
                            added = b',"_optional":{%b}' % included_members(
                                record, event, seed, list(FLAGS), checked_in
                            )
                        rows.append(encoded_active(record, event, race, seed)[:-1] + added + mark)
                    continue
                mark = b',"_event_id":%d' % event.id + mark
                for removal in world.truth.removed.of_event(event.id):
                    rows.append(encoded_removed(removal, event, race, seed)[:-1] + mark)
        return b",".join(rows)

    def _register(self, body: Register) -> Row:
        return {"registration_ids": self.world.register(body.event_id, body.fields, body.count)}

    def _edit(self, body: Edit) -> None:
        fields = body.fields | body.raw
        self.world.edit(body.registration_id, fields, body.drop, body.extra, body.last_modified)

    def _transfer(self, body: Transfer) -> Row:
        new_id = self.world.transfer(
            body.registration_id, body.new_event_id, body.transfer_bib, body.hide, body.hide_seconds
        )
        return {"registration_id": new_id}

    def _add_race(self, body: AddRace) -> Row:
        self.world.partner(body.partner)
        race = self.world.add_race(body.name, PLACES[0], [body.partner])
        race.timezone = body.timezone or race.timezone
        race.private, race.draft = body.private, body.draft
        days_id = self.world.new_edition()
        ids = [self._new_event(race, days_id, event) for event in body.events]
        return {"race_id": race.id, "event_ids": ids}

    def _add_event(self, body: NewEvent) -> Row:
        race = self.world.race(body.race_id or 0)
        events = self.world.events_of(race)
        days_id = body.race_event_days_id
        if days_id is None:
            # Events are added to the newest edition unless one is named.
            days_id = max((event.days_id for event in events), default=0) or self.world.new_edition()
        race.modified = self.world.second
        return {"event_id": self._new_event(race, days_id, body)}

    def _new_event(self, race: Race, days_id: int, body: NewEvent) -> int:
        start = self._moment(race, body.start_in_hours, body.start_time)
        end = self._moment(race, None, body.end_time)
        event = self.world.add_event(race, days_id, body.name, start, end, volunteer=body.volunteer)
        event.sub_event_ids = body.sub_event_ids
        return event.id

    def _moment(self, race: Race, hours: float | None, moment: Moment) -> float | None:
        if hours is not None:
            return hour_from_now(self.world, hours)
        return parse_minute_text(moment, race.zone) if isinstance(moment, str) else moment

    def _edit_race(self, body: EditRace) -> None:
        race = self.world.race(body.race_id)
        fields = dict(body.fields)
        # Members that the rules depend on are changed in the world. All others change only what is served.
        race.name = fields.pop("name", race.name)
        if fields.get("timezone") in available_timezones():
            race.timezone = fields.pop("timezone")
            race.fields.pop("timezone", None)
        if "is_private_race" in fields:
            race.private = fields.pop("is_private_race") in ("T", True)
        if "is_draft_race" in fields:
            race.draft = fields.pop("is_draft_race") in ("T", True)
        race.fields |= fields
        race.modified = self.world.second

    def _edit_event(self, body: EditEvent) -> None:
        event = self.world.event(body.event_id)
        fields = dict(body.fields)
        event.name = fields.pop("name", event.name)
        event.fields |= fields
        self.world.race(event.race_id).modified = self.world.second

    def _move_event(self, body: MoveEvent) -> None:
        event = self.world.event(body.event_id)
        race = self.world.race(event.race_id)
        start = self._moment(race, body.start_in_hours, body.start_time)
        if event.end is not None and start is not None and event.start is not None:
            event.end += start - event.start
        event.start = start
        race.modified = self.world.second

    def _revoke(self, body: Access) -> None:
        partner = self.world.partner(body.partner)
        if body.race_id is None:
            partner.revoked = True
        else:
            partner.lost.add(self.world.race(body.race_id).id)

    def _grant(self, body: Access) -> None:
        """Undo a revocation. For a race that the partner never had, give access to it."""
        partner = self.world.partner(body.partner)
        if body.race_id is None:
            partner.revoked = False
            return
        partner.lost.discard(body.race_id)
        self.world.race(body.race_id).partners.add(partner.number)

    def _new_key(self, body: Access) -> Row:
        partner = self.world.new_key(body.partner)
        return {"key": partner.key, "secret": partner.secret}

    def _clock(self, body: SetClock) -> Row:
        clock = self.world.clock
        if body.set is not None:
            clock.set(body.set)
        if body.advance is not None:
            clock.advance(body.advance)
        if body.rate is not None:
            clock.run_at(body.rate)
        if body.skew is not None:
            clock.skew = body.skew
        return {"now": clock.now()}
