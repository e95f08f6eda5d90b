-- The hub's tables. Names and columns of an older installation stay as they were, since other programs read them; what
-- they cannot say stands in columns beside them (a wall time without zone beside its timestamptz, for one).
-- Keeps to what PostgreSQL 13 has.

CREATE TABLE timing_partners (
    timing_partner_id serial PRIMARY KEY,
    company_name varchar(255) NOT NULL,
    access_password varchar(255),
    partition_key text UNIQUE,
    disabled_at timestamptz,
    created_at timestamp DEFAULT now(),
    updated_at timestamp DEFAULT now()
);
CREATE INDEX timing_partners_company_name ON timing_partners (company_name);
COMMENT ON TABLE timing_partners IS 'One row: a timing company whose RunSignup races the hub keeps.';
COMMENT ON COLUMN timing_partners.timing_partner_id IS 'Number of the partner, also the head of its partition key.';
COMMENT ON COLUMN timing_partners.company_name IS 'Name of the company, as people write it.';
COMMENT ON COLUMN timing_partners.access_password IS 'Password of the partner at other programs of the hub; not used here.';
COMMENT ON COLUMN timing_partners.partition_key IS 'Key of the partner''s partition in Dagster: id and a slug of the name at onboarding. Never changed.';
COMMENT ON COLUMN timing_partners.disabled_at IS 'When an operator switched the partner off; NULL while it is synced.';
COMMENT ON COLUMN timing_partners.created_at IS 'When the row was made, in the database''s zone.';
COMMENT ON COLUMN timing_partners.updated_at IS 'When the row was last changed, in the database''s zone.';

CREATE TABLE providers (
    provider_id serial PRIMARY KEY,
    name varchar(100) NOT NULL UNIQUE,
    provider_type varchar(50),
    api_base_url varchar(255),
    rate_limit_per_hour integer DEFAULT 1000,
    created_at timestamp DEFAULT now()
);
CREATE UNIQUE INDEX providers_name_in_any_case ON providers (lower(name));
INSERT INTO providers (name, provider_type, api_base_url) VALUES ('RunSignup', 'registration', 'https://api.runsignup.com/rest');
COMMENT ON TABLE providers IS 'One row: a registration service. RunSignup is found by name, since its number differs between installations.';
COMMENT ON COLUMN providers.provider_id IS 'Number of the provider in this installation.';
COMMENT ON COLUMN providers.name IS 'Name of the provider; compared without regard to case.';
COMMENT ON COLUMN providers.provider_type IS 'Kind of service.';
COMMENT ON COLUMN providers.api_base_url IS 'Base address for other programs; this pipeline uses RSU_API_BASE_URL.';
COMMENT ON COLUMN providers.rate_limit_per_hour IS 'Calls an hour for other programs; this pipeline uses RSU_CALLS_PER_HOUR.';
COMMENT ON COLUMN providers.created_at IS 'When the row was made, in the database''s zone.';

CREATE TABLE partner_provider_credentials (
    partner_provider_credential_id serial PRIMARY KEY,
    provider_id integer NOT NULL REFERENCES providers,
    timing_partner_id integer NOT NULL REFERENCES timing_partners,
    principal text,
    secret text,
    credential_type varchar(50),
    additional_config jsonb,
    verified_at timestamptz,
    rejected_at timestamptz,
    rejected_reason text,
    entered_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamp DEFAULT now(),
    updated_at timestamp DEFAULT now(),
    UNIQUE (timing_partner_id, provider_id)
);
CREATE INDEX partner_provider_credentials_provider_id ON partner_provider_credentials (provider_id);
COMMENT ON TABLE partner_provider_credentials IS 'One row: a partner''s access to a provider.';
COMMENT ON COLUMN partner_provider_credentials.partner_provider_credential_id IS 'Number of the credential; the call ledger counts by it.';
COMMENT ON COLUMN partner_provider_credentials.provider_id IS 'The provider it opens.';
COMMENT ON COLUMN partner_provider_credentials.timing_partner_id IS 'The partner it belongs to.';
COMMENT ON COLUMN partner_provider_credentials.principal IS 'API key. May be inserted in clear; sealed (sealed:…) at the next look.';
COMMENT ON COLUMN partner_provider_credentials.secret IS 'API secret. May be inserted in clear; sealed (sealed:…) at the next look.';
COMMENT ON COLUMN partner_provider_credentials.credential_type IS 'api_key (default), or rsu_api_key / sp_api_key, whose secret travels in a header.';
COMMENT ON COLUMN partner_provider_credentials.additional_config IS 'Settings of other programs; not used here.';
COMMENT ON COLUMN partner_provider_credentials.verified_at IS 'When access to a race was last proved with this credential.';
COMMENT ON COLUMN partner_provider_credentials.rejected_at IS 'When RunSignup refused it; cleared by a new key or a later success.';
COMMENT ON COLUMN partner_provider_credentials.rejected_reason IS 'What RunSignup said when it refused.';
COMMENT ON COLUMN partner_provider_credentials.entered_at IS 'When the present key and secret were entered; a first sync follows.';
COMMENT ON COLUMN partner_provider_credentials.created_at IS 'When the row was made, in the database''s zone.';
COMMENT ON COLUMN partner_provider_credentials.updated_at IS 'When the row was last changed, in the database''s zone.';

