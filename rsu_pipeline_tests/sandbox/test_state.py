"""A world kept in a file: the same after a stop, whole after a crash, refused when it is spoilt."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rsu_pipeline_tests.sandbox.conftest import NOW, caller
from runsignup_sandbox.process import SandboxProcess
from runsignup_sandbox.scales import build
from runsignup_sandbox.state import VERSION, Origin, encoded_state, load


def _truth(sandbox: SandboxProcess) -> list[Any]:
    """Return the whole truth, apart from the time."""
    found = [sandbox.admin.truth(entry["partner"]) for entry in sandbox.admin.partners()]
    for one in found:
        del one["now"]
    return [sandbox.admin.partners(), found]


def _change_much(sandbox: SandboxProcess) -> int:
    """Make one change of each kind, and return the race they happened in."""
    admin = sandbox.admin
    events = [{"name": "One", "start_in_hours": 30}, {"name": "Two", "start_in_hours": 31}]
    race, (one, two) = admin.add_race(1, events, name="Kept Run", private=True)
    first, second, third, fourth, fifth = admin.register(one, {"team_name": "Équipe / 7"}, count=5)
    admin.bib(first, 17)
    admin.edit(second, {"first_name": "Zoë", "age": "12"}, drop=["phone"], extra={"novelty": {"big": 2**70}})
    admin.transfer(third, two)
    admin.remove(fourth, "deferred")
    admin.remove(fifth, silent=True)
    admin.check_in(first)
    admin.add_event(race, "Three", start_time="1/2/2030 07:30")
    admin.delete_event(admin.add_event(race, "Four", start_in_hours=4))
    admin.edit_race(race, {"description": None, "novelty": 1})
    # An old registration too, that comes back after it was removed.
    old = admin.truth(1)["active"][0]["registration_id"]
    admin.remove(old)
    admin.reactivate(old)
    admin.new_key(1)
    admin.revoke(2)
    admin.revoke(3, admin.truth(3)["races"][0]["race_id"])
    return race


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "runsignup_sandbox", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_world_goes_on_where_it_was(tmp_path: Path, number: signal.Signals) -> None:
    state = tmp_path / "world"
    with SandboxProcess.start("small", now=NOW, state=state) as process:
        race = _change_much(process)
        before, stopped = _truth(process), time.time()
        checkins = caller(process).json("/v2/participants/checkin-timestamps.json", race_id=race)
        process.process.send_signal(number)
        assert process.process.wait(10) == 0
    assert state.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["world"]
    with SandboxProcess.start("small", state=state) as process:
        assert _truth(process) == before
        assert process.admin.clock() - NOW == pytest.approx(time.time() - stopped, abs=5)
        assert caller(process).json("/v2/participants/checkin-timestamps.json", race_id=race) == checkins
        event = before[1][0]["races"][-1]["events"][0]["event_id"]
        known = {row["registration_id"] for row in before[1][0]["active"] + before[1][0]["removed"]}
        (new,) = process.admin.register(event)
        assert new > max(known)
        key, _ = process.admin.new_key(2)
        assert key not in {entry["key"] for entry in before[0]}
        served = caller(process).rows(race, event)
        assert [row["registration_id"] for row in served][-1] == new


def test_a_kill_loses_only_what_came_after_the_last_save(tmp_path: Path) -> None:
    state = tmp_path / "world"
    with SandboxProcess.start("small", now=NOW, state=state, save_every=0.1) as process:
        assert state.exists()
        fresh = state.read_bytes()
        _change_much(process)
        before = _truth(process)
        deadline = time.monotonic() + 10
        # Saved while it changed, and once more after the last change.
        while time.monotonic() < deadline:
            found = load(state)
            assert found is not None
            if len(found[0].partners[3].lost) == 1:
                break
            time.sleep(0.05)
        assert state.read_bytes() != fresh
        process.process.kill()
        process.process.wait(60)
    with SandboxProcess.start("small", state=state) as process:
        assert _truth(process) == before


def test_nothing_is_written_while_nothing_changes(tmp_path: Path) -> None:
    state = tmp_path / "world"
    with SandboxProcess.start("tiny", state=state, save_every=0.05) as process:
        first = state.stat().st_ino
        time.sleep(0.4)
        process.admin.truth(1)
        assert state.stat().st_ino == first


@pytest.mark.parametrize("spoil", ["cut", "flip", "junk", "empty", "version"])
def test_a_spoilt_file_is_refused_in_one_sentence(tmp_path: Path, spoil: str) -> None:
    state = tmp_path / "world"
    content = encoded_state(build("tiny", 7, NOW), Origin("tiny", 7))
    version = b'"sandbox_state":%d' % VERSION
    spoilt = {
        "cut": content[: len(content) // 2],
        "flip": content.replace(b'"seed":7', b'"seed":8'),
        "junk": b"\x80\x04\x95 not a state",
        "empty": b"",
        "version": content.replace(version, b'"sandbox_state":999'),
    }[spoil]
    assert spoilt != content
    state.write_bytes(spoilt)
    done = _run("--state", str(state), "--scale", "tiny")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert str(state) in done.stderr
    assert "deleting the file starts afresh" in done.stderr
    assert ("another version" in done.stderr) == (spoil == "version")
    assert state.read_bytes() == spoilt


def test_a_place_that_can_not_be_written_is_told_at_once(tmp_path: Path) -> None:
    done = _run("--state", str(tmp_path / "none" / "world"), "--scale", "tiny")
    assert (done.returncode, done.stdout) == (2, "")
    assert "can't be saved" in done.stderr


def test_the_file_wins_over_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "world"
    state.write_bytes(encoded_state(build("tiny", 7, NOW), Origin("tiny", 7)))
    with SandboxProcess.start("small", seed=8, state=state) as process:
        assert len(process.admin.partners()) == 1
    told = capfd.readouterr().err
    assert told.count("\n") == 1
    assert "scale tiny with seed 7" in told
    assert "scale small with seed 8" in told
    with SandboxProcess.start("tiny", seed=7, state=state) as process:
        pass
    assert capfd.readouterr().err == ""


def test_the_largest_world_is_saved_and_read_in_seconds(tmp_path: Path) -> None:
    world, origin = build("estate", 7, NOW), Origin("estate", 7)
    began = time.monotonic()
    (tmp_path / "world").write_bytes(encoded_state(world, origin))
    assert time.monotonic() - began < 10
    found = load(tmp_path / "world")
    assert found is not None
    assert time.monotonic() - began < 25
    assert len(found[0].truth.active.items) == len(found[0].feed.active.items) == 407_053
    assert found[1] == origin
