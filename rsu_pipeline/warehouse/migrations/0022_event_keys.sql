-- That an event exists is looked at once for each event of a pass, not for each registration: a key costs PostgreSQL 3 to 5 µs a
-- row. A full pass notes its events in pass_counts before its first page, and event_cursors has those that were read.

-- Rows of passes that are under way were not checked.
DELETE FROM pass_counts c WHERE NOT EXISTS (SELECT FROM runsignup_events e WHERE e.event_id = c.event_id);
ALTER TABLE pass_counts ADD FOREIGN KEY (event_id) REFERENCES runsignup_events;

-- In an adopted database it may have a name of its own.
DO $$
DECLARE
    key name;
BEGIN
    FOR key IN SELECT conname FROM pg_constraint
        WHERE conrelid = 'runsignup_participants'::regclass AND confrelid = 'runsignup_events'::regclass AND contype = 'f'
    LOOP
        EXECUTE format('ALTER TABLE runsignup_participants DROP CONSTRAINT %I', key);
    END LOOP;
END $$;
