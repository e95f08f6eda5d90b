-- An erasure follows a person through transfers and merged accounts.

ALTER TABLE erased_registrations ADD COLUMN erased_user_id bigint REFERENCES erased_users,
    ADD COLUMN user_id bigint, ADD COLUMN via_transfer boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN erased_registrations.erased_user_id IS 'The erased account that it belongs to; NULL where it was erased alone.';
COMMENT ON COLUMN erased_registrations.user_id IS 'RunSignup''s number of the account that it had: what is needed to tell the person from another who took over the place.';
COMMENT ON COLUMN erased_registrations.via_transfer IS 'true: an erased registration became this one by a transfer, and it is not known yet whether for the same person.';

-- Noted in one transaction with their account.
UPDATE erased_registrations x SET erased_user_id = u.erased_user_id, user_id = u.user_id
FROM erased_users u
WHERE u.erased_at = x.erased_at AND u.timing_partner_id IS NOT DISTINCT FROM x.timing_partner_id;
