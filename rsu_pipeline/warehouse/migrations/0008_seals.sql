-- A full read that brings what is held already: recognised by its seal, so that it need not be staged and compared again.

ALTER TABLE runsignup_participants ADD COLUMN seal bigint;
COMMENT ON COLUMN runsignup_participants.seal IS 'Digest of the row as RunSignup sent it, XOR the hash of the content made of it. A row sent with this digest while the content has this hash is held as sent. NULL: not known.';

-- That a partner has the race is looked at once a pass, not once a registration: an eighth of PostgreSQL's time of a load.
-- In an adopted database it may have a name of its own.
DO $$
DECLARE
    key name;
BEGIN
    FOR key IN SELECT conname FROM pg_constraint
        WHERE conrelid = 'runsignup_participants'::regclass AND confrelid = 'partner_races'::regclass AND contype = 'f'
    LOOP
        EXECUTE format('ALTER TABLE runsignup_participants DROP CONSTRAINT %I', key);
    END LOOP;
END $$;
ALTER TABLE read_passes ADD FOREIGN KEY (timing_partner_id, race_id) REFERENCES partner_races;
