-- Facts that must be true of all partners' rows. See sql_files.py for the form.

-- name: replay_bib_log
-- Replay the bib log of all partners, and count where it does not give today's bib.
WITH log AS MATERIALIZED (
    SELECT timing_partner_id, registration_id, bib_change_id, old_bib, new_bib, lag(new_bib) OVER w AS before,
        row_number() OVER w = 1 AS is_first, lead(bib_change_id) OVER w IS NULL AS is_last
    FROM runsignup_bib_changes
    WINDOW w AS (PARTITION BY timing_partner_id, registration_id ORDER BY bib_change_id)
), wrong AS (
    SELECT l.timing_partner_id, l.registration_id, min(l.bib_change_id) AS bib_change_id
    FROM log l LEFT JOIN runsignup_participants p USING (timing_partner_id, registration_id)
    WHERE p.id IS NULL
        OR l.old_bib IS DISTINCT FROM CASE WHEN l.is_first THEN p.first_bib ELSE l.before END
        OR (l.is_last AND p.removed_at IS NULL AND l.new_bib IS DISTINCT FROM rsu_bib(p.bib_num, p.team_info))
    GROUP BY l.timing_partner_id, l.registration_id
), bare AS (
    SELECT count(*) AS rows FROM runsignup_participants p
    WHERE p.removed_at IS NULL AND NOT EXISTS (SELECT FROM log l
        WHERE l.timing_partner_id = p.timing_partner_id AND l.registration_id = p.registration_id)
), unlogged AS MATERIALIZED (
    SELECT p.timing_partner_id, p.registration_id FROM runsignup_participants p
    WHERE p.removed_at IS NULL AND rsu_bib(p.bib_num, p.team_info) IS DISTINCT FROM p.first_bib
        AND NOT EXISTS (SELECT FROM log l
        WHERE l.timing_partner_id = p.timing_partner_id AND l.registration_id = p.registration_id)
), shown AS (
    SELECT t.partition_key AS partner, w.registration_id, w.bib_change_id
    FROM (
        SELECT timing_partner_id, registration_id, bib_change_id FROM wrong
        UNION ALL SELECT timing_partner_id, registration_id, NULL FROM unlogged
    ) w JOIN timing_partners t USING (timing_partner_id)
    ORDER BY w.timing_partner_id, w.registration_id LIMIT :sample
)
SELECT (SELECT count(*) FROM log), (SELECT count(*) FROM log WHERE is_first), (SELECT count(*) FROM wrong),
    (SELECT rows FROM bare), (SELECT count(*) FROM unlogged), (SELECT coalesce(json_agg(shown), '[]') FROM shown);

-- name: read_equality
-- Count the verdicts of the last comparisons of all enabled partners' upcoming events.
WITH compared AS MATERIALIZED (
    SELECT t.partition_key AS partner, c.event_id, c.read_rows AS sent, c.stored_rows AS stored,
        {VERDICT} AS verdict
    FROM event_cursors c
    JOIN future_events f USING (timing_partner_id, event_id)
    JOIN timing_partners t USING (timing_partner_id)
    WHERE c.compared_at IS NOT NULL AND t.disabled_at IS NULL
), shown AS (
    SELECT partner, event_id, sent, stored FROM compared WHERE verdict = 'unequal' ORDER BY partner, event_id LIMIT :sample
)
SELECT count(*), coalesce(sum(sent), 0)::bigint, coalesce(sum(stored), 0)::bigint,
    count(*) FILTER (WHERE verdict = 'explained'), count(*) FILTER (WHERE verdict = 'unequal'),
    (SELECT coalesce(json_agg(shown), '[]') FROM shown)
FROM compared;

-- name: read_unstored_rows
-- Count the quarantined rows of all enabled partners.
WITH open AS MATERIALIZED (
    SELECT t.partition_key AS partner, q.race_id, q.registration_id, q.is_stored, q.quarantined_row_id
    FROM quarantined_rows q JOIN timing_partners t USING (timing_partner_id)
    WHERE q.resolved_at IS NULL AND t.disabled_at IS NULL
), shown AS (
    SELECT partner, race_id, registration_id, quarantined_row_id FROM open WHERE NOT is_stored
    ORDER BY quarantined_row_id LIMIT :sample
)
SELECT count(*) FILTER (WHERE NOT is_stored), count(*) FILTER (WHERE is_stored),
    count(DISTINCT partner) FILTER (WHERE NOT is_stored), (SELECT coalesce(json_agg(shown), '[]') FROM shown)
FROM open;

-- name: count_duplicates
-- Count rows, registrations, and those that several rows have, with a sample of these.
SELECT coalesce(sum(n), 0)::bigint, count(*), count(*) FILTER (WHERE n > 1),
    (array_agg(timing_partner_id || ' ' || registration_id || ' ' || n || ' ' || active) FILTER (WHERE n > 1))[: :sample]
FROM (
    SELECT timing_partner_id, registration_id, count(*) AS n, count(*) FILTER (WHERE removed_at IS NULL) AS active
    FROM runsignup_participants GROUP BY timing_partner_id, registration_id
) r;

-- name: is_guarded
-- Return whether a valid unique index forbids two rows of one registration.
SELECT EXISTS (
    SELECT FROM pg_index i
    WHERE i.indrelid = 'runsignup_participants'::regclass AND i.indisunique AND i.indisvalid AND i.indisready
        AND i.indpred IS NULL AND i.indnkeyatts = 2 AND (
            SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a
            WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        ) = ARRAY['registration_id', 'timing_partner_id']);
