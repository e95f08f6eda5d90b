"""Whatever a runner types or RunSignup garbles, all the way into PostgreSQL.

It is stored unchanged, or quarantined with a reason, and affects no other row.
"""

import datetime as dt
from dataclasses import dataclass

import pytest

from rsu_pipeline.alerts import rules
from rsu_pipeline.cli import metrics
from rsu_pipeline.start_lists import start_list_store
from rsu_pipeline.sync import cadence, watch_pace
from rsu_pipeline.warehouse import database, fleet
from rsu_pipeline_tests.hub import Hub, Row, expected

NAMES = {
    "SQL": "Robert'); DROP TABLE runsignup_participants;--",
    "SQL with a dollar quote": "$$; DELETE FROM timing_partners; $$",
    "a COPY mark": "\\.",
    "a COPY null": "\\N",
    "a parameter": "%s %(partner)s %%",
    "HTML": "<img src=x onerror=alert(1)>",
    "script": "</td></table><script>alert(1)</script>",
    "Markdown": "[x](javascript:alert(1)) ![x](https://example.test/x.png) `x`",
    "a formula": '=HYPERLINK("https://example.test","x")',
    "control characters": "".join(map(chr, range(1, 32))) + "\x7f\x80\x9b",
    "a terminal's escapes": "\x1b[2J\x1b]0;x\x07",
    "line ends of all kinds": "a\nb\rc\r\nd\x0be\x0cf\x85g\u2028h\u2029i",
    "marks of direction": "\u202eadA\u202c \u2066x\u2069 \u200f\u061c",
    "no width at all": "\u200b\u200c\u200d\ufeff\u2060",
    "marks upon marks": "Z" + "\u0336\u0353\u035b" * 200,
    "beyond the first plane": "\U0001f3c3\U0010ffff\U000e0041",
    "non-characters": "\ufffe\uffff",
    "other scripts": "李 Ζωή المتسابق ๙๙",
    "a letter that grows": "ŉǰΐİ" * 500,
    "white space alone": " \u00a0\u3000\t",
    "nothing": "",
    "a megabyte": "Ö" * 524_288,
    "nothing but commas": "," * 100_000,
    "nothing but backslashes": "\\" * 100_000,
}

NAMED = ("last_name", "team_name", "giveaway")

# What is sent, the columns it leaves NULL, and the reason given.
UNFIT: dict[str, tuple[Row, tuple[str, ...], str]] = {
    "a NUL": ({"last_name": "a\x00b"}, (), "a NUL character was replaced"),
    "e-mail of a megabyte": ({"email": "x" * (1 << 20)}, ("email",), "email: longer than 1000 bytes"),
    "bib of 100,000 digits": ({"bib_num": "7" * 100_000}, ("bib_num",), "bib_num: longer than 1000 bytes"),
    "fee of 100,000 digits": ({"race_fee": "$" + "9" * 100_000}, (), "race_fee: amount of money out of range"),
    "a float for an age": ({"age": 35.5}, ("age",), "age: "),
    "NaN for an age": ({"age": "NaN"}, ("age",), "age: "),
    "Infinity for a fee": ({"race_fee": "Infinity"}, (), "race_fee: not an amount of money"),
    "NaN for a fee": ({"amount_paid": "$NaN"}, (), "amount_paid: not an amount of money"),
    "a negative age": ({"age": -1}, ("age",), "age: out of range"),
    "a user beyond int64": ({"user_id": 2**63}, ("user_id",), "user_id: out of range"),
    "a user of 5,000 digits": ({"user_id": "9" * 5000}, ("user_id",), "user_id: "),
    "a user in words": ({"user_id": "me"}, ("user_id",), "user.user_id: "),
    "born in the year 0": ({"dob": "0000-01-01"}, ("dob",), "dob: year 0 is out of range"),
    "born on no day": ({"dob": "2001-02-29"}, ("dob",), "dob: day is out of range"),
    "born in words": ({"dob": "1/1/'99"}, ("dob",), "dob: not a date or time"),
    "born in either century": ({"dob": "2/17/27"}, ("dob",), "dob: a year of two digits"),
    "a fee in euros": ({"race_fee": "€12,50"}, (), "race_fee: amount of money in another currency"),
    "registered in 9999": ({"registration_date": "12/31/9999 23:59"}, ("registration_date", "registered_at"), "out of"),
    "registered in the year 1": ({"registration_date": "1/1/0001 00:00"}, ("registered_at",), "time out of range"),
    "changed before 1970": ({"last_modified": -5}, ("last_modified_epoch",), "last_modified: not a time"),
    "changed beyond all time": ({"last_modified": 10**15}, ("last_modified_epoch",), "last_modified: not a time"),
    "changed in words": ({"last_modified": "now"}, ("last_modified_epoch",), "last_modified: not a time"),
    "an address that is a list": ({"address": ["<b>"]}, ("address",), "user.address: "),
    "a person that is a text": ({"user": "Ada"}, ("last_name", "email"), "user: "),
}


