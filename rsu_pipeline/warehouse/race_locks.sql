-- Locks of races and listings. See sql_files.py for the form.

-- name: find_reader
-- Find the session that has the lock of a race or a listing, with the progress of its passes.
SELECT a.application_name, a.backend_start, a.pid, (
    SELECT array_agg(concat_ws(' ', p.mode, p.feed, p.pages, p.after_registration_id) ORDER BY p.mode) FROM read_passes p
    WHERE p.timing_partner_id = :partner AND p.race_id = :race
), (
    SELECT max(r.detail_read_at) FROM partner_races l JOIN runsignup_races r USING (race_id)
    WHERE l.timing_partner_id = :partner AND :race = 0
)
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.classid::bigint = :high AND l.objid::bigint = :low AND l.objsubid = 1
    -- Other hubs on the same server lock races of the same numbers.
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database());
