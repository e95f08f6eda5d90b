"""What is reported of a morning: when each change was seen, and what is missing."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from benchmarks.race_morning import judge, morning, report
from benchmarks.race_morning.judge import Made, Noticed
from benchmarks.race_morning.play import Played
from rsu_pipeline.warehouse import database
from rsu_pipeline_tests.hub import Hub

BIB = Made(100.5, 1, 7, "bib", "2001")
LATER = Made(160.0, 1, 7, "bib", "2002")


def test_a_bib_is_seen_at_its_first_row_in_the_log() -> None:
    found, missed = judge.match([BIB], {7: [(110.0, 100, "2001"), (130.0, 120, "2001")]}, {})
    assert (found, missed) == ([Noticed(BIB, 110.0)], [])
    assert found[0].latency == 9.5


def test_a_row_of_an_earlier_change_does_not_count() -> None:
    assert judge.match([BIB], {7: [(99.0, 98, "2001")]}, {}) == ([], [BIB])
    assert judge.match([BIB], {7: [(110.0, 90, "1999")]}, {}) == ([], [BIB])


def test_a_row_of_a_later_change_shows_the_earlier_one_too() -> None:
    found, missed = judge.match([BIB, LATER], {7: [(170.0, 160, "2002")]}, {})
    assert (found, missed) == ([Noticed(BIB, 170.0), Noticed(LATER, 170.0)], [])


def test_a_change_never_seen_is_missed_and_one_undone_before_anybody_looked_is_overtaken() -> None:
    assert judge.match([BIB], {}, {}) == ([], [BIB])
    removal = Made(120.0, 1, 7, "removal")
    assert judge.match([BIB, removal], {}, {7: 130.0}) == ([Noticed(BIB, None), Noticed(removal, 130.0)], [])
    assert judge.match([BIB, removal], {}, {}) == ([Noticed(BIB, None)], [removal])


def test_what_differs_from_runsignup_is_named(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec={"registrations_per_event": 12}, seed=7)
    hub.sync()
    admin, people = hub.sandbox.admin, sorted(hub.truth())

    def differences() -> list[str]:
        with database.session(hub.url, purpose="tests") as conn:
            return judge.differences(conn, admin, 1, 1)

    assert differences() == []
    admin.bib(people[0], 900)
    admin.edit(people[1], {"first_name": "Otherwise"})
    admin.remove(people[2])
    new = admin.register(hub.stored()[people[0]]["event_id"])[0]
    assert [line.split(" ", 1)[1] for line in sorted(differences())] == [
        f"{people[0]} differs: bib",
        f"{people[1]} differs: last_modified, user",
        f"{people[2]} is gone at RunSignup and active here",
        f"{new} is not among the active ones",
    ]
    hub.sync()
    assert differences() == []
    first = hub.value("SELECT first_bib FROM runsignup_participants WHERE registration_id = %s", people[0])
    hub.execute("ALTER TABLE runsignup_bib_changes DISABLE TRIGGER USER; DELETE FROM runsignup_bib_changes")
    assert differences() == [f"bib log of {people[0]} ends with {first!r}, not '900'"]


def test_the_busiest_hour_slides() -> None:
    assert judge.busiest_hour([]) == 0
    assert judge.busiest_hour([0, 1800, 3599, 3601, 5000, 9000]) == 4
    assert judge.busiest_hour([0, 3600]) == 1


def test_changes_that_waited_in_a_spell_are_told_apart() -> None:
    script = morning.write_script(partners=1, races=1, hours=1, entrants=20, seed=7)
    dead = next(spell for spell in script.spells if spell.trouble == "dead")
    begins = 1_000_000.0
    times = {"calm": (60, 70), "before": (dead.start - 5, dead.end + 4), "within": (dead.start + 9, dead.end + 2)}
    played = Played(begins, 1.0, real_seconds=1.0)
    played.noticed = [
        Noticed(Made(begins + at, 1, number, "bib", "1"), begins + seen)
        for number, (at, seen) in enumerate(times.values())
    ]
    made = report.summarise(script, played, latency_ms=700)
    assert (made.bibs.changes, made.bibs.worst) == (1, 10.0)
    (found,) = [spell for spell in made.spells if spell.trouble == "dead"]
    assert (found.all.changes, found.all.worst, found.after_its_end.worst) == (2, dead.end - dead.start + 9, 4.0)
    assert made.is_well


@pytest.mark.parametrize("wrong", [{"missed": ["one"]}, {"violations": 1}, {"most_calls_in_an_hour": 1001}])
def test_whatever_is_missed_or_overstepped_is_not_well(wrong: dict[str, object]) -> None:
    script = morning.write_script(partners=1, races=1, hours=1, entrants=20, seed=7)
    made = report.summarise(script, Played(0.0, 1.0, real_seconds=1.0), latency_ms=700)
    assert made.is_well and not replace(made, **wrong).is_well  # type: ignore[arg-type]