RACES: dict[str, tuple[Row, Row]] = {
    "names of a megabyte": ({"name": "R" * (1 << 20)}, {"name": "E" * (1 << 20)}),
    "SQL": ({"name": NAMES["SQL"]}, {"name": NAMES["SQL"]}),
    "the year 9999": ({"next_date": "12/31/9999", "timezone": "UTC"}, {"start_time": "12/31/9999 23:30"}),
    "the year 1": ({"last_date": "01/01/0001", "timezone": "UTC"}, {"start_time": "1/1/0001 00:00"}),
    "the year 0": ({"next_date": "01/01/0000"}, {"start_time": "1/1/0000 00:00", "end_time": "0000-00-00 00:00:00"}),
    "garbage for times": ({"created": "x" * 100_000}, {"start_time": "soon", "registration_opens": "\x00"}),
    "a zone that leaves its folder": ({"timezone": "../../etc/passwd"}, {}),
    "a long zone": ({"timezone": "A" * 100_000}, {}),
    "a zone with a NUL": ({"timezone": "UTC\x00"}, {}),
    "numbers beyond all": ({"fb_page_id": 10**400}, {"race_event_days_id": 10**400, "distance": "9" * 5000}),
    "members of a megabyte": ({"url": "u" * (1 << 20)}, {"details": "<script>" * 100_000}),
}


@dataclass(frozen=True)
class Taken:
    """A hub that took all of it in with one sync.

    `numbers` are registration ids by what is special about each, `races` race ids.
    """

    hub: Hub
    numbers: dict[str, int]
    races: dict[str, int]

    def registration(self, what: str) -> Row:
        (row,) = self.hub.rows("SELECT * FROM runsignup_participants WHERE registration_id = %s", self.numbers[what])
        return row

    def noted(self, what: str) -> list[Row]:
        return self.hub.rows("SELECT * FROM quarantined_rows WHERE registration_id = %s", self.numbers[what])


@pytest.fixture(scope="module")
def taken(shared: Hub) -> Taken:
    admin, numbers, races = shared.sandbox.admin, {}, {}
    event_id = event_of(shared)
    every = {what: dict.fromkeys(NAMED, name) for what, name in NAMES.items()}
    every |= {what: fields for what, (fields, _, _) in UNFIT.items()}
    for (what, fields), number in zip(every.items(), admin.register(event_id, count=len(every)), strict=True):
        admin.edit(number, fields)
        numbers[what] = number
    for what, (race, event) in RACES.items():
        races[what], (its_event,) = admin.add_race(1, [{"name": "Run", "start_in_hours": 500}])
        admin.register(its_event)
        admin.edit_race(races[what], race)
        admin.edit_event(its_event, event)
    # As it is by default: a busy machine needs seconds to write a page of megabytes.
    del shared.environment["RSU_READ_TIMEOUT"]
    outcome = shared.sync(full=True)
    assert not outcome.failures and not outcome.unequal_events
    assert (outcome.counts.quarantined, outcome.counts.with_faults) == (0, len(UNFIT))
    return Taken(shared, numbers, races)


def event_of(hub: Hub) -> int:
    return int(hub.value("SELECT min(event_id) FROM future_events"))


