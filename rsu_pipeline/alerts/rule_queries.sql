-- What the alert rules query. See sql_files.py for the form.

-- name: working
-- Partners t with a working credential c. A rejected one has an alert of its own, and its consequences have none.
timing_partners t
JOIN partner_provider_credentials c USING (timing_partner_id)
JOIN providers v ON v.provider_id = c.provider_id AND lower(v.name) = :'provider'

-- name: works
-- Whether it works.
t.disabled_at IS NULL AND t.partition_key IS NOT NULL AND c.secret ~ '\S' AND c.rejected_at IS NULL

-- name: read_partner_read_times
-- Return when every partner with upcoming events and a working credential was read, and its stalest race that starts within 24
-- h.
WITH ahead AS (
    SELECT t.timing_partner_id, t.partition_key, c.entered_at, e.race_id, e.starts_at,
        greatest(coalesce(CASE WHEN k.last_read_at <= :'latest'::timestamptz THEN k.last_read_at END,
            greatest(l.listed_at, e.created_at)), c.entered_at) AS read_at
    FROM {WORKING}
    JOIN partner_races l USING (timing_partner_id)
    JOIN runsignup_events e ON e.race_id = l.race_id
    LEFT JOIN event_cursors k ON k.timing_partner_id = l.timing_partner_id AND k.event_id = e.event_id
    WHERE {WORKS} AND l.access NOT IN ('denied', 'not_found') AND l.unlisted_at IS NULL AND l.lost_at IS NULL
        AND e.gone_at IS NULL
        AND {IS_UPCOMING}
),
near AS (
    SELECT DISTINCT ON (timing_partner_id) timing_partner_id, race_id, read_at FROM ahead
    WHERE starts_at > :'now'::timestamptz AND starts_at <= :'now'::timestamptz + interval '24 hours'
    ORDER BY timing_partner_id, read_at, race_id
)
SELECT a.timing_partner_id, a.partition_key, max(a.read_at), n.race_id, n.read_at
FROM ahead a LEFT JOIN near n USING (timing_partner_id)
GROUP BY a.timing_partner_id, a.partition_key, n.race_id, n.read_at ORDER BY 1;

-- name: read_race_read_times
-- Return when each race was last read that a working credential may read.
SELECT t.timing_partner_id, l.race_id, max(k.last_read_at) FROM {WORKING}
JOIN partner_races l USING (timing_partner_id) LEFT JOIN event_cursors k
ON k.timing_partner_id = l.timing_partner_id AND k.race_id = l.race_id
WHERE {WORKS} AND l.access NOT IN ('denied', 'not_found') GROUP BY 1, 2;

-- name: read_vanished_events
-- Return the events that their race's detail has lacked since then or longer.
SELECT t.timing_partner_id, t.partition_key, l.race_id, e.event_id
FROM {WORKING} JOIN partner_races l USING (timing_partner_id) JOIN runsignup_events e USING (race_id)
WHERE {WORKS} AND l.lost_at IS NULL AND e.gone_at IS NULL AND e.vanished_at <= :'since'::timestamptz
ORDER BY 1, 3, 4;

-- name: read_denied_access
-- Return upcoming races and events that RunSignup lists but denies to a credential that works otherwise.
SELECT t.timing_partner_id, t.partition_key, l.race_id, NULL::bigint, l.access_changed_at, l.access = 'not_found'
FROM {WORKING} JOIN partner_races l USING (timing_partner_id)
WHERE {WORKS} AND l.access IN ('denied', 'not_found') AND l.unlisted_at IS NULL AND EXISTS (
    SELECT FROM runsignup_events e WHERE e.race_id = l.race_id AND e.gone_at IS NULL
        AND {IS_UPCOMING})
UNION ALL
SELECT t.timing_partner_id, t.partition_key, e.race_id, e.event_id, x.refused_at, false
FROM {WORKING} JOIN refused_events x USING (timing_partner_id) JOIN runsignup_events e USING (event_id)
JOIN partner_races l ON l.timing_partner_id = x.timing_partner_id AND l.race_id = e.race_id
WHERE {WORKS} AND e.gone_at IS NULL AND l.lost_at IS NULL
    AND {IS_UPCOMING}
ORDER BY 1, 3, 4;

-- name: read_calls_used
-- Return the calls of the last hour with each working API key.
WITH used AS (
    SELECT coalesce(api_key_id, -credential_id) AS call_budget_id, count(*) AS calls FROM api_calls
    WHERE granted_at > statement_timestamp() - interval '1 hour' GROUP BY 1
)
SELECT array_agg(t.timing_partner_id ORDER BY t.timing_partner_id),
    array_agg(t.partition_key::text ORDER BY t.timing_partner_id), u.calls
