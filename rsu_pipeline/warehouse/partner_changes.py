"""Changes of a partner that is there: its name, and how its credential is used. The caller commits."""

from psycopg2.extensions import connection as Connection

from rsu_pipeline.display import MAX_NAME_CHARS, sanitize_for_display
from rsu_pipeline.warehouse import duplicate_partners
from rsu_pipeline.warehouse.credentials import MAX_PARTNER_NAME_CHARS, Partner, PartnerError


def rename(conn: Connection, partner: Partner, name: str) -> None:
    """Change the name of a partner. Its partition key stays.

    Raises:
        PartnerError: the name cannot be used, or another partner has it or nearly it.
    """
    if not name or not name.replace("\xa0", " ").isprintable():
        raise PartnerError("The name must not be empty, and have only characters that print.")
    if len(name) > MAX_PARTNER_NAME_CHARS:
        raise PartnerError(
            f"A partner's name has at most {MAX_PARTNER_NAME_CHARS} characters, this one has {len(name)}."
        )
    other = duplicate_partners.find_namesake(conn, name, but=partner.partner_id)
    if other is not None:
        raise PartnerError(
            f"Partner {other.label} is named {sanitize_for_display(other.name, MAX_NAME_CHARS)!r}. Choose a name that differs"
            " in more than case and blanks."
        )
    with conn.cursor() as cur:
        cur.execute(
            "UPDATE timing_partners SET company_name = %s WHERE timing_partner_id = %s", (name, partner.partner_id)
        )


def set_credential_options(
    conn: Connection, partner: Partner, *, scheme: str | None, shares_api_key: bool | None
) -> None:
    """Change how a partner's credential is sent, and whether it shares its API key on purpose. None leaves it.

    Raises:
        PartnerError: the partner has no credential.
    """
    if partner.credential_id is None:
        raise PartnerError(
            f"Partner {partner.key or partner.partner_id} has no RunSignup credential: add one with `rsu partners add`."
        )
    with conn.cursor() as cur:
        if shares_api_key is not None:
            cur.execute(
                "UPDATE partner_provider_credentials SET shares_api_key = %s WHERE partner_provider_credential_id = %s",
                (shares_api_key, partner.credential_id),
            )
        if scheme is not None and scheme != partner.scheme:
            # Another way to send the secret may work or not, like another secret: it is tried as one.
            cur.execute(
                "UPDATE partner_provider_credentials SET credential_type = %s, verified_at = NULL, rejected_at = NULL,"
                " rejected_reason = NULL, entered_at = now() WHERE partner_provider_credential_id = %s",
                (scheme, partner.credential_id),
            )
