"""Many partners entered at once: every row is tried, and the caller commits all of them or none."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from psycopg2.extensions import connection as Connection

from rsu_pipeline.display import MAX_NAME_CHARS, sanitize_for_display
from rsu_pipeline.warehouse import credential_encryption, credentials, duplicate_partners
from rsu_pipeline.warehouse.credentials import Partner, PartnerError
from rsu_pipeline.warehouse.secret_box import SecretBox

SHARE_IN_FILE = "write yes in the column shared_key"
"""How a row accepts an API key that another partner has."""


@dataclass(frozen=True)
class PartnerRow:
    """A partner to enter. `line` is where its row ends in the file, for messages."""

    line: int
    name: str
    principal: str = field(repr=False)
    secret: str = field(repr=False)
    scheme: str = "api_key"
    shares_api_key: bool = False


class Outcome(enum.Enum):
    """What a row did."""

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True)
class RowReport:
    """The outcome of one row. `reason` is a sentence if it was refused. `partner_key` is the partition key."""

    line: int
    name: str
    outcome: Outcome
    partner_key: str | None = None
    reason: str = ""


def enter_partners(
    conn: Connection, secret_box: SecretBox, rows: Sequence[PartnerRow], *, is_trial: bool = False
) -> list[RowReport]:
    """Enter the partners of all rows, and report each. A row that is refused leaves the others. The caller commits.

    A trial does the same with provisional ids, so that it uses up no number of a partner. The caller rolls back.
    """
    credential_encryption.encrypt_all(conn, secret_box)  # so that a key entered by SQL a moment ago is known
    known = _Known(credentials.list_partners(conn))
    return [_enter(conn, secret_box, row, known, is_trial) for row in rows]


class _Known:
    """Names and keys that are taken: by stored partners, and by earlier rows."""

    def __init__(self, partners: Sequence[Partner]) -> None:
        self.by_name: dict[str, list[Partner]] = {}
        self.by_folded_name: dict[str, str] = {}
        for partner in partners:
            self.by_name.setdefault(partner.name, []).append(partner)
            self.by_folded_name.setdefault(duplicate_partners.fold_name(partner.name), partner.name)
        self.lines_of_names: dict[str, int] = {}
        self.lines_of_keys: dict[str, PartnerRow] = {}


def _enter(conn: Connection, secret_box: SecretBox, row: PartnerRow, known: _Known, is_trial: bool) -> RowReport:
    with conn.cursor() as cur:
        cur.execute("SAVEPOINT partner_row")
        try:
            report = _try(conn, secret_box, row, known, -row.line if is_trial else None)
        except PartnerError as error:
            cur.execute("ROLLBACK TO SAVEPOINT partner_row")
            report = RowReport(row.line, row.name, Outcome.REFUSED, reason=str(error))
        cur.execute("RELEASE SAVEPOINT partner_row")
    return report


def _try(
    conn: Connection, secret_box: SecretBox, row: PartnerRow, known: _Known, provisional_id: int | None
) -> RowReport:
    """Enter one row.

    Raises:
        PartnerError: it is refused.
    """
    if len(row.name) > credentials.MAX_PARTNER_NAME_CHARS:
        raise PartnerError(
            f"A partner's name has at most {credentials.MAX_PARTNER_NAME_CHARS} characters, this one has {len(row.name)}."
        )
    _refuse_repeated(row, known)
    present = _find_present(row, known)
    if present is not None and credentials.is_stored(
        conn, secret_box, present.partner_id, principal=row.principal, secret=row.secret, scheme=row.scheme
    ):
        # It is neither synced again nor enabled.
        return RowReport(row.line, row.name, Outcome.UNCHANGED, present.key)
    partner_id = (
        credentials.create_partner(conn, row.name, provisional_id=provisional_id)
        if present is None
        else present.partner_id
    )
    credentials.enter_credential(
        conn,
        secret_box,
        partner_id,
        principal=row.principal,
        secret=row.secret,
        scheme=row.scheme,
        shares_api_key=row.shares_api_key,
        how_to_share=SHARE_IN_FILE,
    )
    key = credentials.ensure_key(conn, partner_id)
    return RowReport(row.line, row.name, Outcome.ADDED if present is None else Outcome.CHANGED, key)


def _refuse_repeated(row: PartnerRow, known: _Known) -> None:
    folded = duplicate_partners.fold_name(row.name)
    line = known.lines_of_names.setdefault(folded, row.line)
    if line != row.line:
        raise PartnerError(f"Line {line} has this name too. Keep one of the two lines.")
    other = known.lines_of_keys.setdefault(row.principal, row)
    if other.line != row.line and not row.shares_api_key:
        raise PartnerError(
            f"Line {other.line} has this API key too. Enter the partner's own key, or {SHARE_IN_FILE} if both are meant to"
            " have this one."
        )


def _find_present(row: PartnerRow, known: _Known) -> Partner | None:
    """Return the stored partner of exactly this name."""
    found = known.by_name.get(row.name, [])
    if len(found) > 1:
        raise PartnerError(f"There are {len(found)} partners of this name. Rename or merge them first.")
    if found:
        return found[0]
    similar = known.by_folded_name.get(duplicate_partners.fold_name(row.name))
    if similar is not None:
        raise PartnerError(
            f"There is a partner named {sanitize_for_display(similar, MAX_NAME_CHARS)!r}, and this name differs from it in"
            " case, blanks or the form of its characters only. Write the name exactly so to change its credential."
        )
    return None