CREATE FUNCTION rsu_touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;
CREATE TRIGGER touch_updated_at BEFORE UPDATE ON timing_partners FOR EACH ROW EXECUTE FUNCTION rsu_touch_updated_at();
CREATE TRIGGER touch_updated_at BEFORE UPDATE ON partner_provider_credentials FOR EACH ROW EXECUTE FUNCTION rsu_touch_updated_at();

-- A key or secret that arrives in clear is a new one: what was known of the old one no longer holds.
CREATE FUNCTION rsu_forget_access() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.principal IS DISTINCT FROM OLD.principal AND NEW.principal NOT LIKE 'sealed:%')
        OR (NEW.secret IS DISTINCT FROM OLD.secret AND NEW.secret NOT LIKE 'sealed:%') THEN
        NEW.verified_at := NULL;
        NEW.rejected_at := NULL;
        NEW.rejected_reason := NULL;
        NEW.entered_at := now();
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER forget_access BEFORE UPDATE OF principal, secret ON partner_provider_credentials
    FOR EACH ROW EXECUTE FUNCTION rsu_forget_access();

CREATE TABLE runsignup_races (
    race_id bigint PRIMARY KEY,
    timing_partner_id integer REFERENCES timing_partners,
    name text,
    description text,
    last_date timestamp,
    last_end_date timestamp,
    next_date timestamp,
    next_end_date timestamp,
    created timestamp,
    last_modified timestamp,
    is_draft_race boolean,
    is_private_race boolean,
    is_registration_open boolean,
    real_time_notifications_enabled boolean,
    url text,
    external_race_url text,
    external_results_url text,
    logo_url text,
    fb_page_id text,
    fb_event_id text,
    timezone text,
    address jsonb,
    credentials_used varchar(255),
    payload jsonb,
    detail_as_of timestamp,
    fetched_date timestamp DEFAULT now(),
    created_at timestamp DEFAULT now()
);
CREATE INDEX runsignup_races_timing_partner_id ON runsignup_races (timing_partner_id);
COMMENT ON TABLE runsignup_races IS 'One row: a race as RunSignup lists it now.';
COMMENT ON COLUMN runsignup_races.race_id IS 'RunSignup''s number of the race.';
COMMENT ON COLUMN runsignup_races.timing_partner_id IS 'The partner that brought the race first; partner_races tells all who see it.';
COMMENT ON COLUMN runsignup_races.name IS 'Name of the race.';
COMMENT ON COLUMN runsignup_races.description IS 'Description, HTML.';
COMMENT ON COLUMN runsignup_races.last_date IS 'First day of the last edition, the race''s calendar.';
COMMENT ON COLUMN runsignup_races.last_end_date IS 'Last day of the last edition, the race''s calendar.';
COMMENT ON COLUMN runsignup_races.next_date IS 'First day of the next edition, the race''s calendar; NULL when none is planned.';
COMMENT ON COLUMN runsignup_races.next_end_date IS 'Last day of the next edition, the race''s calendar.';
COMMENT ON COLUMN runsignup_races.created IS 'When the race was made at RunSignup, US Eastern wall time.';
COMMENT ON COLUMN runsignup_races.last_modified IS 'When the race record (not its participants) last changed, US Eastern wall time to the minute.';
COMMENT ON COLUMN runsignup_races.is_draft_race IS 'Whether it is a draft.';
COMMENT ON COLUMN runsignup_races.is_private_race IS 'Whether it is private.';
COMMENT ON COLUMN runsignup_races.is_registration_open IS 'Whether one can register now.';
COMMENT ON COLUMN runsignup_races.real_time_notifications_enabled IS 'Whether runners get result notices; nothing to do with webhooks.';
COMMENT ON COLUMN runsignup_races.url IS 'Page at RunSignup.';
COMMENT ON COLUMN runsignup_races.external_race_url IS 'The race''s own page.';
COMMENT ON COLUMN runsignup_races.external_results_url IS 'Page of results elsewhere.';
COMMENT ON COLUMN runsignup_races.logo_url IS 'Address of the logo.';
COMMENT ON COLUMN runsignup_races.fb_page_id IS 'Facebook page, digits.';
COMMENT ON COLUMN runsignup_races.fb_event_id IS 'Facebook event, digits.';
COMMENT ON COLUMN runsignup_races.timezone IS 'IANA zone of the race; the zone of its events'' start_time and end_time.';
COMMENT ON COLUMN runsignup_races.address IS 'street, street2, city, state, zipcode, country_code.';
COMMENT ON COLUMN runsignup_races.credentials_used IS 'Partition key of the partner whose credential read the row.';
COMMENT ON COLUMN runsignup_races.payload IS 'The race as RunSignup sent it, without its events.';
COMMENT ON COLUMN runsignup_races.detail_as_of IS 'The race''s last_modified when its full detail (all editions) was last read; NULL before.';
COMMENT ON COLUMN runsignup_races.fetched_date IS 'When the row last changed here, in the database''s zone.';
COMMENT ON COLUMN runsignup_races.created_at IS 'When the row was made, in the database''s zone.';

