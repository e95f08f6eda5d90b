-- Backfill requests and their state. See sql_files.py for the form.

-- name: past_events
-- Fragment: every past event (e) requested by q, with its state: d if the backfill read it, u if its end is
-- unconfirmed, k if a sync read it after its end.
-- Years are by the event's own calendar. An event counts as read only if a complete read began after it was over, and if its end
-- is confirmed. An event that RunSignup no longer returns stays unavailable.
FROM partner_races l
JOIN history_requests q USING (timing_partner_id)
JOIN runsignup_events e ON e.race_id = l.race_id AND e.gone_at IS NULL AND l.lost_at IS NULL
    AND {OVER_AT} <= :'now'
    AND (q.since_year IS NULL OR extract(year FROM coalesce(e.start_time, e.end_time)) >= q.since_year)
LEFT JOIN history_events d ON d.timing_partner_id = l.timing_partner_id AND d.event_id = e.event_id
    AND d.state <> 'unconfirmed'
    AND (q.anew_from IS NULL OR d.read_at >= q.anew_from) AND (d.state = 'unavailable' OR d.read_at >= {OVER_AT})
LEFT JOIN history_events u ON u.timing_partner_id = l.timing_partner_id AND u.event_id = e.event_id AND u.state = 'unconfirmed'
LEFT JOIN event_cursors k ON k.timing_partner_id = l.timing_partner_id AND k.event_id = e.event_id
    AND k.last_full_at >= {OVER_AT} AND q.anew_from IS NULL AND u.event_id IS NULL;

-- name: races_left
-- Fragment: races_left, of one partner or of all if `partner` is NULL, of one race or of all if `race` is NULL.
left_over AS (
    SELECT l.timing_partner_id, l.race_id,
        array_agg(e.event_id ORDER BY e.starts_at DESC, e.event_id) AS ids,
        array_agg(coalesce(e.race_event_days_id, -e.event_id) ORDER BY e.starts_at DESC, e.event_id) AS editions,
        array_agg(e.starts_at ORDER BY e.starts_at DESC, e.event_id) AS starts
    {PAST_EVENTS}
    WHERE (:partner::integer IS NULL OR l.timing_partner_id = :partner) AND d.event_id IS NULL AND k.event_id IS NULL
        AND (:race::bigint IS NULL OR l.race_id = :race)
    GROUP BY l.timing_partner_id, l.race_id
), behind AS (
    SELECT d.timing_partner_id, e.race_id, array_agg(d.event_id ORDER BY d.event_id) AS ids
    FROM history_events d JOIN runsignup_events e USING (event_id)
    WHERE (:partner::integer IS NULL OR d.timing_partner_id = :partner) AND d.behind AND e.gone_at IS NULL
        AND (:race::bigint IS NULL OR e.race_id = :race)
    GROUP BY d.timing_partner_id, e.race_id
), races AS (
    SELECT l.timing_partner_id, l.race_id, coalesce(r.name, '') AS name,
        r.detail_as_of IS DISTINCT FROM r.last_modified
            AND (h.detail_read_at IS NULL OR h.detail_read_at < q.requested_at)
            -- No edition that was asked for: the newest is of an earlier year.
            AND (q.since_year IS NULL OR r.next_date IS NOT NULL
                OR coalesce(extract(year FROM coalesce(r.last_end_date, r.last_date)) >= q.since_year, true)) AS needs_detail,
        h.retry_at, coalesce(h.failures, 0) AS failures,
        (SELECT max(e.starts_at) FROM runsignup_events e WHERE e.race_id = l.race_id
            AND {ENDS_AT} <= :'now') AS newest
    FROM partner_races l
    JOIN history_requests q USING (timing_partner_id)
    JOIN runsignup_races r USING (race_id)
    LEFT JOIN history_races h ON h.timing_partner_id = l.timing_partner_id AND h.race_id = l.race_id
    WHERE (:partner::integer IS NULL OR l.timing_partner_id = :partner)
        AND l.lost_at IS NULL
        AND (:race::bigint IS NULL OR l.race_id = :race)
), races_left AS (
    SELECT r.*, o.ids, o.editions, o.starts, b.ids AS behind
    FROM races r LEFT JOIN left_over o USING (timing_partner_id, race_id) LEFT JOIN behind b USING (timing_partner_id, race_id)
    WHERE r.needs_detail OR o.ids IS NOT NULL OR b.ids IS NOT NULL
);

-- name: request_backfill
-- Request a partner's backfill, or continue an earlier request with the years now given.
INSERT INTO history_requests AS h (timing_partner_id, since_year, anew_from, last_requested_at, run_id, backfill_id)
VALUES (:partner, :since, CASE WHEN :reload THEN clock_timestamp() END, clock_timestamp(), :'run',
    :'backfill')
