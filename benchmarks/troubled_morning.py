"""How soon a bib is here on a race morning on which other things go wrong.

    python -m benchmarks.troubled_morning [--minutes 3] [--cases NAME ...] [--json FILE]

One installation as `benchmarks.race_day` starts it: `rsu up`, 13 partners with 3 races each in their window, 0.7 s a call,
1000 calls an hour for each key, 2 in flight. The cases follow each other, each for `--minutes`:

- all well,
- two partners hung: no call of theirs is answered,
- a race hung: one race of each partner in turn, 15 s each,
- nightly and backfill: all partners are synced in full, and their past editions are read,
- sessions cut: one session of the hub at its database is ended each minute, another one each time,
- all of it at once.

Bibs are given out where RunSignup answers. Those of hung partners are given too, and have to be here once they answer again.
95 % of the others have to be here within 30 s, all within 90 s, none may be missing, else this ends with 1.
"""

import argparse
import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.installation import Installation, installed
from benchmarks.race_day import PATIENCE, RACES, SPEC, Entrant, bring_into_window, give_bibs
from benchmarks.race_morning import judge
from benchmarks.race_morning.report import Latency, latency
from benchmarks.report import as_json, machine
from rsu_pipeline.local import embedded
from runsignup_sandbox.process import AdminClient, SandboxProcess

HUNG_PARTNERS = frozenset((1, 2))
TURN_SECONDS = 15.0
CUT_EVERY = 60.0
PAST_REGISTRATIONS = 300
"""Of one past edition of each partner, for the backfill to read."""
WANTED_P95 = 30.0
WANTED_WORST = 90.0


@dataclass
class Case:
    """What became of a case's bibs. `load` is the machine's at its end."""

    name: str
    found: Latency
    missing: int
    late_of_hung: int
    sessions_cut: int
    load: float

    @property
    def is_kept(self) -> bool:
        return not self.missing and self.found.p95 <= WANTED_P95 and self.found.worst <= WANTED_WORST


@dataclass
class TroubledMorning:
    """Everything that was measured."""

    minutes: float
    machine: dict[str, object] = field(default_factory=machine)
    cases: list[Case] = field(default_factory=list)


@dataclass
class Trouble:
    """What goes wrong now: races and partners that do not answer, and sessions that were cut."""

    hung_partners: frozenset[int] = frozenset()
    hung_race: int | None = None
    sessions_cut: int = 0

    def is_left_out(self, entrant: Entrant) -> bool:
        """Return whether RunSignup answers nothing about this entrant now."""
        return entrant.partner in self.hung_partners or entrant.race_id == self.hung_race


Maker = Callable[[Installation, AdminClient, list[Entrant], Trouble], "Iterator[None]"]


def partners_hung(here: Installation, admin: AdminClient, entrants: list[Entrant], trouble: Trouble) -> Iterator[None]:
    """Leave all calls of two partners unanswered."""
    trouble.hung_partners = HUNG_PARTNERS
    for partner in HUNG_PARTNERS:
        admin.fault("timeout", 0, partner=partner, seconds=120)
    yield


def race_hung(here: Installation, admin: AdminClient, entrants: list[Entrant], trouble: Trouble) -> Iterator[None]:
    """Leave the next call about one race of each partner in turn unanswered."""
    races = sorted({(entrant.partner, entrant.race_id) for entrant in entrants})
    turns = itertools.cycle(sorted({partner: race_id for partner, race_id in reversed(races)}.items()))
    ended = threading.Event()

    def take_turns() -> None:
        while not ended.is_set():
            partner, race_id = next(turns)
            trouble.hung_race = race_id
            admin.fault("timeout", 1, partner=partner, race_id=race_id, seconds=TURN_SECONDS)
            ended.wait(TURN_SECONDS)

    with _thread(take_turns, ended):
        yield


def nightly_and_backfill(
    here: Installation, admin: AdminClient, entrants: list[Entrant], trouble: Trouble
) -> Iterator[None]:
    """Sync all partners in full, and read their past editions again."""
    for command in (["backfill", "--restart"], ["sync", "--full"]):
        here.start(*command)
    yield


def sessions_cut(here: Installation, admin: AdminClient, entrants: list[Entrant], trouble: Trouble) -> Iterator[None]:
    """End a session of the hub each minute: the one that has been open longest and whose kind was not yet ended."""
    ended = threading.Event()
    kinds: list[str] = []

    def cut() -> None:
        while not ended.wait(CUT_EVERY / 2 if not kinds else CUT_EVERY):
            for pid, name in here.rows(_SESSIONS):
                kind = " ".join(str(name).split()[:-1])
                if kind not in kinds or kind == "":
                    kinds.append(kind)
                    trouble.sessions_cut += bool(here.rows("SELECT pg_terminate_backend(%s)", pid))
                    break
            else:
                kinds.clear()

    with _thread(cut, ended):
        yield


