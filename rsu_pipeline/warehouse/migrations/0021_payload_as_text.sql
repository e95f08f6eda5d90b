-- A registration's payload is kept as text that is known to be JSON, type json: parsing each into jsonb was a fifth of PostgreSQL's
-- time of a first load. The table and its indexes are written once more: 400,000 registrations took 9 s on two cores, and as much disk again
-- as the table has (0.7 GB) until the transaction ends. Meanwhile nobody reads the table.

DO $$
DECLARE
    reader text;
    definition text;
BEGIN
    SELECT min(r.ev_class::regclass::text) INTO reader
    FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE d.refobjid = 'runsignup_participants'::regclass AND a.attname IN ('payload', 'seal');
    IF reader IS NOT NULL THEN
        RAISE EXCEPTION 'view % reads runsignup_participants.payload, whose type becomes json: drop it, migrate, and make it again', reader;
    END IF;
    -- As for every load: see PREFER_LZ4 of staging.py.
    PERFORM set_config('default_toast_compression', 'lz4', true) FROM pg_settings
    WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals);
    -- A trigger that names a column stands in the way of its type. It is made again as it was.
    SELECT pg_get_triggerdef(oid) INTO STRICT definition FROM pg_trigger
    WHERE tgrelid = 'runsignup_participants'::regclass AND tgname = 'note_foreign_write';
    DROP TRIGGER note_foreign_write ON runsignup_participants;
    -- The seal is of the payload's hash too, so it moves along: what is stored is recognised at the next full read as before.
    ALTER TABLE runsignup_participants
        ALTER COLUMN payload TYPE json USING payload::json,
        ALTER COLUMN seal TYPE bigint USING
            seal # coalesce(jsonb_hash_extended(payload, 5), 5) # coalesce(hashtextextended(payload::text, 5), 5);
    EXECUTE definition;
END $$;
COMMENT ON COLUMN runsignup_participants.payload IS 'The registration as RunSignup sent it, members unknown to us included. Text: -> and ->> read it, payload::jsonb has the operators and functions of jsonb.';
