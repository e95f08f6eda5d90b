-- What analysts read: one wide row for each registration, without joins and without contact data.

CREATE VIEW partner_entrants AS
SELECT p.timing_partner_id, t.company_name AS partner, p.race_id, r.name AS race, p.event_id, e.name AS event, e.event_type,
    e.distance_text AS distance, e.starts_at, e.start_time AS start_local, r.timezone, p.registration_id, p.user_id,
    coalesce(b.own, b.team, b.bundle, b.local) AS bib,
    CASE WHEN b.own IS NOT NULL THEN 'registration' WHEN b.team IS NOT NULL THEN 'team' WHEN b.bundle IS NOT NULL THEN 'bundle'
        WHEN b.local IS NOT NULL THEN 'local' END AS bib_source,
    p.chip_num AS chip, nullif(concat_ws(' ', p.first_name, p.last_name), '') AS name, p.first_name, p.last_name,
    coalesce(p.age, CASE WHEN p.dob <= d.age_day
        THEN (to_char(d.age_day, 'YYYYMMDD')::integer - to_char(p.dob, 'YYYYMMDD')::integer) / 10000 END) AS age,
    p.gender, p.address ->> 'city' AS city, p.address ->> 'state' AS state, p.address ->> 'country_code' AS country,
    p.team_info ->> 'team_name' AS team, p.team_info ->> 'team_type' AS team_type, p.corral, p.wave, p.estimated_finish,
    p.checked_in_at,
    p.registered_at, p.registration_date AS registered_local,
    m.race_fee, m.extra_fees, m.processing_fee, m.processing_fee_paid_by_user, m.processing_fee_paid_by_race, m.partner_fee,
    m.affiliate_profit, m.offline_payment_amount, m.amount_paid,
    coalesce(jsonb_path_exists(p.payment_info, '$.* ? (@.type() == "string")'), false) AS has_other_currency,
    CASE WHEN p.removed_at IS NULL THEN 'active' ELSE 'removed' END AS status, p.removed_reason, p.removed_at,
    p.new_registration_id, to_timestamp(p.last_modified_epoch) AS modified_at, p.first_seen_at, p.changed_at
FROM runsignup_participants p
JOIN timing_partners t ON t.timing_partner_id = p.timing_partner_id
JOIN runsignup_races r ON r.race_id = p.race_id
JOIN runsignup_events e ON e.event_id = p.event_id
LEFT JOIN start_list_entries s ON s.timing_partner_id = p.timing_partner_id AND s.registration_id = p.registration_id
    AND s.bib_source = 'bundle'
CROSS JOIN LATERAL (SELECT coalesce(e.age_calc_base_date, e.start_time::date) AS age_day) d
CROSS JOIN LATERAL (SELECT nullif(btrim(p.bib_num, E' \t\r\n'), '') AS own, rsu_bib(NULL, p.team_info) AS team, s.bib AS bundle,
    nullif(btrim(p.local_bib, E' \t\r\n'), '') AS local) b
-- Amounts in another currency are text. As numbers they would be added to dollars.
CROSS JOIN LATERAL (SELECT
    CASE WHEN jsonb_typeof(p.payment_info -> 'race_fee') = 'number' THEN (p.payment_info ->> 'race_fee')::numeric END AS race_fee,
    CASE WHEN jsonb_typeof(p.payment_info -> 'extra_fees') = 'number' THEN (p.payment_info ->> 'extra_fees')::numeric END
        AS extra_fees,
    CASE WHEN jsonb_typeof(p.payment_info -> 'processing_fee') = 'number'
        THEN (p.payment_info ->> 'processing_fee')::numeric END AS processing_fee,
    CASE WHEN jsonb_typeof(p.payment_info -> 'processing_fee_paid_by_user') = 'number'
        THEN (p.payment_info ->> 'processing_fee_paid_by_user')::numeric END AS processing_fee_paid_by_user,
    CASE WHEN jsonb_typeof(p.payment_info -> 'processing_fee_paid_by_race') = 'number'
        THEN (p.payment_info ->> 'processing_fee_paid_by_race')::numeric END AS processing_fee_paid_by_race,
    CASE WHEN jsonb_typeof(p.payment_info -> 'partner_fee') = 'number'
        THEN (p.payment_info ->> 'partner_fee')::numeric END AS partner_fee,
    CASE WHEN jsonb_typeof(p.payment_info -> 'affiliate_profit') = 'number'
        THEN (p.payment_info ->> 'affiliate_profit')::numeric END AS affiliate_profit,
    CASE WHEN jsonb_typeof(p.payment_info -> 'offline_payment_amount') = 'number'
        THEN (p.payment_info ->> 'offline_payment_amount')::numeric END AS offline_payment_amount,
    CASE WHEN jsonb_typeof(p.payment_info -> 'amount_paid') = 'number'
        THEN (p.payment_info ->> 'amount_paid')::numeric END AS amount_paid) m;
