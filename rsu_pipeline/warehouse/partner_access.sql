-- What a partner's credential gives access to. See sql_files.py for the form.

-- name: read_access
-- Return the access of every partner, or of one, in order of id.
WITH races AS (
    SELECT l.timing_partner_id, l.race_id, l.lost_at IS NULL AND l.unlisted_at IS NULL AS is_listed, l.lost_at,
        l.lost_reason = 'access_lost' AND NOT EXISTS (
            SELECT FROM partner_races o JOIN timing_partners p USING (timing_partner_id)
            WHERE o.race_id = l.race_id AND o.timing_partner_id <> l.timing_partner_id AND o.access = 'granted'
                AND o.lost_at IS NULL AND p.disabled_at IS NULL) AS is_lost, EXISTS (
            SELECT FROM runsignup_events e WHERE e.race_id = l.race_id AND e.gone_at IS NULL AND {IS_UPCOMING}) AS is_upcoming
    FROM partner_races l WHERE l.lost_reason IS DISTINCT FROM 'race_deleted'
), counted AS (
    SELECT timing_partner_id, count(*) FILTER (WHERE is_listed) AS listed, count(*) AS known,
        array_agg(race_id ORDER BY race_id) FILTER (WHERE is_lost) AS lost,
        array_agg(race_id ORDER BY race_id) FILTER (WHERE is_lost AND is_upcoming) AS lost_upcoming,
        max(lost_at) FILTER (WHERE is_lost AND is_upcoming) AS lost_at
    FROM races GROUP BY timing_partner_id
)
SELECT t.timing_partner_id, t.partition_key, t.disabled_at IS NOT NULL,
    -- Removing deletes the credential and marks every race as lost. Disabling does neither.
    t.disabled_at IS NOT NULL AND NOT EXISTS (
        SELECT FROM partner_provider_credentials k JOIN providers v USING (provider_id)
        WHERE k.timing_partner_id = t.timing_partner_id AND lower(v.name) = :'provider')
        AND (SELECT bool_and(l.lost_at IS NOT NULL) FROM partner_races l
            WHERE l.timing_partner_id = t.timing_partner_id) IS TRUE,
    c.timing_partner_id IS NOT NULL,
    c.rejected_at IS NOT NULL, c.rejected_reason,
    listing.status IS NOT NULL OR c.verified_at IS NOT NULL OR EXISTS (
        SELECT FROM sync_history h WHERE h.timing_partner_id = t.timing_partner_id AND h.finished_at >= c.entered_at) OR EXISTS (
        SELECT FROM api_calls a WHERE a.credential_id = c.partner_provider_credential_id AND a.granted_at >= c.entered_at),
    c.verified_at IS NOT NULL, coalesce(listing.status IN ('completed', 'partial'), false),
    coalesce(r.listed, 0), coalesce(r.known, 0), coalesce(r.lost, '{}'), coalesce(r.lost_upcoming, '{}'),
    coalesce(r.lost_at > :'now'::timestamptz - :'reported'::interval, false),
    (SELECT max(a.cleared_at) FROM alerts a
     WHERE a.kind = 'access_lost' AND a.partner = t.partition_key AND a.cleared_at > :'now'::timestamptz - :'shown'::interval)
FROM timing_partners t
LEFT JOIN (partner_provider_credentials c JOIN providers v ON v.provider_id = c.provider_id AND lower(v.name) = :'provider')
    ON c.timing_partner_id = t.timing_partner_id AND c.principal ~ '\S' AND c.secret ~ '\S'
LEFT JOIN counted r ON r.timing_partner_id = t.timing_partner_id
LEFT JOIN LATERAL (
    SELECT h.status FROM sync_history h
    WHERE h.timing_partner_id = t.timing_partner_id AND h.race_id IS NULL AND h.finished_at >= c.entered_at
    ORDER BY h.finished_at DESC LIMIT 1
) listing ON true
WHERE :partner::int IS NULL OR t.timing_partner_id = :partner
ORDER BY t.timing_partner_id;
