"""Steps of access: races that cannot be read, are shared, handed over, withdrawn and restored.

Keys that change. Faults.
"""

from typing import Any

from rsu_pipeline.warehouse import credentials
from rsu_pipeline_tests.proof.season.programs import choice, number, pick, step
from rsu_pipeline_tests.proof.season.world import World

FAULTS = (
    "http_500 http_503 html_522 throttle_200 throttle_429 truncated short_body html_200 empty_200 xml_200 unknown_shape"
    " reset closed wrong_type error_code"
).split()


def _unreadable(kind: str) -> dict[str, Any]:
    """Return the fault of a race that cannot be read: an error code, a status or an odd shape."""
    if kind.isdigit():
        return {"kind": "error_code", "code": int(kind), "message": "refused"}
    return {"kind": kind}


class AccessSteps(World):
    """See the module."""

    @step(pick=pick, kind=choice("7", "301", "4", "8", "http_500", "unknown_shape"))
    def new_race_that_cannot_be_read(self, pick: int, kind: str) -> None:
        partner = self.partners[pick % len(self.partners)]
        race_id, event_ids = self.admin.add_race(partner, [{"name": "Closed", "start_in_hours": 48}])
        self.admin.register(event_ids[0], count=2)
        fault = _unreadable(kind) | {"endpoint": "participants", "race_id": race_id}
        self.unreadable[race_id] = fault
        self.admin.fault(times=0, **fault)

    @step(pick=pick)
    def event_refuses(self, pick: int) -> None:
        """Let RunSignup refuse every request that names one event of a race, for good."""
        events = [event["event_id"] for race in self.races() if len(race["events"]) > 1 for event in race["events"]]
        if events and not self.refused_events:
            event_id = events[pick % len(events)]
            fault = {"kind": "error_code", "code": 301, "message": "Event not found.", "event_id": event_id}
            self.refused_events[event_id] = fault
            self.admin.fault(times=0, **fault)

    @step(pick=pick, which=pick)
    def share_race(self, pick: int, which: int) -> None:
        if race := self.race(pick):
            self.admin.grant(self.partners[which % len(self.partners)], race["race_id"])

    @step(pick=pick, which=pick)
    def hand_race_over(self, pick: int, which: int) -> None:
        race = self.race(pick)
        if race is None:
            return
        owners = [partner for partner in self.partners if self._reads(partner, race["race_id"])]
        to = self.partners[which % len(self.partners)]
        self.admin.grant(to, race["race_id"])
        for owner in owners:
            if owner != to:
                self.admin.revoke(owner, race["race_id"])

    def _reads(self, partner: int, race_id: int) -> bool:
        return race_id in [race["race_id"] for race in self.races(partner)]

    @step(pick=pick, which=pick)
    def withdraw_race(self, pick: int, which: int) -> None:
        partner = self.partners[which % len(self.partners)]
        races = self.races(partner)
        if races:
            self.admin.revoke(partner, races[pick % len(races)]["race_id"])

    @step(pick=pick, which=pick)
    def restore_race(self, pick: int, which: int) -> None:
        partner = self.partners[which % len(self.partners)]
        lost = [race["race_id"] for race in self.truth(partner)["races"] if not race["access"]]
        if lost and partner not in self.revoked:
            self.admin.grant(partner, lost[pick % len(lost)])

    @step(pick=pick)
    def withdraw_all(self, pick: int) -> None:
        partner = self.partners[pick % len(self.partners)]
        self.admin.revoke(partner)
        self.revoked.add(partner)

    @step(is_possible=lambda self: self.revoked)
    def restore_all(self) -> None:
        for partner in self.revoked:
            self.admin.grant(partner)
        self.revoked.clear()

    @step(pick=pick)
    def change_secret(self, pick: int) -> None:
        """Give a partner a new key at RunSignup, which nobody has entered yet."""
        partner = self.partners[pick % len(self.partners)]
        if partner not in self.revoked:
            self.new_secrets[partner] = self.admin.new_key(partner)

    @step(is_possible=lambda self: self.new_secrets)
    def enter_secrets(self) -> None:
        """Enter what RunSignup changed, as the operator does."""
        for partner, (principal, secret) in self.new_secrets.items():
            with self.conn.cursor() as cur:
                cur.execute("SELECT company_name FROM timing_partners WHERE timing_partner_id = %s", (partner,))
                (name,) = cur.fetchone() or ("",)
            credentials.add(self.conn, self.hub.secret_box, name=name, principal=principal, secret=secret)
        self.conn.commit()
        self.new_secrets.clear()

    @step(
        kind=choice(*FAULTS),
        times=number(1, 3),
        endpoint=choice("participants", "removed", "race", "races"),
        pick=pick,
        after_page=choice(True, False),
    )
    def fault(self, kind: str, times: int, endpoint: str, pick: int, after_page: bool) -> None:
        more: dict[str, Any] = {"code": 5, "message": "database failure"} if kind == "error_code" else {}
        after_page = after_page and endpoint in ("participants", "removed")
        partner = self.partners[pick % len(self.partners)]
        self.admin.fault(kind, times, endpoint=endpoint, partner=partner, after_page=after_page, **more)

    @step(pick=pick, times=choice(1, 3, 0))
    def race_refuses(self, pick: int, times: int) -> None:
        """Let one race that could be read refuse for a while, though it stays listed."""
        if race := self.race(pick):
            self.refusing_races.add(race["race_id"])
            self.admin.fault(
                "error_code",
                times,
                endpoint="participants",
                race_id=race["race_id"],
                code=7,
                message="Permission Denied",
            )