_SESSIONS = """
SELECT pid, application_name FROM pg_stat_activity
WHERE application_name LIKE 'rsu %' AND application_name NOT LIKE 'rsu benchmark%' AND pid <> pg_backend_pid()
ORDER BY backend_start
"""

CASES: dict[str, tuple[Maker, ...]] = {
    "all well": (),
    "two partners hung": (partners_hung,),
    "a race hung": (race_hung,),
    "nightly and backfill": (nightly_and_backfill,),
    "sessions cut": (sessions_cut,),
    "all of it": (partners_hung, race_hung, nightly_and_backfill, sessions_cut),
}


@contextmanager
def _thread(work: Callable[[], None], ended: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def measure(
    here: Installation,
    admin: AdminClient,
    entrants: Iterator[Entrant],
    everybody: list[Entrant],
    name: str,
    minutes: float,
) -> Case:
    """Give out bibs for so long while things go wrong, and wait until all are here."""
    trouble = Trouble()
    first_bib = 10_000 * (1 + list(CASES).index(name))
    with ExitStack() as stack:
        for maker in CASES[name]:
            stack.enter_context(contextmanager(maker)(here, admin, everybody, trouble))
        made = give_bibs(admin, entrants, minutes, first_bib, trouble.is_left_out)
        # Unknown to the watch until these partners answer again.
        waiting = [entrant for entrant in everybody if entrant.partner in trouble.hung_partners][:20]
        at = time.time()
        for number, entrant in enumerate(waiting):
            admin.bib(entrant.registration_id, first_bib + 9_000 + number)
    admin.clear_faults()
    late = [
        judge.Made(at, entrant.partner, entrant.registration_id, "bib", str(first_bib + 9_000 + number))
        for number, entrant in enumerate(waiting)
    ]
    here.until(
        "every bib is here", lambda: not judge.noticed(here.conn, made + late)[1], seconds=2 * PATIENCE, or_else=False
    )
    noticed, missed = judge.noticed(here.conn, made)
    missed += judge.noticed(here.conn, late)[1]
    return Case(
        name,
        latency([item.latency for item in noticed]),
        len(missed),
        len(late),
        trouble.sessions_cut,
        round(os.getloadavg()[0], 1),
    )


def table(found: TroubledMorning) -> str:
    """Return the figures as a table of Markdown."""
    lines = [
        "| on the morning | bibs | p50 s | p95 s | worst s | missing | sessions cut |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {case.name} | {case.found.changes} | {case.found.p50:.1f} | {case.found.p95:.1f} | {case.found.worst:.1f} |"
        f" {case.missing} | {case.sessions_cut} |"
        for case in found.cases
    ]
    return "\n".join(lines)


def _add_past_editions(admin: AdminClient, partners: int) -> None:
    for number in range(1, partners + 1):
        race, *_ = admin.truth(number)["races"]
        event_id = admin.add_event(race["race_id"], "Last year's 10K", start_in_hours=-24 * 300)
        admin.register(event_id, count=PAST_REGISTRATIONS)


def main() -> int:
    """Run the benchmark, as the module describes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.troubled_morning", description=str(__doc__).split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="of each case")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    options = parser.parse_args()
    found = TroubledMorning(options.minutes)
    with tempfile.TemporaryDirectory(prefix="rsu-troubled-") as name:
        folder = Path(name)
        try:
            url = judge.server_with_commit_times(folder / "postgres", embedded.machine_binaries())
            with SandboxProcess.start(spec=SPEC, seed=7) as sandbox:
                _add_past_editions(sandbox.admin, SPEC["partners"])
                with installed(url, sandbox, folder) as here:
                    print("Waiting for the daemon's first syncs ...", flush=True)
                    here.until("every race is read", lambda: here.value(_RACES_READ) >= RACES)
                    everybody = bring_into_window(here, sandbox)
                    entrants = iter(everybody)
                    for case in options.cases:
                        print(f"{case} for {options.minutes:g} minutes ...", flush=True)
                        found.cases.append(measure(here, sandbox.admin, entrants, everybody, case, options.minutes))
                        print(table(found).splitlines()[-1], flush=True)
        finally:
            embedded.release(folder / "postgres")
            embedded.destroy(folder / "postgres")
    print(table(found))
    if options.json:
        options.json.write_bytes(as_json(found))
    return 0 if all(case.is_kept for case in found.cases) else 1


_RACES_READ = "SELECT count(DISTINCT race_id) FROM event_cursors"


if __name__ == "__main__":
    sys.exit(main())
