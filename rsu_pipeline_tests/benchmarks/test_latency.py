"""Latency, measured small: the nights make exactly their calls, and the seconds beyond the least are fully explained."""

from dataclasses import replace

import pytest

from benchmarks import large_race, latency
from benchmarks.full_sync import Contender, judge
from benchmarks.hub import ROOT, Change, Measured, started
from benchmarks.latency import Call
from runsignup_sandbox.scales import Spec

SPEC = Spec(partners=3, races_per_partner=2, events_per_race=1, registrations_per_event=30)
LATENCY = 0.1


def test_the_nights_are_measured_and_their_seconds_add_up() -> None:
    found = latency.measure(SPEC, LATENCY, 2)
    assert (found.rows, found.events) == (180, 6)
    assert {name: [night.calls for night in nights] for name, nights in found.nights.items()} == {
        "every row read again": [{"races": 3, "participants": 12}] * 2,
        "as planned": [{"races": 3, "participants": 6, "removed": 6}] * 2,
        "the nightly": [{"races": 6, "participants": 6}] * 2,
        # All races are of one size, so that no page shows the end of another.
        "the nightly after it": [{"races": 6, "participants": 12}] * 2,
    }
    for nights in found.nights.values():
        for night in nights:
            assert night.least == pytest.approx(sum(night.calls.values()) * LATENCY / 2)
            assert night.wall == pytest.approx(night.least + sum(vars(night.waits).values()))
            # An answer cannot come sooner than its latency, nor can two places be busier than all the time.
            assert min(vars(night.waits).values()) >= -0.001
    latency.show(found)


def test_the_seconds_beyond_the_least_are_told_apart() -> None:
    calls = [
        Call(1, 0.0, 1.0),
        Call(1, 1.5, 2.75),
        Call(2, 0.0, 1.0),
        Call(3, 1.0, 2.0),
        Call(3, 2.5, 3.5),
    ]
    waits = latency.waits(calls, 4.0, 1.0)
    # One call took 0.25 s more; one partner was alone from 2.75 to 3.5; what is left is 2 s of one place.
    assert waits == latency.Waits(longer=0.125, unused=1.0, alone=0.375)
    assert sum(vars(waits).values()) == 4.0 - 5 * 1.0 / 2
    # A partner that has nobody beside it is alone all the time.
    assert latency.waits(calls[:1], 1.5, 1.0) == latency.Waits(longer=0.0, unused=0.5, alone=0.5)


def test_a_night_that_makes_more_calls_does_not_count() -> None:
    with started(Spec(registrations_per_event=20)) as hub:
        url = hub.database()
        hub.run("ours", "prepare", url)
        hub.run("ours", "plan", url)
        for name, (kind, action) in latency.NIGHTS.items():
            night = hub.run("ours", action, url)
            item = Contender(name, kind, ROOT, "")
            judge(hub, item, night, Change(), first=False)
            for wrong in _with_more_calls(night):
                with pytest.raises(AssertionError):
                    judge(hub, item, wrong, Change(), first=False)


def test_a_large_race_is_measured_by_its_pages() -> None:
    found = large_race.measure(Spec(events_per_race=2, registrations_per_event=2600), LATENCY, 1)
    assert (found.rows, found.calls, found.least) == (5200, 4, pytest.approx(4 * LATENCY))
    assert found.wall[0] >= found.least and found.postgres_cpu[0] > 0
    large_race.show(found)


def _with_more_calls(night: Measured) -> list[Measured]:
    return [replace(night, calls={**night.calls, name: 2 * count + 1}) for name, count in night.calls.items()]
