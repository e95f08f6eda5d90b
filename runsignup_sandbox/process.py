"""The sandbox as a subprocess, and a typed client for its admin interface."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

Json = dict[str, Any]
_READY = "sandbox listening on "


class AdminError(RuntimeError):
    """The admin interface refused an action. The text is its reason."""


class AdminClient:
    """One method per admin action. Times are Unix seconds of the simulated clock unless documented otherwise."""

    def __init__(self, base_url: str) -> None:
        self._base = f"{base_url}/admin"
        self._session = requests.Session()
        # No proxy from the environment may come between.
        self._session.trust_env = False

    def _call(self, method: str, name: str, body: Mapping[str, Any] | None = None, **params: Any) -> Any:
        response = self._session.request(method, f"{self._base}/{name}", json=body, params=params, timeout=120)
        if response.status_code != 200:
            raise AdminError(response.json().get("error", response.text) if response.text else str(response))
        return response.json()

    def _post(self, name: str, /, **body: Any) -> Any:
        return self._call("POST", name, body)

    def close(self) -> None:
        self._session.close()

    def partners(self) -> list[Json]:
        """Return `[{"partner", "name", "key", "secret"}]`."""
        result: list[Json] = self._call("GET", "partners")
        return result

    def caller_registration(self) -> tuple[str, str]:
        """Return the one valid `rsu_api_reg` value and its header's secret."""
        answer = self._call("GET", "caller_registration")
        return answer["rsu_api_reg"], answer["secret"]

    def register(self, event_id: int, fields: Mapping[str, Any] | None = None, count: int = 1) -> list[int]:
        """Register people and return the new registration ids, the event's own first, then a bundle's twins."""
        ids: list[int] = self._post("register", event_id=event_id, fields=dict(fields or {}), count=count)[
            "registration_ids"
        ]
        return ids

    def edit(
        self,
        registration_id: int,
        fields: Mapping[str, Any] | None = None,
        *,
        drop: Sequence[str] = (),
        extra: Mapping[str, Any] | None = None,
        last_modified: int | None = None,
    ) -> None:
        self._post(
            "edit",
            registration_id=registration_id,
            fields=dict(fields or {}),
            drop=list(drop),
            extra=dict(extra or {}),
            last_modified=last_modified,
        )

    def bib(self, registration_id: int, bib: int | None) -> None:
        self._post("bib", registration_id=registration_id, bib=bib)

    def swap_bibs(self, a: int, b: int) -> None:
        self._post("swap_bibs", a=a, b=b)

    def transfer(
        self,
        registration_id: int,
        new_event_id: int,
        *,
        transfer_bib: bool = True,
        hide: str | None = None,
        hide_seconds: float = 0.0,
    ) -> int:
        """Move a registration to another event and return the new id. `hide` is `new`, `removed` or None."""
        new_id: int = self._post(
            "transfer",
            registration_id=registration_id,
            new_event_id=new_event_id,
            transfer_bib=transfer_bib,
            hide=hide,
            hide_seconds=hide_seconds,
        )["registration_id"]
        return new_id

    def remove(self, registration_id: int, reason: str = "removed", *, silent: bool = False) -> None:
        self._post("remove", registration_id=registration_id, reason=reason, silent=silent)

    def reactivate(self, registration_id: int, *, last_modified: int | None = None) -> None:
        """Make a removed registration active again. `last_modified` is its new timestamp, by default the current second."""
        self._post("reactivate", registration_id=registration_id, last_modified=last_modified)

    def forget_removed(self, race_id: int) -> None:
        self._post("forget_removed", race_id=race_id)

    def check_in(self, registration_id: int) -> None:
        self._post("check_in", registration_id=registration_id)

    def add_race(
        self,
        partner: int,
        events: Sequence[Mapping[str, Any]] = (),
        *,
        name: str = "Added Run",
        timezone: str | None = None,
        private: bool = False,
        draft: bool = False,
    ) -> tuple[int, list[int]]:
        """Add a race and return its id and its event ids. An event is `{"name", "start_in_hours" | "start_time", ...}`."""
        answer = self._post(
            "add_race",
            partner=partner,
            events=[dict(event) for event in events],
            name=name,
            timezone=timezone,
            private=private,
            draft=draft,
        )
        return answer["race_id"], answer["event_ids"]

    def add_event(
        self,
        race_id: int,
        name: str,
        *,
        start_in_hours: float | None = None,
        start_time: float | str | None = None,
        end_time: float | str | None = None,
        race_event_days_id: int | None = None,
        volunteer: bool = False,
        sub_event_ids: Sequence[int] = (),
    ) -> int:
        """Add an event and return its id. Text times are `M/D/YYYY HH:MM` in the race's zone."""
        event_id: int = self._post(
            "add_event",
            race_id=race_id,
            name=name,
            start_in_hours=start_in_hours,
            start_time=start_time,
            end_time=end_time,
            race_event_days_id=race_event_days_id,
            volunteer=volunteer,
            sub_event_ids=list(sub_event_ids),
        )["event_id"]
        return event_id

    def edit_race(self, race_id: int, fields: Mapping[str, Any]) -> None:
        self._post("edit_race", race_id=race_id, fields=dict(fields))

    def edit_event(self, event_id: int, fields: Mapping[str, Any]) -> None:
        self._post("edit_event", event_id=event_id, fields=dict(fields))

    def move_event(
        self, event_id: int, *, start_in_hours: float | None = None, start_time: float | str | None = None
    ) -> None:
        self._post("move_event", event_id=event_id, start_in_hours=start_in_hours, start_time=start_time)

    def move_to_race(self, event_id: int, race_id: int) -> None:
        """Make an event with its registrations part of another race."""
        self._post("move_to_race", event_id=event_id, race_id=race_id)

    def delete_event(self, event_id: int) -> None:
        self._post("delete_event", event_id=event_id)

    def delete_race(self, race_id: int) -> None:
        self._post("delete_race", race_id=race_id)

    def revoke(self, partner: int, race_id: int | None = None) -> None:
        self._post("revoke", partner=partner, race_id=race_id)

    def grant(self, partner: int, race_id: int | None = None) -> None:
        self._post("grant", partner=partner, race_id=race_id)

    def new_key(self, partner: int) -> tuple[str, str]:
        """Replace the key and secret and return the new ones. The old ones no longer work."""
        answer = self._post("new_key", partner=partner)
        return answer["key"], answer["secret"]

    def clock(
        self,
        *,
        set: float | None = None,
        advance: float | None = None,
        rate: float | None = None,
        skew: float | None = None,
    ) -> float:
        """Change the simulated clock and return its time. Without arguments only return it."""
        now: float = self._post("clock", set=set, advance=advance, rate=rate, skew=skew)["now"]
        return now

    def switch(self, **switches: Any) -> Json:
        """Set the given switches and return all of them."""
        answer: Json = self._post("switch", **switches)
        return answer

    def switches(self) -> Json:
        answer: Json = self._call("GET", "switches")
        return answer

    def fault(
        self,
        kind: str,
        times: int = 1,
        *,
        endpoint: str | None = None,
        race_id: int | None = None,
        partner: int | None = None,
        after_page: bool = False,
        seconds: float | None = None,
        **more: Any,
    ) -> int:
        """Add a fault and return its id. `more` are the members of a Fault that only some kinds have, as `code`."""
        id: int = self._post(
            "fault",
            kind=kind,
            times=times,
            endpoint=endpoint,
            race_id=race_id,
            partner=partner,
            after_page=after_page,
            seconds=seconds,
            **more,
        )["id"]
        return id

    def clear_faults(self) -> None:
        self._call("DELETE", "faults")

    def stats(self) -> Json:
        answer: Json = self._call("GET", "stats")
        return answer

    def reset_stats(self) -> None:
        self._post("reset_stats")

    def truth(self, partner: int = 1, *, optional: bool = False) -> Json:
        """Return the true current state as `{"partner", "now", "races", "active", "removed"}`.

        Active rows have their optional members in `_optional` if that is requested.
        """
        answer: Json = self._call("GET", "truth", partner=partner, optional="T" if optional else "F")
        return answer