CREATE TABLE partner_races (
    timing_partner_id integer NOT NULL REFERENCES timing_partners,
    race_id bigint NOT NULL REFERENCES runsignup_races,
    listed_at timestamptz NOT NULL DEFAULT now(),
    unlisted_at timestamptz,
    access text NOT NULL DEFAULT 'unknown' CHECK (access IN ('unknown', 'granted', 'denied')),
    access_changed_at timestamptz,
    PRIMARY KEY (timing_partner_id, race_id)
);
CREATE INDEX partner_races_race_id ON partner_races (race_id);
COMMENT ON TABLE partner_races IS 'One row: a race that a partner''s credential sees. A race can belong to two partners.';
COMMENT ON COLUMN partner_races.timing_partner_id IS 'The partner.';
COMMENT ON COLUMN partner_races.race_id IS 'The race.';
COMMENT ON COLUMN partner_races.listed_at IS 'When RunSignup first listed the race for the partner.';
COMMENT ON COLUMN partner_races.unlisted_at IS 'When a complete listing no longer had it; NULL while listed. Its rows are kept.';
COMMENT ON COLUMN partner_races.access IS 'Whether its participants could be read at the last attempt: unknown, granted, denied.';
COMMENT ON COLUMN partner_races.access_changed_at IS 'When access last changed.';