@pytest.mark.parametrize("what", NAMES)
def test_a_name_is_stored_as_it_is_whatever_it_says(taken: Taken, what: str) -> None:
    row = taken.registration(what)
    assert not taken.noted(what)
    assert row["last_name"] == NAMES[what]
    assert (row["team_info"]["team_name"], row["additional_data"]["giveaway"]) == (NAMES[what], NAMES[what])
    assert row["payload"]["user"]["last_name"] == NAMES[what]


@pytest.mark.parametrize("what", UNFIT)
def test_a_member_that_does_not_fit_costs_itself_and_says_why(taken: Taken, what: str) -> None:
    _, empty, reason = UNFIT[what]
    row, (noted,) = taken.registration(what), taken.noted(what)
    assert {name: row[name] for name in empty} == dict.fromkeys(empty)
    assert noted["is_stored"] and reason in noted["reason"]
    assert len(noted["reason"]) < 300


def test_every_other_row_equals_runsignup(taken: Taken) -> None:
    special = {taken.numbers[what] for what in UNFIT}
    truth = [row for row in taken.hub.sandbox.admin.truth(1)["active"] if row["registration_id"] not in special]
    stored = taken.hub.stored()
    assert {key: row for key, row in stored.items() if key not in special} == {
        row["registration_id"]: expected(row) for row in truth
    }
    assert len(stored) == len(truth) + len(special)


def test_a_start_list_holds_any_name(taken: Taken) -> None:
    with database.session(taken.hub.url, purpose="tests") as conn:
        now = dt.datetime.fromtimestamp(taken.hub.sandbox.admin.clock(), dt.UTC)
        start_list_store.rebuild(conn, 1, now)
        found = start_list_store.read_start_list(conn, event_of(taken.hub), now)
        entries = {entry.registration_id: entry for entry in start_list_store.read_entries(conn, found)}
        conn.commit()
    assert len(entries) >= len(taken.numbers)
    for what, name in NAMES.items():
        entry = entries[taken.numbers[what]]
        # Lists are without the white space around a name.
        assert (entry.last_name or "").strip() == name.strip(), what


@pytest.mark.parametrize("what", RACES)
def test_a_race_and_its_event_may_say_what_they_like(taken: Taken, what: str) -> None:
    race, event = RACES[what]
    (stored,) = taken.hub.rows("SELECT * FROM runsignup_races WHERE race_id = %s", taken.races[what])
    (its_event,) = taken.hub.rows("SELECT * FROM runsignup_events WHERE race_id = %s", taken.races[what])
    assert stored["name"] == race.get("name", stored["name"])
    assert its_event["name"] == event.get("name", its_event["name"])
    if "start_time" in event:
        assert its_event["starts_at"] is None
    count = "SELECT count(*) FROM runsignup_participants WHERE race_id = %s"
    assert taken.hub.value(count, taken.races[what]) == 1


def test_what_is_told_of_all_this_is_short_and_printable(taken: Taken) -> None:
    reasons = [row["reason"] for row in taken.hub.rows("SELECT reason FROM sync_history")]
    reasons += [row["reason"] for row in taken.hub.rows("SELECT reason FROM quarantined_rows")]
    assert len(reasons) > len(UNFIT)
    assert all(reason.isprintable() and len(reason) <= 1000 for reason in reasons), reasons
    assert not any("<script" in reason for reason in reasons)


def test_all_that_looks_at_the_fleet_can_reckon_with_it(taken: Taken) -> None:
    now = dt.datetime.fromtimestamp(taken.hub.sandbox.admin.clock(), dt.UTC)
    settings = taken.hub.settings
    with database.session(taken.hub.url, purpose="tests") as conn:
        races = fleet.select_races_to_read(conn, now)
        assert len(races) >= len(RACES)
        cadence.due(fleet.select_partners_to_sync(conn, now), races, now, settings.cadence)
        rules.find_problems(conn, settings, now)
        watch_pace.select_watched_races(races, now, settings)
        metrics.build_registry(conn, settings, now)