def launch(command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    """Start the process of a sandbox."""
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=environment
    )


class SandboxProcess:
    """A running sandbox. `api_url` ends in /Rest."""

    launch = staticmethod(launch)
    """Starts the process. The tests, which start hundreds, have a quicker one."""

    def __init__(self, process: "subprocess.Popen[str]", base_url: str, *, has_state: bool) -> None:
        self.process = process
        self._has_state = has_state
        self.base_url = base_url
        self.api_url = f"{base_url}/Rest"
        self.admin = AdminClient(base_url)

    @classmethod
    def start(
        cls,
        scale: str = "small",
        seed: int = 7,
        *,
        now: float | None = None,
        spec: Mapping[str, Any] | None = None,
        live: bool = False,
        live_interval: float | None = None,
        latency_ms: float = 0.0,
        port: int = 0,
        state: Path | None = None,
        save_every: float | None = None,
        timeout: float = 60.0,
    ) -> Self:
        """Start it on a free port (or `port`) and return once it answers. It ends with this process.

        With `state` the world comes from that file if there is one, and is saved to it.
        """
        command = [sys.executable, "-m", "runsignup_sandbox", "--exit-with-parent", "--port", str(port)]
        command += ["--scale", "custom" if spec is not None else scale, "--seed", str(seed)]
        command += ["--latency-ms", str(latency_ms)]
        if now is not None:
            command += ["--now", repr(float(now))]
        if spec is not None:
            command += ["--spec", json.dumps(dict(spec))]
        if live:
            command.append("--live")
        if live_interval is not None:
            command += ["--live-interval", str(live_interval)]
        if state is not None:
            command += ["--state", str(state)]
        if save_every is not None:
            command += ["--save-every", str(save_every)]
        process = cls.launch(command, {**os.environ, "PYTHONUNBUFFERED": "1"})
        # If it never prints its line, killing it makes the read below return.
        guard = threading.Timer(timeout, process.kill)
        guard.start()
        line = process.stdout.readline() if process.stdout else ""
        guard.cancel()
        if not line.startswith(_READY):
            process.kill()
            code = process.wait()
            if process.stdout:
                process.stdout.close()
            raise RuntimeError(f"The sandbox did not start (exit code {code}).")
        return cls(process, line.removeprefix(_READY).strip(), has_state=state is not None)

    def stop(self) -> None:
        """End the process. Nothing happens when it has ended already."""
        self.admin.close()
        if self.process.poll() is None:
            if self._has_state:
                self.process.terminate()
            else:  # there is nothing to save, and a second to spare
                self.process.kill()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
