"""Who is compared, where each keeps its rows, and whether what it stored is right."""

import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg2

from benchmarks.floor import TABLES
from benchmarks.hub import ROOT, Change, Hub, Measured
from benchmarks.measure import Read

BENCH_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
"""Of the environment that has dlt; `make bench` makes it."""
DLT_VARIANTS = ("upsert csv", "delete-insert csv", "upsert csv 2 processes")
IN_FLIGHT = 2


class Refused(Exception):
    """What a contender stored, or how it asked, is not right. Its figures do not count."""


@dataclass(frozen=True)
class Contender:
    """What is measured.

    The columns are SQL over its table. `template` is the database it begins with. Of `one_partner` it does one partner's part,
    from which its figures are scaled.
    """

    label: str
    module: str
    table: str
    template: str = "template0"
    partner: str = "timing_partner_id"
    first_name: str = "first_name"
    city: str = "address ->> 'city'"
    last_modified: str = "last_modified_epoch"
    active: str = "true"
    variant: str = ""
    action: str = "load"
    python: str = sys.executable
    one_partner: bool = False

    def reads(self, hub: Hub) -> list[Read]:
        """Return what it reads: everything, or its one partner's."""
        return [read for read in hub.expected.reads if not self.one_partner or read.partner == hub.partners[0].number]


def contenders(hub: Hub, dlt_python: Path | None) -> list[Contender]:
    """Return all contenders, the floor first, and those of dlt if its environment exists."""
    ours = hub.database()
    hub.run("ours", "prepare", ours)
    floors = {label: floor_database(hub, table, _name(ours)) for label, table in TABLES.items()}
    pandas = Contender(
        "pandas, COPY",
        "contender_pandas",
        "pandas_participants",
        first_name='"user.first_name"',
        city='"user.address.city"',
        last_modified="last_modified",
        variant="copy",
    )
    everyone = [
        *(Contender(label, "floor", "floor_participants", template) for label, template in floors.items()),
        Contender("ours", "ours", "runsignup_participants", _name(ours), active="removed_at IS NULL", action="full"),
        pandas,
        replace(pandas, label="pandas, multi", variant="multi", one_partner=True),
        Contender("row by row", "contender_rows", "rows_participants", city="city", last_modified="last_modified"),
    ]
    if dlt_python:
        everyone += [
            Contender(
                f"dlt, {variant}",
                "contender_dlt",
                "dlt.participants",
                partner="_reads_timing_partner_id",
                first_name="\"user\" ->> 'first_name'",
                city="\"user\" -> 'address' ->> 'city'",
                last_modified="last_modified",
                variant=variant,
                python=str(dlt_python),
            )
            for variant in DLT_VARIANTS
        ]
    return everyone


def floor_database(hub: Hub, table: str, template: str) -> str:
    """Make a database with a floor's table from one that has the schema, and return its name."""
    url = hub.database(template)
    hub.value(url, f"{table}; COMMIT; SELECT 1")
    return _name(url)


def judge(hub: Hub, item: Contender, url: str, measured: Measured, change: Change, reference: str | None) -> str:
    """Refuse what is not right.

    Otherwise a digest of the rows, which must equal the `reference` if there is one.

    As many rows as the world holds, each changed registration with its new value, no more calls at a time than RunSignup
    allows. Rows of registrations that were removed meanwhile do not count: only the pipeline knows of them.
    """
    if measured.report.problems:
        raise Refused(f"it reported problems: {measured.report.problems[:3]}")
    if measured.most_in_flight > IN_FLIGHT:
        raise Refused(f"it made {measured.most_in_flight} calls at a time")
    wanted = sum(hub.expected.sizes[event_id] for read in item.reads(hub) for event_id in read.event_ids)
    with closing(psycopg2.connect(url)) as conn, conn.cursor() as cur:
        here = f"FROM {item.table} WHERE {item.active} AND registration_id <> ALL(%(gone)s)"
        cur.execute(f"SELECT count(*), count(DISTINCT ({item.partner}, registration_id)) {here}", {"gone": change.gone})
        stored, different = cur.fetchone() or (0, 0)
        if not stored == different == wanted:
            raise Refused(f"{stored:,} rows stored, {different:,} of them different, {wanted:,} expected")
        cur.execute(
            f"SELECT registration_id, bib_num::text, {item.first_name} {here} AND registration_id = ANY(%(changed)s)",
            {"gone": change.gone, "changed": list(change.now)},
        )
        found = {number: {"bib_num": bib, "first_name": name} for number, bib, name in cur.fetchall()}
        stale = [number for number in found if found[number][change.now[number][0]] != change.now[number][1]]
        missing = [] if item.one_partner else list(change.now.keys() - found.keys())
        if stale or missing:
            raise Refused(f"{len(stale)} changed rows have the old value and {len(missing)} are not there")
    digest = digest_of(item, url, change.gone, [item.reads(hub)[0].partner] if item.one_partner else None)
    if reference is not None and digest != reference:
        raise Refused("the rows hold other values than the floor's")
    return digest


def digest_of(item: Contender, url: str, gone: Sequence[int], partners: Sequence[int] | None) -> str:
    """Return one figure for the content of the rows: partner, event, bib, name, town, time of change."""
    content = (
        f"concat_ws('|', {item.partner}, registration_id, event_id, coalesce(bib_num::text, '-'), {item.first_name},"
        f" coalesce({item.city}, '-'), {item.last_modified})"
    )
    with closing(psycopg2.connect(url)) as conn, conn.cursor() as cur:
        cur.execute(
            f"SELECT coalesce(sum(hashtextextended({content}, 0)), 0)::text FROM {item.table}"
            f" WHERE {item.active} AND registration_id <> ALL(%s) AND (%s OR {item.partner} = ANY(%s))",
            (list(gone), partners is None, list(partners or [])),
        )
        return str((cur.fetchone() or ("",))[0])


def _name(url: str) -> str:
    return url.rsplit("/", 1)[1]
