"""Preserve what readers of the older tables use.

These are the older columns of the sync log, values that only an older copy of a registration has, and a notice about removed
registrations.
"""

from psycopg2.extensions import cursor as Cursor

from rsu_pipeline.adoption import rows
from rsu_pipeline.adoption.shape import Shape, ident, literal
from rsu_pipeline.adoption.steps import Phase, Step, listing
from rsu_pipeline.display import counted

PARTICIPANTS = "runsignup_participants"
FILL_FUNCTION = "rsu_fill_older_columns"
FILL_TRIGGER = "fill_older_columns"
OLDER_LOG_COLUMNS = {
    "provider_name": "(SELECT name FROM providers p WHERE p.provider_id = NEW.provider_id)",
    "sync_type": "NEW.operation_type",
    "records_processed": "NEW.num_of_synced_records",
    "started_at": "NEW.sync_time",
    "completed_at": "NEW.sync_time + make_interval(secs => coalesce(NEW.duration_seconds, 0))",
    "error_message": "CASE WHEN NEW.status <> 'completed' THEN NEW.reason END",
}
"""Columns of the other shape of sync_history, and what a row of this program writes to them."""
REMOVED_SENTENCE = (
    "from the first sync on it also holds registrations that RunSignup has removed and the older program never had, with"
    " removed_at: who counts active ones adds WHERE removed_at IS NULL, or reads unified_participants"
)


def count_copies(cur: Cursor, found: Shape) -> dict[str, tuple[int, int]]:
    """Return by column how many older copies have a value where the kept copy has none, and how many have another value."""
    names = [name for name in found.tables[PARTICIPANTS].columns if name not in ("id", "fetched_date", "created_at")]
    counts = ", ".join(
        f"count(*) FILTER (WHERE o.{ident(name)} IS NOT NULL AND k.{ident(name)} IS NULL),"
        f" count(*) FILTER (WHERE o.{ident(name)}::text <> k.{ident(name)}::text)"
        for name in names
    )
    cur.execute(
        f"SELECT {counts} FROM ({rows.build_judgements(found)[PARTICIPANTS]}) j JOIN {PARTICIPANTS} o ON o.ctid = j.place"
        f" JOIN {PARTICIPANTS} k ON k.id = j.kept_id"
    )
    numbers = cur.fetchone() or ()
    pairs = zip(names, numbers[::2], numbers[1::2], strict=True)
    return {name: (only, other) for name, only, other in pairs if only or other}


def reader_steps(found: Shape, wanted: Shape, copies: dict[str, tuple[int, int]]) -> list[Step]:
    """Return steps that preserve what readers use, and sentences about what changes for them."""
    return [*_copies(found, wanted, copies), *_sync_log(found), Step(PARTICIPANTS, Phase.LAST, REMOVED_SENTENCE, ())]


def _copies(found: Shape, wanted: Shape, copies: dict[str, tuple[int, int]]) -> list[Step]:
    """Carry over values that no sync would bring back, and name the rest."""
    ours = wanted.tables[PARTICIPANTS].columns
    theirs = found.tables[PARTICIPANTS].columns
    carried = {name: only for name, (only, _) in copies.items() if only and name not in ours and not theirs[name].made}
    steps = []
    if carried:
        shown = listing([f"{name} to {counted(number, 'row')}" for name, number in carried.items()])
        steps.append(
            Step(PARTICIPANTS, Phase.MOVING, f"carried over from older copies: {shown}", (_carry(list(carried)),))
        )
    differing = {name: other for name, (_, other) in copies.items() if other and name not in ours}
    if differing:
        shown = listing([f"{name} in {number:,}" for name, number in differing.items()])
        steps.append(
            Step(PARTICIPANTS, Phase.LAST, f"older copies have other values ({rows.MOVED} keeps them): {shown}", ())
        )
    lost = {name: only for name, (only, _) in copies.items() if only and name in ours and name != "credentials_used"}
    if lost:
        shown = listing([f"{name} in {number:,}" for name, number in lost.items()])
        sentence = (
            "values that only an older copy has, which the first sync replaces by RunSignup's"
            f" ({rows.MOVED} keeps them): {shown}"
        )
        steps.append(Step(PARTICIPANTS, Phase.LAST, sentence, ()))
    return steps


def _carry(names: list[str]) -> str:
    sets = ", ".join(f"{ident(name)} = coalesce(t.{ident(name)}, o.{ident(name)})" for name in names)
    values = ", ".join(
        f"(array_agg(r.{ident(name)} ORDER BY a.adopted_row_id) FILTER (WHERE r.{ident(name)} IS NOT NULL))[1] AS {ident(name)}"
        for name in names
    )
    missing = " OR ".join(f"(t.{ident(name)} IS NULL AND o.{ident(name)} IS NOT NULL)" for name in names)
    return f"""
        UPDATE {PARTICIPANTS} t SET {sets} FROM (
            SELECT a.kept_id, {values} FROM {rows.MOVED} a
            CROSS JOIN LATERAL jsonb_populate_record(NULL::{PARTICIPANTS}, a."row") r
            WHERE a.table_name = {literal(PARTICIPANTS)} AND a.kept_id IS NOT NULL GROUP BY a.kept_id
        ) o WHERE t.id = o.kept_id AND ({missing})"""


def _sync_log(found: Shape) -> list[Step]:
    """Let rows of this program fill the columns of the other shape of sync_history, which programs read."""
    theirs = found.tables.get("sync_history")
    names = [name for name in OLDER_LOG_COLUMNS if theirs and name in theirs.columns]
    if not names:
        return []
    sets = " ".join(f"NEW.{ident(name)} := {OLDER_LOG_COLUMNS[name]};" for name in names)
    sql = (
        f"CREATE FUNCTION {FILL_FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {sets} RETURN NEW; END $$",
        f"CREATE TRIGGER {FILL_TRIGGER} BEFORE INSERT ON sync_history FOR EACH ROW WHEN (NEW.run_id IS NOT NULL)"
        f" EXECUTE FUNCTION {FILL_FUNCTION}()",
    )
    return [Step("sync_history", Phase.TRIGGERS, f"rows of this program fill {listing(names)} too", sql)]
