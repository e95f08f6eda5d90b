-- A full read that brings what is held already: recognised by its seal, so that it need not be staged and compared again.

ALTER TABLE runsignup_participants ADD COLUMN seal bigint;
COMMENT ON COLUMN runsignup_participants.seal IS 'Digest of the row as RunSignup sent it, XOR the hash of the content made of it. A row sent with this digest while the content has this hash is held as sent. NULL: not known.';

-- That a partner has the race is looked at once a pass, not once a registration: a quarter of the time of a merge.
ALTER TABLE runsignup_participants DROP CONSTRAINT runsignup_participants_timing_partner_id_race_id_fkey;
ALTER TABLE read_passes ADD FOREIGN KEY (timing_partner_id, race_id) REFERENCES partner_races;