ON CONFLICT (timing_partner_id) DO UPDATE SET since_year = excluded.since_year,
    requested_at = CASE WHEN :reload OR h.finished_at IS NOT NULL THEN now() ELSE h.requested_at END,
    slices = CASE WHEN :reload OR h.finished_at IS NOT NULL THEN 0 ELSE h.slices END,
    listed_at = CASE WHEN NOT :reload AND h.finished_at IS NULL THEN h.listed_at END,
    anew_from = coalesce(excluded.anew_from, h.anew_from), not_before = now(), finished_at = NULL,
    cancelled_at = NULL, last_requested_at = excluded.last_requested_at, run_id = excluded.run_id,
    backfill_id = excluded.backfill_id
RETURNING {REQUEST};

-- name: find_due_requests
-- Find the partners whose next slice may begin, longest waiting first.
SELECT t.partition_key, t.timing_partner_id, :'now'::timestamptz - (now() - least(h.not_before, now()))
{ACTIVE} JOIN history_requests h USING (timing_partner_id)
WHERE h.finished_at IS NULL AND h.cancelled_at IS NULL
    AND (h.not_before <= now() OR h.not_before > now() + :'longest'::interval) AND {IS_ACTIVE}
ORDER BY h.not_before, t.timing_partner_id;

-- name: reopen
-- Reopen a finished backfill if a race is new to the partner or an old edition was added.
WITH {RACES_LEFT}
UPDATE history_requests r SET finished_at = NULL, not_before = now()
WHERE r.timing_partner_id = :partner AND r.finished_at IS NOT NULL AND r.cancelled_at IS NULL AND EXISTS (
    SELECT FROM races_left o WHERE o.needs_detail OR EXISTS (
        SELECT FROM unnest(o.ids) AS i (event_id) JOIN runsignup_events e USING (event_id)
        LEFT JOIN event_cursors k ON k.timing_partner_id = :partner AND k.event_id = e.event_id
        WHERE NOT {NEEDS_CLOSING_READ}));

-- name: note_read
-- Record that the race's pass read these past events.
INSERT INTO history_events (timing_partner_id, event_id, behind, state, read_at)
SELECT :partner, e.id, :behind, CASE WHEN e.id = ANY (:'unconfirmed'::bigint[]) THEN 'unconfirmed' ELSE coalesce((
        -- No EXISTS, which a planner may answer with a hash of the whole table.
        SELECT 'loaded' FROM runsignup_participants p
        WHERE p.timing_partner_id + 0 = :partner AND p.event_id = e.id LIMIT 1), 'empty') END,
    CASE WHEN r.started_at = to_timestamp(0) THEN r.started_at ELSE clock_timestamp() END
FROM unnest(:'events'::bigint[]) AS e (id) LEFT JOIN read_passes r
    ON r.timing_partner_id = :partner AND r.race_id = :race AND r.mode = 'history'
ON CONFLICT (timing_partner_id, event_id) DO UPDATE SET state = excluded.state, reason = NULL,
    behind = excluded.behind, read_at = CASE WHEN history_events.state = 'unconfirmed' AND excluded.state = 'unconfirmed'
        THEN least(history_events.read_at, excluded.read_at) ELSE excluded.read_at END;

-- name: read_confirmable
-- Return which of these events were read with an unconfirmed end, long enough ago.
SELECT h.event_id FROM history_events h
WHERE h.timing_partner_id = :partner AND h.event_id = ANY (:'events'::bigint[]) AND h.state = 'unconfirmed'
    AND h.read_at <= clock_timestamp() - :'wait'::interval;

-- name: wait_for_confirmation
-- Have a race's unconfirmed events read again once their wait is over.
INSERT INTO history_races AS h (timing_partner_id, race_id, retry_at)
SELECT :partner, :race, max(u.read_at) + :'wait'::interval
FROM history_events u JOIN runsignup_events e USING (event_id)
WHERE u.timing_partner_id = :partner AND e.race_id = :race AND u.state = 'unconfirmed'
HAVING count(*) > 0
ON CONFLICT (timing_partner_id, race_id) DO UPDATE SET retry_at = excluded.retry_at;

-- name: find_races_left
-- Find the races with something left to do, the one with the newest past event first.
WITH {RACES_LEFT}
SELECT race_id, name, needs_detail, ids, editions, starts, behind, newest, retry_at, failures
FROM races_left ORDER BY newest DESC NULLS LAST, race_id DESC;
