-- Answers to questions are kept as text that is known to be JSON, type json, as the payload is: parsing them into jsonb and hashing
-- that took a tenth of the time of a first load with five answers each. Only rows with answers are written: 100,000 took 9 s on two
-- busy cores, and one and a half times the disk more until a vacuum. Meanwhile nobody reads the table. Without answers this takes no time.

DO $$
DECLARE
    reader text;
    definition text;
BEGIN
    SELECT min(r.ev_class::regclass::text) INTO reader
    FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE d.refobjid = 'runsignup_participants'::regclass AND a.attname = 'answers'
        AND r.ev_class <> 'participant_answers'::regclass;
    IF reader IS NOT NULL THEN
        RAISE EXCEPTION 'view % reads runsignup_participants.answers, whose type becomes json: drop it, migrate, and make it again', reader;
    END IF;
    -- As for every load: see PREFER_LZ4 of staging.py.
    PERFORM set_config('default_toast_compression', 'lz4', true) FROM pg_settings
    WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals);
    -- A trigger that names a column stands in the way of dropping it. It is made again as it was.
    SELECT pg_get_triggerdef(oid) INTO STRICT definition FROM pg_trigger
    WHERE tgrelid = 'runsignup_participants'::regclass AND tgname = 'note_foreign_write';
    DROP TRIGGER note_foreign_write ON runsignup_participants;
    ALTER TABLE runsignup_participants ADD COLUMN text_answers json;
    -- The text is the one that is staged, and the seal is of its hash too, so that what is stored is recognised at the next full read.
    UPDATE runsignup_participants p SET text_answers = a.text::json,
        seal = p.seal # jsonb_hash_extended(p.answers, 6) # hashtextextended(a.text, 6)
    FROM (
        SELECT q.id, coalesce((
            SELECT string_agg(format('{"question_id":%s,"question":%s,"answer":%s}', e.answer -> 'question_id',
                e.answer -> 'question', e.answer -> 'answer'), ',' ORDER BY e.place)
            FROM jsonb_array_elements(q.answers) WITH ORDINALITY AS e (answer, place)), '') AS members
        FROM runsignup_participants q WHERE q.answers IS NOT NULL
    ) s CROSS JOIN LATERAL (SELECT '[' || s.members || ']' AS text) a
    WHERE p.id = s.id;
    CREATE OR REPLACE VIEW participant_answers AS
    SELECT p.timing_partner_id, p.race_id, p.event_id, p.registration_id, a.position::integer AS position, a.question_id, a.question,
        a.answer, p.removed_at
    FROM runsignup_participants p CROSS JOIN LATERAL ROWS FROM (
        json_to_recordset(p.text_answers) AS (question_id bigint, question text, answer text)
    ) WITH ORDINALITY AS a (question_id, question, answer, position);
    ALTER TABLE runsignup_participants DROP COLUMN answers;
    ALTER TABLE runsignup_participants RENAME COLUMN text_answers TO answers;
    EXECUTE definition;
END $$;
COMMENT ON COLUMN runsignup_participants.answers IS 'Questions and answers, read through participant_answers; NULL unless requested with questions. Text: -> and ->> read it, answers::jsonb has the operators and functions of jsonb.';