FROM {WORKING}
JOIN used u ON u.call_budget_id = coalesce(c.api_key_id, -c.partner_provider_credential_id)
WHERE {WORKS} GROUP BY u.call_budget_id, u.calls ORDER BY 1;

-- name: read_failed_reads
-- Return what these runs could not read, whether it was read since, and whether RunSignup did not answer.
SELECT DISTINCT h.run_id, t.partition_key, h.race_id, EXISTS (
    SELECT FROM sync_history n
    WHERE n.timing_partner_id = h.timing_partner_id AND n.race_id IS NOT DISTINCT FROM h.race_id
        AND n.finished_at > h.finished_at AND n.status <> 'failed')
    -- A poll that found nothing leaves no row in the log, only a read.
    OR EXISTS (SELECT FROM event_cursors k WHERE k.timing_partner_id = h.timing_partner_id AND k.race_id = h.race_id
        AND k.last_read_at > h.finished_at),
    coalesce(h.error_details ->> 'cause' = ANY (:'unanswered'::text[]), false)
FROM sync_history h JOIN timing_partners t USING (timing_partner_id)
WHERE h.run_id = ANY (:'runs'::text[]) AND h.status = 'failed' AND t.partition_key IS NOT NULL
    AND t.disabled_at IS NULL
ORDER BY 1, 2, 3;

-- name: find_unanswered
-- Find the partners whose last try since then RunSignup did not answer: of this race, or of anything if the race is NULL.
SELECT w.timing_partner_id
FROM unnest(:'partners'::int[], :'races'::bigint[], :'since'::timestamptz[]) AS w (timing_partner_id, race_id, since)
CROSS JOIN LATERAL (
    SELECT h.status, h.error_details ->> 'cause' AS cause FROM sync_history h
    WHERE h.timing_partner_id = w.timing_partner_id AND (w.race_id IS NULL OR h.race_id = w.race_id)
        AND h.operation_type IS DISTINCT FROM 'history' AND h.finished_at > w.since
    ORDER BY h.finished_at DESC LIMIT 1
) tried
WHERE tried.status = 'failed' AND tried.cause = ANY (:'unanswered'::text[])
ORDER BY 1;

-- name: find_recovering_partners
-- Find the partners with a race whose polls RunSignup did not answer until then or later, by the alerts of it.
SELECT DISTINCT a.partner FROM alerts a
WHERE a.kind = 'polls_failing' AND (a.cleared_at IS NULL OR a.cleared_at > :'since'::timestamptz) AND EXISTS (
    SELECT FROM sync_history h
    WHERE h.timing_partner_id = split_part(a.cause, ':', 1)::int AND h.race_id = split_part(a.cause, ':', 2)::bigint
        AND h.status = 'failed' AND h.error_details ->> 'cause' = ANY (:'unanswered'::text[])
        -- An alert opens when polls have failed for some minutes. Clocks may differ by as much.
        AND h.finished_at BETWEEN a.first_seen_at - interval '15 minutes' AND a.last_seen_at + interval '5 minutes')
ORDER BY 1;

-- name: read_left_bibs
-- Return the entrants without a bib whose earlier registration was given one here: partner, its key, race, event, the
-- registration, the bib, and how many there are in the event.
-- RunSignup makes a new registration for each transfer, and knows nothing of a bib that was given here.
WITH RECURSIVE successor AS (
    SELECT p.timing_partner_id, btrim(p.local_bib, E' \t\r\n') AS bib, p.new_registration_id AS registration_id
    FROM runsignup_participants p
    WHERE p.local_bib IS NOT NULL AND p.removed_at IS NOT NULL AND p.new_registration_id IS NOT NULL
    UNION
    SELECT s.timing_partner_id, s.bib, p.new_registration_id
    FROM successor s CROSS JOIN LATERAL (
        SELECT h.new_registration_id, h.removed_at FROM runsignup_participants h
        WHERE h.timing_partner_id = s.timing_partner_id AND h.registration_id = s.registration_id LIMIT 1) p
    WHERE p.removed_at IS NOT NULL AND p.new_registration_id IS NOT NULL
)
SELECT DISTINCT ON (t.timing_partner_id, n.event_id) t.timing_partner_id, t.partition_key, e.race_id, n.event_id,
    n.registration_id, s.bib, count(*) OVER (PARTITION BY t.timing_partner_id, n.event_id)::int
FROM successor s JOIN start_list_entries n USING (timing_partner_id, registration_id)
JOIN timing_partners t USING (timing_partner_id) JOIN runsignup_events e ON e.event_id = n.event_id
WHERE t.disabled_at IS NULL AND n.bib IS NULL AND s.bib <> '' AND {IS_UPCOMING}
ORDER BY t.timing_partner_id, n.event_id, n.registration_id;
