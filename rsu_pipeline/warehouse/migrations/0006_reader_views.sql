-- What people and programs may read that have no need of contact data. A view runs with its owner's rights, so that who reads
-- these needs none on the tables behind them; `rsu db roles` grants them.

CREATE VIEW reader_partners AS
SELECT p.timing_partner_id, p.company_name, p.partition_key, p.disabled_at
FROM timing_partners p;
COMMENT ON VIEW reader_partners IS 'Timing partners, without the password that other programs keep for them.';

CREATE VIEW reader_races AS
SELECT r.race_id, r.timing_partner_id, r.name, r.last_date, r.last_end_date, r.next_date, r.next_end_date, r.created,
    r.last_modified, r.is_draft_race, r.is_private_race, r.is_registration_open, r.url, r.external_race_url,
    r.external_results_url, r.logo_url, r.timezone, r.address, r.detail_as_of, r.fetched_date
FROM runsignup_races r;
COMMENT ON VIEW reader_races IS 'Races, without what RunSignup sent beside the columns.';

CREATE VIEW reader_events AS
SELECT e.event_id, e.race_id, e.timing_partner_id, e.race_event_days_id, e.name, e.giveaway, e.start_time, e.starts_at,
    e.end_time, e.ends_at, e.registration_opens, e.age_calc_base_date, e.event_type, e.distance, e.distance_text, e.volunteer,
    e.is_bundle, e.sub_event_ids, e.gone_at, e.fetched_date
FROM runsignup_events e;
COMMENT ON VIEW reader_events IS 'Events of all editions, without what RunSignup sent beside the columns.';

CREATE VIEW reader_participants AS
SELECT p.timing_partner_id, p.race_id, p.event_id, p.registration_id, p.first_name, p.last_name, p.gender, p.age,
    p.address ->> 'city' AS city, p.address ->> 'state' AS state, p.address ->> 'country_code' AS country_code,
    p.team_info ->> 'team_name' AS team, coalesce(p.bib_num, p.local_bib) AS bib, p.chip_num, p.registered_at,
    p.last_modified, p.removed_at, p.removed_reason, p.new_registration_id, p.first_seen_at, p.changed_at
FROM runsignup_participants p;
COMMENT ON VIEW reader_participants IS 'Registrations, active and removed, without e-mail, phone, street, birth date, payments and what RunSignup sent beside the columns.';
