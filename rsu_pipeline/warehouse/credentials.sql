-- Timing partners and their credentials. See sql_files.py for the form.

-- name: select_partners
-- Select every partner with its credential for RunSignup, to be followed by conditions and an order.
SELECT p.timing_partner_id, p.company_name, p.partition_key, p.disabled_at, c.partner_provider_credential_id,
    coalesce(nullif(lower(c.credential_type), ''), 'api_key'), c.verified_at, c.rejected_at, c.rejected_reason, c.entered_at,
    p.include
FROM timing_partners p
LEFT JOIN (partner_provider_credentials c JOIN providers v ON v.provider_id = c.provider_id AND lower(v.name) = :'provider')
    ON c.timing_partner_id = p.timing_partner_id
    AND c.principal ~ '\S' AND c.secret ~ '\S';

-- name: store_credential
-- Enter a partner's credential, or replace the one that it has.
INSERT INTO partner_provider_credentials
    (provider_id, timing_partner_id, principal, secret, credential_type, shares_api_key)
SELECT provider_id, :partner, :'principal', :'secret', :'scheme', :shares FROM providers WHERE lower(name) = :'provider'
ON CONFLICT (timing_partner_id, provider_id) DO UPDATE SET principal = excluded.principal,
    secret = excluded.secret, credential_type = excluded.credential_type,
    verified_at = NULL, rejected_at = NULL, rejected_reason = NULL, entered_at = now(),
    shares_api_key = excluded.shares_api_key
        OR partner_provider_credentials.shares_api_key AND partner_provider_credentials.api_key_id = :api_key
RETURNING partner_provider_credential_id;
