"""Partners that may be the same: those with one API key, and those whose names are similar."""

import unicodedata
from collections import defaultdict
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.display import MAX_NAME_CHARS, sanitize_for_display
from rsu_pipeline.sql_files import load

_SQL = load(__file__)


@dataclass(frozen=True)
class NamedPartner:
    """A partner with its partition key, which is None until it is onboarded."""

    partner_id: int
    partition_key: str | None
    name: str

    @property
    def label(self) -> str:
        """The partner's name in messages."""
        key = sanitize_for_display(self.partition_key or "", MAX_NAME_CHARS)
        return key or f"partner {self.partner_id}"


def fold_name(name: str) -> str:
    """Return a name without its case, extra blanks, invisible characters and Unicode form."""
    # Twice, because folding the case can leave a form that is not normalized.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    visible = "".join(" " if character.isspace() else character for character in folded if not _is_invisible(character))
    return " ".join(visible.split())


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in ("Cf", "Cc") and not character.isspace()


def find_similar_partner(conn: Connection, name: str) -> NamedPartner | None:
    """Return the oldest partner whose name looks like this one but differs."""
    folded = fold_name(name)
    return next((item for item in _partners(conn) if item.name != name and fold_name(item.name) == folded), None)


def find_namesake(conn: Connection, name: str, *, but: int) -> NamedPartner | None:
    """Return the oldest other partner whose name equals this one or looks like it."""
    folded = fold_name(name)
    return next((item for item in _partners(conn) if item.partner_id != but and fold_name(item.name) == folded), None)


def find_similar_names(conn: Connection) -> list[list[NamedPartner]]:
    """Return the groups of enabled partners whose names are similar or equal."""
    groups: dict[str, list[NamedPartner]] = defaultdict(list)
    for item in _partners(conn, only_enabled=True):
        groups[fold_name(item.name)].append(item)
    return [group for group in groups.values() if len(group) > 1]


def _partners(conn: Connection, *, only_enabled: bool = False) -> list[NamedPartner]:
    with conn.cursor() as cur:
        cur.execute(
            "SELECT timing_partner_id, partition_key, company_name FROM timing_partners"
            " WHERE company_name IS NOT NULL AND (disabled_at IS NULL OR NOT %s) ORDER BY timing_partner_id",
            (only_enabled,),
        )
        return [NamedPartner(*row) for row in cur.fetchall()]


def find_partners_with(conn: Connection, api_key_id: int | None, *, but: int | None) -> list[NamedPartner]:
    """Return the other partners that have this API key, and prevent that it is entered meanwhile."""
    with conn.cursor() as cur:
        cur.execute("SELECT FROM runsignup_api_keys WHERE api_key_id = %s FOR NO KEY UPDATE", (api_key_id,))
        cur.execute(
            "SELECT timing_partner_id, partition_key, company_name FROM timing_partners"
            " JOIN partner_provider_credentials USING (timing_partner_id)"
            " WHERE api_key_id = %s AND timing_partner_id IS DISTINCT FROM %s ORDER BY timing_partner_id",
            (api_key_id, but),
        )
        return [NamedPartner(*row) for row in cur.fetchall()]


def find_shared_api_keys(conn: Connection, *, intended: bool) -> list[list[NamedPartner]]:
    """Return the groups of enabled partners that share one API key.

    With `intended` false, only groups in which more than one partner is not marked as sharing its key on purpose.
    """
    with conn.cursor() as cur:
        cur.execute(_SQL["find_shared_api_keys"], {"intended": intended})
        return [[NamedPartner(*item) for item in zip(*group, strict=True)] for group in cur.fetchall()]
