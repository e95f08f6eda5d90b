"""The limit of calls in flight, the faults, the log, and the process itself."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from rsu_pipeline_tests.sandbox.conftest import Caller, caller, code
from runsignup_sandbox.process import SandboxProcess


def test_two_calls_at_once_are_fine_and_three_are_not(sandbox: SandboxProcess, api: Caller) -> None:
    sandbox.admin.switch(latency_ms=250)
    with ThreadPoolExecutor(3) as pool:
        two = list(pool.map(lambda _: api.json("/races"), range(2)))
        assert all("races" in answer for answer in two)
        assert sandbox.admin.stats()["violations"] == 0
        three = list(pool.map(lambda _: api.get("/races"), range(3)))
    codes = [code(response.json()) for response in three if "error" in response.json()]
    assert codes == [14]
    assert {response.status_code for response in three} == {200}
    stats = sandbox.admin.stats()
    assert (stats["violations"], stats["max_in_flight"], stats["in_flight"]) == (1, 3, 0)
    assert [entry["violation"] for entry in stats["log"]].count(True) == 1


def test_the_limit_per_key_and_the_status_429(sandbox: SandboxProcess, api: Caller) -> None:
    sandbox.admin.switch(latency_ms=250, in_flight_per_key=True, max_in_flight=1, http_error_status=429)
    other = caller(sandbox, 2)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda who: who.get("/races"), (api, other)))
        assert [answer.status_code for answer in answers] == [200, 200]
        answers = list(pool.map(lambda who: who.get("/races"), (api, api)))
    (refused,) = [answer for answer in answers if answer.status_code == 429]
    assert refused.headers["Retry-After"] == "1"
    assert code(refused.json()) == 14


def test_calls_one_after_another_never_overlap(sandbox: SandboxProcess) -> None:
    """A client that starts a call the moment it has the last byte must find the place free."""
    race, (event,) = sandbox.admin.add_race(1, [{"name": "Big", "start_in_hours": 5}])
    sandbox.admin.register(event, count=2500)
    sandbox.admin.switch(max_in_flight=1)
    api = caller(sandbox)
    session = requests.Session()
    query: dict[str, Any] = {"format": "json", "api_key": api.key, "api_secret": api.secret, "event_id": event}
    for encoding in ("identity", "gzip"):
        for _ in range(40):
            response = session.get(
                f"{api.base}/race/{race}/participants",
                params=query | {"results_per_page": 2500},
                headers={"Accept-Encoding": encoding},
                timeout=10,
            )
            assert isinstance(response.json(), list)
            assert isinstance(session.get(f"{api.base}/races", params=query, timeout=10).json(), dict)
    stats = sandbox.admin.stats()
    assert (stats["violations"], stats["max_in_flight"]) == (0, 1)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_slow_body_holds_its_place(sandbox: SandboxProcess, api: Caller) -> None:
    sandbox.admin.fault("slow_body", seconds=3)
    sandbox.admin.switch(max_in_flight=1)
    first = threading.Thread(target=lambda: api.get("/races"))
    first.start()
    wait_until(lambda: sandbox.admin.stats()["in_flight"] == 1)
    assert code(api.json("/races")) == 14
    first.join()
    wait_until(lambda: sandbox.admin.stats()["in_flight"] == 0)
    assert "races" in api.json("/races")


def test_a_client_that_leaves_frees_its_place(sandbox: SandboxProcess, api: Caller) -> None:
    sandbox.admin.fault("timeout", times=2)
    for _ in range(2):
        with pytest.raises(requests.Timeout):
            api.get("/races", timeout=0.2)
    wait_until(lambda: sandbox.admin.stats()["in_flight"] == 0)
    assert "races" in api.json("/races")


ANSWERED = {
    "http_500": (500, b"<html>"),
    "http_503": (503, b"<html>"),
    "html_522": (522, b"<!DOCTYPE html>"),
    "throttle_200": (200, b'{"error":{"error_code":14'),
    "throttle_429": (429, b'{"error":{"error_code":14'),
    "caller_400": (400, b'{"error":{"error_code":17'),
    "html_200": (200, b"<!DOCTYPE html>"),
    "empty_200": (200, b""),
    "xml_200": (200, b"<?xml"),
    "unknown_shape": (200, b'{"hello":1}'),
    "wrong_type": (200, b"[1,2]"),
    "redirect": (302, b""),
    "error_code": (200, b'{"error":{"error_code":5,"error_msg":"Broken."}}'),
}


@pytest.mark.parametrize("kind", ANSWERED)
def test_faults_that_answer(sandbox: SandboxProcess, api: Caller, kind: str) -> None:
    more: dict[str, Any] = {"code": 5, "message": "Broken."} if kind == "error_code" else {}
    sandbox.admin.fault(kind, **more)
    response = api.get("/races", allow_redirects=False)
    status, start = ANSWERED[kind]
    assert response.status_code == status
    assert response.content.startswith(start)
    assert ("Retry-After" in response.headers) == (kind == "throttle_429")
    assert "races" in api.json("/races")
    assert sandbox.admin.stats()["log"][0]["fault"] == kind


def test_faults_that_spoil_the_body(sandbox: SandboxProcess, api: Caller) -> None:
    whole = api.get("/races").content
    sandbox.admin.fault("truncated")
    cut = api.get("/races")
    assert cut.content == whole[: len(whole) // 2]
    sandbox.admin.fault("short_body")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        api.get("/races")
    sandbox.admin.fault("slow_body", seconds=0.3)
    began = time.monotonic()
    assert api.get("/races").content == whole
    assert time.monotonic() - began > 0.25


@pytest.mark.parametrize(("kind", "cause"), [("reset", "reset"), ("closed", "closed connection")])
def test_faults_below_http(sandbox: SandboxProcess, api: Caller, kind: str, cause: str) -> None:
    sandbox.admin.fault(kind)
    with pytest.raises(requests.ConnectionError, match=cause):
        api.get("/races")
    assert "races" in api.json("/races")
    assert sandbox.admin.stats()["in_flight"] == 0


def test_a_fault_strikes_only_what_it_names(sandbox: SandboxProcess, api: Caller) -> None:
    races, (event, _) = sandbox.admin.add_race(
        1, [{"name": "A", "start_in_hours": 9}, {"name": "B", "start_in_hours": 9}]
    )
    sandbox.admin.fault("http_500", times=0, endpoint="participants", race_id=races, partner=1, after_page=True)
    assert "races" in api.json("/races")
    assert isinstance(api.participants(races, event), list)
    path = f"/race/{races}/participants"
    for _ in range(3):
        assert api.get(path, {"event_id": event, "after_registration_id": 1}).status_code == 500
    assert caller(sandbox, 2).get(path, {"event_id": event, "after_registration_id": 1}).status_code == 200
    sandbox.admin.clear_faults()
    assert api.get(path, {"event_id": event, "after_registration_id": 1}).status_code == 200


def test_the_log_holds_no_secret(sandbox: SandboxProcess, api: Caller) -> None:
    name, secret = sandbox.admin.caller_registration()
    api.get("/races", {"rsu_api_reg": name, "tmp_secret": "tmp-hidden"}, headers={"X-RSU-API-REG-SECRET": secret})
    stats = sandbox.admin.stats()
    assert stats["log"][0]["query"] == {"format": "json"}
    assert stats["log"][0]["key_tail"] == api.key[-4:]
    text = repr(stats)
    assert not [hidden for hidden in (api.key, api.secret, name, secret, "tmp-hidden") if hidden in text]
    assert stats["by_endpoint"] == {"races": 1}
    assert stats["bytes"] > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_soon_even_with_a_call_hanging(number: signal.Signals) -> None:
    with SandboxProcess.start("blank") as process:
        process.admin.fault("timeout")
        hanging = threading.Thread(target=_ignore_errors, args=(process.api_url,))
        hanging.start()
        time.sleep(0.2)
        began = time.monotonic()
        process.process.send_signal(number)
        assert process.process.wait(5) == 0
        assert time.monotonic() - began < 2
        hanging.join()


def _ignore_errors(url: str) -> None:
    try:
        requests.get(f"{url}/races", timeout=10)
    except requests.ConnectionError:
        return


def test_it_ends_with_its_parent() -> None:
    script = """
        import os
        from runsignup_sandbox.process import SandboxProcess
        started = SandboxProcess.start("blank")
        print(started.process.pid, flush=True)
        os._exit(0)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True, timeout=20
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if _is_zombie(pid):
            return
        time.sleep(0.05)
    pytest.fail("The sandbox outlived its parent.")


def _is_zombie(pid: int) -> bool:
    listed = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], stdout=subprocess.PIPE, text=True, check=False, timeout=120
    )
    return listed.stdout.strip().startswith("Z") or not listed.stdout.strip()


def test_another_host_needs_permission() -> None:
    command = [sys.executable, "-m", "runsignup_sandbox", "--host", "0.0.0.0", "--scale", "blank"]  # noqa: S104
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "--allow-remote" in done.stderr


def test_life_goes_on_when_live() -> None:
    with SandboxProcess.start("small", live=True, live_interval=0.02) as process:
        started = int(process.admin.truth(1)["now"])
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            truth = process.admin.truth(1)
            if any(row["last_modified"] >= started for row in truth["active"]):
                return
            time.sleep(0.1)
    pytest.fail("Nothing changed by itself.")
