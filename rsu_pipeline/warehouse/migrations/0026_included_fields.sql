-- What RunSignup sends of a registration on request: see RSU_INCLUDE. Lists are kept in the row, so that the merge, the hash of a
-- reconciliation, an erasure and a kill cover them with it, and are read through typed views.

ALTER TABLE timing_partners ADD COLUMN include text CHECK (include IN ('all', 'none')
    OR include ~ '^(questions|addons|memberships|corrals|est_finish|checkin|coupons|corp_teams|notes)'
        '(,(questions|addons|memberships|corrals|est_finish|checkin|coupons|corp_teams|notes))*$');
COMMENT ON COLUMN timing_partners.include IS 'Optional fields requested for this partner, such as questions,corrals, or none; NULL: those of RSU_INCLUDE.';
ALTER TABLE event_cursors ADD COLUMN included text NOT NULL DEFAULT 'none';
COMMENT ON COLUMN event_cursors.included IS 'Optional fields that the last full read requested. If others are requested now, the event is read in full once.';
ALTER TABLE read_passes ADD COLUMN included text NOT NULL DEFAULT 'none';
COMMENT ON COLUMN read_passes.included IS 'Optional fields that the pass requests. A pass is resumed only with the same ones.';

ALTER TABLE runsignup_participants
    ADD COLUMN corral text,
    ADD COLUMN wave text,
    ADD COLUMN estimated_finish interval,
    ADD COLUMN checked_in_at timestamptz,
    ADD COLUMN coupon_code text,
    ADD COLUMN coupon_discount numeric,
    ADD COLUMN corporate_team text,
    ADD COLUMN registration_notes text,
    ADD COLUMN answers jsonb,
    ADD COLUMN addons jsonb,
    ADD COLUMN memberships jsonb;
COMMENT ON COLUMN runsignup_participants.corral IS 'Corral; NULL unless requested with corrals.';
COMMENT ON COLUMN runsignup_participants.wave IS 'Wave; NULL unless requested with corrals.';
COMMENT ON COLUMN runsignup_participants.estimated_finish IS 'Time in which the entrant expects to finish; NULL unless requested with est_finish.';
COMMENT ON COLUMN runsignup_participants.checked_in_at IS 'When the entrant was checked in; NULL before, and unless requested with checkin.';
COMMENT ON COLUMN runsignup_participants.coupon_code IS 'Code of the coupon that was used; NULL unless requested with coupons.';
COMMENT ON COLUMN runsignup_participants.coupon_discount IS 'Discount of the coupon, dollars; NULL unless requested with coupons.';
COMMENT ON COLUMN runsignup_participants.corporate_team IS 'Name of the corporate team; NULL unless requested with corp_teams.';
COMMENT ON COLUMN runsignup_participants.registration_notes IS 'Notes of the race about the registration; NULL unless requested with notes.';
COMMENT ON COLUMN runsignup_participants.answers IS 'Questions and answers, read through participant_answers; NULL unless requested with questions.';
COMMENT ON COLUMN runsignup_participants.addons IS 'Add-ons bought with the registration, read through participant_addons; NULL unless requested with addons.';
COMMENT ON COLUMN runsignup_participants.memberships IS 'Memberships that the entrant gave, read through participant_memberships; NULL unless requested with memberships.';

CREATE VIEW participant_answers AS
SELECT p.timing_partner_id, p.race_id, p.event_id, p.registration_id, a.position::integer AS position, a.question_id, a.question,
    a.answer, p.removed_at
FROM runsignup_participants p CROSS JOIN LATERAL ROWS FROM (
    jsonb_to_recordset(p.answers) AS (question_id bigint, question text, answer text)
) WITH ORDINALITY AS a (question_id, question, answer, position);
COMMENT ON VIEW participant_answers IS 'One row: an answer to a question of a registration. A question with several answers has several rows.';

CREATE VIEW participant_addons AS
SELECT p.timing_partner_id, p.race_id, p.event_id, p.registration_id, a.position::integer AS position, a.addon_id, a.addon,
    a.quantity, a.amount, p.removed_at
FROM runsignup_participants p CROSS JOIN LATERAL ROWS FROM (
    jsonb_to_recordset(p.addons) AS (addon_id bigint, addon text, quantity numeric, amount numeric)
) WITH ORDINALITY AS a (addon_id, addon, quantity, amount, position);
COMMENT ON VIEW participant_addons IS 'One row: an add-on that was bought with a registration.';

CREATE VIEW participant_memberships AS
SELECT p.timing_partner_id, p.race_id, p.event_id, p.registration_id, m.position::integer AS position, m.membership_id,
    m.membership, m.member_number, m.expires_on, m.price_adjustment, p.removed_at
FROM runsignup_participants p CROSS JOIN LATERAL ROWS FROM (
    jsonb_to_recordset(p.memberships) AS (membership_id bigint, membership text, member_number text, expires_on date,
        price_adjustment numeric)
) WITH ORDINALITY AS m (membership_id, membership, member_number, expires_on, price_adjustment, position);
COMMENT ON VIEW participant_memberships IS 'One row: a membership that an entrant gave for a registration.';

DROP TRIGGER note_foreign_write ON runsignup_participants;
CREATE TRIGGER note_foreign_write AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF race_id, event_id, timing_partner_id,
    registration_id, user_id, first_name, middle_name, last_name, email, dob, gender, phone, profile_image_url, bib_num, chip_num,
    age, registration_date, registered_at, last_modified, last_modified_epoch, address, team_info, payment_info, additional_data,
    payload, first_bib, removed_at, removed_reason, removed_epoch, new_registration_id, seal, corral, wave, estimated_finish,
    checked_in_at, coupon_code, coupon_discount, corporate_team, registration_notes, answers, addons, memberships
    ON runsignup_participants FOR EACH STATEMENT WHEN (current_setting('application_name') NOT LIKE 'rsu %')
    EXECUTE FUNCTION rsu_note_foreign_write();
