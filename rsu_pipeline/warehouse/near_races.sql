-- Races of a race morning. See sql_files.py for the form.

-- name: near
-- Fragment: near, the events that are in their window or start within a day, of one partner and race or of all.
-- Volunteers' events have no bibs. Disabled partners are not shown on race morning.
near AS MATERIALIZED (
    SELECT t.timing_partner_id, t.partition_key, {CALL_BUDGET} AS call_budget_id, c.rejected_at, l.race_id, l.access,
        e.event_id, e.name, e.starts_at, e.ends_at, k.last_read_at
    {ACTIVE}
    JOIN partner_races l USING (timing_partner_id)
    JOIN runsignup_events e ON e.race_id = l.race_id
    LEFT JOIN event_cursors k ON k.timing_partner_id = l.timing_partner_id AND k.event_id = e.event_id
    WHERE t.disabled_at IS NULL AND t.partition_key IS NOT NULL AND e.gone_at IS NULL AND e.volunteer IS NOT TRUE
        AND l.lost_at IS NULL
        AND {IS_ON_BOARD}
        AND (:partner::int IS NULL OR t.timing_partner_id = :partner)
        AND (:race::bigint IS NULL OR l.race_id = :race)
);

-- name: find_near_races
-- Find every race with such an event, with what a race morning needs to know of it.
WITH {NEAR},
races AS (
    SELECT n.timing_partner_id, n.partition_key, min(n.call_budget_id) AS call_budget_id, n.race_id,
        array_agg(n.starts_at ORDER BY n.event_id) AS starts, array_agg(n.ends_at ORDER BY n.event_id) AS ends,
        bool_or(n.rejected_at IS NOT NULL) AS is_rejected, bool_or(n.access = 'denied') AS is_denied,
        count(f.event_id) AS refused,
        CASE WHEN bool_and(n.last_read_at IS NOT NULL OR f.event_id IS NOT NULL)
            THEN min(n.last_read_at) FILTER (WHERE f.event_id IS NULL) END AS read_at,
        coalesce(sum(s.entrants), 0) AS entrants, coalesce(sum(s.with_bib), 0) AS with_bib,
        coalesce(sum(s.duplicate_bibs), 0) AS duplicate_bibs, count(*) FILTER (WHERE s.event_id IS NULL) AS unlisted,
        array_agg(n.event_id) AS event_ids
    FROM near n
    LEFT JOIN start_lists s ON s.timing_partner_id = n.timing_partner_id AND s.event_id = n.event_id
    LEFT JOIN refused_events f ON f.timing_partner_id = n.timing_partner_id AND f.event_id = n.event_id
    GROUP BY n.timing_partner_id, n.partition_key, n.race_id
),
bibs AS (
    SELECT DISTINCT ON (b.timing_partner_id, b.race_id) b.timing_partner_id, b.race_id, b.new_bib, b.kind,
        to_timestamp(b.modified_epoch) AS modified_at, b.recorded_at
    FROM runsignup_bib_changes b WHERE b.recorded_at > :'now'::timestamptz - :'last_bib_within'::interval
    ORDER BY b.timing_partner_id, b.race_id, b.bib_change_id DESC
),
held AS (
    SELECT q.timing_partner_id, q.race_id, count(*) AS n FROM quarantined_rows q
    WHERE q.resolved_at IS NULL AND NOT q.is_stored GROUP BY q.timing_partner_id, q.race_id
)
SELECT r.timing_partner_id, r.partition_key, r.call_budget_id, r.race_id, coalesce(a.name, ''), a.timezone, r.starts, r.ends,
    r.is_rejected, r.is_denied, r.refused, r.read_at, tried.finished_at, tried.reason, r.entrants, r.with_bib,
    r.duplicate_bibs, r.unlisted, coalesce(h.n, 0), b.new_bib, b.kind, b.modified_at, b.recorded_at
FROM races r
JOIN runsignup_races a USING (race_id)
LEFT JOIN bibs b ON b.timing_partner_id = r.timing_partner_id AND b.race_id = r.race_id
LEFT JOIN held h ON h.timing_partner_id = r.timing_partner_id AND h.race_id = r.race_id
LEFT JOIN LATERAL (
    SELECT last.finished_at, last.reason FROM (
        SELECT n.finished_at, n.reason, n.status FROM sync_history n
        WHERE n.timing_partner_id = r.timing_partner_id AND n.race_id = r.race_id
            AND n.operation_type IS DISTINCT FROM 'history'
        ORDER BY n.finished_at DESC LIMIT 1
    ) last
    -- A poll that succeeded and found nothing leaves no history, only a read.
    WHERE last.status = 'failed' AND (r.read_at IS NULL OR last.finished_at > r.read_at)
) tried ON true
ORDER BY r.timing_partner_id, r.race_id;

-- name: find_bib_changes
-- Find the changes of bibs in near events that were stored since then, newest first.
WITH {NEAR}
SELECT n.partition_key, n.race_id, n.event_id, coalesce(n.name, ''), b.registration_id,
    concat_ws(' ', p.first_name, p.last_name), b.kind, b.old_bib, b.new_bib, to_timestamp(b.modified_epoch), b.recorded_at
FROM runsignup_bib_changes b
JOIN near n ON n.timing_partner_id = b.timing_partner_id AND n.event_id = b.event_id
LEFT JOIN runsignup_participants p
    ON p.timing_partner_id = b.timing_partner_id AND p.registration_id = b.registration_id
WHERE b.recorded_at > :'since'::timestamptz
ORDER BY b.bib_change_id DESC;

-- name: find_entrants_without_bib
-- Find the entrants of near events who have no bib, first start first.
WITH {NEAR}
SELECT n.partition_key, n.race_id, n.event_id, coalesce(n.name, ''), s.registration_id,
    concat_ws(' ', s.first_name, s.last_name)
FROM near n JOIN start_list_entries s USING (timing_partner_id, event_id)
WHERE s.bib IS NULL
ORDER BY n.starts_at, n.race_id, n.event_id, lower(s.last_name), lower(s.first_name), s.registration_id;
