"""The watch, measured small: every bib is found, and one that never comes is reported and ends with 1."""

import sys

import pytest

from benchmarks import watch
from benchmarks.hub import started
from runsignup_sandbox.scales import Spec


def test_every_bib_is_found_beside_what_was_expected() -> None:
    (found,) = watch.measure(2, [1.0], 5.0)
    assert found.missing == []
    assert (found.races, found.partners) == (2, 2)
    assert found.found.changes > 0
    # An answer takes so long, and holds what was there half-way.
    assert found.found.worst > found.found.p50 > watch.CALL_SECONDS / 2
    assert found.expected.keys() == {"p50", "p95", "worst"}
    # Each race at least three times, with a call each, and one more where bibs were found.
    assert found.looks >= 6
    assert found.calls > found.looks


def test_a_bib_that_never_comes_is_told_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch, "PATIENCE", 10.0)
    with started(Spec(1, 1, 1, 100, start_in_hours=2.0)) as hub:
        url = watch._loaded(hub)
        # RunSignup keeps what is new to itself.
        hub.sandbox.admin.switch(visibility_delay=3600.0)
        unseen = watch._watched(hub, url, 1.0, 1, 1, 5.0)
    assert unseen.found.changes == 0
    assert len(unseen.missing) > 0
    monkeypatch.setattr(watch, "measure", lambda races, intervals, seconds: [unseen])
    monkeypatch.setattr(sys, "argv", ["watch", "--races", "1"])
    assert watch.main() == 1
    assert f"MISSING: 1 races, 1 s: {unseen.missing[0]}" in capsys.readouterr().out


def test_races_that_partners_cannot_share_alike_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, told in ((["--races", "20"], "--races"), (["--intervals", "0.5"], "--intervals")):
        monkeypatch.setattr(sys, "argv", ["watch", *arguments])
        with pytest.raises(SystemExit) as ended:
            watch.main()
        assert ended.value.code == 2
        assert told in capsys.readouterr().err