CREATE TABLE runsignup_events (
    event_id bigint PRIMARY KEY,
    race_id bigint NOT NULL REFERENCES runsignup_races,
    timing_partner_id integer REFERENCES timing_partners,
    race_event_days_id bigint,
    name text,
    details text,
    giveaway text,
    start_time timestamp,
    starts_at timestamptz,
    end_time timestamp,
    ends_at timestamptz,
    registration_opens timestamp,
    age_calc_base_date date,
    event_type text,
    distance numeric(10, 2),
    distance_text text,
    volunteer boolean,
    require_dob boolean,
    require_phone boolean,
    is_bundle boolean NOT NULL DEFAULT false,
    sub_event_ids bigint[],
    gone_at timestamptz,
    credentials_used varchar(255),
    payload jsonb,
    fetched_date timestamp DEFAULT now(),
    created_at timestamp DEFAULT now()
);
CREATE INDEX runsignup_events_timing_partner_id ON runsignup_events (timing_partner_id);
CREATE INDEX runsignup_events_start_time ON runsignup_events (start_time);
CREATE INDEX runsignup_events_race_id ON runsignup_events (race_id);
COMMENT ON TABLE runsignup_events IS 'One row: an event of a race, of any edition.';
COMMENT ON COLUMN runsignup_events.event_id IS 'RunSignup''s number of the event.';
COMMENT ON COLUMN runsignup_events.race_id IS 'The race it belongs to.';
COMMENT ON COLUMN runsignup_events.timing_partner_id IS 'The partner that brought the event first.';
COMMENT ON COLUMN runsignup_events.race_event_days_id IS 'Groups the events of one edition.';
COMMENT ON COLUMN runsignup_events.name IS 'Name of the event.';
COMMENT ON COLUMN runsignup_events.details IS 'Description.';
COMMENT ON COLUMN runsignup_events.giveaway IS 'What entrants choose, a shirt for one.';
COMMENT ON COLUMN runsignup_events.start_time IS 'Start, wall time in the race''s zone.';
COMMENT ON COLUMN runsignup_events.starts_at IS 'Start, as an instant.';
COMMENT ON COLUMN runsignup_events.end_time IS 'End, wall time in the race''s zone; NULL for most.';
COMMENT ON COLUMN runsignup_events.ends_at IS 'End, as an instant; NULL for most.';
COMMENT ON COLUMN runsignup_events.registration_opens IS 'When registration opens, wall time in the race''s zone.';
COMMENT ON COLUMN runsignup_events.age_calc_base_date IS 'Day on which ages count, where the race sets one.';
COMMENT ON COLUMN runsignup_events.event_type IS 'RunSignup''s word for the kind of event; an open set.';
COMMENT ON COLUMN runsignup_events.distance IS 'The number in distance_text, in whatever unit that names.';
COMMENT ON COLUMN runsignup_events.distance_text IS 'Distance with its unit, as RunSignup has it.';
COMMENT ON COLUMN runsignup_events.volunteer IS 'Whether its registrations are volunteers, not runners.';
COMMENT ON COLUMN runsignup_events.require_dob IS 'Whether a birth date is asked for.';
COMMENT ON COLUMN runsignup_events.require_phone IS 'Whether a phone number is asked for.';
COMMENT ON COLUMN runsignup_events.is_bundle IS 'Whether registering for it registers for its sub-events too.';
COMMENT ON COLUMN runsignup_events.sub_event_ids IS 'Events of a bundle.';
COMMENT ON COLUMN runsignup_events.gone_at IS 'When the race''s full detail no longer had it; NULL while it has.';
COMMENT ON COLUMN runsignup_events.credentials_used IS 'Partition key of the partner whose credential read the row.';
COMMENT ON COLUMN runsignup_events.payload IS 'The event as RunSignup sent it.';
COMMENT ON COLUMN runsignup_events.fetched_date IS 'When the row last changed here, in the database''s zone.';
COMMENT ON COLUMN runsignup_events.created_at IS 'When the row was made, in the database''s zone.';

