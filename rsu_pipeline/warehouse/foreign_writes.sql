-- Writes of other programs, and what they leave to repair. See sql_files.py for the form.

-- name: read_open_writes
-- Return the writes of the last day, and older ones while an upcoming event waits for its full read since.
SELECT table_name, operation, login, program, address, sum(transactions)::bigint, min(first_at), max(last_at)
FROM foreign_writes
WHERE last_at > :'since'::timestamptz OR last_at > (
    SELECT min(c.last_full_at) FROM event_cursors c JOIN future_events f USING (timing_partner_id, event_id)
    JOIN timing_partners t USING (timing_partner_id)
    WHERE t.disabled_at IS NULL AND (f.over_at IS NULL OR f.over_at > :'now'::timestamptz))
GROUP BY 1, 2, 3, 4, 5 ORDER BY 8 DESC, 1, 2;

-- name: count_events_waiting
-- Count the upcoming events that wait for the full read which repairs a write.
SELECT count(*) FROM event_cursors c JOIN future_events f USING (timing_partner_id, event_id)
JOIN timing_partners t USING (timing_partner_id)
WHERE t.disabled_at IS NULL AND (f.over_at IS NULL OR f.over_at > :'now'::timestamptz)
    AND c.last_full_at < (SELECT max(last_at) FROM foreign_writes);

-- name: count_rows_of_no_partner
-- Count the registrations of a race that their partner does not have.
SELECT coalesce(sum(p.rows), 0)::bigint
FROM (SELECT timing_partner_id, race_id, count(*) AS rows FROM runsignup_participants GROUP BY 1, 2) p
WHERE NOT EXISTS (SELECT FROM partner_races l
    WHERE l.timing_partner_id = p.timing_partner_id AND l.race_id = p.race_id);
