"""Store, change and erase a column that only its declaration, the table and the payload's struct know.

Runs in a process of its own, with a database's URL, and prints the column as stored after each of these as JSON.
"""

import importlib.util
import json
import sys
import types
from pathlib import Path


def load(name: str, old: str, new: str) -> None:
    """Load a module with a part of its source replaced, before anything else imports it."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    assert source.count(old) == 1, old
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(source.replace(old, new), spec.origin, "exec"), module.__dict__)  # noqa: S102


CHIP = 'Column("chip_num", "text", _KEPT, "chip_num", Parser.TEXT),'
SHIRT = 'Column("shirt", "text", Privacy.PERSONAL, "shirt_size", Parser.TEXT),'
ROWS = """
INSERT INTO timing_partners (timing_partner_id, company_name, partition_key) VALUES (1, 'x', '1-x');
INSERT INTO runsignup_races (race_id) VALUES (10);
INSERT INTO partner_races (timing_partner_id, race_id) VALUES (1, 10);
INSERT INTO runsignup_events (event_id, race_id) VALUES (100, 10);
ALTER TABLE runsignup_participants ADD COLUMN shirt text
"""


def main(url: str) -> list[str | None]:
    """Return the column after a merge that inserts, one that updates, and an erasure."""
    load("rsu_pipeline.warehouse.registration_columns", CHIP, f"{CHIP} {SHIRT}")
    load("rsu_pipeline.runsignup.payloads", "chip_num: Text = None", "chip_num: Text = None; shirt_size: Text = None")
    from rsu_pipeline.runsignup.payload_decoding import decode_registration
    from rsu_pipeline.sync.registration_rows import stage_registration
    from rsu_pipeline.warehouse import database, participants
    from rsu_pipeline.warehouse.privacy_classes import assignments, without_person
    from rsu_pipeline.warehouse.staging import Source

    source, seen = Source(1, "1-x", 10, 1_790_000_000, "test", "full"), []
    with database.session(url, purpose="tests") as conn, conn.cursor() as cur:
        cur.execute(ROWS)
        for shirt in ("blue", "green"):
            row = {"registration_id": 7, "event_id": 100, "user": {"last_name": "Quill"}, "shirt_size": shirt}
            line, faults = stage_registration(decode_registration(json.dumps(row).encode()), 10)
            counts, rejected = participants.merge_active(conn, [line + b"\t1"], source, full=False)
            assert not faults and not rejected and counts.inserted + counts.updated == 1, (faults, rejected, counts)
            cur.execute("SELECT shirt FROM runsignup_participants")
            seen.append((cur.fetchone() or ("",))[0])
        cur.execute(f"UPDATE runsignup_participants t SET {assignments(without_person('t'))} RETURNING shirt")
        seen.append((cur.fetchone() or ("",))[0])
        conn.rollback()
    return seen


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