CREATE TABLE runsignup_participants (
    id bigserial PRIMARY KEY,
    race_id bigint NOT NULL,
    event_id bigint NOT NULL REFERENCES runsignup_events,
    timing_partner_id integer NOT NULL,
    registration_id bigint NOT NULL,
    user_id bigint,
    first_name text,
    middle_name text,
    last_name text,
    email text,
    dob date,
    gender text,
    phone text,
    profile_image_url text,
    bib_num text,
    chip_num text,
    age integer,
    registration_date timestamp,
    registered_at timestamptz,
    last_modified timestamp,
    last_modified_epoch bigint,
    address jsonb,
    team_info jsonb,
    payment_info jsonb,
    additional_data jsonb,
    payload jsonb,
    first_bib text,
    local_bib text,
    removed_at timestamptz,
    removed_reason text,
    removed_epoch bigint,
    new_registration_id bigint,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    source_at timestamptz,
    credentials_used varchar(255),
    fetched_date timestamp DEFAULT now(),
    created_at timestamp DEFAULT now(),
    FOREIGN KEY (timing_partner_id, race_id) REFERENCES partner_races
);
CREATE UNIQUE INDEX runsignup_participants_identity ON runsignup_participants (timing_partner_id, registration_id);
-- The event first: an index that began with the partner, too, was taken for the look-up of a partner's registration while
-- statistics did not know the partner yet, and read through all of the partner's.
CREATE INDEX runsignup_participants_of_event ON runsignup_participants (event_id, timing_partner_id, registration_id);
-- For unified_participants, whose event_id is text.
CREATE INDEX runsignup_participants_event_id_text ON runsignup_participants ((event_id::varchar));
CREATE INDEX runsignup_participants_bib_num ON runsignup_participants (bib_num);
CREATE INDEX runsignup_participants_email ON runsignup_participants (email);
COMMENT ON TABLE runsignup_participants IS 'One row: a registration as one partner''s credential sees it, active or removed.';
COMMENT ON COLUMN runsignup_participants.id IS 'Number of the row here; means nothing elsewhere.';
COMMENT ON COLUMN runsignup_participants.race_id IS 'The race.';
COMMENT ON COLUMN runsignup_participants.event_id IS 'The event.';
COMMENT ON COLUMN runsignup_participants.timing_partner_id IS 'The partner whose credential read it.';
COMMENT ON COLUMN runsignup_participants.registration_id IS 'RunSignup''s number of the registration: with the partner, the identity of the row.';
COMMENT ON COLUMN runsignup_participants.user_id IS 'RunSignup account of the person; one may hold several registrations.';
COMMENT ON COLUMN runsignup_participants.first_name IS 'First name, as sent.';
COMMENT ON COLUMN runsignup_participants.middle_name IS 'Middle name, as sent.';
COMMENT ON COLUMN runsignup_participants.last_name IS 'Last name, as sent.';
COMMENT ON COLUMN runsignup_participants.email IS 'E-mail address, as sent.';
COMMENT ON COLUMN runsignup_participants.dob IS 'Birth date.';
COMMENT ON COLUMN runsignup_participants.gender IS 'M, F, X or NULL.';
COMMENT ON COLUMN runsignup_participants.phone IS 'Phone number, as sent.';
COMMENT ON COLUMN runsignup_participants.profile_image_url IS 'Address of a picture.';
COMMENT ON COLUMN runsignup_participants.bib_num IS 'Bib at RunSignup; digits.';
COMMENT ON COLUMN runsignup_participants.chip_num IS 'Chip at RunSignup.';
COMMENT ON COLUMN runsignup_participants.age IS 'Age, as RunSignup stored it for this registration.';
COMMENT ON COLUMN runsignup_participants.registration_date IS 'When the person registered, US Eastern wall time to the minute.';
COMMENT ON COLUMN runsignup_participants.registered_at IS 'When the person registered, as an instant; in the hour November repeats, the later of the two.';
COMMENT ON COLUMN runsignup_participants.last_modified IS 'last_modified_epoch as US Eastern wall time.';
COMMENT ON COLUMN runsignup_participants.last_modified_epoch IS 'When RunSignup last changed the registration, Unix seconds.';
COMMENT ON COLUMN runsignup_participants.address IS 'street, city, state, zipcode, country_code.';
COMMENT ON COLUMN runsignup_participants.team_info IS 'team_id, team_name, team_type_id, team_type, team_gender, team_bib_num, as far as sent.';
COMMENT ON COLUMN runsignup_participants.payment_info IS 'Fees and amounts as numbers, as far as sent: null stays null, absent stays absent.';
COMMENT ON COLUMN runsignup_participants.additional_data IS 'Further members that programs read by name, as far as sent.';
COMMENT ON COLUMN runsignup_participants.payload IS 'The registration as RunSignup sent it, members unknown to us included.';
COMMENT ON COLUMN runsignup_participants.first_bib IS 'Bib the row came with at its event''s first load; the bib log replays from here.';
COMMENT ON COLUMN runsignup_participants.local_bib IS 'Bib given here, not at RunSignup; never written by a sync, so no blank upstream wipes it.';
COMMENT ON COLUMN runsignup_participants.removed_at IS 'When it went away at RunSignup, or when that was noticed; NULL while active.';
COMMENT ON COLUMN runsignup_participants.removed_reason IS 'cleared, removed, transferred, deferred (RunSignup''s words, an open set) or missing_upstream.';
COMMENT ON COLUMN runsignup_participants.removed_epoch IS 'RunSignup''s time of the removal, Unix seconds; NULL for missing_upstream.';
COMMENT ON COLUMN runsignup_participants.new_registration_id IS 'The registration a transferred one became.';
COMMENT ON COLUMN runsignup_participants.first_seen_at IS 'When the registration was first stored.';
COMMENT ON COLUMN runsignup_participants.changed_at IS 'When its content last changed here.';
COMMENT ON COLUMN runsignup_participants.source_at IS 'RunSignup''s clock at the answer that brought the present content.';
COMMENT ON COLUMN runsignup_participants.credentials_used IS 'Partition key of the partner whose credential read the row.';
COMMENT ON COLUMN runsignup_participants.fetched_date IS 'When its content last changed here, in the database''s zone.';
COMMENT ON COLUMN runsignup_participants.created_at IS 'When the row was made, in the database''s zone.';
