"""Seconds and memory of `rsu export participants`, by format.

    python -m benchmarks.export [--registrations 1000000] [--json FILE]

The registrations are made by SQL in an empty database: their columns are filled as a sync fills them, with a payload of a usual
length. No run counts unless the file has all of them.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from benchmarks.hub import end_cleanly
from benchmarks.report import as_json, machine
from rsu_pipeline.local import embedded
from rsu_pipeline.warehouse import database
from rsu_pipeline.warehouse.secret_box import generate_secret_key

FORMATS = ("csv", "json", *(("parquet",) if find_spec("pyarrow") else ()))
"""Parquet only where pyarrow is installed."""
_FILL = """
SET LOCAL session_replication_role = replica;  -- spares looking up what every row refers to
INSERT INTO timing_partners (timing_partner_id, company_name, partition_key)
    SELECT n, 'Partner ' || n, n || '-acme' FROM generate_series(1, 10) n;
INSERT INTO runsignup_races (race_id, name, timezone, timing_partner_id)
    SELECT n, 'Race ' || n, 'America/New_York', 1 + n %% 10 FROM generate_series(1, 100) n;
INSERT INTO partner_races (timing_partner_id, race_id, access)
    SELECT 1 + n %% 10, n, 'granted' FROM generate_series(1, 100) n;
INSERT INTO runsignup_events (event_id, race_id, name, starts_at, start_time)
    SELECT n, 1 + n %% 100, 'Event ' || n, now() + interval '20 days', now() + interval '20 days'
    FROM generate_series(0, 999) n;
INSERT INTO runsignup_participants (race_id, event_id, timing_partner_id, registration_id, user_id, first_name, last_name, email,
    dob, gender, phone, bib_num, age, registration_date, registered_at, last_modified, last_modified_epoch, address, team_info,
    payment_info, payload)
SELECT 1 + e %% 100, e, 1 + (1 + e %% 100) %% 10, n, n, 'First' || n %% 5000, 'Last-' || n, 'p' || n || '@example.test',
    '1990-01-01', 'F', '312-555-0142', CASE WHEN n %% 3 > 0 THEN (n %% 30000)::text END, 20 + n %% 60, now(), now(), now(),
    1800000000 + n,
    jsonb_build_object('street', n || ' Elm Ct', 'city', 'Harwick', 'state', 'IL', 'zipcode', '60900', 'country_code', 'US'),
    CASE WHEN n %% 10 = 0 THEN jsonb_build_object('team_id', n %% 1000, 'team_name', 'Team ' || n %% 1000) END,
    jsonb_build_object('race_fee', 55.00, 'processing_fee', 3.99, 'processing_fee_paid_by_user', 3.99, 'extra_fees', 0,
        'processing_fee_paid_by_race', 0, 'partner_fee', 0, 'affiliate_profit', 0, 'amount_paid', 58.99),
    json_build_object('registration_id', n, 'filler', repeat('x', 700))
FROM (SELECT n, n %% 1000 AS e FROM generate_series(1, %s) n) s;
ANALYZE;
"""


@dataclass
class Exported:
    """Seconds, CPU seconds and peak MiB of the command, and the file's MB, by format."""

    registrations: int
    seconds: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    peak_mib: dict[str, int] = field(default_factory=dict)
    file_mb: dict[str, int] = field(default_factory=dict)
    machine: dict[str, object] = field(default_factory=machine)


def measure(registrations: int) -> Exported:
    """Fill a database, and export it in each format."""
    found = Exported(registrations)
    folder = Path(tempfile.mkdtemp(prefix="rsu-benchmark-"))
    try:
        url = embedded.ensure_running(folder / "postgres")
        with database.session(url, purpose="benchmark") as conn, conn.cursor() as cur:
            database.migrate(conn)
            cur.execute(_FILL, (registrations,))
            conn.commit()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RSU_")}
        settings = {"RSU_DATABASE_URL": url, "RSU_HOME": str(folder / "home"), "RSU_SECRET_KEY": generate_secret_key()}
        for kind in FORMATS:
            _export(found, kind, folder / f"participants.{kind}", kept | settings)
    finally:
        embedded.release(folder / "postgres")
        embedded.destroy(folder / "postgres")
        shutil.rmtree(folder, ignore_errors=True)
    return found


def _export(found: Exported, kind: str, target: Path, environment: dict[str, str]) -> None:
    command = [str(Path(sys.executable).with_name("rsu")), "export", "participants", f"--{kind}", str(target)]
    began = time.monotonic()
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if told.split()[:2] != ["Wrote", f"{found.registrations:,}"]:
        raise RuntimeError(f"The export as {kind} ended with {process.returncode}: {told}")
    found.seconds[kind] = round(time.monotonic() - began, 1)
    found.cpu[kind] = round(usage.ru_utime + usage.ru_stime, 1)
    found.peak_mib[kind] = usage.ru_maxrss // 1024
    found.file_mb[kind] = target.stat().st_size // 1_000_000
    target.unlink()


def main() -> None:
    """Run the benchmark, as the module describes."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0] if __doc__ else None, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--registrations", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    end_cleanly()
    found = measure(options.registrations)
    for kind in FORMATS:
        print(
            f"{kind}: {found.seconds[kind]:g} s, CPU {found.cpu[kind]:g} s, peak {found.peak_mib[kind]} MiB,"
            f" {found.file_mb[kind]} MB"
        )
    if options.json:
        options.json.write_bytes(as_json(found))


if __name__ == "__main__":
    main()
