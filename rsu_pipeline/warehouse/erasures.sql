-- Applying erasures and purges to what is read later. See sql_files.py for the form.

-- name: erase_entries
-- Blank the entries of erased persons in a partner's start lists.
-- As a rebuild makes them from blank registrations. A rebuild follows, because these have changed.
UPDATE start_list_entries t SET {BLANK_ENTRY}, changed_at = now()
WHERE t.timing_partner_id = :partner AND num_nonnulls({ENTRY}) > 0
    AND t.registration_id IN (SELECT p.registration_id FROM runsignup_participants p WHERE {IS_ERASED});

-- name: erase_quarantined
-- Blank quarantined rows of erased persons.
UPDATE quarantined_rows q SET row_text = NULL
WHERE q.row_text IS NOT NULL AND q.timing_partner_id = :partner
    AND q.registration_id IN (SELECT p.registration_id FROM runsignup_participants p WHERE {IS_ERASED});

-- name: is_anything_kept_out
-- Return whether anybody was erased or anything purged.
-- Where nobody was erased and nothing purged, the statements below would read through each page for nothing.
SELECT EXISTS (SELECT FROM erased_registrations) OR EXISTS (SELECT FROM erased_users) OR EXISTS (SELECT FROM contact_retention);

-- name: has_more_to_blank
-- Return whether a stored registration is to be blanked, or one arrived with another account of the person.
SELECT EXISTS (
    SELECT FROM erased_registrations x JOIN LATERAL (
        SELECT * FROM runsignup_participants h
        WHERE h.timing_partner_id = :partner AND h.registration_id = x.registration_id LIMIT 1) t ON true
    WHERE {IS_HERE} AND {IS_SAME_AS_STORED}
        AND num_nonnulls({BLANKED_COLUMNS}) > 0)
    OR EXISTS (
        SELECT FROM participants_stage s JOIN erased_registrations x USING (registration_id)
        JOIN erased_users u ON u.user_id = s.user_id WHERE {IS_HERE} AND s.user_id <> x.user_id);

-- name: note_merged_accounts
-- Record an account that RunSignup merged with an erased person's.
-- An account with which RunSignup sends a registration of an erased person is theirs too: two accounts were merged.
INSERT INTO erased_users (user_id, timing_partner_id, erased_at)
SELECT s.user_id, x.timing_partner_id, max(u.erased_at)
FROM participants_stage s JOIN erased_registrations x USING (registration_id)
JOIN erased_users u ON u.erased_user_id = x.erased_user_id
WHERE {IS_HERE} AND NOT x.via_transfer AND s.user_id <> u.user_id
GROUP BY 1, 2
ON CONFLICT DO NOTHING;

-- name: note_staged_of_accounts
-- Record the staged registrations of erased accounts.
INSERT INTO erased_registrations ({COLUMNS})
SELECT s.registration_id, u.timing_partner_id, u.erased_at, u.erased_user_id, u.user_id, false
FROM participants_stage s JOIN erased_users u ON u.user_id = s.user_id
WHERE coalesce(u.timing_partner_id, :partner) = :partner
    AND coalesce(s.registration_date AT TIME ZONE {EASTERN} <= u.erased_at, true)
ON CONFLICT DO NOTHING;

-- name: note_stored_of_accounts
-- Record the stored registrations of erased accounts.
INSERT INTO erased_registrations (registration_id, timing_partner_id, erased_at, erased_user_id, user_id, via_transfer)
SELECT p.registration_id, u.timing_partner_id, max(u.erased_at), max(u.erased_user_id), max(u.user_id), false
FROM erased_users u JOIN runsignup_participants p ON p.user_id = u.user_id
WHERE coalesce(u.timing_partner_id, p.timing_partner_id) = p.timing_partner_id
    AND coalesce(p.registration_date AT TIME ZONE {EASTERN} <= u.erased_at, true)
GROUP BY 1, 2
ON CONFLICT DO NOTHING;

-- name: note_account
-- Record the account with which an erased registration arrives.
-- So that the account's registrations are searched only once.
UPDATE erased_registrations x SET user_id = s.user_id FROM participants_stage s
WHERE x.registration_id = s.registration_id AND NOT x.via_transfer AND {IS_HERE} AND s.user_id <> x.user_id;

-- name: note_transfers
-- Record what erased registrations became by a transfer.
-- From what is staged and from what is stored: the transfers of a chain arrive in any order.
INSERT INTO erased_registrations ({COLUMNS})
SELECT r.new_registration_id, x.timing_partner_id, max(x.erased_at), max(x.erased_user_id),
    max(coalesce(r.user_id, x.user_id)), true
FROM erased_registrations x JOIN (
    SELECT s.registration_id, s.user_id, s.new_registration_id FROM participants_stage s
    UNION ALL
    SELECT p.registration_id, p.user_id, p.new_registration_id FROM erased_registrations e JOIN runsignup_participants p
        ON p.timing_partner_id = :partner AND p.registration_id = e.registration_id
) r USING (registration_id)
WHERE r.new_registration_id IS NOT NULL AND {IS_HERE} AND {IS_SAME_AS_EITHER}
GROUP BY 1, 2
ON CONFLICT DO NOTHING;

-- name: confirm_transfers
-- Confirm a transfer to the same person by what is staged.
-- Once the account shows that it is the person's, it stays so whatever account it is sent with later.
UPDATE erased_registrations x SET via_transfer = false FROM participants_stage s
WHERE x.registration_id = s.registration_id AND x.via_transfer AND {IS_HERE}
    AND s.user_id IS NOT NULL AND {IS_SAME_AS_STAGED};

-- name: confirm_stored_transfers
-- Confirm a transfer to the same person by what is stored.
UPDATE erased_registrations x SET via_transfer = false FROM runsignup_participants t
WHERE x.via_transfer AND {IS_HERE} AND t.timing_partner_id = :partner AND t.registration_id = x.registration_id
    AND t.user_id IS NOT NULL AND {IS_SAME_AS_STORED};

-- name: blank_staged_persons
-- Blank the staged registrations of erased persons.
UPDATE participants_stage s SET digest = NULL, {WITHOUT_PERSON} FROM erased_registrations x
WHERE x.registration_id = s.registration_id AND {IS_HERE} AND {IS_SAME_AS_STAGED};

-- name: blank_staged_contact
-- Blank the contact data of staged registrations of past events.
UPDATE participants_stage s SET digest = NULL, {WITHOUT_CONTACT}
-- Where nothing was ever purged that is all; else the few events of a page are looked up, not all of the hub's read.
WHERE (SELECT before FROM contact_retention) IS NOT NULL AND s.event_id = ANY (ARRAY(
    SELECT e.event_id FROM runsignup_events e
    WHERE e.event_id IN (SELECT event_id FROM participants_stage) AND {ENDED_BEFORE}));
