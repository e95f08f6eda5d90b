"""Partners' keys that the older program left in clear: remove some, and report the others.

The older program wrote the API key that read a row into the row's `credentials_used`. The row's partner already shows whose
key it was, so the column is emptied. In its sync log and queue a key is replaced by a mark. Other programs' tables are not
changed, only reported. Credentials of other providers stay unchanged and are reported too.
"""

from dataclasses import dataclass
from typing import Any

from psycopg2.extensions import cursor as Cursor

from rsu_pipeline.adoption.shape import Shape, Table, ident, literal
from rsu_pipeline.adoption.steps import Phase, Step, listing
from rsu_pipeline.display import counted
from rsu_pipeline.warehouse.secret_box import PREFIX

KEY_COLUMN = "credentials_used"
OWNED = ("runsignup_races", "runsignup_events", "runsignup_participants")
"""Tables whose credentials_used holds keys."""
REDACTED = ("sync_history", "sync_queue")
"""The older program's own records, in which a key is replaced."""
MARK = "[key]"
"""Shorter than every key, so that it fits wherever one was."""
MIN_KEY_CHARS = 8
"""Shorter values would match texts that have nothing to do with them."""
MAX_SEARCHED_ROWS = 500_000
"""Rows above which another program's table is reported as not searched."""
MAX_NAMED = 20

KEYS = f"""
SELECT DISTINCT btrim(k.value) AS value
FROM partner_provider_credentials c CROSS JOIN LATERAL (VALUES (c.principal), (c.secret)) k (value)
WHERE length(btrim(k.value)) >= {MIN_KEY_CHARS} AND k.value NOT LIKE '{PREFIX}%'
"""


@dataclass(frozen=True)
class OtherCredential:
    """A credential in clear of another provider than RunSignup."""

    credential_id: int
    partner_id: int
    provider_id: int
    provider: str


def count_used(value: Any, found: Shape) -> dict[str, int]:
    """Count by table the rows whose credentials_used is not empty."""
    return {
        table: value(f"SELECT count(*) FROM {table} WHERE {KEY_COLUMN} IS NOT NULL")
        for table in OWNED
        if KEY_COLUMN in found.tables[table].columns
    }


def find_elsewhere(cur: Cursor, found: Shape) -> tuple[dict[str, int], list[str]]:
    """Return the rows that contain a partner's key, by table, and the tables too large to search.

    Of the tables in OWNED only credentials_used is searched.
    """
    if "partner_provider_credentials" not in found.tables:
        return {}, []
    holding, skipped = {}, []
    for name, table in found.tables.items():
        if name in (*OWNED, "partner_provider_credentials") or table.kind != "r" or not _text_columns(table):
            continue
        if name not in REDACTED:
            cur.execute("SELECT reltuples FROM pg_class WHERE oid = %s::regclass", (ident(name),))
            if (cur.fetchone() or (0,))[0] > MAX_SEARCHED_ROWS:
                skipped.append(name)
                continue
        cur.execute(
            f"SELECT count(*) FROM {ident(name)} t"
            f" WHERE EXISTS (SELECT FROM ({KEYS}) k WHERE strpos(t::text, k.value) > 0)"
        )
        if number := (cur.fetchone() or (0,))[0]:
            holding[name] = number
    return holding, skipped


def other_credentials(cur: Cursor, key: str, name: str, runsignup: str) -> list[OtherCredential]:
    """Return credentials in clear that are not RunSignup's. `key` and `name` are columns of the table providers."""
    cur.execute(
        "SELECT c.partner_provider_credential_id, c.timing_partner_id, c.provider_id, v.name"
        f" FROM partner_provider_credentials c JOIN (SELECT {key} AS id, {name}::text AS name FROM providers) v"
        " ON v.id = c.provider_id WHERE lower(v.name) IS DISTINCT FROM %s AND (c.principal NOT LIKE %s OR c.secret NOT LIKE %s)"
        r" AND (c.principal ~ '\S' OR c.secret ~ '\S') ORDER BY 1",
        (runsignup, f"{PREFIX}%", f"{PREFIX}%"),
    )
    return [OtherCredential(*row) for row in cur.fetchall()]


def key_steps(found: Shape, holding: dict[str, int], skipped: list[str], others: list[OtherCredential]) -> list[Step]:
    """Return steps that remove keys where only the older program wrote, and name those that stay."""
    steps = []
    for name, number in holding.items():
        if name in REDACTED:
            sentence = f"partners' keys replaced by a mark in {counted(number, 'row')}"
            steps.append(Step(name, Phase.KEYS_OUT, sentence, (_redaction(found.tables[name]),), number))
        else:
            sentence = f"holds partners' keys in clear in {counted(number, 'row')}, which stay: it is another program's"
            steps.append(Step(name, Phase.LAST, sentence, (), number))
    steps += [Step(name, Phase.LAST, "not searched for partners' keys: too many rows", ()) for name in skipped]
    if others:
        shown = [
            f"number {item.credential_id} of partner {item.partner_id} ({item.provider}, provider {item.provider_id})"
            for item in others[:MAX_NAMED]
        ]
        shown += [f"{len(others) - MAX_NAMED} more"] * (len(others) > MAX_NAMED)
        sentence = (
            f"{counted(len(others), 'credential')} of other providers {'stays' if len(others) == 1 else 'stay'} in clear:"
            f" {listing(shown)}; one that is RunSignup's is taken over once its provider_id is that of RunSignup"
        )
        steps.append(Step("partner_provider_credentials", Phase.LAST, sentence, ()))
    return steps


def _text_columns(table: Table) -> list[str]:
    return [
        name
        for name, column in table.columns.items()
        if column.made != "generated" and (column.type in ("text", "json", "jsonb") or "character" in column.type)
    ]


def _redaction(table: Table) -> str:
    """Return one statement that replaces every key in the table's texts. It contains no key, so no log can have one."""
    sets = ", ".join(
        f"{ident(name)} = replace({ident(name)}::text, key, {literal(MARK)})::{table.columns[name].type}"
        for name in _text_columns(table)
    )
    return (
        f"DO $$ DECLARE key text; BEGIN FOR key IN {KEYS} LOOP"
        f" UPDATE {ident(table.name)} t SET {sets} WHERE strpos(t::text, key) > 0; END LOOP; END $$"
    )
