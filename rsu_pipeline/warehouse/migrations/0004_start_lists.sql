-- Start lists: who starts where with which bib, and what is wrong with it. Made from the registrations by
-- rsu_pipeline/warehouse/start_lists.py, which says how each problem is found.

CREATE TABLE start_lists (
    timing_partner_id integer NOT NULL REFERENCES timing_partners,
    event_id bigint NOT NULL REFERENCES runsignup_events,
    race_id bigint NOT NULL,
    race_day date,
    entrants integer NOT NULL,
    with_bib integer NOT NULL,
    without_bib integer NOT NULL,
    duplicate_bibs integer NOT NULL,
    bibs_in_other_events integer NOT NULL,
    out_of_range integer NOT NULL,
    in_two_events integer NOT NULL,
    lowest_bib bigint,
    highest_bib bigint,
    registrations_changed_at timestamptz,
    built_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (timing_partner_id, event_id)
);
CREATE INDEX start_lists_event_id ON start_lists (event_id);
COMMENT ON TABLE start_lists IS 'One row: an event ahead, or over for less than two days, and its start list in figures. Volunteers'' events have none.';
COMMENT ON COLUMN start_lists.timing_partner_id IS 'The partner.';
COMMENT ON COLUMN start_lists.event_id IS 'The event.';
COMMENT ON COLUMN start_lists.race_id IS 'Its race.';
COMMENT ON COLUMN start_lists.race_day IS 'Day of the start by the race''s own calendar; NULL for an undated event.';
COMMENT ON COLUMN start_lists.entrants IS 'Entrants: active registrations of the event.';
COMMENT ON COLUMN start_lists.with_bib IS 'Entrants with a bib.';
COMMENT ON COLUMN start_lists.without_bib IS 'Entrants without one.';
COMMENT ON COLUMN start_lists.duplicate_bibs IS 'Entrants whose bib another entrant of the event has too.';
COMMENT ON COLUMN start_lists.bibs_in_other_events IS 'Entrants whose bib another person has in another event of the race on the same day.';
COMMENT ON COLUMN start_lists.out_of_range IS 'Entrants whose bib is far from the event''s others.';
COMMENT ON COLUMN start_lists.in_two_events IS 'Entrants who are in another event of the edition too, not by way of a bundle.';
COMMENT ON COLUMN start_lists.lowest_bib IS 'Lowest bib that is a number.';
COMMENT ON COLUMN start_lists.highest_bib IS 'Highest bib that is a number.';
COMMENT ON COLUMN start_lists.registrations_changed_at IS 'Newest change among the event''s registrations, removed ones too, when the list was built: a newer one makes it out of date.';
COMMENT ON COLUMN start_lists.built_at IS 'When the list last came out different.';

CREATE TABLE start_list_entries (
    timing_partner_id integer NOT NULL,
    registration_id bigint NOT NULL,
    event_id bigint NOT NULL,
    race_id bigint NOT NULL,
    bib text,
    bib_number bigint,
    first_name text,
    last_name text,
    age integer,
    gender text,
    city text,
    state text,
    team text,
    problems text[] NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (timing_partner_id, registration_id),
    FOREIGN KEY (timing_partner_id, event_id) REFERENCES start_lists
);
CREATE INDEX start_list_entries_of_event ON start_list_entries (event_id, timing_partner_id, bib_number, bib);
CREATE INDEX start_list_entries_bib ON start_list_entries (bib);
COMMENT ON TABLE start_list_entries IS 'One row: an entrant of an event that has a start list.';
COMMENT ON COLUMN start_list_entries.timing_partner_id IS 'The partner.';
COMMENT ON COLUMN start_list_entries.registration_id IS 'RunSignup''s number of the registration.';
COMMENT ON COLUMN start_list_entries.event_id IS 'The event.';
COMMENT ON COLUMN start_list_entries.race_id IS 'Its race.';
COMMENT ON COLUMN start_list_entries.bib IS 'Bib at RunSignup, else the one given here, without blanks around it; NULL for none.';
COMMENT ON COLUMN start_list_entries.bib_number IS 'The bib where it is a number, to order by; NULL else.';
COMMENT ON COLUMN start_list_entries.first_name IS 'First name.';
COMMENT ON COLUMN start_list_entries.last_name IS 'Last name.';
COMMENT ON COLUMN start_list_entries.age IS 'Age on race day by the birth date; the age RunSignup sent where that cannot be told. Born on 29 February: a year older on 1 March where there is no 29th.';
COMMENT ON COLUMN start_list_entries.gender IS 'M, F, X or NULL.';
COMMENT ON COLUMN start_list_entries.city IS 'Town.';
COMMENT ON COLUMN start_list_entries.state IS 'State.';
COMMENT ON COLUMN start_list_entries.team IS 'Name of the team; NULL for none.';
COMMENT ON COLUMN start_list_entries.problems IS 'no_bib, duplicate_bib, bib_in_other_event, out_of_range, in_two_events; empty when all is well.';
COMMENT ON COLUMN start_list_entries.changed_at IS 'When the row last came out different.';

CREATE VIEW start_list AS
SELECT s.timing_partner_id, r.name AS race, e.name AS event, e.start_time AS start, s.bib_number, s.bib,
    nullif(concat_ws(' ', s.first_name, s.last_name), '') AS name, s.first_name, s.last_name, s.age, s.gender, s.city,
    s.state, s.team, array_to_string(s.problems, ', ') AS problems, s.race_id, s.event_id, s.registration_id
FROM start_list_entries s
JOIN runsignup_events e ON e.event_id = s.event_id
JOIN runsignup_races r ON r.race_id = s.race_id;
COMMENT ON VIEW start_list IS 'Start lists for scoring, one row an entrant: start is wall time in the race''s zone, bib_number orders, bib is the text. Where two partners share a race, choose one.';
