-- Blanking of personal data on request. See sql_files.py for the form.

-- name: find_events_to_purge
-- Find the race's events with a registration that still has something to blank.
SELECT o.event_id FROM runsignup_events o
WHERE o.race_id = :race
    AND EXISTS (SELECT FROM runsignup_participants t WHERE t.event_id = o.event_id AND {IS_TO_PURGE})
ORDER BY 1;

-- name: purge_quarantined
-- Blank quarantined rows of past events.
-- Its trigger blanks a row of a past event. Others are blanked by the time they were last seen.
UPDATE quarantined_rows q SET row_text = NULL
WHERE q.row_text IS NOT NULL AND (q.last_seen_at < :before::date OR EXISTS (
    SELECT FROM runsignup_participants t JOIN runsignup_events e USING (event_id)
    WHERE t.timing_partner_id = q.timing_partner_id AND t.registration_id = q.registration_id
        AND (t.removed_at < :before::date OR {ENDED_BEFORE})));

-- name: erase_quarantined
-- Blank quarantined rows of an erased person.
UPDATE quarantined_rows q SET row_text = NULL
WHERE q.row_text IS NOT NULL AND coalesce(:partner, q.timing_partner_id) = q.timing_partner_id
    AND (q.registration_id IN (SELECT registration_id FROM erased_registrations)
        OR substring(q.row_text FROM '"registration_id"\s*:\s*"?([0-9]{1,18})')::bigint = :registration
        OR substring(q.row_text FROM '"user_id"\s*:\s*"?([0-9]{1,18})')::bigint = :user);

-- name: purge_adopted
-- Blank registrations that were moved aside when the database was adopted.
UPDATE adopted_rows a SET "row" = {ADOPTED_BARE}
WHERE a.table_name = 'runsignup_participants' AND a.moved_at < :before::date AND a."row" <> {ADOPTED_BARE};

-- name: erase_adopted
-- Blank such registrations of an erased person.
UPDATE adopted_rows a SET "row" = {ADOPTED_BARE}
WHERE a.table_name = 'runsignup_participants' AND a."row" <> {ADOPTED_BARE}
    AND coalesce(:partner::text, a."row" ->> 'timing_partner_id') IS NOT DISTINCT FROM a."row" ->> 'timing_partner_id'
    AND (a."row" ->> 'registration_id' = :registration::text OR a."row" ->> 'user_id' = :user::text);

-- name: note_user
-- Record that an account is erased.
INSERT INTO erased_users (user_id, timing_partner_id)
SELECT :user, :partner WHERE :user IS NOT NULL ON CONFLICT (user_id, coalesce(timing_partner_id, 0))
DO UPDATE SET erased_at = now();

-- name: note_registrations
-- Record which registrations are the erased person's.
-- The person's registrations, and those they were before a transfer and became by one. A registration of another account
-- belongs to another person, to whom the entry was transferred.
WITH RECURSIVE theirs AS (
    SELECT p.registration_id, p.user_id, p.new_registration_id FROM runsignup_participants p
    WHERE (p.registration_id = :registration OR p.user_id = :user)
        AND coalesce(:partner, p.timing_partner_id) = p.timing_partner_id
    UNION
    SELECT p.registration_id, coalesce(p.user_id, t.user_id), p.new_registration_id
    FROM theirs t JOIN runsignup_participants p
        ON p.registration_id = t.new_registration_id OR p.new_registration_id = t.registration_id
    WHERE coalesce(:partner, p.timing_partner_id) = p.timing_partner_id
        AND (p.user_id IS NULL OR p.user_id = t.user_id)
),
noted AS (
    SELECT :registration::bigint AS registration_id, NULL::bigint AS user_id, false AS via_transfer
    UNION ALL
    SELECT registration_id, user_id, false FROM theirs
    UNION ALL
    -- What it became is not stored yet, or is another person's: that is told when it is staged.
    SELECT new_registration_id, user_id, true FROM theirs
)
INSERT INTO erased_registrations AS x (registration_id, timing_partner_id, erased_user_id, user_id, via_transfer)
SELECT registration_id, :partner::integer, (
    SELECT u.erased_user_id FROM erased_users u
    WHERE u.user_id = :user AND u.timing_partner_id IS NOT DISTINCT FROM :partner), max(user_id), bool_and(via_transfer)
FROM noted WHERE registration_id IS NOT NULL GROUP BY registration_id
ON CONFLICT (registration_id, coalesce(timing_partner_id, 0)) DO UPDATE
SET via_transfer = x.via_transfer AND excluded.via_transfer, user_id = coalesce(x.user_id, excluded.user_id),
    erased_user_id = coalesce(x.erased_user_id, excluded.erased_user_id);

-- name: find_partners_of_erased
-- Find every partner with a recorded registration.
-- Every partner with a recorded registration, so that one that was busy the last time is included.
SELECT DISTINCT p.timing_partner_id FROM runsignup_participants p JOIN erased_registrations x USING (registration_id)
WHERE coalesce(x.timing_partner_id, p.timing_partner_id) = p.timing_partner_id
    AND coalesce(:partner, p.timing_partner_id) = p.timing_partner_id
ORDER BY 1;

-- name: find_races_to_erase
-- Find all races of the partner in which a page with a new registration of the person may be in flight.
SELECT race_id FROM partner_races WHERE timing_partner_id = :partner
UNION SELECT p.race_id FROM runsignup_participants p JOIN erased_registrations x USING (registration_id)
WHERE p.timing_partner_id = :partner
ORDER BY 1;
