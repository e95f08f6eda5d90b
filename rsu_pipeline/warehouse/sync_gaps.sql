-- Gaps in the sync log. See sql_files.py for the form.

-- name: find_gaps
-- Find the gaps in which nothing was read.
-- The watch's polls that find nothing are in the ledger alone, which is queried only if the log has a gap.
WITH log AS (
    SELECT finished_at AS at FROM sync_history
    WHERE status <> 'failed' AND finished_at > :'from'::timestamptz AND finished_at <= :'now'::timestamptz
    UNION ALL SELECT max(finished_at) FROM sync_history WHERE status <> 'failed' AND finished_at <= :'from'::timestamptz
    UNION ALL SELECT :'now'::timestamptz
), candidates AS (
    SELECT since, until FROM (SELECT lag(at) OVER (ORDER BY at) AS since, at AS until FROM log WHERE at IS NOT NULL) l
    WHERE until - since >= :'shortest'::interval
), signs AS (
    SELECT since, until, since AS at FROM candidates
    UNION SELECT since, until, until FROM candidates
    UNION SELECT c.since, c.until, a.granted_at
    FROM candidates c CROSS JOIN runsignup_api_keys k
    JOIN api_calls a ON a.api_key_id = k.api_key_id AND a.granted_at > c.since AND a.granted_at < c.until
    WHERE a.settled_at IS NOT NULL AND a.error IS NULL
), gaps AS (
    SELECT lag(at) OVER (PARTITION BY since ORDER BY at) AS since, at AS until FROM signs
)
SELECT g.since, nullif(g.until, :'now'::timestamptz), EXISTS (
    SELECT FROM runsignup_events e JOIN partner_races l USING (race_id)
    JOIN timing_partners t ON t.timing_partner_id = l.timing_partner_id AND t.disabled_at IS NULL
    WHERE e.gone_at IS NULL AND l.unlisted_at IS NULL
        AND coalesce(e.starts_at, e.ends_at) - :'window'::interval < g.until AND {OVER_AT} > g.since)
FROM gaps g WHERE g.until - g.since >= :'shortest'::interval ORDER BY g.until DESC;

-- name: find_caught_up
-- Count what is stored of a gap by now, for every enabled partner.
SELECT t.timing_partner_id,
    (SELECT count(DISTINCT e.race_id) FROM partner_races l JOIN runsignup_events e USING (race_id)
     WHERE l.timing_partner_id = t.timing_partner_id AND e.gone_at IS NULL AND {OVER_AT} > :'since'::timestamptz AND {OVER_AT} <= :'until'::timestamptz),
    coalesce(b.bibs, 0), coalesce(p.new, 0), coalesce(p.changed, 0), coalesce(p.removed, 0),
    (SELECT count(*) FROM partner_races l JOIN runsignup_events e USING (race_id)
     LEFT JOIN event_cursors k ON k.timing_partner_id = l.timing_partner_id AND k.event_id = e.event_id
     WHERE l.timing_partner_id = t.timing_partner_id AND e.gone_at IS NULL AND l.unlisted_at IS NULL
        AND {OVER_AT} > :'since'::timestamptz AND {NEEDS_CLOSING_READ})
FROM timing_partners t
LEFT JOIN (
    SELECT timing_partner_id, count(*) AS bibs FROM runsignup_bib_changes
    WHERE recorded_at > :'since'::timestamptz AND to_timestamp(modified_epoch) BETWEEN :'since'::timestamptz AND :'until'::timestamptz GROUP BY 1
) b USING (timing_partner_id)
LEFT JOIN (
    SELECT timing_partner_id, count(*) FILTER (WHERE is_removed) AS removed,
        count(*) FILTER (WHERE is_new AND NOT is_removed) AS new,
        count(*) FILTER (WHERE NOT is_new AND NOT is_removed
            AND to_timestamp(last_modified_epoch) BETWEEN :'since'::timestamptz AND :'until'::timestamptz) AS changed
    FROM (
        SELECT timing_partner_id, last_modified_epoch,
            -- RunSignup sends the minute of a registration.
            first_seen_at > :'since'::timestamptz AND registered_at BETWEEN :'since'::timestamptz - interval '1 minute' AND :'until'::timestamptz AS is_new,
            removed_at IS NOT NULL AND (to_timestamp(removed_epoch) BETWEEN :'since'::timestamptz AND :'until'::timestamptz
                OR removed_epoch IS NULL AND removed_at BETWEEN :'since'::timestamptz AND :'until'::timestamptz + :'nameless'::interval) AS is_removed
        FROM runsignup_participants WHERE changed_at > :'since'::timestamptz
    ) r GROUP BY timing_partner_id
) p USING (timing_partner_id)
WHERE t.disabled_at IS NULL
ORDER BY t.timing_partner_id;
