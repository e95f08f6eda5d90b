-- Personal data that is no longer kept: what was ordered, so that later reads keep to it, and the log of it. What is blanked, and
-- how, stands in rsu_pipeline/warehouse/privacy.py.

CREATE TABLE privacy_log (
    privacy_log_id bigserial PRIMARY KEY,
    done_at timestamptz NOT NULL DEFAULT now(),
    who text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('purge', 'erase')),
    before date,
    timing_partner_id integer REFERENCES timing_partners,
    counts jsonb NOT NULL
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON privacy_log
    FOR EACH STATEMENT EXECUTE FUNCTION rsu_refuse_change();
COMMENT ON TABLE privacy_log IS 'One row: a purge of contact data or the erasure of a person. Says nothing of whom. Append-only.';
COMMENT ON COLUMN privacy_log.privacy_log_id IS 'Number of the row.';
COMMENT ON COLUMN privacy_log.done_at IS 'When it was done.';
COMMENT ON COLUMN privacy_log.who IS 'User of the operating system and machine, or nightly_retention.';
COMMENT ON COLUMN privacy_log.kind IS 'purge: contact data of past and removed registrations; erase: all of one person.';
COMMENT ON COLUMN privacy_log.before IS 'Day of a purge; NULL for an erasure.';
COMMENT ON COLUMN privacy_log.timing_partner_id IS 'The partner it was confined to; NULL for all.';
COMMENT ON COLUMN privacy_log.counts IS 'Rows changed, by table.';

CREATE TABLE contact_retention (
    is_set boolean PRIMARY KEY DEFAULT true CHECK (is_set),
    before date NOT NULL,
    set_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE contact_retention IS 'One row at most: from when on contact data is kept. A later read leaves it out of events that were over before.';
COMMENT ON COLUMN contact_retention.is_set IS 'true: there is one row.';
COMMENT ON COLUMN contact_retention.before IS 'Contact data of events that were over before this day, the race''s calendar, is not kept.';
COMMENT ON COLUMN contact_retention.set_at IS 'When that was last moved.';

CREATE TABLE erased_users (
    erased_user_id bigserial PRIMARY KEY,
    user_id bigint NOT NULL,
    timing_partner_id integer REFERENCES timing_partners,
    erased_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX erased_users_once ON erased_users (user_id, coalesce(timing_partner_id, 0));
COMMENT ON TABLE erased_users IS 'One row: a RunSignup account whose registrations up to then are stored without the person.';
COMMENT ON COLUMN erased_users.erased_user_id IS 'Number of the row.';
COMMENT ON COLUMN erased_users.user_id IS 'RunSignup''s number of the account; what is needed to know it again, and nothing else of the person.';
COMMENT ON COLUMN erased_users.timing_partner_id IS 'The partner for whom it was erased; NULL for all.';
COMMENT ON COLUMN erased_users.erased_at IS 'When. A registration made later is a new one, and kept as any other.';

CREATE TABLE erased_registrations (
    erased_registration_id bigserial PRIMARY KEY,
    registration_id bigint NOT NULL,
    timing_partner_id integer REFERENCES timing_partners,
    erased_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX erased_registrations_once ON erased_registrations (registration_id, coalesce(timing_partner_id, 0));
COMMENT ON TABLE erased_registrations IS 'One row: a registration that is stored without the person, whatever RunSignup sends of it.';
COMMENT ON COLUMN erased_registrations.erased_registration_id IS 'Number of the row.';
COMMENT ON COLUMN erased_registrations.registration_id IS 'RunSignup''s number of the registration.';
COMMENT ON COLUMN erased_registrations.timing_partner_id IS 'The partner for whom it was erased; NULL for all.';
COMMENT ON COLUMN erased_registrations.erased_at IS 'When.';

-- Rows in quarantine are few, and read again they come as they were sent: so they are blanked where they are written.
CREATE FUNCTION rsu_blank_quarantined() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    registration bigint := coalesce(NEW.registration_id,
        substring(NEW.row_text FROM '"registration_id"\s*:\s*"?([0-9]{1,18})')::bigint);
    account bigint := substring(NEW.row_text FROM '"user_id"\s*:\s*"?([0-9]{1,18})')::bigint;
    event bigint := substring(NEW.row_text FROM '"event_id"\s*:\s*"?([0-9]{1,18})')::bigint;
BEGIN
    IF EXISTS (SELECT FROM erased_registrations x WHERE x.registration_id = registration
            AND coalesce(x.timing_partner_id, NEW.timing_partner_id) = NEW.timing_partner_id)
        OR EXISTS (SELECT FROM erased_users u WHERE u.user_id = account
            AND coalesce(u.timing_partner_id, NEW.timing_partner_id) = NEW.timing_partner_id)
        OR EXISTS (SELECT FROM contact_retention c JOIN runsignup_events e ON greatest(e.start_time, e.end_time) < c.before
            WHERE e.event_id = event) THEN
        NEW.row_text := NULL;
        IF NEW.reason LIKE 'PostgreSQL:%' THEN
            -- The server's words may repeat a value.
            NEW.reason := 'PostgreSQL: a member was refused';
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER blank_quarantined BEFORE INSERT OR UPDATE ON quarantined_rows
    FOR EACH ROW EXECUTE FUNCTION rsu_blank_quarantined();
