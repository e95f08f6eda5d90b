-- Partners that may be the same. See sql_files.py for the form.

-- name: find_shared_api_keys
-- Return the groups of enabled partners that share one API key, or only those not on purpose.
SELECT array_agg(timing_partner_id ORDER BY timing_partner_id),
    array_agg(partition_key::text ORDER BY timing_partner_id),
    array_agg(company_name::text ORDER BY timing_partner_id)
FROM timing_partners JOIN partner_provider_credentials USING (timing_partner_id)
WHERE disabled_at IS NULL AND api_key_id IS NOT NULL
GROUP BY api_key_id
HAVING count(*) > 1 AND (:'intended' OR count(*) FILTER (WHERE NOT shares_api_key) > 1)
ORDER BY 1;
