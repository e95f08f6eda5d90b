-- What scoring reads is RunSignup's word: the bib of a team counts as its members', where they have none. `bib_num` keeps its
-- meaning for other programs, RunSignup's bib of this registration; the bib that counts is computed where it is read.

CREATE FUNCTION rsu_bib(bib_num text, team_info jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    -- The index on bibs refuses longer ones; bib_num is checked where it is staged.
    SELECT coalesce(bib_num, CASE WHEN octet_length(team_info ->> 'team_bib_num') <= 1000
        THEN nullif(btrim(team_info ->> 'team_bib_num', E' \t\r\n'), '') END)
$$;
COMMENT ON FUNCTION rsu_bib(text, jsonb) IS 'The bib that counts for a registration at RunSignup: its own, else its team''s.';

-- The bib log replays to the bib that counts. A registration without log came with its team's bib, as far as is known.
UPDATE runsignup_participants p SET first_bib = rsu_bib(NULL, p.team_info)
WHERE p.bib_num IS NULL AND p.first_bib IS NULL AND rsu_bib(NULL, p.team_info) IS NOT NULL
    AND NOT EXISTS (SELECT FROM runsignup_bib_changes b
        WHERE b.timing_partner_id = p.timing_partner_id AND b.registration_id = p.registration_id);
INSERT INTO runsignup_bib_changes (timing_partner_id, race_id, event_id, registration_id, kind, old_bib, new_bib,
    modified_epoch, first_seen_new)
SELECT p.timing_partner_id, p.race_id, p.event_id, p.registration_id, 'assigned', NULL, rsu_bib(NULL, p.team_info),
    p.last_modified_epoch, coalesce(p.source_at, now())
FROM runsignup_participants p
WHERE p.bib_num IS NULL AND rsu_bib(NULL, p.team_info) IS NOT NULL
    AND EXISTS (SELECT FROM runsignup_bib_changes b
        WHERE b.timing_partner_id = p.timing_partner_id AND b.registration_id = p.registration_id);

COMMENT ON TABLE runsignup_bib_changes IS 'One row: the bib that counts for a registration (its own, else its team''s) set, changed or cleared at RunSignup after its event''s first load. Append-only.';
COMMENT ON COLUMN runsignup_participants.bib_num IS 'Bib at RunSignup of this registration alone; digits. rsu_bib(bib_num, team_info) is the one that counts.';
COMMENT ON COLUMN runsignup_participants.first_bib IS 'Bib that counted (own, else the team''s) when the row came at its event''s first load; the bib log replays from here.';
COMMENT ON COLUMN runsignup_participants.payment_info IS 'Fees and amounts as numbers, as far as sent: null stays null, absent stays absent. An amount in another currency is text, as sent.';

CREATE OR REPLACE VIEW unified_participants AS
SELECT 'runsignup'::text AS source_provider, p.timing_partner_id, p.event_id::varchar AS event_id, p.first_name,
    p.last_name, p.email, p.gender, coalesce(rsu_bib(p.bib_num, p.team_info), p.local_bib) AS bib_number,
    p.address ->> 'city' AS city, p.address ->> 'state' AS state, p.age, p.registration_date, p.fetched_date
FROM runsignup_participants p
WHERE p.removed_at IS NULL;

CREATE OR REPLACE VIEW reader_participants AS
SELECT p.timing_partner_id, p.race_id, p.event_id, p.registration_id, p.first_name, p.last_name, p.gender, p.age,
    p.address ->> 'city' AS city, p.address ->> 'state' AS state, p.address ->> 'country_code' AS country_code,
    p.team_info ->> 'team_name' AS team, coalesce(rsu_bib(p.bib_num, p.team_info), p.local_bib) AS bib, p.chip_num,
    p.registered_at, p.last_modified, p.removed_at, p.removed_reason, p.new_registration_id, p.first_seen_at, p.changed_at
FROM runsignup_participants p;

ALTER TABLE start_lists ADD COLUMN age_day date;
COMMENT ON COLUMN start_lists.age_day IS 'Day on which ages count that RunSignup did not send: the event''s age_calc_base_date, else its race day.';
ALTER TABLE start_list_entries ADD COLUMN bib_source text CHECK (bib_source IN ('registration', 'team', 'bundle', 'local'));
COMMENT ON COLUMN start_list_entries.bib_source IS 'Where the bib is: registration; team: of the team at RunSignup; bundle: on the row of the bundle alone; local: given here. NULL for none.';
COMMENT ON COLUMN start_list_entries.bib IS 'Bib at RunSignup (the entrant''s, the team''s, else that of the bundle taken), else the one given here, without blanks around it; NULL for none.';
COMMENT ON COLUMN start_list_entries.age IS 'Age as RunSignup sent it; where it sent none, by the birth date on the event''s age_calc_base_date, else on race day. Born on 29 February: a year older on 1 March where there is no 29th.';

CREATE OR REPLACE VIEW start_list AS
SELECT s.timing_partner_id, r.name AS race, e.name AS event, e.start_time AS start, s.bib_number, s.bib,
    nullif(concat_ws(' ', s.first_name, s.last_name), '') AS name, s.first_name, s.last_name, s.age, s.gender, s.city,
    s.state, s.team, array_to_string(s.problems, ', ') AS problems, s.race_id, s.event_id, s.registration_id, s.bib_source
FROM start_list_entries s
JOIN runsignup_events e ON e.event_id = s.event_id
JOIN runsignup_races r ON r.race_id = s.race_id;
