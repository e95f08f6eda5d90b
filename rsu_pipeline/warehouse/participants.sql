-- Merging a staged page of registrations, and finding what a pass did not show. See sql_files.py for the form.

-- name: find_held_as_sent
-- Find the registrations that are stored exactly as a full pass received them, and count them.
-- Its content is hashed again, so that a row altered here does not count as unchanged. A row with field errors has them noted.
-- A row of which another version is quarantined goes through the merge, which resolves that. A row of an erased person is blanked
-- there.
WITH same AS MATERIALIZED (
    SELECT s.registration_id, s.event_id, t.hash, t.seal <> s.digest # t.hash AS has_field_errors
    FROM unnest(:'registrations'::bigint[], :'events'::bigint[], :'digests'::bigint[]) AS s (registration_id, event_id, digest)
    CROSS JOIN LATERAL (
        SELECT h.event_id, h.race_id, h.removed_at, h.seal, {STORED_HASH} AS hash FROM runsignup_participants h
        WHERE h.timing_partner_id = :partner AND h.registration_id = s.registration_id LIMIT 1) t
    WHERE t.event_id = s.event_id AND t.race_id = :race AND t.removed_at IS NULL
        AND t.seal IN (s.digest # t.hash, s.digest # t.hash # {FIELD_ERRORS_MARK})
        AND (SELECT bool_and(q.is_stored) FROM quarantined_rows q WHERE q.timing_partner_id = :partner
            AND q.registration_id = s.registration_id AND q.resolved_at IS NULL)
            IS NOT DISTINCT FROM CASE WHEN t.seal <> s.digest # t.hash THEN true END
        AND NOT EXISTS (SELECT FROM erased_registrations x WHERE x.registration_id = s.registration_id)
),
counted AS ({COUNT_SAME}),
unmissed AS (
    DELETE FROM pass_registrations m USING same s
    WHERE m.timing_partner_id = :partner AND m.race_id = :race AND m.registration_id = s.registration_id
        AND m.mode <> 'incremental'
),
noted AS (
    UPDATE quarantined_rows q SET last_seen_at = now()
    -- As an array, which the index is searched by. A join was planned as a nested loop over all of both.
    WHERE q.timing_partner_id = :partner AND q.resolved_at IS NULL
        AND q.registration_id = ANY (ARRAY(SELECT s.registration_id FROM same s WHERE s.has_field_errors))
)
SELECT registration_id, has_field_errors FROM same;

-- name: merge_active
-- Merge the staged active registrations, log changed bibs, settle pushes of bibs that they show, and count what happened.
-- A row is written only if it is new, differs, or returns after a removal that is overruled. Finding each row by LATERAL uses
-- the index whatever the planner estimates for a table that was just filled. The wide columns are compared and written straight
-- from the staging table, never materialized. A row that differs only in its seal, or in how its payload is written, gets these
-- and nothing else.
WITH hashed AS MATERIALIZED (
    SELECT i.registration_id, i.event_id, {STAGED_HASH} AS hash, i.digest FROM participants_stage i
),
counted AS ({COUNT_HASHED}),
compared AS MATERIALIZED (
    SELECT i.registration_id, i.race_id, i.event_id, rsu_bib(i.bib_num, i.team_info) AS bib, i.last_modified_epoch,
        s.hash # s.digest AS seal, t.id AS held_id, rsu_bib(t.bib_num, t.team_info) AS held_bib, t.removed_at IS NOT NULL AS was_removed,
        t.id IS NOT NULL AND t.removed_at IS NULL AND NOT {DIFFERS} AND CASE WHEN {TEXT_DIFFERS}
            THEN i.payload::jsonb IS NOT DISTINCT FROM t.payload::jsonb ELSE true END AS is_same,
        CASE WHEN t.id IS NOT NULL AND {TEXT_DIFFERS} THEN i.payload END AS payload,
        {IS_STALE} AS is_stale,
        greatest(t.source_at, c.last_read_at) AS held_at, c.first_loaded_at IS NOT NULL AS is_loaded
    FROM participants_stage i
    JOIN hashed s USING (registration_id)
    LEFT JOIN LATERAL (
        SELECT * FROM runsignup_participants h
        WHERE h.timing_partner_id = :partner AND h.registration_id = i.registration_id LIMIT 1) t ON true
    LEFT JOIN event_cursors c ON c.timing_partner_id = :partner AND c.event_id = i.event_id
    WHERE t.id IS NULL OR t.removed_at IS NOT NULL OR {TEXT_DIFFERS} OR {DIFFERS}
        OR t.seal IS DISTINCT FROM s.hash # s.digest
),
sealed AS (
    UPDATE runsignup_participants t SET seal = v.seal, payload = coalesce(v.payload, t.payload)
    FROM compared v WHERE t.id = v.held_id AND v.is_same
),
written AS (
    INSERT INTO runsignup_participants ({COLUMNS}, {DERIVED}, timing_partner_id, first_bib, source_at, credentials_used, seal)
    SELECT {STAGED_COLUMNS}, {DERIVATION}, :partner, CASE WHEN NOT v.is_loaded THEN v.bib END,
        to_timestamp(:server_time), :'key', v.seal
    FROM compared v JOIN participants_stage i USING (registration_id)
    WHERE NOT v.is_stale AND NOT v.is_same
    ON CONFLICT (timing_partner_id, registration_id) DO UPDATE SET {CHANGES},
        registered_at = excluded.registered_at, last_modified = excluded.last_modified,
        removed_at = NULL, removed_reason = NULL, removed_epoch = NULL, new_registration_id = NULL,
        changed_at = now(), fetched_date = now(), source_at = excluded.source_at,
        credentials_used = excluded.credentials_used, seal = excluded.seal
    RETURNING registration_id, race_id, event_id
),
logged AS (
    INSERT INTO runsignup_bib_changes (timing_partner_id, race_id, event_id, registration_id, kind, old_bib, new_bib,
        modified_epoch, last_seen_old, first_seen_new, run_id, source)
    SELECT :partner, v.race_id, v.event_id, v.registration_id,
        CASE WHEN v.held_bib IS NULL THEN 'assigned' WHEN v.bib IS NULL THEN 'cleared' ELSE 'changed' END,
        v.held_bib, v.bib, v.last_modified_epoch, v.held_at, to_timestamp(:server_time), :'run',
        CASE WHEN EXISTS (SELECT FROM bib_pushes u WHERE u.timing_partner_id = :partner
            AND u.registration_id = v.registration_id AND u.bib = v.bib AND u.outcome IS NULL) THEN 'hub' ELSE 'runsignup' END
    FROM compared v JOIN written USING (registration_id)
    WHERE v.held_bib IS DISTINCT FROM v.bib AND (v.held_id IS NOT NULL OR v.is_loaded)
    RETURNING bib_change_id, registration_id, new_bib
),
settled AS (
    UPDATE bib_pushes u SET settled_at = clock_timestamp(), bib_change_id = l.bib_change_id,
        outcome = CASE WHEN u.bib = l.new_bib THEN 'confirmed' ELSE 'overtaken' END
    FROM logged l
    WHERE u.timing_partner_id = :partner AND u.registration_id = l.registration_id AND u.outcome IS NULL
),
unmissed AS (
    DELETE FROM pass_registrations m USING participants_stage i
    WHERE m.timing_partner_id = :partner AND m.race_id = i.race_id
        AND m.registration_id = i.registration_id AND m.mode <> 'incremental'
),
resolved AS (
    UPDATE quarantined_rows q SET resolved_at = now() FROM participants_stage i
    WHERE q.timing_partner_id = :partner AND q.registration_id = i.registration_id AND q.resolved_at IS NULL
)
SELECT staged.n, new.n, changed.n, staged.n - new.n - changed.n - back.n - stale.n, back.n, 0, stale.n,
    (SELECT count(*) FROM logged)::int,{NOTIFY_WRITTEN}
FROM (SELECT count(*)::int AS n FROM participants_stage) staged,
    (SELECT count(*)::int AS n FROM compared WHERE held_id IS NULL) new,
    (SELECT count(*)::int AS n FROM compared WHERE held_id IS NOT NULL AND NOT was_removed AND NOT is_same) changed,
    (SELECT count(*)::int AS n FROM compared WHERE was_removed AND NOT is_stale) back,
    (SELECT count(*)::int AS n FROM compared WHERE is_stale) stale;

-- name: insert_new
-- Insert the staged registrations that are not stored, of events that were never loaded.
WITH written AS (
    INSERT INTO runsignup_participants ({COLUMNS}, {DERIVED}, timing_partner_id, first_bib, source_at, credentials_used, seal)
    SELECT {STAGED_COLUMNS}, {DERIVATION}, :partner, rsu_bib(i.bib_num, i.team_info), to_timestamp(:server_time), :'key',
        {STAGED_HASH} # i.digest
    FROM participants_stage i WHERE i.digest IS NOT NULL
    ON CONFLICT (timing_partner_id, registration_id) DO NOTHING
    RETURNING registration_id, race_id, event_id, seal
),
counted AS ({COUNT_WRITTEN}),
resolved AS (
    UPDATE quarantined_rows q SET resolved_at = now() FROM written w
    WHERE q.timing_partner_id = :partner AND q.registration_id = w.registration_id AND q.resolved_at IS NULL
)
SELECT (SELECT count(*) FROM participants_stage), ARRAY(SELECT registration_id FROM written),{NOTIFY_WRITTEN};

-- name: merge_removed
-- Mark the staged removed registrations, and insert those that were never stored.
WITH compared AS MATERIALIZED (
    SELECT i.*, t.id AS held_id, t.removed_at IS NULL AS was_active
    FROM participants_stage i
    LEFT JOIN read_passes p ON p.timing_partner_id = :partner AND p.race_id = :race AND p.mode = :'mode'
    LEFT JOIN LATERAL (
        SELECT * FROM runsignup_participants h
        WHERE h.timing_partner_id = :partner AND h.registration_id = i.registration_id LIMIT 1) t ON true
    LEFT JOIN pass_registrations s ON s.timing_partner_id = :partner AND s.race_id = :race AND s.mode = :'mode'
        AND s.registration_id = i.registration_id
    WHERE t.id IS NULL
        OR (t.removed_at IS NULL AND (
            (:full AND s.missing)
            OR (i.removed_epoch > coalesce(t.last_modified_epoch, 0)
                AND NOT (:full AND {WAS_SEEN} AND i.removed_epoch < p.first_page_at - :overlap))
            OR (coalesce(i.removed_epoch >= coalesce(t.last_modified_epoch, 0), true)
                AND NOT ({WAS_SEEN} AND (NOT :full OR coalesce(i.removed_epoch < p.first_page_at, true))))))
        OR (t.removed_at IS NOT NULL AND coalesce(i.removed_epoch >= t.removed_epoch, true)
            AND (i.removed_reason, i.removed_epoch, i.new_registration_id)
                IS DISTINCT FROM (t.removed_reason, t.removed_epoch, t.new_registration_id))
),
marked AS (
    UPDATE runsignup_participants t
    SET removed_at = coalesce(to_timestamp(i.removed_epoch), to_timestamp(:server_time)),
        removed_reason = i.removed_reason, removed_epoch = i.removed_epoch, new_registration_id = i.new_registration_id,
        changed_at = now(), fetched_date = now(), source_at = to_timestamp(:server_time)
    FROM compared i
    WHERE t.id = i.held_id
    RETURNING i.was_active
),
superseded AS ({COUNT_SUPERSEDED}),
inserted AS (
    INSERT INTO runsignup_participants ({COLUMNS}, {DERIVED}, timing_partner_id, first_bib, source_at, credentials_used,
        removed_at, removed_reason, removed_epoch, new_registration_id)
    SELECT {STAGED_COLUMNS}, {DERIVATION}, :partner, rsu_bib(i.bib_num, i.team_info), to_timestamp(:server_time), :'key',
        coalesce(to_timestamp(i.removed_epoch), to_timestamp(:server_time)), i.removed_reason, i.removed_epoch,
        i.new_registration_id
    FROM compared i WHERE i.held_id IS NULL
    ON CONFLICT (timing_partner_id, registration_id) DO NOTHING
    RETURNING race_id, event_id
)
SELECT 0, 0, 0, 0, 0, (SELECT count(*) FROM marked WHERE was_active)::int, 0, 0,{NOTIFY_INSERTED};

-- name: note_missing
-- Note which active registrations of a page's id range the page did not have.
INSERT INTO pass_registrations (timing_partner_id, race_id, mode, registration_id, event_id, missing)
SELECT :partner, :race, :'mode', t.registration_id, e.id, :certain
-- Event by event, so that a planner without statistics does not read through the table: for ten events at once it expects a
-- twentieth of all rows. `+ 0`, so that it does not take the index on the partner's registrations, which reads through those
-- of all its races.
FROM unnest(:'events'::bigint[]) AS e (id) CROSS JOIN LATERAL (
    SELECT h.registration_id FROM runsignup_participants h
    WHERE h.timing_partner_id + 0 = :partner AND h.event_id = e.id AND h.removed_at IS NULL
        AND h.registration_id > :after AND (:upto IS NULL OR h.registration_id <= :upto)
) t
-- NOT IN over a subquery is hashed by every server; an anti-join here was planned as a nested loop.
WHERE t.registration_id NOT IN (SELECT unnest(:'seen'::bigint[]))
ON CONFLICT DO NOTHING;

-- name: find_missing
-- Count per event the active registrations that a full pass did not see, and all that are stored.
SELECT m.event_id, count(*)::int, (
    SELECT count(*) FROM runsignup_participants h
    WHERE h.timing_partner_id = :partner AND h.event_id = m.event_id AND h.removed_at IS NULL)::int
FROM pass_registrations m
JOIN runsignup_participants t USING (timing_partner_id, registration_id)
WHERE m.timing_partner_id = :partner AND m.race_id = :race AND m.mode = :'mode' AND m.missing
    AND t.removed_at IS NULL AND t.event_id = m.event_id
GROUP BY m.event_id;

-- name: has_unexplained
-- Return whether a registration of these events went missing without a reason.
SELECT EXISTS (
    SELECT FROM unnest(:'events'::bigint[]) AS e (id) CROSS JOIN LATERAL (
        SELECT FROM runsignup_participants t
        -- Event by event, and `+ 0`, as in note_missing.
        WHERE t.timing_partner_id + 0 = :partner AND t.event_id = e.id
            AND t.removed_reason = 'missing_upstream' AND t.removed_at >= to_timestamp(:since)
            AND (:upto::bigint IS NULL OR t.removed_at <= to_timestamp(:upto)) LIMIT 1) found);

-- name: has_removed
-- Return whether a registration of these events is stored as removed.
SELECT EXISTS (
    SELECT FROM unnest(:'events'::bigint[]) AS e (id) CROSS JOIN LATERAL (
        SELECT FROM runsignup_participants t
        -- Event by event, and `+ 0`, as in note_missing.
        WHERE t.timing_partner_id + 0 = :partner AND t.event_id = e.id AND t.removed_at IS NOT NULL LIMIT 1) found);

-- name: remove_missing
-- Mark what a complete full pass did not see.
UPDATE runsignup_participants t
SET removed_at = to_timestamp(:server_time), removed_reason = 'missing_upstream', removed_epoch = NULL,
    new_registration_id = NULL, changed_at = now(), fetched_date = now(), source_at = to_timestamp(:server_time)
FROM pass_registrations m
WHERE m.timing_partner_id = :partner AND m.race_id = :race AND m.mode = :'mode' AND m.missing
    AND m.event_id = ANY (:'events'::bigint[])
    AND t.timing_partner_id = m.timing_partner_id AND t.registration_id = m.registration_id
    AND t.event_id = m.event_id AND t.removed_at IS NULL;

-- name: is_any_above
-- Return whether one of these events has an active registration with a higher id.
SELECT EXISTS (
    SELECT FROM unnest(:'events'::bigint[]) AS e (id) CROSS JOIN LATERAL (
        SELECT FROM runsignup_participants t
        -- Event by event, and `+ 0`, as in note_missing.
        WHERE t.timing_partner_id + 0 = :partner AND t.event_id = e.id AND t.removed_at IS NULL
            AND t.registration_id > :registration LIMIT 1) found);