COMMENT ON VIEW partner_entrants IS 'One row: a registration, active or removed, as one partner''s credential sees it, with race, event and partner, without contact data. A race of two partners is there twice.';
COMMENT ON COLUMN partner_entrants.timing_partner_id IS 'The partner whose credential read it.';
COMMENT ON COLUMN partner_entrants.partner IS 'Name of the partner.';
COMMENT ON COLUMN partner_entrants.race_id IS 'RunSignup''s number of the race.';
COMMENT ON COLUMN partner_entrants.race IS 'Name of the race.';
COMMENT ON COLUMN partner_entrants.event_id IS 'RunSignup''s number of the event.';
COMMENT ON COLUMN partner_entrants.event IS 'Name of the event.';
COMMENT ON COLUMN partner_entrants.event_type IS 'RunSignup''s word for the kind of event; an open set.';
COMMENT ON COLUMN partner_entrants.distance IS 'Distance with its unit, as RunSignup has it.';
COMMENT ON COLUMN partner_entrants.starts_at IS 'Start of the event, as an instant. NULL if unknown.';
COMMENT ON COLUMN partner_entrants.start_local IS 'Start of the event, wall time in the race''s zone.';
COMMENT ON COLUMN partner_entrants.timezone IS 'IANA zone of the race.';
COMMENT ON COLUMN partner_entrants.registration_id IS 'RunSignup''s number of the registration: with the partner, the identity of the row.';
COMMENT ON COLUMN partner_entrants.user_id IS 'RunSignup account of the person; one may have several registrations.';
COMMENT ON COLUMN partner_entrants.bib IS 'The bib that counts: of the registration, else of its team, else of the bundle taken, else the one given here. NULL for none.';
COMMENT ON COLUMN partner_entrants.bib_source IS 'Where the bib is: registration, team, bundle (of events that have a start list) or local. NULL for none.';
COMMENT ON COLUMN partner_entrants.chip IS 'Chip at RunSignup.';
COMMENT ON COLUMN partner_entrants.name IS 'First and last name.';
COMMENT ON COLUMN partner_entrants.first_name IS 'First name, as sent.';
COMMENT ON COLUMN partner_entrants.last_name IS 'Last name, as sent.';
COMMENT ON COLUMN partner_entrants.age IS 'Age on the day of the event: as RunSignup sent it, else by the birth date on the day on which ages count.';
COMMENT ON COLUMN partner_entrants.gender IS 'M, F, X or NULL.';
COMMENT ON COLUMN partner_entrants.city IS 'Town.';
COMMENT ON COLUMN partner_entrants.state IS 'State.';
COMMENT ON COLUMN partner_entrants.country IS 'Country, two letters.';
COMMENT ON COLUMN partner_entrants.team IS 'Name of the team; NULL for none.';
COMMENT ON COLUMN partner_entrants.team_type IS 'Kind of the team, as RunSignup names it.';
COMMENT ON COLUMN partner_entrants.corral IS 'Corral; NULL unless requested with corrals.';
COMMENT ON COLUMN partner_entrants.wave IS 'Wave; NULL unless requested with corrals.';
COMMENT ON COLUMN partner_entrants.estimated_finish IS 'Time in which the entrant expects to finish; NULL unless requested with est_finish.';
COMMENT ON COLUMN partner_entrants.checked_in_at IS 'When the entrant was checked in; NULL before, and unless requested with checkin.';
COMMENT ON COLUMN partner_entrants.registered_at IS 'When the person registered, as an instant.';
COMMENT ON COLUMN partner_entrants.registered_local IS 'When the person registered, US Eastern wall time.';
COMMENT ON COLUMN partner_entrants.race_fee IS 'Fee of the race, US dollars. NULL, not 0, if RunSignup sent none.';
COMMENT ON COLUMN partner_entrants.extra_fees IS 'Further fees, US dollars.';
COMMENT ON COLUMN partner_entrants.processing_fee IS 'Processing fee, US dollars.';
COMMENT ON COLUMN partner_entrants.processing_fee_paid_by_user IS 'Part of the processing fee that the entrant paid, US dollars.';
COMMENT ON COLUMN partner_entrants.processing_fee_paid_by_race IS 'Part of the processing fee that the race paid, US dollars.';
COMMENT ON COLUMN partner_entrants.partner_fee IS 'Fee of a partner of RunSignup, US dollars.';
COMMENT ON COLUMN partner_entrants.affiliate_profit IS 'Share of an affiliate, US dollars.';
COMMENT ON COLUMN partner_entrants.offline_payment_amount IS 'Amount paid outside RunSignup, US dollars.';
COMMENT ON COLUMN partner_entrants.amount_paid IS 'Amount paid, US dollars.';
COMMENT ON COLUMN partner_entrants.has_other_currency IS 'Whether an amount is in another currency. It is NULL here, and as text in runsignup_participants.payment_info.';
COMMENT ON COLUMN partner_entrants.status IS 'active or removed.';
COMMENT ON COLUMN partner_entrants.removed_reason IS 'Why it was removed, as in runsignup_participants; NULL while active.';
COMMENT ON COLUMN partner_entrants.removed_at IS 'When it was removed, or when that was noticed; NULL while active.';
COMMENT ON COLUMN partner_entrants.new_registration_id IS 'The registration that a transferred one became.';
COMMENT ON COLUMN partner_entrants.modified_at IS 'When RunSignup last changed the registration.';
COMMENT ON COLUMN partner_entrants.first_seen_at IS 'When the registration was first stored.';
COMMENT ON COLUMN partner_entrants.changed_at IS 'When its content last changed here. What is read since a moment is found by it.';

CREATE VIEW entrants AS
SELECT p.*
FROM partner_entrants p
JOIN runsignup_races r ON r.race_id = p.race_id
LEFT JOIN race_owners o ON o.race_id = p.race_id
WHERE p.timing_partner_id = coalesce(o.timing_partner_id, r.timing_partner_id);
COMMENT ON VIEW entrants IS 'One row: a registration, active or removed, once, with race, event and partner, without contact data. The columns of partner_entrants.';
